"""The hot side of profiles: the compiled result from the cache, and its merge into a spec.  (front, hot)

Reading TOML and compiling seccomp is cold work, see profile/.
"""

import os

from sandbox import cache, cold, linux, paths, spec as oci
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Options = dict[str, Any]

# Words of --security-opt that change a key that may be locked
_BY_SECURITY_OPT = {
    "seccomp": "seccomp=", "no_new_privileges": "no-new-privileges=false", "unmask": ("unmask=", "systempaths="),
    "landlock": "landlock=",
}  # fmt: skip


def load(name: str, seccomp: str) -> "dict[str, Any]":
    """{"fragment", "bpf", "files"} of profile `name`, see profile/load.py for its shape."""
    if "/" in name:
        name = os.path.abspath(name)
    found = cache.get(paths.cache() + "/profiles", f"{name}|{seccomp}")
    if found and found["fragment"].get("kernel", "") not in ("", os.uname().release):
        found = None  # what the profile requires was there under another kernel
    if not found:
        found = cold.call("sandbox.profile.load:load", name, seccomp)
    if not isinstance(found, dict):
        raise SandboxError("load profile", name, detail="not a profile")
    found["fragment"]["annotations"] = {"dev.sbx.profile": f"{name}|{seccomp}"}
    return found


def apply(opts: "Options", fragment: "dict[str, Any]", able: "tuple[str, ...]" = ()) -> "Options":
    """`opts` with what the profile says in their place; SandboxError for one that would change a locked key.

    What is given on the command line wins; of lists the profile's part comes first.  `able`: all that the verb can do of it.
    """
    options = fragment.get("options", {})
    for option, key in fragment.get("locked", {}).items():
        _locked(opts, option, key, options)
    if not options:
        return opts
    merged = dict(opts)
    for name, value in options.items():
        if able and name not in able:
            raise SandboxError("use profile", name, EINVAL, detail="this verb can not do what the profile asks for")
        merged[name] = [*value, *opts.get(name, ())] if isinstance(value, list) else opts.get(name) or value
    return merged


def _locked(opts: "Options", option: str, key: str, options: "dict[str, Any]") -> None:
    given = bool(opts.get(option))
    if option == "network":
        given = opts["network"] not in ("", "none", options.get("network", ""))
    elif option in _BY_SECURITY_OPT:
        given = any(entry.replace(":", "=", 1).startswith(_BY_SECURITY_OPT[option]) for entry in opts["security_opt"])
    elif option in ("pid", "ipc", "uts"):
        given = opts.get(option, "") not in ("", "private", "none")
    if given:
        raise SandboxError(
            "use profile", key, EINVAL, detail="the profile locks it, and an option would change it",
            hint="take the option away, or choose another --profile",
        )  # fmt: skip


def merge(spec: "dict[str, Any]", fragment: "dict[str, Any]") -> None:
    """Put the profile's rights, limits and paths into `spec`; capabilities are filled in by the front end."""
    process, linux = fragment["process"], fragment["linux"]
    spec["annotations"].update(fragment["annotations"])
    spec["process"]["rlimits"] = [_within_reach(limit) for limit in process.get("rlimits", ())]
    spec["process"]["noNewPrivileges"] = process.get("noNewPrivileges", True)
    if "landlock" in fragment:
        spec["annotations"]["dev.sbx.landlock"] = fragment["landlock"]
    if linux.get("seccomp"):
        spec["linux"]["seccomp"] = linux["seccomp"]
    for field in ("maskedPaths", "readonlyPaths"):
        spec["linux"][field] = list(linux.get(field, ()))


def finish(spec: "dict[str, Any]", fragment: "dict[str, Any]") -> None:
    """What the profile changes in mounts that the front end has made."""
    if "hidepid" in fragment:
        for entry in spec["mounts"]:
            if entry["destination"] == "/proc" and entry["type"] == "proc":
                entry["options"] = [*entry["options"], "hidepid=invisible"]


def _within_reach(limit: "dict[str, Any]") -> "dict[str, Any]":
    """A profile's limit, lowered to the caller's own hard limit: nobody without rights can be given more."""
    most = linux.prlimit(oci.RLIMITS[limit["type"]])[1]
    if most == linux.RLIM_INFINITY:
        return dict(limit)
    return {"type": limit["type"], "soft": min(limit["soft"], most), "hard": min(limit["hard"], most)}
