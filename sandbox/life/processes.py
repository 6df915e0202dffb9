"""The processes of a running container, from the host's /proc.  (cold)"""

import os
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def processes(init: int) -> list[dict[str, Any]]:
    """All processes of the pid namespace whose first one is `init`, as the host numbers it."""
    depth = len(_status(init).get("NSpid", "").split())
    keeper = _status(init).get("PPid", "")
    if not keeper:
        return []  # it has ended
    below = {keeper}
    found = []
    # A parent has mostly the smaller number; who was taken over by the init is below it in any case.
    every = {name: _status(int(name)) for name in os.listdir("/proc") if name.isdecimal()}
    helpers = {
        name for name, status in every.items() if status.get("PPid") == keeper and _is_helper(name, status, init)
    }
    grown = True
    while grown:
        grown = False
        for name, status in every.items():
            if name not in below and name not in helpers and status.get("PPid") in below:
                below.add(name)
                grown = True
    for name in sorted(below, key=int):
        numbers = every.get(name, {}).get("NSpid", "").split()
        if name != keeper and len(numbers) >= depth:
            process = _process(int(name), every[name], depth, every)
            if process:
                found.append(process)
    return found


def _is_helper(pid: str, status: dict[str, str], init: int) -> bool:
    """Whether a child of the keeper works for it: what `exec` starts has the mounts of the first process.

    A first process that is not to be looked at (that of a pod) leaves the pid namespaces that helpers make for themselves.
    """
    if pid == str(init):
        return False
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink(f"/proc/{init}/ns/mnt")
    except OSError:
        return status.get("NSpid", "").endswith("\t1")


def _status(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def _process(pid: int, status: dict[str, str], depth: int, every: dict[str, dict[str, str]]) -> dict[str, Any] | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            command = raw.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "backslashreplace")
    except OSError:
        return None
    parent = every.get(status["PPid"], {}).get("NSpid", "").split()
    groups = status.get("NSpgid", "").split()
    return {
        "uid": int(status["Uid"].split()[1]), "ruid": int(status["Uid"].split()[0]), "gid": int(status["Gid"].split()[1]),
        "rgid": int(status["Gid"].split()[0]), "pgid": int(groups[depth - 1]) if len(groups) >= depth else 0,
        "name": status["Name"], "state": fields[0], "nice": int(fields[16]), "size": int(fields[20]),
        "seccomp": status.get("Seccomp", ""), "caps": {key[3:]: status[key] for key in status if key.startswith("Cap")},
        "host": pid, "pid": int(status["NSpid"].split()[depth - 1]),
        "ppid": int(parent[depth - 1]) if len(parent) >= depth else 0,
        "cpu": (int(fields[11]) + int(fields[12])) / _TICKS, "started": int(fields[19]) / _TICKS,
        "tty": "?" if fields[4] == "0" else f"pts/{int(fields[4]) & 0xFF}", "command": command or f"[{status['Name']}]",
        "memory": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
    }  # fmt: skip
