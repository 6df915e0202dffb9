"""The client of a running container: its output here, our input there, until it ends or the detach keys are typed.  (front, hot)"""

import os
import select

from sandbox import channel, console
from sandbox.errors import EINVAL, SandboxError
from sandbox.options import DETACH_KEYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any
else:
    import _signal

_FORWARDED = (1, 2, 3, 10, 12, 14, 15)
_SIGWINCH = 28
_CHUNK = 1 << 15


def key_bytes(text: str) -> bytes:
    """The bytes that the detach sequence `text` ("ctrl-p,ctrl-q", "a,ctrl-]", "" for none) is typed as."""
    typed = b""
    for word in text.split(",") if text else ():
        letter = word[5:] if word.startswith("ctrl-") else ""
        if len(word) == 1 and word.isascii():
            typed += word.encode()
        elif len(letter) == 1 and letter.lower() in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            typed += bytes([ord(letter.upper()) & 0x1F])
        else:
            raise SandboxError("read --detach-keys", text, EINVAL, hint="letters and ctrl-LETTER, comma separated")
    return typed


class _Keys:
    """Finds the detach sequence in what is typed; what may be its beginning is held back."""

    def __init__(self, sequence: bytes) -> None:
        self.sequence = sequence
        self.held = b""

    def take(self, typed: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the sequence is complete)."""
        if not self.sequence:
            return typed, False
        passed = b""
        for number in typed:
            self.held += bytes([number])
            while self.held and not self.sequence.startswith(self.held):
                passed, self.held = passed + self.held[:1], self.held[1:]
            if self.held == self.sequence:
                return passed, True
        return passed, False


class Console(console.Console):
    """A terminal on which the detach keys may be typed; `detached` says that they were."""

    def __init__(self, master: int, *, interactive: bool, keys: str) -> None:
        super().__init__(master, interactive=interactive)
        self.keys = _Keys(key_bytes(keys))
        self.detached = False

    def _type(self) -> None:
        before = self.pending
        super()._type()
        passed, detached = self.keys.take(self.pending[len(before) :])
        self.pending, self.detached = before + passed, self.detached or detached


class _Client:
    def __init__(self, directory: str, *, stdin: bool, keys: str, proxy: bool) -> None:
        self.directory = directory
        self.keys = _Keys(key_bytes(keys))
        self.sock = channel.connect(directory)
        channel.ask(self.sock, "attach", {"stdin": stdin})
        kind, self.terminal, _ = channel.receive(self.sock)
        if kind != "attached":
            raise SandboxError("attach to container", directory.rpartition("/")[2][:12], detail="it has ended")
        self.stdin = stdin
        self.raw = self.terminal and stdin and os.isatty(0)
        if proxy and not self.raw:
            for number in _FORWARDED:
                if _signal.getsignal(number) != _signal.SIG_IGN:
                    _signal.signal(number, self._pass_on)
        if self.terminal:
            _signal.signal(_SIGWINCH, lambda *_: self._resize())
            self._resize()

    def _pass_on(self, number: int, _: object) -> None:
        self._send("signal", number)

    def _resize(self) -> None:
        for fd in (1, 0):
            if os.isatty(fd):
                size = os.get_terminal_size(fd)
                self._send("size", (size.lines, size.columns))
                return

    def _send(self, kind: str, value: "Any") -> None:
        try:
            channel.send(self.sock, kind, value)
        except OSError:
            pass  # it has ended; its last record is still to be read

    def follow(self) -> int:
        saved = None
        if self.raw:
            import termios

            saved = console.raw_mode(0)
        try:
            return self._loop()
        finally:
            if saved is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)

    def _loop(self) -> int:
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        if self.stdin:
            poll.register(0, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == 0:
                    try:
                        typed = os.read(0, _CHUNK)
                    except OSError:
                        typed = b""  # EIO: the terminal has hung up
                    passed, detached = self.keys.take(typed) if self.terminal else (typed, False)
                    if passed:
                        self._send("input", passed)
                    if detached:
                        return 0
                    if not typed:
                        self._send("end", None)
                        poll.unregister(0)
                    continue
                kind, value, _ = channel.receive(self.sock)
                if kind in ("stdout", "stderr"):
                    _write(1 if kind == "stdout" else 2, value)
                elif kind == "exit":
                    return int(value)
                elif not kind:
                    name = self.directory.rpartition("/")[2][:12]
                    raise SandboxError("wait for container", name, detail="its keeper was killed")


def _write(fd: int, chunk: bytes) -> None:
    while chunk:
        try:
            chunk = chunk[os.write(fd, chunk) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError:
            return  # nobody looks any more; the container goes on


def follow(directory: str, *, stdin: bool, keys: str = DETACH_KEYS, proxy: bool = True) -> int:
    """Attach to the container in `directory`; its exit status, or 0 when the detach keys were typed.

    `proxy`: signals that we get go to the container's command.
    """
    return _Client(directory, stdin=stdin, keys=keys, proxy=proxy).follow()
