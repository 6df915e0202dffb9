"""`sbx rm`: containers that are not needed any more.  (cold)"""

from typing import Any

from sandbox.cli.each import for_each
from sandbox.life import ending

_ABSENT = 1  # exit status when one was not there, and nothing else was wrong: podman's


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each; with --force those that run too."""
    seconds = ending.patience(opts["time"], "--time") if opts["time"] else 0.0
    return for_each(
        operands,
        lambda known: ending.remove(
            known, force=opts["force"], seconds=seconds, volumes=opts["volumes"], depend=opts["depend"]
        ),
        among=lambda known: opts["force"] or not known.lives,
        ignore=opts["ignore"] or opts["force"],
        everything=opts["all"],
        latest=opts["latest"],
        cidfiles=opts["cidfile"],
        filters=opts["filter"],
        absent=_ABSENT,
    )
