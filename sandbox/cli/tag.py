"""`sbx tag`: more names for an image.  (cold)"""

from typing import Any

from sandbox import events
from sandbox.image.naming import tag
from sandbox.image.store import Store
from sandbox.registry.local import find


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Give the image that is the first operand the names that are the others."""
    store = Store()
    tag(store, lambda: find(store, operands[0])[0], operands[0], operands[1:])
    image_id = store.id_of(find(store, operands[0])[0])
    for name in operands[1:]:
        events.remember_other("image", "tag", image_id, name)
    return 0
