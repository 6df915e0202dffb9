"""The terminal of a container: raw mode on the user's side, bytes both ways, window size.  (mechanism, hot with -t only)"""

import os
import select
import termios
import time

from sandbox import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any
else:
    import _signal

_SIGTTIN, _SIGWINCH = 21, 28
_CHUNK = 1 << 16
# What a blocking descriptor takes once poll(2) says that it takes something: a pipe PIPE_BUF, a terminal little more
# than n_tty's WAKEUP_CHARS
_SURE_OF_PIPE, _SURE_OF_TERMINAL = 4096, 256
_FIFO, _DEVICE = 0o010000, 0o020000
_AWAY = 0.2  # seconds until a terminal is read again that was another job's


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
    termios.tcsetattr(fd, termios.TCSANOW, mode)
    return saved


def copy_size(ends: "tuple[int, ...]", terminal: int) -> None:
    """Give `terminal` the window size of the first of `ends` that is a terminal; its own stays when none is."""
    size = bytes(bytearray(8))  # struct winsize, of our own for the kernel to fill
    for fd in ends:
        if os.isatty(fd):
            try:
                linux.ioctl(fd, linux.TIOCGWINSZ, size)
                linux.ioctl(terminal, linux.TIOCSWINSZ, size)
            except OSError:
                pass  # it has hung up
            return


def _output(fd: int) -> tuple[int, int]:
    """(descriptor to write to, how much at once): `fd`, which others have too, is never made non-blocking.

    Its pipe or terminal is opened once more where that is allowed; where not, small pieces never wait.
    """
    kind = os.fstat(fd).st_mode & 0o170000
    if kind in (_FIFO, _DEVICE):
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), _CHUNK
        except OSError:
            pass  # somebody else's (su), or no reader
    return fd, _SURE_OF_TERMINAL if kind == _DEVICE else _SURE_OF_PIPE


class Console:
    """Copies between the user's descriptors 0 and 1 (`output`) and the container's terminal, whose master end is `master`.

    Nothing in here waits, whatever the user's terminal does: the keeper has signals, a clock and the cli to watch.
    """

    def __init__(self, master: int, *, interactive: bool = True, output: int = 1) -> None:
        self.master = master
        self.interactive = interactive
        self.saved: list[Any] | None = None
        self.pending = b""  # typed, not yet taken by the container
        self.shown = b""  # printed, not yet taken by the user's terminal
        self.last = b"\n"
        self.lost = 0  # errno of standard output, once it takes no more
        self.watched: dict[int, int] = {}
        self.away = 0.0  # until when the user's terminal is another job's to read
        self.out, self.piece = _output(output)
        os.set_blocking(master, False)
        self.resize()
        # Held open, so that the terminal outlives a command that closes it for a while.
        self.peer = linux.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    def start(self, poll: "select.poll") -> None:
        _signal.signal(_SIGWINCH, lambda *_: self.resize())
        self.resize()
        if self.interactive and os.isatty(0):
            try:
                self.saved = raw_mode(0)
            except termios.error:
                pass  # it has hung up: there is nobody to type
        self.watch(poll)

    def resize(self) -> None:
        """The container's window gets the size of the user's, which tells its foreground process (SIGWINCH)."""
        copy_size((1, 0), self.master)

    def copy(self, events: "list[tuple[int, int]]", poll: "select.poll") -> None:
        """Move what `poll` says is there; the end of the user's input becomes the terminal's end-of-file character."""
        ready = [fd for fd, _ in events]
        if 0 in ready and 0 in self.watched:
            self._type()
        if self.pending:
            try:
                self.pending = self.pending[os.write(self.master, self.pending) :]
            except BlockingIOError:
                pass
        if self.master in ready and not self.shown:
            self.shown = self._printed()
        if self.shown and (self.piece == _CHUNK or self.out in ready):
            self._show()
        self.watch(poll)

    def _type(self) -> None:
        try:
            typed = os.read(0, _CHUNK)
        except OSError:  # EIO
            if self._is_in_background():
                self.away = time.monotonic() + _AWAY
                return
            typed = b""  # the user's terminal has hung up
        if not typed:
            self.interactive = False
        # The first of two ends a line that was begun, the second the input.
        self.pending += typed or (b"\x04" if self.last == b"\n" else b"\x04\x04")
        self.last = typed[-1:]

    def _is_in_background(self) -> bool:
        """Whether what is typed is for another job, after Ctrl-Z or `&`: to who ignores SIGTTIN, as the keeper, that is EIO."""
        if _signal.getsignal(_SIGTTIN) != _signal.SIG_IGN:
            return False
        try:
            termios.tcgetattr(0)
        except termios.error:
            return False
        return True

    def _printed(self) -> bytes:
        try:
            return os.read(self.master, _CHUNK)
        except OSError:
            return b""

    def _show(self) -> bool:
        """Hand on what standard output takes without waiting; False when it takes nothing."""
        try:
            self.shown = self.shown[os.write(self.out, self.shown[: self.piece]) :]
        except BlockingIOError:
            return False
        except OSError as error:
            self.lost, self.shown = error.errno or 0, b""
            return False
        return True

    def watch(self, poll: "select.poll") -> None:
        """Ask `poll` for what can be moved on: what is not taken at one end is not read at the other."""
        wanted = {self.master: (0 if self.shown else select.POLLIN) | (select.POLLOUT if self.pending else 0)}
        if self.away and time.monotonic() >= self.away:
            self.away = 0.0
        if self.interactive and not self.away and len(self.pending) < _CHUNK:
            wanted[0] = select.POLLIN
        if self.shown:
            wanted[self.out] = select.POLLOUT
        if wanted != self.watched:
            for fd in self.watched:
                if fd not in wanted:
                    poll.unregister(fd)
            for fd, mask in wanted.items():
                poll.register(fd, mask)
            self.watched = wanted

    def unfinished(self) -> bool:
        """After the payload's end: whether there is something left to show; what is typed now would only be echoed."""
        self.interactive, self.pending = False, b""
        if self.lost:
            return False
        self.shown = self.shown or self._printed()
        return bool(self.shown)

    def finish(self) -> None:
        """Show what is left, as far as the user's terminal takes it now."""
        out = select.poll()
        out.register(self.out, select.POLLOUT)
        while self.unfinished() and out.poll(0) and self._show():
            pass

    def restore(self) -> None:
        if self.saved is not None:
            try:
                termios.tcsetattr(0, termios.TCSANOW, self.saved)
            except termios.error:
                pass  # it has hung up
            self.saved = None
