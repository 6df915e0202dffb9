"""What a running container uses: of its control group where it has one, else added up from /proc.  (cold)

processor, memory, processes    cpu.stat, memory.current, pids.current of the group; /proc/PID/stat of all processes
disk                            io.stat of the group; /proc/PID/io of the processes that still live
network                         /proc/PID/net/dev of its command: all but the loopback
"""

import os
from typing import NamedTuple

from sandbox import cgroup_keeper, state
from sandbox.life.processes import processes


class Used(NamedTuple):
    """One look; -1 is unknown.  Seconds and bytes, counted since the start."""

    cpu: float = 0.0
    memory: int = 0
    limit: int = 0  # most memory: the group's, or the machine's
    processes: int = 0
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0


def look(known: state.Known) -> Used:
    """What it uses now; nothing of a stopped one."""
    if not known.lives or "pid" not in known.state:
        return Used()
    pid = int(known.state["pid"])
    received, sent = _network(known, pid)
    group = f"{known.state['cgroup']}/payload" if known.state.get("cgroup") else ""
    found = processes(pid)
    cpu = _keyed(f"{group}/cpu.stat").get("usage_usec", -1) / 1e6 if group else -1.0
    memory, count = (_number(f"{group}/{name}.current") if group else -1 for name in ("memory", "pids"))
    read, written = _disk_of_group(group) if group else (-1, -1)
    if read < 0:
        read, written = _disk(known, [one["host"] for one in found])
    return Used(
        cpu if cpu >= 0 else sum(one["cpu"] for one in found),
        memory if memory >= 0 else sum(one["memory"] for one in found),
        _limit(group), count if count >= 0 else len(found), received, sent, read, written,
    )  # fmt: skip


def _keyed(path: str) -> dict[str, int]:
    pairs = (line.split() for line in cgroup_keeper.read(path).splitlines())
    return {pair[0].rstrip(":"): int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}


def _number(path: str) -> int:
    text = cgroup_keeper.read(path).strip()
    return int(text) if text.isdecimal() else -1


def _limit(group: str) -> int:
    machine = _keyed("/proc/meminfo").get("MemTotal", 0) * 1024
    own = _number(f"{group}/memory.max") if group else -1
    return min(own, machine) if own >= 0 else machine


def _network(known: state.Known, pid: int) -> tuple[int, int]:
    """(bytes received, bytes sent); unknown where the network is not its own."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return -1, -1
    except OSError:
        if known.about.get("network") == "host":
            return -1, -1
    received = sent = 0
    lines = cgroup_keeper.read(f"/proc/{pid}/net/dev").splitlines()[2:]
    for name, _, numbers in (line.partition(":") for line in lines):
        fields = numbers.split()
        if name.strip() != "lo" and len(fields) > 8:
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return (received, sent) if lines else (-1, -1)


def _disk_of_group(group: str) -> tuple[int, int]:
    read = written = 0
    text = cgroup_keeper.read(f"{group}/io.stat")
    if not os.path.exists(f"{group}/io.stat"):
        return -1, -1
    for line in text.splitlines():
        found = dict(field.partition("=")[::2] for field in line.split()[1:])
        read, written = read + int(found.get("rbytes", 0)), written + int(found.get("wbytes", 0))
    return read, written


def _disk(known: state.Known, pids: list[int]) -> tuple[int, int]:
    """Of the processes that live now; what others did is in nobody's count but their parent's, once it has waited."""
    found = [_keyed(f"/proc/{pid}/io") for pid in pids]
    if not any(found):
        return -1, -1
    return sum(one.get("read_bytes", 0) for one in found), sum(one.get("write_bytes", 0) for one in found)
