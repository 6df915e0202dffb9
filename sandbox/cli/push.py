"""`sbx push`: an image of the store to a registry, or anywhere else.  (cold)"""

from typing import Any

from sandbox import events
from sandbox.errors import SandboxError
from sandbox.image.store import Store
from sandbox.registry.access import Access, retries
from sandbox.registry.local import find
from sandbox.transfer import progress
from sandbox.transfer.copying import Plan
from sandbox.transfer.ends import copy, keep_digest
from sandbox.transfer.recode import FAMILIES
from sandbox.transfer.signals import ending
from sandbox.transfer.transports import Place, place


def _own_name(source: str) -> Place:
    """The registry that the image's own name says."""
    _, full = find(Store(), source)
    if not full:
        raise SandboxError("push image", source, detail="it was given by its id", hint="sbx push ID HOST/NAME:TAG")
    if full.startswith("localhost/"):
        raise SandboxError(
            "push image", full, detail="this name is of the local store", hint=f"sbx push {source} HOST/NAME:TAG"
        )
    return Place("docker", full)


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Push IMAGE under its own name, or to DESTINATION."""
    source = operands[0].removeprefix("store:")
    target = place(operands[1], "docker") if len(operands) > 1 else _own_name(source)
    access = Access(opts["tls_verify"], opts["authfile"], opts["creds"], opts["cert_dir"], retries(opts["retry"]))
    plan = Plan(
        family=FAMILIES[opts["format"]],
        compress=opts["compression_format"],
        shown=progress.choose(opts["progress"], quiet=opts["quiet"]),
        verb="push",
    )
    with ending():
        digest = copy(Place("store", source), target, plan, (access, access))
    keep_digest(opts["digestfile"], digest)
    store = Store()
    stored, name = find(store, source)
    events.remember_other("image", "push", store.id_of(stored), operands[-1] if len(operands) > 1 else name)
    return 0
