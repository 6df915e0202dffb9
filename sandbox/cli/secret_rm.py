"""`sbx secret rm`: secrets that are not needed any more.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, UsageError, report
from sandbox.life import secrets


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Forget each, and print its id."""
    if bool(operands) == opts["all"]:
        raise UsageError("read command line", "SECRET", detail="name secrets, or give --all")
    code = 0
    for word in operands or [record["name"] for record in secrets.everything()]:
        try:
            print(secrets.remove(word))
        except SandboxError as error:
            if not (opts["ignore"] and error.step == "find secret"):
                code = report(error)
    return code
