"""`sbx container prune`: ended containers.  (cold)"""

from typing import Any

from sandbox.cli.confirm import sure
from sandbox.errors import SandboxError, report
from sandbox.life import ending, rows
from sandbox.life.chosen import all_known


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each container that does not run, and that nothing needs."""
    if not sure("WARNING! This will remove all non running containers.", "container prune", force=opts["force"]):
        return 0
    test = rows.parse(opts["filter"], all_known())
    code = 0
    for known in ending.unneeded():
        if rows.pod_of(known) or not test(known):
            continue  # pods go as a whole, by `pod prune`
        try:
            ending.remove(known, force=False)
            print(known.id)
        except SandboxError as error:
            code = report(error)
    return code
