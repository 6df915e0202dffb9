"""`sbx copy`: an image from one place to another.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError
from sandbox.registry.access import Access, retries
from sandbox.transfer import progress
from sandbox.transfer.copying import Plan
from sandbox.transfer.ends import copy, keep_digest
from sandbox.transfer.recode import FAMILIES
from sandbox.transfer.signals import ending
from sandbox.transfer.transports import place


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Copy SOURCE to DESTINATION."""
    if opts["platform"] and opts["all_platforms"]:
        raise SandboxError("copy image", operands[0], detail="--platform and --all-platforms exclude each other")
    plan = Plan(
        platform=opts["platform"],
        every=opts["all_platforms"],
        family=FAMILIES[opts["format"]],
        compress=opts["compression_format"],
        preserve=opts["preserve_digests"],
        shown=progress.choose(opts["progress"], quiet=opts["quiet"]),
        verb="copy",
    )
    tries = retries(opts["retry"])
    source = Access(opts["src_tls_verify"], opts["authfile"], opts["src_creds"], opts["src_cert_dir"], tries)
    target = Access(opts["dest_tls_verify"], opts["authfile"], opts["dest_creds"], opts["dest_cert_dir"], tries)
    with ending():
        digest = copy(place(operands[0]), place(operands[1]), plan, (source, target))
    keep_digest(opts["digestfile"], digest)
    return 0
