"""Standard input and output of a container that somebody may look at later: log, attached clients.  (launch, hot)

The command writes to pipes, or to a terminal, whose other ends are the keeper's.  What it prints goes to the log and to
every attached client; what clients type goes to the command.  A client that reads too slowly slows the command down, as
a terminal would; one that goes away is forgotten.
"""

import fcntl
import os
import select
import sys

from sandbox import linux
from sandbox.logs import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.journal import Journal

_CHUNK = 1 << 16
_F_SETPIPE_SZ = 1031
_PIPE = 1 << 20
_POLLIN, _POLLOUT = select.POLLIN, select.POLLOUT


class Streams:
    """`show(stream, chunk)` is told of all that is printed; `log` is None when nothing is logged."""

    def __init__(self, log: "Log | Journal | None", show: "Callable[[str, bytes], None]", *, stdin: bool) -> None:
        self.log, self.show = log, show
        self.sources: dict[int, str] = {}  # descriptor we read -> stream
        self.input = -1
        self.typed = b""  # not yet taken by the command
        self.ending = False  # close the input once `typed` is written
        self.paused = False
        self._theirs: list[int] = []
        self._dead: list[int] = []
        self._peer = -1
        self._stdin = stdin
        self._watched: dict[int, int] = {}

    # -- ends for the command --

    def make_pipes(self, uid: int, gid: int) -> list[int]:
        """Descriptors that become 0 (or -1: /dev/null), 1 and 2 of the command, which may open them by name."""
        self._theirs = [-1]
        if self._stdin:
            read, self.input = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.input, False)
            self._theirs = [read]
        for stream in ("stdout", "stderr"):
            read, write = os.pipe2(os.O_CLOEXEC)
            try:
                fcntl.fcntl(read, _F_SETPIPE_SZ, _PIPE)
            except OSError:
                pass  # above the user's limit for pipes
            os.set_blocking(read, False)
            self.sources[read] = stream
            self._theirs.append(write)
        for fd in self._theirs:
            if fd >= 0:
                os.fchown(fd, uid, gid)
        return self._theirs

    def started(self) -> None:
        """The command has its ends: close ours of them."""
        for fd in self._theirs:
            if fd >= 0:
                os.close(fd)
        self._theirs = []

    def take_terminal(self, master: int) -> None:
        """The command is to have a terminal, whose master end is `master`; the cli's own is still 0 or 1."""
        from sandbox import console

        os.set_blocking(master, False)
        console.copy_size((1, 0), master)
        self.sources[master] = "stdout"
        self.input = master if self._stdin else -1
        # Held open, so that the terminal outlives a command that closes it for a while.
        self._peer = linux.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    def resize(self, rows: int, columns: int) -> None:
        if self._peer >= 0:
            size = rows.to_bytes(2, sys.byteorder) + columns.to_bytes(2, sys.byteorder) + bytes(4)
            linux.ioctl(self._peer, linux.TIOCSWINSZ, size)

    # -- the loop --

    def watch(self, poll: "select.poll") -> None:
        """Tell `poll` what we wait for now."""
        wanted = dict.fromkeys(() if self.paused else self.sources, _POLLIN)
        if self.typed and self.input >= 0:
            wanted[self.input] = wanted.get(self.input, 0) | _POLLOUT
        if wanted != self._watched:
            for fd in self._watched.keys() - wanted.keys():
                poll.unregister(fd)
            for fd, events in wanted.items():
                poll.register(fd, events)
            self._watched = wanted
        for fd in self._dead:
            os.close(fd)
        self._dead = []

    def copy(self, fd: int) -> bool:
        """Move what is there on `fd`; False when it is none of ours."""
        if fd not in self._watched:
            return False
        if fd in self.sources and not self.paused:
            self._read(fd)
        if fd == self.input:
            self._write()
        return True

    def _read(self, fd: int) -> int:
        """One chunk of output; its length, 0 at the end, -1 when there is none now."""
        stream = self.sources[fd]
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return -1
        except OSError:
            chunk = b""  # EIO: nobody has the terminal open any more
        if not chunk:
            self._close(fd)
            return 0
        if self.log:
            self.log.write(stream, chunk)
        self.show(stream, chunk)
        return len(chunk)

    def _close(self, fd: int) -> None:
        del self.sources[fd]
        if fd == self.input:
            self.input = -1
        self._dead.append(fd)  # closed once `poll` has forgotten it: the number must not be reused before

    def type(self, chunk: bytes) -> None:
        """What a client typed, b"" at the end of its input."""
        if self.input < 0:
            return
        if chunk:
            self.typed += chunk
        elif self._peer >= 0:
            self.typed += b"\x04"
        else:
            self.ending = True
        self._write()

    def _write(self) -> None:
        try:
            while self.typed:
                self.typed = self.typed[os.write(self.input, self.typed) :]
        except BlockingIOError:
            return
        except OSError:
            self.typed, self.ending = b"", True
        if self.ending and self.input >= 0 and self._peer < 0:
            self._dead.append(self.input)
            self.input = -1

    def drain(self) -> None:
        """What was printed and not yet read, when the command has ended: nothing that it left behind may hold us up."""
        for fd in list(self.sources):
            left = _PIPE  # no more than that was in the pipe; who goes on writing has no part in it
            while left > 0 and (length := self._read(fd)) > 0:
                left -= length
