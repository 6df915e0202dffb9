"""Ctrl-C, SIGTERM and SIGHUP end a transfer at once: what it had begun is taken away.  (cold)

The terminal tells all processes of the command; kill(1) only this one, whose children may wait for a server that says
nothing.  They have nothing to tidy up, and are ended here.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from sandbox.errors import EXIT_SIGNAL


def _end_children() -> None:
    pid = os.getpid()
    with contextlib.suppress(OSError, ValueError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(word) for word in file.read().split()]
        for child in children:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Within it these signals raise KeyboardInterrupt or SystemExit with 128 + their number; main thread only."""

    def end(number: int, frame: Any) -> None:
        _end_children()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(EXIT_SIGNAL + number)

    old = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
