"""`sbx init`: containers made ready for their start.  (cold)"""

import os
import time
from typing import Any

from sandbox import events, state
from sandbox.cli.each import for_each
from sandbox.errors import SandboxError
from sandbox.life import ending, root
from sandbox.life.chosen import improper, write


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Layers, ids and its own changes are put together once, so what a start would stumble over is found now.

    Its namespaces are made at the start: nothing is kept that would have to be watched meanwhile.
    """
    return for_each(
        operands, _prepare, everything=opts["all"], latest=opts["latest"], among=lambda known: not known.lives
    )


def _prepare(known: state.Known) -> None:
    if known.status not in ("created", "exited"):
        raise improper("initialize container", known, "only one that was created or has ended can be made ready")
    root.spec_of(known)  # or there is none to start
    if known.about.get("image") != "host:":  # which is always there
        root.within(known, lambda folder: os.listdir(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)))
    lock = ending.locked(known, "initialize container")
    if lock < 0:
        raise SandboxError("initialize container", known.name, detail="it has been removed meanwhile")
    try:
        write(known, "state", {"prepared": time.time()})  # first: on a full disk it stays as it was
        for name in ("ended", ending.HALTED):
            try:
                os.unlink(name, dir_fd=lock)
            except FileNotFoundError:
                pass
        events.remember(known.parent, "init", known.about)
    finally:
        os.close(lock)
