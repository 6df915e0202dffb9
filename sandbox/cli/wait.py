"""`sbx wait`: until containers have ended.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, UsageError, report
from sandbox.life import ending
from sandbox.life.chosen import all_known, find


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the exit status of each."""
    if bool(operands) == opts["latest"]:
        raise UsageError("read command line", "CONTAINER", detail="name containers, or give --latest")
    code = 0
    for word in operands or [known.id for known in all_known()[-1:]]:
        try:
            print(ending.wait(find(word)))
        except SandboxError as error:
            if opts["ignore"] and error.step == "find container":
                print(-1)
                continue
            code = report(error)
    return code
