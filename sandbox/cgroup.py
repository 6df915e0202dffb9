"""The control group (cgroup v2) of a container with limits: had, filled, removed: the cli's side.  (mechanism, hot with limits)

cli                                                keeper                         init
  clone  -------------------------------------->     waits for "go"
  a group of ours: a scope of the user's systemd
    with the keeper in it, or a folder below
    SBX_CGROUP or our own group
  <group>/keeper  the keeper and its helpers
  <group>/payload the limits
  ("group", path) three times, with descriptors ->   can put in, freeze, kill: cgroup_keeper.py
  ("go",) ------------------------------------->     clone  ------------------>     goes into payload, makes its
                                                                                    cgroup namespace there
The descriptors are opened by the cli, which owns the group: the keeper may be somebody else by then, and the kernel asks
who has opened (CVE-2021-4197).  systemd removes its scopes; other groups are removed by the cli, or by the next one.

Files and values: Documentation/admin-guide/cgroup-v2.rst; conversions from the v1 terms of OCI are crun's.
"""

import errno
import os
import time

from sandbox import linux, scope
from sandbox.cgroup_keeper import HANDED, read, rmdir
from sandbox.errors import EBUSY, EINVAL, ENOENT, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = "/sys/fs/cgroup"
_WHY = "`sbx doctor cgroup` says why and names the fix"
DOCTOR = f"{_WHY}; --allow-degraded=limits goes on with limits per process"
_CONTROLLERS = {"memory": "memory", "cpu": "cpu", "pids": "pids", "blockIO": "io"}
_RATES = (
    ("throttleReadBpsDevice", "rbps"), ("throttleWriteBpsDevice", "wbps"), ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)  # fmt: skip
_OLD = 60.0  # seconds; an empty group of that age is nobody's who is just starting
_TRIES = 50


# -- OCI's linux.resources -> files --


def controllers(resources: "dict[str, Any]") -> "set[str]":
    """The controllers that these limits need."""
    wanted = {_CONTROLLERS[key] for key in resources if key in _CONTROLLERS}
    wanted |= {name.partition(".")[0] for name in resources.get("unified", ())}
    cpu = resources.get("cpu", {})
    if "cpus" in cpu or "mems" in cpu:
        wanted.add("cpuset")
        if not {"shares", "quota", "period"} & set(cpu):
            wanted.discard("cpu")
    return wanted


