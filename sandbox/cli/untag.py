"""`sbx untag`: names away from an image, which stays.  (cold)"""

from typing import Any

from sandbox import events
from sandbox.image.naming import untag
from sandbox.image.store import Store
from sandbox.registry.local import find, short_names


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Take the names that are the other operands, or all, from the image that is the first."""
    store = Store()
    stored = find(store, operands[0])[0]
    untag(store, stored, operands[1:], short_names)
    for name in operands[1:] or stored.names:
        events.remember_other("image", "untag", store.id_of(stored), name)
    return 0
