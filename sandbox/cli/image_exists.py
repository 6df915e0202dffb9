"""`sbx image exists`: by the exit status.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError
from sandbox.image.store import Store
from sandbox.registry.local import find


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """0 when there is such an image in the store, 1 when not; 125 when that can not be said."""
    try:
        find(Store(), operands[0])
    except SandboxError as error:
        if error.step != "find image":
            raise
        return 1
    return 0
