"""A terminal of the command's own in place of the caller's, where none was asked for (no -t).  (mechanism, hot with a terminal at 0, 1 or 2)

As root inside, the command is the caller: with a descriptor of his terminal it could open it once more to read what he
types, and give it a mode that lets others in.  So what it gets is the end of another one, which passes bytes on as they
are: lines, echo and Ctrl-C stay the caller's terminal's.  Pipes and files are handed on as they are.
"""

import os
import termios

from sandbox import console, linux, mounts
from sandbox.errors import EINVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    import signal as _signal  # the same names, with types; importing it costs 4 ms
else:
    import _signal

_SIGWINCH = 28


def terminals(*, interactive: bool) -> "tuple[int, ...]":
    """Which of our standard descriptors are the caller's terminal; 0 only when the command is to have it."""
    found = [fd for fd in (1, 2, 0) if (fd or interactive) and os.isatty(fd)]
    # Of two the caller has chosen one by name, and means it.
    return tuple(fd for fd in found if _device(fd) == _device(found[0]))


def _device(fd: int) -> bytes:
    """Which terminal it is; by its own number, as it may have been opened as /dev/tty."""
    number = bytes(bytearray(4))  # of our own for the kernel to fill
    linux.ioctl(fd, linux.TIOCGDEV, number)
    return number


def pair(uid: int) -> tuple[int, int]:
    """(master, its other end) of a new terminal, on a file system of its own, that belongs to `uid`."""
    place = mounts.filesystem("devpts", "devpts", linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC, ("newinstance", "ptmxmode=0666", "mode=0600"))  # fmt: skip
    try:
        master = linux.openat2(place, "ptmx", os.O_RDWR | os.O_NOCTTY)
    finally:
        os.close(place)
    linux.ioctl(master, linux.TIOCSPTLCK, bytes(4))
    peer = linux.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        os.fchown(peer, uid, -1)
    except OSError as error:
        if error.errno != EINVAL:  # not mapped: the step `ids` says it
            raise
    plain(peer)
    return master, peer


def plain(peer: int) -> None:
    """What goes through is not changed: the caller's terminal does that."""
    mode = termios.tcgetattr(peer)
    mode[0] &= ~(termios.ICRNL | termios.IXON)
    mode[1] &= ~termios.OPOST
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ISIG | termios.IEXTEN)  # with ICANON, for the end of input
    for character in (termios.VERASE, termios.VKILL):
        mode[6][character] = b"\0"  # none
    termios.tcsetattr(peer, termios.TCSANOW, mode)


class Relay(console.Console):
    """Copies between the descriptors `fds`, one terminal of the caller, and the terminal of `master`."""

    detached = False

    def __init__(self, master: int, fds: "tuple[int, ...]") -> None:
        self.fds = fds
        super().__init__(master, interactive=0 in fds, output=fds[0])

    def start(self, poll: "select.poll") -> None:
        _signal.signal(_SIGWINCH, lambda *_: self.resize())
        self.resize()
        self.watch(poll)

    def resize(self) -> None:
        console.copy_size(self.fds, self.master)
