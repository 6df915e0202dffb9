"""`sbx logout`: forget what is stored for a registry.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, UsageError, printable
from sandbox.registry import credentials, keeping
from sandbox.registry.login import place


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove one registry's credentials, or all with --all."""
    if opts["all"]:
        if operands:
            raise UsageError("log out", operands[0], detail="a registry and --all exclude each other")
        print(f"Removed login credentials for all registries from {printable(keeping.erase_all(opts['authfile']))}")
        return 0
    host, repository = place(operands[0] if operands else "")
    key = keeping.key_of(host, repository)
    if not keeping.erase(host, repository, opts["authfile"]):
        left = credentials.find(host, repository, opts["authfile"])
        where = f"its credentials are in {left.source}" if left else "not logged in"
        raise SandboxError(
            "log out", key, detail=where,
            hint="the tool that wrote them, or an editor, removes them" if left else "`sbx login --get-login` shows who is",
        )  # fmt: skip
    print(f"Removed login credentials for {printable(key)}")
    return 0
