"""`sbx kill`: a signal to the commands of containers.  (cold)"""

import signal
from typing import Any

from sandbox import state
from sandbox.cli.each import for_each
from sandbox.life import ending


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Send the signal to each."""
    number = ending.signal_number(opts["signal"])

    def kill(known: state.Known) -> None:
        if number in (signal.SIGKILL, signal.SIGTERM):
            ending.halt(known)
        ending.send(known, number)

    return for_each(
        operands,
        kill,
        among=lambda known: known.lives,
        everything=opts["all"],
        latest=opts["latest"],
        cidfiles=opts["cidfile"],
    )
