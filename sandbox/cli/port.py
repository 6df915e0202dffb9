"""`sbx port`: published ports.  (cold)"""

from typing import Any

from sandbox.cli.each import the_one
from sandbox.errors import ENOENT, SandboxError
from sandbox.life.chosen import all_known


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Lines `80/tcp -> 0.0.0.0:8080`; with a port, only where that one is."""
    if opts["all"]:
        for known in (known for known in all_known() if known.lives):
            for port in known.about.get("ports", ()):
                print(f"{known.id[:12]}\t{_name(port)} -> {port['ip']}:{port['host']}")
        return 0
    known = the_one(operands[:1], latest=opts["latest"])
    ports = known.about.get("ports", ())
    if len(operands) < 2:
        for port in ports:
            print(f"{_name(port)} -> {port['ip']}:{port['host']}")
        return 0
    wanted = operands[1] if "/" in operands[1] else f"{operands[1]}/tcp"
    found = [port for port in ports if _name(port) == wanted]
    if not found:
        raise SandboxError("find port", wanted, ENOENT, f"no published port of {known.name}")
    for port in found:
        print(f"{port['ip']}:{port['host']}")
    return 0


def _name(port: dict[str, Any]) -> str:
    return f"{port['container']}/{port['protocol']}"
