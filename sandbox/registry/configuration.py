"""registries.conf and its drop-ins, read as containers-registries.conf(5) version 2 says.  (cold)

    $SBX_REGISTRIES_CONF, else $CONTAINERS_REGISTRIES_CONF          that file alone, no drop-ins; or else
    $XDG_CONFIG_HOME/containers/registries.conf, else /etc/containers/registries.conf
    then every *.conf of /etc/containers/registries.conf.d and of $XDG_CONFIG_HOME/containers/registries.conf.d

A later file replaces the [[registry]] of the same prefix, single aliases, and the settings that it has.
"""

import os
from typing import Any, NamedTuple

from sandbox import cache, paths
from sandbox.errors import SandboxError

SYSTEM = "/etc/containers"
FILE_BYTES = 4 << 20
_STEP = "read registries configuration"
MODES = ("disabled", "permissive", "enforcing")
PULL_FROM = ("all", "digest-only", "tag-only")


class Mirror(NamedTuple):
    location: str
    insecure: bool = False
    pull_from: str = "all"


class Registry(NamedTuple):
    """One [[registry]]: what `prefix` matches is asked for at `location`, mirrors first."""

    prefix: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()


class Configuration:
    """What all files say; `search` is None when none of them has unqualified-search-registries."""

    def __init__(self) -> None:
        self.registries: dict[str, Registry] = {}
        self.aliases: dict[str, str] = {}
        self.search: list[str] | None = None
        self.short_name_mode = "enforcing"
        self.files: list[str] = []

    def plain(self) -> tuple[Any, ...]:
        """For marshal; `of` reads it."""
        registries = [
            (*registry[:4], [tuple(mirror) for mirror in registry.mirrors]) for registry in self.registries.values()
        ]
        return registries, self.aliases, self.search, self.short_name_mode, self.files

    @classmethod
    def of(cls, plain: tuple[Any, ...]) -> "Configuration":
        found = cls()
        registries, found.aliases, found.search, found.short_name_mode, found.files = plain
        for prefix, location, insecure, blocked, mirrors in registries:
            mirrored = tuple(Mirror(*mirror) for mirror in mirrors)
            found.registries[prefix] = Registry(prefix, location, insecure, blocked, mirrored)
        return found


def _drop_ins(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".conf")]
    except OSError:
        return []


def files() -> list[tuple[str, bool]]:
    """(path, whether it has to exist) of what is read, in order."""
    own = os.environ.get("SBX_REGISTRIES_CONF", "") or os.environ.get("CONTAINERS_REGISTRIES_CONF", "")
    if own:
        return [(own, True)]
    user = os.path.dirname(paths.config()) + "/containers"
    main = f"{user}/registries.conf"
    if not os.path.exists(main):
        main = f"{SYSTEM}/registries.conf"
    more = _drop_ins(f"{SYSTEM}/registries.conf.d") + _drop_ins(f"{user}/registries.conf.d")
    # Where podman keeps the aliases that a person chose at its prompt.
    chosen = os.path.dirname(paths.cache()) + "/containers/short-name-aliases.conf"
    return [(path, False) for path in (main, *more, chosen)]


def stamped() -> list[str]:
    """Everything whose change may change what `load` says, for who keeps a result of that."""
    found = [path for path, _ in files()]
    folders = [os.path.dirname(path) for path in found]
    return list(dict.fromkeys([*found, *folders, f"{SYSTEM}/registries.conf.d"]))


def load() -> Configuration:
    """What all files say together; SandboxError names the file and the key that is wrong."""
    wanted = files()
    # Reading TOML, with Debian's list of 150 short names, takes 8 ms; a file that appears or changes ends the entry.
    folder, key = f"{paths.cache()}/registries", " ".join(path for path, _ in wanted)
    kept = cache.get(folder, key)
    if kept is not None:
        return Configuration.of(kept)
    found = Configuration()
    for path, needed in wanted:
        try:
            with open(path, "rb") as file:
                raw = file.read(FILE_BYTES + 1)
        except FileNotFoundError as error:
            if needed:
                raise SandboxError.of(_STEP, path, error, "check SBX_REGISTRIES_CONF") from None
            continue
        except OSError as error:
            raise SandboxError.of(_STEP, path, error) from None
        read(raw, path, found)
    cache.put(folder, key, found.plain(), [path for path, _ in wanted])
    return found


