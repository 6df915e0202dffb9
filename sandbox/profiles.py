"""The hot side of profiles: the compiled result from the cache, and its merge into a spec.  (front, hot)

Reading TOML and compiling seccomp is cold work, see profile/.
"""

import os
import resource

from sandbox import cache, cold, paths, plan
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def load(name: str, seccomp: str) -> "dict[str, Any]":
    """{"fragment", "bpf", "files"} of profile `name`, see profile/load.py for its shape."""
    if "/" in name:
        name = os.path.abspath(name)
    found = cache.get(paths.cache() + "/profiles", f"{name}|{seccomp}")
    if not found:
        found = cold.call("sandbox.profile.load:load", name, seccomp)
    if not isinstance(found, dict):
        raise SandboxError("load profile", name, detail="not a profile")
    found["fragment"]["annotations"] = {"dev.sbx.profile": f"{name}|{seccomp}"}
    return found


def merge(spec: "dict[str, Any]", fragment: "dict[str, Any]") -> None:
    """Put the profile's rights, limits and paths into `spec`; capabilities are filled in by the front end."""
    process, linux = fragment["process"], fragment["linux"]
    spec["annotations"].update(fragment["annotations"])
    spec["process"]["rlimits"] = [_within_reach(limit) for limit in process.get("rlimits", ())]
    spec["process"]["noNewPrivileges"] = process.get("noNewPrivileges", True)
    if linux.get("seccomp"):
        spec["linux"]["seccomp"] = linux["seccomp"]
    for field in ("maskedPaths", "readonlyPaths"):
        spec["linux"][field] = list(linux.get(field, ()))


def _within_reach(limit: "dict[str, Any]") -> "dict[str, Any]":
    """A profile's limit, lowered to the caller's own hard limit: nobody without rights can be given more."""
    most = resource.getrlimit(plan.RLIMITS[limit["type"]])[1]
    if most == resource.RLIM_INFINITY:
        return dict(limit)
    return {"type": limit["type"], "soft": min(limit["soft"], most), "hard": min(limit["hard"], most)}
