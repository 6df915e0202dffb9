"""SIGTERM and SIGHUP end a transfer as Ctrl-C does: what it had begun is taken away.  (cold)"""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from sandbox.errors import EXIT_SIGNAL


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise SystemExit with 128 + their number; main thread only."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(EXIT_SIGNAL + number)

    old = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
