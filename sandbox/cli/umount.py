"""`sbx umount`: what `sbx mount` mounted.  (cold)"""

from typing import Any

from sandbox.cli.each import for_each
from sandbox.life import mounting


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Unmount each."""
    return for_each(operands, mounting.umount, everything=opts["all"], latest=opts["latest"], among=mounting.mounted)
