"""`sbx rm`: containers that are not needed any more.  (cold)"""

from typing import Any

from sandbox.cli.each import for_each
from sandbox.errors import SandboxError
from sandbox.life import ending
from sandbox.life.chosen import find

_ABSENT = 1  # exit status when one was not there, and nothing else was wrong: podman's


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each; with --force those that run too."""
    seconds = ending.patience(opts["time"], "--time") if opts["time"] else 0.0
    return for_each(
        sorted(operands, key=_age) if len(operands) > 1 else operands,
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


def _age(word: str) -> float:
    """Who shares what another has goes first, and the youngest of them: what it needs is older."""
    try:
        about = find(word).about
    except SandboxError:
        return 0.0  # told in its turn
    return -float(about.get("created", 0.0)) if about.get("needs") else 0.0
