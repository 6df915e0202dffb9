"""A task that waits for our answer: its memory, its links, and where a path of it leads; what all of them together take.
  (launch, hot where the spec asks for it)

Read through /proc, by the keeper, which has the rights over the container's user namespace.  Names are looked up in the
container's root by openat2, never in our own.
"""

import os
import time

from sandbox import linux, mounts, refusals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE = 0.02  # seconds between two looks at memory and processes
_LONGEST = 4096  # PATH_MAX
_PAGE = 4096


class Where:
    """A place in a container's files: its real path, what is there (None: nothing yet), and the folder it is in where known."""

    __slots__ = ("above", "path", "status")

    def __init__(self, path: str, status: "os.stat_result | None", above: "os.stat_result | None" = None) -> None:
        self.path, self.status, self.above = path, status, above


class Tasks:
    """All tasks of a container; a task is what the kernel calls a thread, by its number in our pid namespace."""

    def __init__(self) -> None:
        self.forgotten: Callable[[int], object] = int  # told of each task that becomes another program, or ends
        self._memory: dict[int, int] = {}  # task -> descriptor of its memory
        self.proc = self._list = -1
        self.root = -1  # of the first program
        self.changed_root = False  # somebody has called chroot
        self.uid = 0  # of the first program
        self.top: list[str] = []  # folders at the top of the root, no links
        self.peak = {"memory": 0, "tasks": 0, "descriptors": 0}
        self._looked = 0.0
        with open("/proc/self/cmdline", "rb", buffering=0) as own:
            self._own = own.read(1 << 14)

    def look_around(self, pid: int) -> bool:
        """Whether the first program runs, whose memory we may read; then its root is looked at."""
        try:
            if self.proc < 0:
                self.proc = mounts.filesystem("proc", "proc", 0, ())
            folder = os.open(str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.proc)
            command = refusals.read("cmdline", folder)
            os.close(folder)
            if command in (b"", self._own):  # still a clone of ours
                return False
            os.close(os.open(f"{pid}/mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc))
            self.root = os.open(f"{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.proc)
            top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.root)
        except OSError:
            return False
        self._list = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.proc)  # a mount is O_PATH
        for name in os.listdir(top):
            if os.stat(name, dir_fd=top, follow_symlinks=False).st_mode & 0o170000 == 0o040000:
                self.top.append(name)
        os.close(top)
        self.uid = _number(self.lines(pid), b"Uid")
        return True

    def read(self, pid: int, address: int, size: int) -> bytes:
        """Up to `size` bytes at `address` of a task's memory; b"" when they can not be had."""
        if address >> 63 or size <= 0:
            return b""
        for again in (False, True):  # an exec that we were not told of leaves a descriptor of memory that is gone
            fd = self._memory.get(pid, -1)
            try:
                if fd < 0:
                    fd = os.open(f"{pid}/mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
                    if len(self._memory) > 64:
                        self.forget(next(iter(self._memory)))
                    self._memory[pid] = fd
                found = os.pread(fd, size, address)
            except OSError:
                found = b""
            if found or again:
                return found
            self.forget(pid)
        return b""

    def forget(self, pid: int) -> None:
        fd = self._memory.pop(pid, -1)
        if fd >= 0:
            os.close(fd)
        self.forgotten(pid)

    def string(self, pid: int, address: int) -> "bytes | None":
        """The C string at `address`, None when it can not be read or is longer than a path may be."""
        found = b""
        while len(found) < _LONGEST:
            chunk = self.read(pid, address + len(found), _PAGE - (address + len(found)) % _PAGE)
            found += chunk
            if not chunk or b"\0" in chunk:
                break
        text, nul, _ = found.partition(b"\0")
        return text if nul else None

    def link(self, pid: int, name: str) -> str:
        try:
            return os.readlink(f"{pid}/{name}", dir_fd=self.proc)
        except OSError:
            return ""

    def mapped(self, pid: int) -> list[str]:
        """The files that a task has mapped to run them: just after exec the program and its loader."""
        try:
            text = refusals.read(f"{pid}/maps", self.proc)
        except OSError:
            return []
        fields = [line.split(None, 5) for line in text.split(b"\n")]
        return [os.fsdecode(f[5]) for f in fields if len(f) == 6 and b"x" in f[1] and f[5].startswith(b"/")]

    def lines(self, pid: int, folder: int = -1) -> "dict[bytes, bytes]":
        """/proc/PID/status as a table; of the container's own /proc with its `root`."""
        try:
            status = refusals.read(
                f"proc/{pid}/status" if folder >= 0 else f"{pid}/status", folder if folder >= 0 else self.proc
            )
        except OSError:
            return {}
        return {key: value.strip() for key, _, value in (line.partition(b":") for line in status.split(b"\n"))}

    def place(self, pid: int, folder: int, address: int, follow: bool) -> "Where | None":
        """Where a path in a task's memory leads, None when that can not be told.  `folder`: a descriptor of it, or -1."""
        text = self.string(pid, address)
        folder = folder & 0xFFFFFFFF if folder >= 0 else 0xFFFFFFFF
        if text:
            return self.named(pid, folder if folder < 1 << 31 else -1, os.fsdecode(text), follow)
        return self.behind(pid, folder) if folder < 1 << 31 else None

    def named(self, pid: int, folder: int, name: str, follow: bool) -> "Where | None":
        if not name.startswith("/"):
            above = self.link(pid, f"fd/{folder}" if folder >= 0 else "cwd")
            if not above.startswith("/"):
                return None
            name = f"{above}/{name}"
        if name.startswith(("/proc/self/", "/proc/thread-self/")):
            return Where(name, None)
        root = self._root_of(pid)
        try:
            if follow:
                return _opened(root, name, os.O_PATH)
            found = _opened(root, name, os.O_PATH | os.O_NOFOLLOW)
            found.above = self.status(os.path.dirname(found.path))
            return found
        except OSError:
            pass  # not there, or closed to us
        try:
            above, _, last = name.rstrip("/").rpartition("/")
            parent = _opened(root, above or "/", os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return None
        return Where(f"{parent.path.rstrip('/')}/{last}", None, parent.status)

    def status(self, path: str) -> "os.stat_result | None":
        try:
            return _opened(self.root, path, os.O_PATH).status
        except OSError:
            return None

    def behind(self, pid: int, fd: int) -> "Where | None":
        path = self.link(pid, f"fd/{fd & 0xFFFFFFFF}")
        return self.named(pid, -1, path, False) if path.startswith("/") else None

    def _root_of(self, pid: int) -> int:
        if self.changed_root:
            try:
                root = os.open(f"{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.proc)
            except OSError:
                return self.root
            os.dup2(root, self.root, inheritable=False)
            os.close(root)
        return self.root

    def measure(self, name: str, pid: int) -> None:
        """Memory, tasks and descriptors: of who ends, and of all together when the last look is a moment ago."""
        now = time.monotonic()
        if name in ("exit", "exit_group"):
            own = self.lines(pid)
            self._more("memory", _number(own, b"VmHWM") << 10)
            self._more("descriptors", _number(own, b"FDSize"))
            self.forget(pid)
        if now - self._looked < _PAUSE:
            return
        self._looked = now
        memory = tasks = 0
        for entry in os.listdir(self._list):
            lines = self.lines(int(entry)) if entry.isdecimal() else {}
            if len(lines.get(b"NSpid", b"").split()) > 1:  # the others are the keeper and its helpers
                memory += _number(lines, b"VmHWM") << 10
                tasks += _number(lines, b"Threads")
                self._more("descriptors", _number(lines, b"FDSize"))
        self._more("memory", memory)
        self._more("tasks", tasks + (name != "exit_group"))  # the one that is being made too

    def _more(self, key: str, value: int) -> None:
        self.peak[key] = max(self.peak[key], value)


def _opened(root: int, name: str, flags: int) -> Where:
    fd = linux.openat2(root, name, flags)
    try:
        return Where(os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd))
    finally:
        os.close(fd)


def _number(lines: "dict[bytes, bytes]", key: bytes) -> int:
    return int((lines.get(key, b"").split() or [b"0"])[0])
