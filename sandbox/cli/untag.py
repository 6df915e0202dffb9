"""`sbx untag`: names away from an image, which stays.  (cold)"""

from typing import Any

from sandbox.image.naming import untag
from sandbox.image.store import Store
from sandbox.registry.local import find, short_names


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Take the names that are the other operands, or all, from the image that is the first."""
    store = Store()
    untag(store, find(store, operands[0])[0], operands[1:], short_names)
    return 0