def _bad(path: str, why: str, hint: str = "") -> SandboxError:
    return SandboxError(_STEP, path, detail=why, hint=hint or "man containers-registries.conf")


def _value(table: dict[str, Any], key: str, kind: type, path: str, fallback: Any) -> Any:
    value = table.get(key, fallback)
    if type(value) is not kind:
        words = {str: "text", bool: "true or false", list: "a list", dict: "a table"}
        raise _bad(path, f"`{key}` is not {words[kind]}")
    return value


def read(raw: bytes, path: str, found: Configuration) -> None:
    """Add what one file (its bytes, and its path for messages) says to `found`."""
    import tomllib  # 4 ms, and only when the cache has nothing

    try:
        if len(raw) > FILE_BYTES:
            raise _bad(path, f"longer than {FILE_BYTES >> 20} MiB")
        table = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise _bad(path, f"not TOML ({error})") from None
    if isinstance(table.get("registries"), dict):
        raise _bad(
            path, "[registries.search] and the like are version 1 of the format, which is no longer read",
            "write unqualified-search-registries and [[registry]]",
        )  # fmt: skip
    found.files.append(path)
    for entry in _value(table, "registry", list, path, []):
        if type(entry) is not dict:
            raise _bad(path, "`registry` is not a list of tables")
        registry = _registry(entry, path)
        found.registries[registry.prefix] = registry
    for name, target in _value(table, "aliases", dict, path, {}).items():
        if type(target) is not str:
            raise _bad(path, f"the alias of `{name}` is not text")
        found.aliases[name] = target  # an empty one takes an earlier alias away
    if "unqualified-search-registries" in table:
        search = _value(table, "unqualified-search-registries", list, path, [])
        if any(type(host) is not str or not host or "/" in host for host in search):
            raise _bad(path, "`unqualified-search-registries` is not a list of host names")
        found.search = list(search)
    mode = _value(table, "short-name-mode", str, path, "")
    if mode and mode not in MODES:
        raise _bad(path, f"`short-name-mode` is none of {', '.join(MODES)}")
    found.short_name_mode = mode or found.short_name_mode


def _registry(entry: dict[str, Any], path: str) -> Registry:
    location = _place(_value(entry, "location", str, path, ""), path)
    prefix = _place(_value(entry, "prefix", str, path, ""), path) or location
    if not prefix:
        raise _bad(path, "a [[registry]] has neither `prefix` nor `location`")
    wild = prefix.startswith("*.")
    if "*" in (prefix[2:] if wild else prefix) or (wild and "/" in prefix):
        raise _bad(path, f"`{prefix}`: the only wildcard is *. before a host name")
    digest_only = _value(entry, "mirror-by-digest-only", bool, path, False)
    mirrors = []
    for mirror in _value(entry, "mirror", list, path, []):
        if type(mirror) is not dict:
            raise _bad(path, "`mirror` is not a list of tables")
        at = _place(_value(mirror, "location", str, path, ""), path)
        rule = _value(mirror, "pull-from-mirror", str, path, "") or ("digest-only" if digest_only else "all")
        if not at:
            raise _bad(path, f"a mirror of `{prefix}` has no `location`")
        if rule not in PULL_FROM:
            raise _bad(path, f"`pull-from-mirror` is none of {', '.join(PULL_FROM)}")
        mirrors.append(Mirror(at, _value(mirror, "insecure", bool, path, False), rule))
    return Registry(
        prefix, location or ("" if wild else prefix), _value(entry, "insecure", bool, path, False),
        _value(entry, "blocked", bool, path, False), tuple(mirrors),
    )  # fmt: skip


def _place(text: str, path: str) -> str:
    """A `host[:port][/path]`, as it has to be: without scheme and without a slash at the end."""
    if "://" in text:
        raise _bad(path, f"`{text}` begins with a scheme", "write it as host[:port][/path]")
    return text.rstrip("/")
