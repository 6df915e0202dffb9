"""`sbx container exists`: by the exit status.  (cold)"""

from typing import Any

from sandbox.errors import ENOENT, SandboxError
from sandbox.life.chosen import find


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """0 when there is such a container, 1 when not; 125 when that can not be said."""
    try:
        find(operands[0])
    except SandboxError as error:
        if error.errno != ENOENT:
            raise
        return 1
    return 0
