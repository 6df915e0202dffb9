"""`sbx push`: an image of the store to a registry, or anywhere else.  (cold)"""

from typing import Any

from sandbox.cli.copy import moved, plan_of
from sandbox.cli.pull import client_options
from sandbox.errors import SandboxError
from sandbox.image.store import Store
from sandbox.transfer.transports import Place, place


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Push IMAGE under its own name, or to DESTINATION."""
    source = operands[0].removeprefix("store:")
    if len(operands) > 1:
        target = place(operands[1], "docker")
    else:
        _, full = Store().find(source)
        if not full:
            raise SandboxError("push image", source, detail="it was given by its id", hint="sbx push ID HOST/NAME:TAG")
        if full.startswith("localhost/"):
            raise SandboxError(
                "push image", full, detail="this name is of the local store", hint=f"sbx push {source} HOST/NAME:TAG"
            )
        target = Place("docker", full)
    options = client_options(opts)
    plan = plan_of(opts, "push")._replace(compress_plain=True)
    return moved(Place("store", source), target, plan, opts, (options, options))
