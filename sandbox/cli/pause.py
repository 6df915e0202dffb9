"""`sbx pause`, `sbx unpause`: stop all processes of containers, and let them go on.  (cold)"""

from typing import Any

from sandbox import channel, state
from sandbox.cli.each import for_each
from sandbox.errors import SandboxError
from sandbox.life.chosen import improper


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Freeze the containers' control groups."""
    return for_each(
        operands, _pause, among=lambda known: known.status == "running", everything=opts["all"], latest=opts["latest"],
        cidfiles=opts["cidfile"], filters=opts["filter"],
    )  # fmt: skip


def unpause(opts: dict[str, Any], operands: list[str]) -> int:
    """Let the processes of paused containers go on."""
    return for_each(
        operands, _resume, among=lambda known: known.status == "paused", everything=opts["all"], latest=opts["latest"],
        cidfiles=opts["cidfile"], filters=opts["filter"],
    )  # fmt: skip


def _pause(known: state.Known) -> None:
    ask(known, "pause", "running")


def _resume(known: state.Known) -> None:
    ask(known, "resume", "paused")


def ask(known: state.Known, kind: str, wanted: str) -> None:
    """Have the keeper `pause` or `resume` a container whose status is `wanted`."""
    verb = "pause container" if kind == "pause" else "unpause container"
    if known.status != wanted:
        words = "not running, can't pause" if kind == "pause" else "not paused, can't unpause"
        raise improper(verb, known, words)
    sock = channel.connect(known.directory)
    try:
        channel.ask(sock, kind, {})
        answer, value, _ = channel.receive(sock)
    finally:
        sock.close()
    if answer == "error":
        raise SandboxError.from_tuple(value)
    if answer != "done":
        raise SandboxError(verb, known.name, detail="it has ended meanwhile")
