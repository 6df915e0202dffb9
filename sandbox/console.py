"""The terminal of a container: raw mode on the user's side, bytes both ways, window size.  (mechanism, hot with -t only)"""

import os
import select
import termios

from sandbox import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any
else:
    import _signal

_SIGWINCH = 28
_CHUNK = 1 << 16


def raw_mode(fd: int) -> "list[Any]":
    """Switch a terminal to raw, as cfmakeraw(3); returns what `tcsetattr` needs to undo it."""
    saved = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
        | termios.ICRNL | termios.IXON
    )  # fmt: skip
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)
    return saved


class Console:
    """Copies between the user's descriptors 0 and 1 and the container's terminal, whose master end is `master`."""

    def __init__(self, master: int, *, interactive: bool = True) -> None:
        self.master = master
        self.interactive = interactive
        self.saved: list[Any] | None = None
        self.pending = b""  # typed, not yet taken by the container
        os.set_blocking(master, False)

    def start(self, poll: "select.poll") -> None:
        self.resize()
        _signal.signal(_SIGWINCH, lambda *_: self.resize())
        if self.interactive:
            if os.isatty(0):
                self.saved = raw_mode(0)
            poll.register(0, select.POLLIN)
        poll.register(self.master, select.POLLIN)

    def resize(self) -> None:
        """The container's window gets the size of the user's, which tells its foreground process (SIGWINCH)."""
        size = bytes(bytearray(8))  # struct winsize, of our own for the kernel to fill
        try:
            linux.ioctl(1 if os.isatty(1) else 0, linux.TIOCGWINSZ, size)
            linux.ioctl(self.master, linux.TIOCSWINSZ, size)
        except OSError:
            pass  # neither end is a terminal: the default size stays

    def copy(self, events: "list[tuple[int, int]]", poll: "select.poll") -> None:
        """Move what `poll` says is there; the end of the user's input becomes the terminal's end-of-file character."""
        for fd, event in events:
            if fd == 0:
                typed = os.read(0, _CHUNK)
                self.pending += typed or b"\x04"
                if not typed:
                    poll.unregister(0)
            elif fd == self.master and not self._show() and not event & select.POLLIN:
                poll.unregister(self.master)  # all its users have closed it; the exit status comes by SIGCHLD
        if self.pending:
            try:
                self.pending = self.pending[os.write(self.master, self.pending) :]
            except BlockingIOError:
                pass
            except OSError:
                self.pending = b""
        try:
            poll.modify(self.master, select.POLLIN | (select.POLLOUT if self.pending else 0))
        except FileNotFoundError:
            pass

    def _show(self) -> bool:
        """Copy one chunk of output; False when there is none."""
        try:
            shown = os.read(self.master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            return False  # EIO: the other end is closed
        while shown:
            try:
                shown = shown[os.write(1, shown) :]
            except BlockingIOError:
                select.select([], [1], [])
        return True

    def finish(self) -> None:
        """Show what is left after the payload ended."""
        while self._show():
            pass

    def restore(self) -> None:
        if self.saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            self.saved = None
