"""`sbx system reset`: the store as if it had never been.  (cold)"""

from typing import Any

from sandbox.cli.confirm import sure
from sandbox.image.reset import reset
from sandbox.image.store import Store

_WARNING = """WARNING! This command removes:
        - all containers
        - all images
        - all volumes
        - the store itself"""


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove the store; refused while containers run or others use it."""
    if sure(_WARNING, "system reset", force=opts["force"]):
        reset(Store())
    return 0
