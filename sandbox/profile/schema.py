"""The one definition of the profile language: tables, keys, types, and how a profile may change what it extends.  (cold)

The reader, the merge, the locks, the JSON Schema for editors and the tables in docs/profiles.md all come from here.
Keys that OCI has carry OCI's names; the others are words of sbx.
"""

from dataclasses import dataclass
from typing import Any

# getrlimit(2); "unlimited" is RLIM_INFINITY
RLIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip
NETWORKS = ("none", "slirp4netns", "pasta", "host")  # from strict to weak
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SCOPES = ("abstract_unix_socket", "signal")
# key of [landlock] -> its word in landlock.py
LANDLOCK = {
    "read": "read",
    "write": "write",
    "execute": "execute",
    "connectTcp": "connect",
    "bindTcp": "bind",
    "scoped": "scoped",
}

# How a value may change in a profile that extends another, without `allow_weaken`.
FREE = "freely"
GROW = "grows"  # a list of denials: what is extended stays in it
SHRINK = "only shorter"  # a list of permissions
WITHIN = "only within"  # a list of folders that something is permitted below
LOWER = "only lower"
TRUE = "only to true"
OWN = "not inherited"
RULES = "by what it answers"  # decided by merging.py


@dataclass(frozen=True)
class Key:
    """One key of a table: the type of its value in words, how it merges, what it is for."""

    kind: str
    merge: str = FREE
    about: str = ""
    words: tuple[str, ...] = ()  # the only values, from strict to weak where `merge` is LOWER


def _key(kind: str, merge: str, about: str, words: tuple[str, ...] = ()) -> Key:
    return Key(kind, merge, about, words)


_TEXT, _LIST, _FLAG = "string", "list of strings", "true or false"
_TABLE = "table"

