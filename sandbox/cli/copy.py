"""`sbx copy`: an image from one place to another.  (cold)"""

from typing import Any

from sandbox.cli.pull import client_options, retries
from sandbox.errors import SandboxError
from sandbox.transfer import progress
from sandbox.transfer.copying import Plan
from sandbox.transfer.ends import copy
from sandbox.transfer.signals import ending
from sandbox.transfer.transports import Place, place


def plan_of(opts: dict[str, Any], verb: str) -> Plan:
    """What the options of `copy` and `push` say."""
    shown = progress.choose(opts["progress"], quiet=opts["quiet"])
    family = {"v2s2": "docker"}.get(opts["format"], opts["format"])
    return Plan(family=family, compress=opts["compression_format"], shown=shown, verb=verb)


def moved(source: Place, target: Place, plan: Plan, opts: dict[str, Any], clients: tuple[dict[str, Any], dict[str, Any]]) -> int:  # fmt: skip
    """Copy, and write the --digestfile."""
    if opts["retry"] != "4":
        from sandbox.registry import transport

        transport.RETRIES = retries(opts["retry"])
    with ending():
        digest = copy(source, target, plan, clients)
    if opts["digestfile"]:
        try:
            with open(opts["digestfile"], "w", encoding="ascii") as file:
                file.write(digest)
        except OSError as error:
            raise SandboxError.of("write digest", opts["digestfile"], error) from None
    return 0


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Copy SOURCE to DESTINATION."""
    plan = plan_of(opts, "copy")._replace(
        platform=opts["platform"], every=opts["all_platforms"], preserve=opts["preserve_digests"]
    )
    if plan.platform and plan.every:
        raise SandboxError("copy image", operands[0], detail="--platform and --all-platforms exclude each other")
    clients = client_options(opts, "src"), client_options(opts, "dest")
    return moved(place(operands[0]), place(operands[1]), plan, opts, clients)
