"""`sbx start`: containers that were created, or have ended.  (cold)"""

from typing import Any

from sandbox.cli.each import for_each, the_one
from sandbox.errors import UsageError
from sandbox.life import starting


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Start each; with --attach one, whose exit status is ours."""
    if opts["attach"] or opts["interactive"]:
        if len(operands) > 1:
            raise UsageError("read command line", "--attach", detail="one container can be attached to")
        known = the_one(operands, latest=opts["latest"])
        return starting.start(
            known,
            attached=True,
            stdin=opts["interactive"],
            keys=opts["detach_keys"],
            proxy=opts["sig_proxy"] != "false",
        )
    return for_each(
        operands,
        lambda known: starting.start(known, attached=False, stdin=False),
        among=lambda known: not known.lives,
        everything=opts["all"],
        latest=opts["latest"],
        filters=opts["filter"],
    )
