"""`sbx logs`: what the commands of containers have printed.  (cold)"""

import datetime
import heapq
import os
from collections.abc import Iterator
from typing import Any

from sandbox import state
from sandbox.errors import SandboxError, UsageError
from sandbox.image.describe import moment, point_in_time
from sandbox.life import logtext
from sandbox.life.chosen import all_known, find


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the logs, each stream to its own; several are put in the order of their times."""
    if bool(operands) == opts["latest"]:
        raise UsageError("read command line", "CONTAINER", detail="name containers, or give --latest")
    chosen = all_known()[-1:] if opts["latest"] else [find(word) for word in operands]
    if opts["follow"] and len(chosen) > 1:
        raise UsageError("read command line", "--follow", detail="only one container can be followed")
    for known in chosen:
        driver = state.read(known.directory, "spec")
        if driver and str(driver[0]["annotations"].get("dev.sbx.log", "")).startswith("none"):
            raise SandboxError("read log", known.name, detail="it keeps none (--log-driver none)")
        if not driver:
            raise SandboxError(
                "read log", known.name, detail="a throw-away container keeps none", hint="give it a --name"
            )
    last = _count(opts["tail"])
    wanted = _between(opts["since"], opts["until"])
    streams = [_of(known, last, opts, len(chosen) > 1) for known in chosen]
    for when, known, piece in heapq.merge(*streams, key=lambda row: row[0]) if len(streams) > 1 else streams[0]:
        verdict = wanted(when)
        if verdict > 0:
            break
        if verdict == 0:
            _write(piece, known, opts)
    return 0


def _of(
    known: state.Known, last: int, opts: dict[str, Any], several: bool
) -> Iterator[tuple[str, state.Known, logtext.Piece]]:
    for piece in logtext.lines(known, last=last, follow=opts["follow"] and not several):
        yield piece.when, known, piece


def _count(text: str) -> int:
    if text in ("", "all", "-1"):
        return -1
    if not text.isdecimal():
        raise UsageError("read command line", f"--tail {text}", detail="a number or `all` is missing")
    return int(text)


def _between(since: str, until: str) -> Any:
    """-1, 0, 1 for a time before, within and after what is asked for."""
    now = datetime.datetime.now(datetime.UTC)
    first = point_in_time(since, now) if since else None
    final = point_in_time(until, now) if until else None
    if first is None and final is None:
        return lambda when: 0

    def place(when: str) -> int:
        at = moment(when)
        if at is None or (first is not None and at < first):
            return -1
        return int(final is not None and at > final)

    return place


def _write(piece: logtext.Piece, known: state.Known, opts: dict[str, Any]) -> None:
    head = f"{_name(known, color=opts['color'])} " if opts["names"] else ""
    head += f"{piece.when} " if opts["timestamps"] else ""
    data = head.encode() + piece.text
    fd = 2 if piece.stream == "stderr" else 1
    while data:
        data = data[os.write(fd, data) :]


def _name(known: state.Known, *, color: bool) -> str:
    """Its id; with --color each container's in one of six colours, the same each time."""
    return f"\x1b[{31 + int(known.id[:4], 16) % 6}m{known.id[:12]}\x1b[0m" if color else known.id[:12]
