"""`sbx untag`: names away from an image, which stays.  (cold)"""

from typing import Any

from sandbox.image.naming import untag
from sandbox.image.store import Store


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Take the names that are the other operands, or all, from the image that is the first."""
    untag(Store(), operands[0], operands[1:])
    return 0
