"""What a feeder of `lanes` does with one blob: hash, copy, decompress, hash again, hand on.  (cold)

    blob --> sha256, size --> copy to `tee`
         --> decompress --> sha256 (diff id) --> `write`

Whoever reads what is handed on must not believe it before the facts are there: they come last.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sandbox.errors import SandboxError
from sandbox.image.compression import decompressed, kind
from sandbox.image.layout import room_hint

_STEP = 8 << 20
STOPPED = "its reader stopped"


class Expected(NamedTuple):
    """What the bytes must turn out to be; "" and -1 where nothing is known beforehand."""

    digest: str = ""
    size: int = -1
    diff_id: str = ""


class Progress:
    """One line on a terminal's stderr that is drawn over and goes away; nothing elsewhere."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label if label and os.isatty(2) else ""
        self._total = total
        self._next = time.monotonic() + 0.5
        self._shown = False

    def step(self, done: int) -> None:
        if self._label and (now := time.monotonic()) >= self._next:
            self._next = now + 0.2
            self._shown = True
            part = f"{100 * done // self._total} %" if self._total > 0 else f"{done >> 20} MiB"
            self._write(f"\r\x1b[Ksbx: {self._label} {part}")

    def end(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        try:
            os.write(2, text.encode())
        except OSError:
            pass


def _hasher(digest: str) -> Any:
    return hashlib.sha512() if digest.startswith("sha512:") else hashlib.sha256()


def write_all(fd: int, piece: bytes) -> None:
    """All of `piece` to a blocking descriptor."""
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def write_back(fd: int, end: int, size: int) -> None:
    """Let the disk begin with what has been written, each time `end` passes a step: the sync at the end waits less."""
    if end // _STEP > (end - size) // _STEP:
        # Linux starts the write-back of dirty pages before it lets go of clean ones; nothing is lost by asking.
        os.posix_fadvise(fd, 0, end, os.POSIX_FADV_DONTNEED)


def pump(
    pieces: Iterator[bytes], write: Callable[[bytes], None], tee: int, expected: Expected, what: str, label: str = ""
) -> dict[str, Any]:
    """Stored bytes to `tee` (-1: nowhere), plain bytes to `write`, both hashed.

    {"digest", "size", "diff_id", "plain", "kind"} of the whole blob; its SandboxError when it is not as expected.
    """
    progress = Progress(label, expected.size)
    try:
        return _pump(pieces, write, tee, expected, what, progress)
    finally:
        progress.end()


def _pump(
    pieces: Iterator[bytes], write: Callable[[bytes], None], tee: int, expected: Expected, what: str, progress: Progress
) -> dict[str, Any]:
    stored, plain = _hasher(expected.digest), hashlib.sha256()
    counts = {"stored": 0, "plain": 0}
    first = b""

    def watched() -> Iterator[bytes]:
        nonlocal first
        for piece in pieces:
            counts["stored"] += len(piece)
            if 0 <= expected.size < counts["stored"]:
                raise SandboxError("verify blob", what, detail=f"longer than the {expected.size} bytes announced")
            if len(first) < 8:
                first += piece[:8]
            stored.update(piece)
            if tee >= 0:
                try:
                    write_all(tee, piece)
                    write_back(tee, counts["stored"], len(piece))
                except OSError as found:
                    raise SandboxError.of("copy layer", what, found, room_hint(found)) from None
            progress.step(counts["stored"])
            yield piece

    source = watched()
    for piece in decompressed(source, what):
        counts["plain"] += len(piece)
        plain.update(piece)
        try:
            write(piece)
        except BrokenPipeError:
            raise SandboxError("read layer", what, detail=STOPPED) from None
    facts = {
        "digest": f"{stored.name}:{stored.hexdigest()}",
        "size": counts["stored"],
        "diff_id": "sha256:" + plain.hexdigest(),
        "plain": counts["plain"],
        "kind": kind(first),
    }
    _compare(facts, expected, what)
    return facts


def _compare(facts: dict[str, Any], expected: Expected, what: str) -> None:
    if expected.size >= 0 and facts["size"] != expected.size:
        raise SandboxError("verify blob", what, detail=f"{facts['size']} bytes where {expected.size} were announced")
    if expected.digest and facts["digest"] != expected.digest:
        raise SandboxError("verify blob", what, detail=f"its digest is {facts['digest']}, the manifest says otherwise")
    if expected.diff_id and facts["diff_id"] != expected.diff_id:
        raise SandboxError(
            "verify layer", what, detail=f"unpacked it is {facts['diff_id']}, the image config says {expected.diff_id}"
        )