TABLES: dict[str, dict[str, Key]] = {
    "": {
        "description": _key(_TEXT, OWN, "what `sbx profile list` shows"),
        "extends": _key(_TEXT, OWN, "the profile to start from, by name, or `./FILE` in the folder of this one"),
        "allow_weaken": _key(_FLAG, OWN, "this profile may allow what the one that it extends refuses"),
        "require": _key(_LIST, GROW, "what the kernel must have: `seccomp`, `landlock>=N`, `cgroups`"),
        "lock": _key(_LIST, GROW, "keys (`table.key` or `table`) that options of the command line must not change"),
        **dict.fromkeys(
            ("capabilities", "process", "rlimits", "filesystem", "seccomp", "namespaces", "landlock", "devices", "network",
             "limits", "environment"), Key(_TABLE)
        ),
        "test": _key("list of tables", GROW, "what `sbx profile test` tries"),
    },
    "capabilities": {
        "keep": _key(_LIST, SHRINK, "names, with or without `CAP_`. All others leave all five sets, for good. For a user other than root inside, all sets are empty"),
        "drop": _key(_LIST, GROW, "taken from what the profiles that are extended keep"),
    },
    "process": {
        "noNewPrivileges": _key(_FLAG, TRUE, "whether set-uid files and file capabilities give nothing; `true` when not said"),
        "umask": _key("octal string", GROW, "file mode creation mask"),
        "timeout": _key("duration", LOWER, "wall clock until everything is killed, like `10m`"),
        "user": _key("user", LOWER, "`UID[:GID]`, in place of the image's user"),
    },
    "rlimits": {name: Key("limit", LOWER) for name in RLIMITS},
    "rlimits.*": {"soft": Key("plain limit", LOWER), "hard": Key("plain limit", LOWER)},
    "filesystem": {
        "maskedPaths": _key(_LIST, GROW, "absolute paths that are covered: files by /dev/null, folders by an empty one"),
        "readonlyPaths": _key(_LIST, GROW, "absolute paths that become read-only"),
        "hidden": _key(_LIST, GROW, "as `maskedPaths`; `~` is the caller's home"),
        "protected": _key(_LIST, GROW, "as `readonlyPaths`; `~` is the caller's home"),
        "uncovered": _key(_LIST, RULES, "taken out of the four lists above; weakens"),
        "readonly": _key(_FLAG, TRUE, "the root file system, with /tmp, /var/tmp and /run in memory"),
        "tmpfs": _key(_LIST, GROW, "`PATH[:OPTIONS]`: empty file systems in memory; those that are there stay as they are"),
        "mounts": _key("list of tables", SHRINK, "the `[[filesystem.mounts]]` tables: files of the host; weakens"),
        "hidepid": _key(_FLAG, TRUE, "processes of other users do not show in /proc"),
    },
    "filesystem.mounts": {
        "destination": _key(_TEXT, FREE, "absolute path inside"),
        "source": _key(_TEXT, FREE, "absolute path of the host; `~` is the caller's home"),
        "options": _key(_LIST, FREE, "`ro` when not said; `rw`, `noexec`"),
    },
    "seccomp": {
        "defaultAction": _key("action", RULES, "the answer to every call that no rule and no group names"),
        "defaultErrnoRet": _key("error number", FREE, 'error name (`"ENOSYS"`) or number; required when the action is `SCMP_ACT_ERRNO`'),
        "groups": _key(_LIST, RULES, "groups (below) whose calls are allowed, where no rule says otherwise"),
        "deny": _key(_LIST, GROW, "calls and groups that get EPERM, before all rules"),
        "absent": _key(_LIST, GROW, "calls and groups that get ENOSYS, before all rules"),
        "allow": _key(_LIST, RULES, "calls and groups that are allowed, before the `syscalls` of this file"),
        "syscalls": _key("list of tables", RULES, "the `[[seccomp.syscalls]]` tables: rules, the first that matches wins"),
    },
    "seccomp.syscalls": {
        "names": _key(_LIST, FREE, "required; list of calls and groups"),
        "action": _key("action", FREE, "required; an action (below)"),
        "errnoRet": _key("error number", FREE, "as `defaultErrnoRet`"),
        "args": _key("list of tables", FREE, "conditions on arguments; all must hold. Without it the rule takes every call"),
        "comment": _key(_TEXT, FREE, "why; shown by `explain`, and when a call was refused"),
        "optional": _key(_FLAG, FREE, "names that nobody knows are skipped: calls of newer kernels"),
    },
    "seccomp.syscalls.args": {
        "index": _key("integer", FREE, "which argument, 0 to 5"),
        "op": _key(_TEXT, FREE, "an operator (below)"),
        "value": _key("integer or list of integers", FREE, "what it is compared with, any of a list; the mask of `SCMP_CMP_MASKED_EQ`"),
        "valueTwo": _key("integer or list of integers", FREE, "`SCMP_CMP_MASKED_EQ` only: what must be left under the mask"),
        "width": _key("integer", FREE, "how many low bits are compared: 32 (when not said) or 64"),
    },
    "namespaces": {
        "user": _key("word", LOWER, "ids, as `--userns` has them", ("nomap", "single", "keep-id", "auto")),
        "time": _key(_FLAG, TRUE, "a time namespace of its own"),
    },
    "landlock": {
        "read": _key(_LIST, WITHIN, "absolute paths: only files and folders below these can be read; all when not said. /dev and /proc are always among them"),
        "write": _key(_LIST, WITHIN, "absolute paths: only below these can anything be written, made, removed, renamed; as `read`"),
        "execute": _key(_LIST, WITHIN, "absolute paths: only files below these can be run, and their ELF loaders must be too"),
        "connectTcp": _key("list of ports", SHRINK, "TCP ports that connections can be made to, on whatever machine; all when not said"),
        "bindTcp": _key("list of ports", SHRINK, "TCP ports that can be listened on; all when not said"),
        "scoped": _key(_LIST, GROW, "`abstract_unix_socket`: those of processes outside are out of reach, whatever the network; `signal`: likewise, which takes `sbx exec` for outside", SCOPES),
    },
    "devices": {
        "allow": _key(_LIST, SHRINK, "which of null, zero, full, random, urandom and tty work; all when not said", DEVICES),
    },
    "network": {
        "mode": _key("word", LOWER, "as `--network` has it", NETWORKS),
    },
    "limits": {"memory": Key(_TABLE), "pids": Key(_TABLE), "cpu": Key(_TABLE)},
    "limits.memory": {
        "limit": _key("size", LOWER, "bytes, or like `512m`"),
        "swap": _key("size", LOWER, "memory and swap together"),
        "reservation": _key("size", FREE, "what is taken away last"),
    },
    "limits.pids": {"limit": _key("count", LOWER, "most processes and threads")},
    "limits.cpu": {
        "quota": _key("count", LOWER, "microseconds of each period"),
        "period": _key("count", FREE, "microseconds; 100000 when not said. The quota's part of it only gets lower"),
        "shares": _key("count", FREE, "weight against others"),
    },
    "environment": {
        "set": _key("table of strings", FREE, "variables; options of the command line win"),
        "pass": _key(_LIST, SHRINK, "names of the caller's variables that are handed in"),
        "unset": _key(_LIST, GROW, "variables of the image that are taken away"),
    },
    "test": {
        "deny": _key(_TEXT, FREE, "a probe that must be refused"),
        "allow": _key(_TEXT, FREE, "a probe that must work"),
    },
}  # fmt: skip

