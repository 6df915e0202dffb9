"""Calls that the filter refuses, as the kernel tells of them: each is answered with its errno, counted, never allowed; and
calls that it allows and that fail, because they are about ids that are not mapped.
  (launch, hot)

The init loads the filter with notifications in place of refusals (filters.py) and hands the listener to the keeper.  A
call that waits while the keeper dies gets ENOSYS from the kernel: it fails, closed.
"""

import os
import select

from sandbox import filters, linux, mounts
from sandbox.errors import EINTR, ENOENT, ENOSYS, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_KINDS = 100  # of refusals that are told apart; a payload must not fill our memory


class Refusals:
    """The listeners of a container, and what was refused."""

    def __init__(self, program: bytes) -> None:
        self._program = program
        self._listeners: list[int] = []
        self._watched: list[int] = []
        # (call, errno, program's name) -> [how often, pid inside, first arguments]; errno 0 for ids: they are the arguments
        self._seen: dict[tuple[int, int, str], list[Any]] = {}
        self.more = 0  # refusals of kinds beyond the hundred
        self._proc = -1

    def listen(self, fd: int) -> None:
        """`fd` is the listener of one more process that has loaded the filter."""
        self._listeners.append(fd)

    def watch(self, poll: "select.poll") -> None:
        """Have `poll` tell of refusals."""
        for fd in self._listeners:
            if fd not in self._watched:
                poll.register(fd, select.POLLIN)
                self._watched.append(fd)

    def serve(self, fd: int, events: int, poll: "select.poll | None" = None) -> bool:
        """Answer the refusal that `poll` saw; False when `fd` is none of ours."""
        if fd not in self._listeners:
            return False
        if events & select.POLLIN:
            self._answer(fd)
        else:  # all who had this filter have ended
            self._listeners.remove(fd)
            if poll and fd in self._watched:
                poll.unregister(fd)
                self._watched.remove(fd)
            os.close(fd)
        return True

    def serve_until(self, channel: int) -> None:
        """Until something is there on `channel`: a process that starts may be refused a call before it can say so."""
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        for fd in self._listeners:
            poll.register(fd, select.POLLIN)
        while True:
            events = poll.poll()
            if any(fd == channel for fd, _ in events):
                return
            for fd, mask in events:
                self.serve(fd, mask)
                if fd not in self._listeners:
                    poll.unregister(fd)

    def records(self) -> "list[tuple[Any, ...]]":
        """(call, errno, program's name, how often, pid inside, arguments) of each kind, in order of appearance."""
        return [(*key, count, pid, args) for key, (count, pid, args) in self._seen.items()]

    def finish(self) -> None:
        """The container has ended; who writes more down than this does it now: see observe.py."""

    def _answer(self, fd: int) -> None:
        told = self._told(fd)
        if not told:
            return
        _, number, args, arch = call(told)
        self._decide(fd, told, filters.answer(self._program, number, args, arch))

    def _decide(self, fd: int, told: bytes, value: int) -> None:
        """Answer a call as the plain filter does, which says `value`."""
        pid, number, args, _ = call(told)
        if value == filters.RET_ALLOW:
            # Allowed, whatever we say, and told of for its ids: the kernel goes on, and finds that they are none.
            self._count(number, 0, pid, filters.ids(number, args))
            self._reply(fd, told, 0, CONTINUE)
            return
        errno = value & 0xFFFF if value & 0xFFFF0000 == filters.RET_ERRNO else EPERM
        if errno != ENOSYS:  # which says that the kernel is older, and is no refusal
            self._count(number, errno, pid, args)
        self._reply(fd, told, errno)

    @staticmethod
    def _told(fd: int) -> bytes:
        """The next call that waits on the listener `fd`, a struct seccomp_notif; b"" when its caller was killed meanwhile."""
        told = bytes(bytearray(80))  # of our own for the kernel to fill
        try:
            linux.ioctl(fd, linux.SECCOMP_IOCTL_NOTIF_RECV, told)
        except OSError as error:
            if error.errno not in (ENOENT, EINTR):
                raise
            return b""
        return told

    @staticmethod
    def _reply(fd: int, told: bytes, errno: int, flags: int = 0) -> bool:
        """Let the call fail with `errno`, or what the flags say; False when its caller was killed meanwhile."""
        response = told[:8] + bytes(8) + (-errno).to_bytes(4, "little", signed=True) + flags.to_bytes(4, "little")
        try:
            linux.ioctl(fd, linux.SECCOMP_IOCTL_NOTIF_SEND, response)
        except OSError as error:
            if error.errno != ENOENT:
                raise
            return False
        return True

    def _count(self, number: int, errno: int, pid: int, args: "tuple[int, ...]") -> None:
        name, inside = self._caller(pid)
        seen = self._seen.get((number, errno, name))
        if seen:
            seen[0] += 1
        elif len(self._seen) < _KINDS:
            self._seen[number, errno, name] = [1, inside, args]
        else:
            self.more += 1

    def _caller(self, pid: int) -> tuple[str, int]:
        """(name of the program, its pid inside) of a process that waits for our answer; ("", 0) when it is not told."""
        try:
            if self._proc < 0:
                self._proc = mounts.filesystem("proc", "proc", 0, ())
            folder = os.open(str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError:
            return "", 0
        try:
            lines = read("status", folder).split(b"\n")
        except OSError:
            return "", 0
        finally:
            os.close(folder)
        fields = dict(line.partition(b":")[::2] for line in lines)
        name = fields.get(b"Name", b"").strip().decode("utf-8", "backslashreplace")
        return name, int((fields.get(b"NSpid", b"").split() or [b"0"])[-1])


def call(told: bytes) -> "tuple[int, int, tuple[int, ...], int]":
    """(pid, number, arguments, AUDIT_ARCH_*) of a struct seccomp_notif."""
    pid, number, arch = (int.from_bytes(told[at : at + 4], "little") for at in (8, 16, 20))
    return pid, number, tuple(int.from_bytes(told[at : at + 8], "little") for at in range(32, 80, 8)), arch


def read(name: str, folder: int) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(fd, 1 << 14)
    finally:
        os.close(fd)
