"""`sbx kill`: a signal to the commands of containers.  (cold)"""

from typing import Any

from sandbox.cli.each import for_each
from sandbox.life import ending


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Send the signal to each."""
    number = ending.signal_number(opts["signal"])
    return for_each(
        operands,
        lambda known: ending.send(known, number),
        among=lambda known: known.lives,
        everything=opts["all"],
        latest=opts["latest"],
    )
