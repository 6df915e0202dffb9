"""`sbx attach`: a terminal or pipe to a running container.  (cold)"""

from typing import Any

from sandbox import attach
from sandbox.cli.each import the_one
from sandbox.errors import SandboxError


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Attach until it ends; its exit status, 0 when the detach keys were typed."""
    known = the_one(operands, latest=opts["latest"])
    if known.status != "running":
        raise SandboxError(
            "attach to container", known.name, detail=f"it is {known.status}", hint=f"`sbx start --attach {known.name}`"
        )
    if known.about.get("rm") and not known.about.get("log"):
        raise SandboxError(
            "attach to container", known.name, detail="it has the terminal that it was started on",
            hint="only containers with --name or --detach can be attached to",
        )  # fmt: skip
    return attach.follow(
        known.directory, stdin=not opts["no_stdin"] and bool(known.about.get("stdin")), keys=opts["detach_keys"],
        proxy=opts["sig_proxy"] != "false",
    )  # fmt: skip
