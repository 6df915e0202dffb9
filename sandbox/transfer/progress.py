"""How far the layers are: bars on a terminal, lines elsewhere, JSON for programs, nothing.  (cold)

Downloads run in several processes and threads, and whoever started them waits for them.  So a child draws; all others
write records of 12 bytes to its pipe (less than PIPE_BUF: none is torn):

    kind (1)  number of the layer (3)  bytes (8)         B begins, + bytes arrived, E ends, = is there already

Drawn by hand: importing rich takes longer than many a pull.
"""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from sandbox import linux
from sandbox.errors import UsageError

WORDS = ("auto", "plain", "json", "none")
_RECORD = 12


class Row(NamedTuple):
    """One layer: a short digest, and its size in bytes."""

    name: str
    size: int


def choose(word: str, *, quiet: bool) -> str:
    """bars, plain, json or none."""
    if word not in ("", *WORDS):
        raise UsageError("read option", f"--progress={word}", detail=f"not one of {', '.join(WORDS)}")
    if quiet or word == "none":
        return "none"
    if word in ("", "auto"):
        return "bars" if os.isatty(2) and os.environ.get("TERM", "") not in ("", "dumb") else "plain"
    return word


class Progress:
    """The pipe's writing end.  `counted` wraps what brings a layer."""

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd

    def send(self, kind: bytes, number: int, count: int = 0) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self.fd, kind + number.to_bytes(3, "big") + count.to_bytes(8, "big"))

    def exists(self, number: int) -> None:
        """The layer need not come."""
        self.send(b"=", number)

    def counted(self, number: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """`pieces`, reported as they pass."""
        self.send(b"B", number)
        waiting = 0
        told = time.monotonic()
        for piece in pieces:
            waiting += len(piece)
            if waiting and time.monotonic() - told > 0.1:
                self.send(b"+", number, waiting)
                waiting, told = 0, time.monotonic()
            yield piece
        self.send(b"+", number, waiting)
        self.send(b"E", number)


@contextlib.contextmanager
def shown(rows: list[Row], mode: str, verb: str = "pull") -> Iterator[Progress]:
    """Show the layers `rows` until the block ends."""
    if mode == "none" or not rows or threading.active_count() > 1:  # who has threads does not fork
        yield Progress()
        return
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the pipe is the end
            os.close(write)
            if os.getppid() == parent:
                _draw(read, rows, mode, verb)
        finally:
            os._exit(0)
    os.close(read)
    try:
        yield Progress(write)
    finally:
        os.close(write)
        # Children that were killed hold no end of the pipe any more; one that lingers must not hold us up.
        for _ in range(100):
            if os.waitpid(pid, os.WNOHANG)[0]:
                break
            time.sleep(0.005)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def human(count: int) -> str:
    """Bytes for people: 12.3MB."""
    if count < 1000:
        return f"{count}B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            return f"{value:.1f}{unit}"
    return ""


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def _records(fd: int) -> Iterator[tuple[bytes, int, int]]:
    rest = b""
    while piece := os.read(fd, 1 << 16):
        rest += piece
        while len(rest) >= _RECORD:
            record, rest = rest[:_RECORD], rest[_RECORD:]
            yield record[:1], int.from_bytes(record[1:4], "big"), int.from_bytes(record[4:], "big")


def _draw(fd: int, rows: list[Row], mode: str, verb: str) -> None:
    bars = Bars(rows, verb)
    done = [0] * len(rows)
    for kind, number, count in _records(fd):
        row = rows[number]
        done[number] = row.size if kind == b"=" else done[number] + count
        if mode == "json":
            event = {b"B": "begin", b"+": "progress", b"E": "end", b"=": "exists"}[kind]
            line = {"event": event, "verb": verb, "layer": row.name, "done": done[number], "size": row.size}
            _say(json.dumps(line) + "\n")
        elif mode == "plain":
            if kind in (b"B", b"="):
                there = ", there already" if kind == b"=" else ""
                _say(f"sbx: {verb} layer {number + 1}/{len(rows)} {row.name} {human(row.size)}{there}\n")
        else:
            bars.step(number, done[number], ended=kind in (b"E", b"="))
    if mode == "bars":
        bars.draw()


class Bars:
    """A line for each layer that has begun, drawn over again; as many as fit the terminal, the latest ones."""

    def __init__(self, rows: list[Row], verb: str) -> None:
        self._rows, self._verb = rows, verb
        self._done: dict[int, int] = {}
        self._ended: set[int] = set()
        self._lines = 0
        self._next = 0.0

    def step(self, number: int, done: int, *, ended: bool) -> None:
        self._done[number] = done
        if ended:
            self._ended.add(number)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            self.draw()

    def draw(self) -> None:
        import shutil  # 2 ms, and only for bars

        columns, lines = shutil.get_terminal_size()
        text = [self.line(number, columns) for number in sorted(self._done)]
        text = text[-max(lines - 2, 1) :]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        _say("\r" + up + "".join(f"\x1b[K{line}\n" for line in text))
        self._lines = len(text)

    def line(self, number: int, columns: int) -> str:
        """One bar, never as wide as the terminal."""
        row, done = self._rows[number], self._done[number]
        part = 1.0 if number in self._ended or not row.size else min(done / row.size, 1.0)
        left, right = f"{self._verb} {row.name} ", f" {human(done)}/{human(row.size)}"
        width = min(40, columns - len(left) - len(right) - 3)
        if width < 4:
            return (left + right)[: columns - 1]
        full = int(width * part)
        return f"{left}[{'=' * full}{' ' * (width - full)}]{right}"
