"""A container's log, read: from where, how much, and on as it grows; see logs.py for its form.  (cold)"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
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


def lines(known: state.Known, *, last: int = -1, follow: bool = False) -> Iterator[Piece]:
    """The log from its beginning, or its `last` lines; with `follow` on until the container has ended."""
    if _driver(known) == "journald":
        yield from _of_journal(known, last, follow=follow)
        return
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


def _driver(known: state.Known) -> str:
    record = state.read(known.directory, "spec")
    return str(record[0]["annotations"].get("dev.sbx.log", "")).partition(":")[0] if record else ""


def _of_journal(known: state.Known, last: int, *, follow: bool) -> Iterator[Piece]:
    """Its records in the journal, as far as we may read them: our own, or all for members of systemd-journal."""
    there, cursor = _records(known, "")
    yield from tail(there, last) if last >= 0 else there
    while follow:
        over = not state.Known(known.parent, known.id).lives
        more, cursor = _records(known, cursor)
        yield from more
        if over and not more:
            return
        time.sleep(_SLOWLY)


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