# Those without `extends` must have these; nothing is assumed for them.
REQUIRED = {
    "capabilities": ("keep",), "filesystem": ("maskedPaths", "readonlyPaths"), "seccomp": ("defaultAction",),
}  # fmt: skip

_LIMITS = ("cgroup_conf", "allow_degraded")
# key -> options of `run` that would change it: what `lock` refuses.
OPTIONS: dict[str, tuple[str, ...]] = {
    "capabilities.keep": ("cap_add",), "process.noNewPrivileges": ("no_new_privileges",), "process.timeout": ("timeout",),
    "process.user": ("user", "group_add"), "process.umask": ("umask",), "rlimits": ("ulimit",),
    "filesystem.maskedPaths": ("unmask",), "filesystem.readonlyPaths": ("unmask",),
    "filesystem.mounts": ("volume", "mount", "volumes_from"), "seccomp": ("seccomp",), "namespaces.user": ("userns", "uidmap", "gidmap"),
    "namespaces": ("pid", "ipc", "uts", "pod", "pod_id_file"), "devices.allow": ("device", "gpus"),
    **{f"landlock.{name}": ("landlock",) for name in LANDLOCK}, "network.mode": ("network",), "limits.memory": ("memory", "memory_swap", *_LIMITS),
    "limits.pids": ("pids_limit", *_LIMITS), "limits.cpu": ("cpus", "cpu_quota", "cpu_period", *_LIMITS),
    "environment.pass": ("env", "env_file", "env_host"), "environment.set": ("env", "env_file"),
}  # fmt: skip

_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "word": {"type": "string"},
    "action": {"type": "string"},
    "duration": {"type": ["string", "integer"]},
    "user": {"type": ["string", "integer"]},
    "octal string": {"type": "string", "pattern": "^0?[0-7]{1,3}$"},
    "integer": {"type": "integer"},
    "count": {"type": "integer", "minimum": 0},
    "size": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]},
    "true or false": {"type": "boolean"},
    "error number": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 4095}]},
    "list of strings": {"type": "array", "items": {"type": "string"}},
    "list of ports": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65535}},
    "integer or list of integers": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
    "plain limit": {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "unlimited"}]},
    "table of strings": {"type": "object", "additionalProperties": {"type": "string"}},
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a profile file, for editors; what spans two keys only the reader checks."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sbx security profile",
        **_table_schema(""),
    }


def _table_schema(table: str) -> dict[str, Any]:
    properties = {}
    for name, key in TABLES[table].items():
        below = f"{table}.{name}".lstrip(".")
        if key.kind == "table":
            found = _table_schema(below)
        elif key.kind == "list of tables":
            found = {"type": "array", "items": _table_schema(below)}
        elif key.kind == "limit":
            pair = {"type": "object", "additionalProperties": False, "required": ["soft", "hard"],
                    "properties": dict.fromkeys(("soft", "hard"), _TYPES["plain limit"])}  # fmt: skip
            found = {"anyOf": [_TYPES["plain limit"], pair]}
        else:
            found = dict(_TYPES[key.kind])
        if key.words:
            found = {**found, "items": {"enum": list(key.words)}} if "list" in key.kind else {"enum": list(key.words)}
        if key.about:
            found = {**found, "description": key.about}
        properties[name] = found
    return {"type": "object", "additionalProperties": False, "properties": properties}
