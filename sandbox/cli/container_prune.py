"""`sbx container prune`: ended containers.  (cold)"""

from typing import Any

from sandbox.cli.confirm import sure
from sandbox.errors import SandboxError, report
from sandbox.life import ending, rows
from sandbox.life.chosen import all_known


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each container that does not run."""
    if not sure("WARNING! This will remove all non running containers.", "container prune", force=opts["force"]):
        return 0
    everyone = all_known()
    test = rows.parse(opts["filter"], everyone)
    code = 0
    for known in everyone:
        if known.lives or not test(known):
            continue
        try:
            ending.remove(known, force=False)
            print(known.id)
        except SandboxError as error:
            code = report(error)
    return code
