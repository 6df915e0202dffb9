"""How a command is isolated: what was asked for, what the kernel says of its process, and whether that is less.  (launch, hot)"""

import os

from sandbox import caps
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# OCI's name of a namespace -> its file below /proc/PID/ns.  The user namespace is the keeper's too.
_FILES = {
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}
_FILTERED = "2"  # SECCOMP_MODE_FILTER


def requested(spec: "dict[str, Any]") -> "dict[str, Any]":
    """What a spec asks for, as `inspect` and the report show it."""
    annotations, process = spec["annotations"], spec["process"]
    namespaces = spec["linux"]["namespaces"]
    return {
        "profile": annotations.get("dev.sbx.profile", "").partition("|")[0],
        "seccomp": "seccomp" in spec["linux"],
        "noNewPrivileges": process["noNewPrivileges"],
        "capabilities": list(process["capabilities"].get("bounding", ())),
        "namespaces": sorted(entry["type"] for entry in namespaces if "path" not in entry),
        "shared": annotations.get("dev.sbx.spaces", "").split(),
        "network": annotations.get("dev.sbx.network", ""),
        "readonlyRoot": spec["root"]["readonly"],
        "landlock": [line for line in annotations.get("dev.sbx.landlock", "").split("\n") if line],
        "masked": len(spec["linux"].get("maskedPaths", ())),
        "limits": spec["linux"].get("resources", {}),
        "degraded": [word for word in annotations.get("dev.sbx.degraded", "").split(",") if word],
    }


def effective(pid: int, *, reaper: bool) -> "dict[str, Any]":
    """What /proc says of the process `pid` of the host, or of its child when it is the `reaper`; {} when it has ended."""
    try:
        if reaper:
            pid = int(_read(f"/proc/{pid}/task/{pid}/children").split()[0])
        status = dict(line.split(":\t", 1) for line in _read(f"/proc/{pid}/status").split("\n") if ":\t" in line)
        own = [kind for kind, file in _FILES.items() if _is_apart(pid, file)]
    except (OSError, IndexError):
        return {}
    return {
        "seccomp": status.get("Seccomp", "").strip() == _FILTERED,
        "noNewPrivileges": status.get("NoNewPrivs", "").strip() == "1",
        "capabilities": _names(int(status["CapBnd"], 16)),
        "permitted": _names(int(status["CapPrm"], 16)),
        "namespaces": sorted([*own, "user"]),
    }


def check(wanted: "dict[str, Any]", found: "dict[str, Any]") -> None:
    """SandboxError "check isolation" when what was `found` is less than what is `wanted`."""
    for key in ("seccomp", "noNewPrivileges"):
        if wanted[key] and not found[key]:
            raise SandboxError("check isolation", key, detail="it was asked for, and is not in force")
    more = [name for name in (*found["capabilities"], *found["permitted"]) if name not in wanted["capabilities"]]
    missing = [kind for kind in wanted["namespaces"] if kind not in found["namespaces"]]
    for subject in (*more, *missing):
        detail = "the command has it, and was to have it not" if subject in more else "the command is in the keeper's"
        raise SandboxError("check isolation", subject, detail=detail)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _is_apart(pid: int, file: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/{file}") != os.readlink(f"/proc/self/ns/{file}")
    except FileNotFoundError:
        if os.path.exists(f"/proc/self/ns/{file}"):
            raise
        return False  # a kernel without them


def _names(bits: int) -> list[str]:
    return [f"CAP_{name}" for number, name in enumerate(caps.NAMES) if bits >> number & 1]
