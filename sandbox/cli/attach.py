"""`sbx attach`: a terminal or pipe to a running container.  (cold)"""

from typing import Any

from sandbox.cli.each import the_one
from sandbox.life import starting
from sandbox.life.chosen import improper


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Attach until it ends; its exit status, 0 when the detach keys were typed."""
    known = the_one(operands, latest=opts["latest"])
    if known.status != "running":
        raise improper(
            "attach to container",
            known,
            "you can only attach to running containers",
            f"`sbx start --attach {known.name}`",
        )
    return starting.follow(
        known, stdin=not opts["no_stdin"], keys=opts["detach_keys"], proxy=opts["sig_proxy"] != "false"
    )
