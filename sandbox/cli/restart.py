"""`sbx restart`: containers stopped and started.  (cold)"""

from typing import Any

from sandbox.cli.each import for_each
from sandbox.life import ending, starting


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Restart each, running or not."""
    seconds = ending.patience(opts["time"], "--time") if opts["time"] else None
    return for_each(
        operands,
        lambda known: starting.restart(known, seconds),
        among=lambda known: known.lives or not opts["running"],
        everything=opts["all"],
        latest=opts["latest"],
        cidfiles=opts["cidfile"],
        filters=opts["filter"],
    )
