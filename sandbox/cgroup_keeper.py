"""The keeper's side of a control group with limits: frozen, ended, watched, left.  (mechanism, hot with limits)

It has descriptors that the cli opened, as the files may be another user's by now: see cgroup.py.
"""

import os
import select
import time

from sandbox import linux, linux_rare
from sandbox.errors import SandboxError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Descriptors that the keeper gets, in this order
HANDED = ("cgroup.procs", "cgroup.freeze", "cgroup.kill")
_TRIES = 50


def read(path: str) -> str:
    """What a file says; "" when it can not be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def rmdir(group: str) -> None:
    """Remove an empty group and those below it; OSError EBUSY while a process is in it."""
    for path in (f"{group}/payload", f"{group}/keeper", group):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass


class Group:
    """What the keeper does with the group: it has descriptors, as the files may be another user's by now."""

    def __init__(self, path: str, fds: "list[int]") -> None:
        self.path = path
        self.procs, self.freezer, self.killer = fds
        payload = f"{path}/payload"
        self.state = _open(f"{payload}/cgroup.events")
        self.events, self.peak = _open(f"{payload}/memory.events"), _open(f"{payload}/memory.peak")
        self.frozen = False
        self.suspect = ""  # name of the process that was seen to hold more than half when the limit was hit

    def freeze(self, frozen: bool) -> None:
        """Stop all processes of the container, or let them go on; returns when it is so."""
        try:
            os.write(self.freezer, b"1" if frozen else b"0")
        except OSError as error:
            raise SandboxError.of("pause container", self.path, error) from None
        for _ in range(_TRIES):
            if (b"frozen 1" in os.pread(self.state, 256, 0)) == frozen:
                break
            time.sleep(0.002)
        self.frozen = frozen

    def kill(self) -> None:
        """End all processes of the container at once (Linux 5.14)."""
        try:
            os.write(self.killer, b"1")
        except OSError:
            pass  # gone, or an older kernel: they end with their pid namespace

    def watch(self, poll: "select.poll") -> None:
        if self.events >= 0:
            self.notice()  # what was counted before is no news
            poll.register(self.events, select.POLLPRI)

    def notice(self) -> None:
        """The limit was hit: who is it?  The kernel ends the largest, and nobody can ask it afterwards; often it is too
        late already."""
        os.pread(self.events, 256, 0)
        limit = read(f"{self.path}/payload/memory.max").strip()
        for pid in read(f"{self.path}/payload/cgroup.procs").split():
            seen = _as_proc_numbers(int(pid))
            words = read(f"/proc/{seen}/statm").split() if seen else []
            # Only one that holds more than all others together: a wrong name is worse than none.
            if len(words) > 1 and limit.isdecimal() and int(words[1]) * os.sysconf("SC_PAGE_SIZE") > int(limit) // 2:
                self.suspect = read(f"/proc/{seen}/comm").strip()

    def out_of_memory(self, command: str) -> "dict[str, Any] | None":
        """{limit, peak, killed, process, words} when the kernel has ended processes for want of memory.

        `command`: the name of the container's first process, when it was one of them.
        """
        if self.events < 0:
            return None
        counts = dict(line.split() for line in os.pread(self.events, 512, 0).decode().splitlines())
        killed = int(counts.get("oom_kill", "0"))
        if not killed:
            return None
        limit = read(f"{self.path}/payload/memory.max").strip()
        peak = os.pread(self.peak, 32, 0).decode().strip() if self.peak >= 0 else ""
        name = command or self.suspect
        words = f"out of memory: limit {_size(limit)}, "
        words += f"peak {_size(peak)}, " if peak else ""
        words += "1 process killed" if killed == 1 else f"{killed} processes killed"
        words += f": `{printable(name)}`" if name else ""
        return {"limit": limit, "peak": peak, "killed": killed, "process": name, "words": words}

    @staticmethod
    def name_of(pid: int) -> str:
        """The name of a process that may have ended but is not collected yet."""
        return read(f"/proc/{pid}/comm").strip()

    def leave(self) -> None:
        """At the very end: out of the group and remove it, where nobody else will; systemd does it with its scopes."""
        if self.path.endswith(".scope"):
            return
        others = f"{os.path.dirname(self.path)}/others"
        try:
            if not os.path.isdir(others):
                os.mkdir(others)
            linux.write_file(f"{others}/cgroup.procs", "0")
            rmdir(self.path)
        except OSError:
            pass  # not ours under this id map, or a helper is still dying: the next container's start does it


def _as_proc_numbers(pid: int) -> str:
    """The number that our /proc, which is the host's, has for a process of our pid namespace; "" when it has ended."""
    try:
        fd = linux_rare.pidfd_open(pid)
    except OSError:
        return ""
    try:
        lines = read(f"/proc/self/fdinfo/{fd}").split("\n")
    finally:
        os.close(fd)
    number = next((line[4:].strip() for line in lines if line.startswith("Pid:")), "")
    return number if number not in ("0", "-1") else ""


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _size(text: str) -> str:
    if not text.isdecimal():
        return "none"
    return f"{int(text) / (1 << 20):.1f} MiB"