def files(resources: "dict[str, Any]") -> "list[tuple[str, str]]":
    """(file, value) in the order in which they are written."""
    result: list[tuple[str, str]] = []
    memory = resources.get("memory", {})
    if "limit" in memory:
        result.append(("memory.max", _most(memory["limit"])))
    if "swap" in memory:  # OCI counts memory and swap together
        swap = memory["swap"]
        result.append(("memory.swap.max", _most(swap if swap < 0 else swap - memory.get("limit", 0))))
    if "reservation" in memory:
        result.append(("memory.low", _most(memory["reservation"])))
    cpu = resources.get("cpu", {})
    if "shares" in cpu:
        result.append(("cpu.weight", str(1 + (max(2, cpu["shares"]) - 2) * 9999 // 262142)))
    if "quota" in cpu or "period" in cpu:
        result.append(("cpu.max", f"{_most(cpu.get('quota', -1) or -1)} {cpu.get('period') or 100000}"))
    result += [(f"cpuset.{key}", cpu[key]) for key in ("cpus", "mems") if key in cpu]
    if "pids" in resources:
        result.append(("pids.max", _most(resources["pids"]["limit"] or -1)))
    block = resources.get("blockIO", {})
    if "weight" in block:
        result.append(("io.weight", f"default {1 + (block['weight'] - 10) * 9999 // 990}"))
    for entry in block.get("weightDevice", ()):
        result.append(("io.weight", f"{entry['major']}:{entry['minor']} {1 + (entry['weight'] - 10) * 9999 // 990}"))
    for key, word in _RATES:
        result += [("io.max", f"{d['major']}:{d['minor']} {word}={d['rate']}") for d in block.get(key, ())]
    result += resources.get("unified", {}).items()  # as they were given, over what the others say
    return result


def _most(number: int) -> str:
    return "max" if number < 0 else str(number)


def write_limits(payload: str, resources: "dict[str, Any]") -> None:
    """Put the limits into force; SandboxError "set limit"."""
    for name, value in files(resources):
        try:
            linux.write_file(f"{payload}/{name}", value)
        except OSError as error:
            if name == "memory.swap.max" and error.errno == ENOENT:
                continue  # a kernel without accounting of swap; memory itself is limited
            raise SandboxError("set limit", f"{name} = {value}", error.errno or 0, hint=_why(name, error)) from None


def _why(name: str, error: OSError) -> str:
    if name.startswith("cpuset.") and error.errno in (EINVAL, errno.ERANGE):
        return f"`cat {ROOT}/{name}.effective` shows what this machine has"
    if name.startswith("io.") and error.errno in (ENOENT, errno.ENODEV):
        return "a whole disk is limited, not a partition: see `lsblk`"
    return DOCTOR if error.errno == ENOENT else ""


# -- where a group can be had --


def own() -> str:
    """The group of this process; "" without cgroup v2."""
    for line in read("/proc/self/cgroup").split("\n"):
        if line.startswith("0::"):
            return ROOT + line[3:].rstrip("/")
    return ""


def unavailable(resources: "dict[str, Any]") -> str:
    """Why these limits can not be had here, as far as a quick look tells; "" when they can."""
    if not os.path.exists(f"{ROOT}/cgroup.controllers"):
        return "the controllers belong to cgroup v1 here, or there are none"
    chosen = os.environ.get("SBX_CGROUP", "")
    if chosen:
        there = read(f"{chosen}/cgroup.controllers").split()
    elif scope.address():
        uid = os.getuid()
        place = f"{ROOT}/user.slice/user-{uid}.slice/user@{uid}.service" if uid else ROOT
        there = read(f"{place}/cgroup.controllers").split()
    elif os.access(f"{own()}/cgroup.procs", os.W_OK):
        there = read(f"{own()}/cgroup.controllers").split()
    else:
        return "there is neither a systemd of this user nor a control group of its own"
    lacking = controllers(resources) - set(there)
    return f"not delegated to this user: {', '.join(sorted(lacking))}" if lacking else ""


def make(resources: "dict[str, Any]", id_: str, pid: int, parent: str = "") -> str:
    """A group for the container `id_`, with its keeper `pid` in it and no limits yet; its path.

    `parent`: a slice of systemd's, or a folder below SBX_CGROUP or our own group.
    """
    reason = unavailable(resources)
    if reason:
        raise SandboxError("set limits", detail=reason, hint=DOCTOR)
    chosen = os.environ.get("SBX_CGROUP", "")
    path = "" if chosen else scope.address()
    name = f"sbx-{id_[:24]}-{os.urandom(4).hex()}"  # another one at each start: the last one may be ending still
    try:
        if path:
            return ROOT + scope.start(path, f"{name}.scope", pid, parent)
        return _below(chosen or own(), f"{parent.strip('/')}/{name}".lstrip("/"), controllers(resources))
    except OSError as error:
        raise SandboxError.of("make control group", str(error.filename or ""), error, DOCTOR) from None


def fill(group: str, resources: "dict[str, Any]", pid: int) -> None:
    """Put the keeper `pid` into a group of its own beside the payload's, and the limits into force."""
    try:
        for name in ("keeper", "payload"):
            os.mkdir(f"{group}/{name}")
        linux.write_file(f"{group}/keeper/cgroup.procs", str(pid))
        _enable(group, controllers(resources))
    except OSError as error:
        raise SandboxError.of("make control group", str(error.filename or group), error, DOCTOR) from None
    write_limits(f"{group}/payload", resources)


def hand_on(group: str, resources: "dict[str, Any]") -> None:
    """Give the payload of a group that is there the controllers that these limits need."""
    try:
        _enable(group, controllers(resources))
    except OSError as error:
        raise SandboxError.of("make control group", group, error, _WHY) from None


def _enable(group: str, wanted: "set[str]") -> None:
    """Hand the controllers on to the groups below."""
    missing = wanted - set(read(f"{group}/cgroup.subtree_control").split())
    if missing:
        linux.write_file(f"{group}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))


def _below(base: str, name: str, wanted: "set[str]") -> str:
    """Make the group `name` below `base`; processes in `base` itself move aside, else nothing can be handed on."""
    base = base.rstrip("/")
    if ".." in name.split("/") or not os.path.exists(f"{base}/cgroup.procs"):
        raise SandboxError("make control group", f"{base}/{name}", ENOENT, hint="SBX_CGROUP is a folder of cgroup v2")
    for _ in range(_TRIES):
        try:
            _enable(base, wanted)
            break
        except OSError as error:
            if error.errno != EBUSY:
                raise
        _move_aside(base)
    sweep(base)
    path = base
    *above, last = name.split("/")
    for word in above:
        path = f"{path}/{word}"
        if not os.path.isdir(path):
            os.mkdir(path)
        _enable(path, wanted)
    os.mkdir(f"{path}/{last}")
    return f"{path}/{last}"


def _move_aside(base: str) -> None:
    """All processes of `base` into a group below it: the shell and all that is beside us."""
    try:
        os.mkdir(f"{base}/others")
    except FileExistsError:
        pass
    for pid in read(f"{base}/cgroup.procs").split():
        try:
            linux.write_file(f"{base}/others/cgroup.procs", pid)
        except ProcessLookupError:
            pass


def sweep(base: str) -> None:
    """Remove groups of containers that ended without anybody to do so: empty ones, not made just now."""
    for name in os.listdir(base):
        path = f"{base}/{name}"
        try:
            if name.startswith("sbx-") and time.time() - os.stat(path).st_ctime > _OLD:
                rmdir(path)
        except OSError:
            pass


def remove(group: str) -> None:
    """Remove a group whose processes have ended, or are about to; of a scope systemd does it, at the same moment."""
    for _ in range(_TRIES):
        try:
            rmdir(group)
            return
        except OSError as error:
            if error.errno != EBUSY:
                return
            time.sleep(0.002)


def open_handed(group: str) -> "list[int]":
    """The descriptors for the keeper, see HANDED."""
    try:
        return [os.open(f"{group}/payload/{name}", os.O_WRONLY | os.O_CLOEXEC) for name in HANDED]
    except OSError as error:
        raise SandboxError.of("open control group", str(error.filename), error) from None
