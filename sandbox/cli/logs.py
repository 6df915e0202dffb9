"""`sbx logs`: what the commands of containers have printed.  (cold)"""

import datetime
import functools
import os
from typing import Any

from sandbox import state
from sandbox.entry import OutputLostError
from sandbox.errors import SandboxError, UsageError
from sandbox.image.describe import moment
from sandbox.life import logtext, times
from sandbox.life.chosen import all_known, find

_PIECE = 1 << 16  # bytes
_moment = functools.lru_cache(64)(moment)  # what was read at once has one time


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the logs of containers."""
    if bool(operands) == opts["latest"]:
        raise UsageError("read command line", "CONTAINER", detail="name containers, or give --latest")
    chosen = all_known()[-1:] if opts["latest"] else [find(word) for word in operands]
    for known in chosen:
        if not logtext.driver(known):
            raise SandboxError(
                "read log", known.name, detail="a throw-away container keeps none", hint="give it a --name"
            )
        if logtext.driver(known) == "none":
            raise SandboxError("read log", known.name, detail="it keeps none (--log-driver none)")
    return show(chosen, opts, several=len(chosen) > 1)


def show(chosen: list[state.Known], opts: dict[str, Any], *, several: bool) -> int:
    """Print their logs, each stream to its own, in the order of their times; `several`: say of which each line is."""
    now = datetime.datetime.now(datetime.UTC)
    first = times.since(opts["since"], now) if opts["since"] else None
    final = times.until(opts["until"], now) if opts["until"] else None
    last = _count(opts["tail"])
    begun: set[tuple[str, str]] = set()  # lines whose end is still to come
    bare = not several and not opts["timestamps"]
    screen = _Screen()

    def follow() -> bool:
        screen.show()
        return opts["follow"] and (final is None or datetime.datetime.now(datetime.UTC) < final)

    for known, piece in logtext.merged(chosen, last=last, follow=follow):
        at = _moment(piece.when) if first or final else None
        if first and (at is None or at < first):
            continue
        if not final or (at and at <= final):
            if bare:
                screen.add(piece.stream, piece.text)
                continue
            line = (known.id, piece.stream)
            head = "" if line in begun else _head(piece, known, opts, several=several)
            screen.add(piece.stream, head.encode() + piece.text)
            (begun.discard if piece.text.endswith(b"\n") else begun.add)(line)
        elif len(chosen) == 1:
            break
    screen.show()
    return 0


def _count(text: str) -> int:
    if text in ("", "all", "-1"):
        return -1
    if not text.isdecimal() or len(text) > 18:
        raise UsageError("read command line", f"--tail {text}", detail="a number or `all` is missing")
    return int(text)


def _head(piece: logtext.Piece, known: state.Known, opts: dict[str, Any], *, several: bool) -> str:
    """What stands before a line: its container's id or with --names name, each in one of six colours; the time."""
    name = known.name if opts["names"] else known.id[:12]
    if opts["color"]:
        name = f"\x1b[{31 + int(known.id[:4], 16) % 6}m{name}\x1b[0m"
    when = piece.when.replace("+00:00", "Z")
    return (f"{name} " if several else "") + (f"{when} " if opts["timestamps"] else "")


class _Screen:
    """Standard output and error; what goes to one of them is written in large pieces."""

    def __init__(self) -> None:
        self.stream, self.lines, self.size = "", list[bytes](), 0

    def add(self, stream: str, text: bytes) -> None:
        """Print `text`, in its turn."""
        if stream != self.stream or self.size > _PIECE:
            self.show()
            self.stream = stream
        self.lines.append(text)
        self.size += len(text)

    def show(self) -> None:
        """Write what is there; OutputLostError when nobody reads any more."""
        data = b"".join(self.lines)
        self.lines, self.size = [], 0
        fd = 2 if self.stream == "stderr" else 1
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError as error:
            raise OutputLostError(error.errno or 0) from None
