"""`sbx stop`: containers asked to end, and killed when they do not.  (cold)"""

from sandbox.cli.each import for_each
from sandbox.life import ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(opts: "dict[str, Any]", operands: list[str]) -> int:
    """Stop each; one that does not run is no error."""
    seconds = ending.patience(opts["time"], "--time") if opts["time"] else None
    return for_each(
        operands,
        lambda known: ending.stop(known, seconds),
        among=lambda known: known.lives,
        ignore=opts["ignore"],
        everything=opts["all"],
        latest=opts["latest"],
        cidfiles=opts["cidfile"],
        filters=opts["filter"],
        at_once=True,
    )
