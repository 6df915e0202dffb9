"""A container's log, read: from where, how much, and on as it grows; see logs.py for its form.  (cold)"""

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from sandbox import state
from sandbox.logs import OLDER, PATH

_PAUSE = 0.05  # seconds between two looks at a log that may have grown


class Piece(NamedTuple):
    """One line of the log file: when (RFC 3339), stdout or stderr, the bytes with their newline if they had one."""

    when: str
    stream: str
    text: bytes


def parsed(line: bytes) -> Piece | None:
    """The piece that a line of the file says; None for one that was cut off by a full disk."""
    parts = line.split(b" ", 3)
    if len(parts) < 4 or parts[2] not in (b"F", b"P"):
        return None
    text = parts[3] if parts[2] == b"P" else parts[3] + b"\n"
    return Piece(parts[0].decode("ascii", "replace"), parts[1].decode("ascii", "replace"), text)


def tail(pieces: list[Piece], lines: int) -> list[Piece]:
    """The last `lines` whole lines of output."""
    count = 0
    for position in range(len(pieces) - 1, -1, -1):
        if pieces[position].text.endswith(b"\n") or position == len(pieces) - 1:
            count += 1
            if count > lines:
                return pieces[position + 1 :]
    return pieces


def lines(known: state.Known, *, last: int = -1, follow: bool = False) -> Iterator[Piece]:
    """The log from its beginning, or its `last` lines; with `follow` on until the container has ended."""
    there = []
    for name in (OLDER, PATH):
        try:
            with open(f"{known.directory}/{name}", "rb") as file:
                there += [piece for piece in map(parsed, file.read().splitlines()) if piece] if name == OLDER else []
        except FileNotFoundError:
            continue
    reader = _Reader(f"{known.directory}/{PATH}")
    there += list(reader.more())
    yield from tail(there, last) if last >= 0 else there
    while follow:
        over = not state.Known(known.parent, known.id).lives
        more = False
        for piece in reader.more():
            more = True
            yield piece
        if over and not more:
            return
        if not more:
            time.sleep(_PAUSE)


class _Reader:
    """Reads on in a file that grows, and in the next one of its name once it is renamed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rest = b""
        self.fd = self._open()

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def more(self) -> Iterator[Piece]:
        """What has come since; whole lines of the file only."""
        while True:
            chunk = os.read(self.fd, 1 << 20) if self.fd >= 0 else b""
            if not chunk:
                if not self._renewed():
                    return
                continue
            *whole, self.rest = (self.rest + chunk).split(b"\n")
            yield from (piece for piece in map(parsed, whole) if piece)

    def _renewed(self) -> bool:
        """Whether the file was renamed to make room; then the new one is open."""
        fresh = self._open()
        if fresh < 0:
            return False
        if self.fd >= 0:
            if os.path.samestat(os.fstat(fresh), os.fstat(self.fd)):
                os.close(fresh)
                return False
            rest = os.read(self.fd, 1)  # written between our look and the renaming
            if rest:
                os.lseek(self.fd, -1, os.SEEK_CUR)
                os.close(fresh)
                return True
            os.close(self.fd)
        self.fd, self.rest = fresh, b""
        return True
