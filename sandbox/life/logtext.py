"""A container's log, read: from where, how much, and on as it grows; see logs.py for its form.  (cold)"""

import heapq
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sandbox import state
from sandbox.errors import SandboxError
from sandbox.logs import OLDER, PATH

_PAUSE = 0.05  # seconds between two looks at a log that may have grown
_SLOWLY = 0.5  # the same of the journal, where a look costs a process


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


def driver(known: state.Known) -> str:
    """k8s-file, journald or none; "" for a throw-away container."""
    record = state.read(known.directory, "spec")
    return str(record[0]["annotations"].get("dev.sbx.log", "")).partition(":")[0] if record else ""


def merged(
    chosen: list[state.Known], *, last: int = -1, follow: Callable[[], bool]
) -> Iterator[tuple[state.Known, Piece]]:
    """The logs of all in the order of their times, or the `last` lines of each; on for as long as `follow` says and one lives."""
    sources = [_of_journal(known, last) if driver(known) == "journald" else _of_file(known, last) for known in chosen]
    yield from _in_order(chosen, [next(source) for source in sources])
    lasting = list(zip(chosen, sources, strict=True))
    while lasting and follow():
        ended = [known for known, _ in lasting if not state.Known(known.parent, known.id).lives]
        more = [next(source) for _, source in lasting]
        yield from _in_order([known for known, _ in lasting], more)
        lasting = [row for row, new in zip(lasting, more, strict=True) if new or row[0] not in ended]
        if not any(more):
            time.sleep(_PAUSE)


def _in_order(chosen: list[state.Known], found: list[list[Piece]]) -> Iterator[tuple[state.Known, Piece]]:
    if len(chosen) == 1:
        yield from ((chosen[0], piece) for piece in found[0])
        return
    rows = ([(piece.when, known, piece) for piece in pieces] for known, pieces in zip(chosen, found, strict=True))
    yield from ((known, piece) for _, known, piece in heapq.merge(*rows, key=lambda row: row[0]))


def _last(lines: list[bytes], count: int) -> list[Piece]:
    """As `tail`, of lines of the file, of which no more are read than it takes."""
    found: list[Piece] = []
    for line in reversed(lines):
        piece = parsed(line)
        if piece is None:
            continue
        count -= piece.text.endswith(b"\n") or not found
        if count < 0:
            break
        found.append(piece)
    return found[::-1]


def _of_file(known: state.Known, last: int) -> Iterator[list[Piece]]:
    """What is there, or the `last` lines of it, and at each further look what has come since."""
    reader = _Reader(f"{known.directory}/{PATH}")
    older = f"{known.directory}/{OLDER}"
    while True:
        try:
            with open(older, "rb") as file:
                if not reader.is_at(file.fileno()):
                    before = file.read().split(b"\n")
                    break
        except FileNotFoundError:
            before = []
            break
        reader = _Reader(f"{known.directory}/{PATH}")  # it was renamed between the two looks
    before += reader.more()
    yield _last(before, last) if last >= 0 else [piece for piece in map(parsed, before) if piece]
    del before
    while True:
        yield [piece for piece in map(parsed, reader.more()) if piece]


def _of_journal(known: state.Known, last: int) -> Iterator[list[Piece]]:
    """The same of its records in the journal, as far as we may read them: our own, or all for members of systemd-journal."""
    found, cursor = _records(known, "")
    yield tail(found, last) if last >= 0 else found
    while True:
        time.sleep(_SLOWLY)
        found, cursor = _records(known, cursor)
        yield found


def _records(known: state.Known, cursor: str) -> tuple[list[Piece], str]:
    """(the pieces after `cursor`, the cursor of the last)."""
    words = ["journalctl", "--quiet", "--no-pager", "--all", "--output=json", f"CONTAINER_ID_FULL={known.id}"]
    words += [f"--after-cursor={cursor}"] if cursor else []
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise SandboxError.of("read journal", words[0], error) from None
    if done.returncode and not done.stdout and done.stderr.strip():
        said = done.stderr.decode("utf-8", "replace").strip()
        raise SandboxError(
            "read journal", known.name, detail=said, hint="members of the group systemd-journal read all of it"
        )
    found = []
    for line in done.stdout.splitlines():
        record = json.loads(line)
        cursor = record["__CURSOR"]
        text = record.get("MESSAGE") or ""
        data = bytes(text) if isinstance(text, list) else str(text).encode("utf-8", "surrogateescape")
        whole = b"" if "CONTAINER_PARTIAL_MESSAGE" in record else b"\n"
        second, rest = divmod(int(record["__REALTIME_TIMESTAMP"]), 1_000_000)
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{rest:06}000+00:00"
        found.append(Piece(when, "stderr" if record.get("PRIORITY") == "3" else "stdout", data + whole))
    return found, cursor


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
        except OSError as error:
            raise SandboxError.of("read log", self.path, error) from None

    def is_at(self, fd: int) -> bool:
        """Whether `fd` is the file that is open."""
        return self.fd >= 0 and os.path.samestat(os.fstat(fd), os.fstat(self.fd))

    def more(self) -> list[bytes]:
        """What has come since; whole lines of the file only."""
        found: list[bytes] = []
        while True:
            chunk = os.read(self.fd, 1 << 20) if self.fd >= 0 else b""
            if not chunk:
                if not self._renewed():
                    return found
                continue
            *whole, self.rest = (self.rest + chunk).split(b"\n")
            found += whole

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
