"""`sbx system prune`: ended containers, images that nobody needs, what killed commands left.  (cold)"""

import os
from typing import Any

from sandbox import idmap
from sandbox.cli.confirm import sure
from sandbox.image import leftovers
from sandbox.image.describe import human_size
from sandbox.image.prune import prune
from sandbox.image.store import Store

_WARNING = """WARNING! This command removes:
        - all ended containers
        - all {} images
        - what killed commands left in the store
"""


def _used(path: str) -> int:
    disk = os.statvfs(path)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove what nobody needs; tells what, and how much less of the disk is used."""
    warning = _WARNING.format("unused" if opts["all"] else "dangling")
    if not sure(warning, "system prune", force=opts["force"]):
        return 0
    store = Store()
    before = _used(store.root)
    maps = idmap.resolve()
    gone = []
    code = 0
    for known in leftovers.ended(store.root):
        failed = leftovers.remove(known, maps)
        code = code or failed
        if not failed:
            gone.append(known.id)
    removed, failed = prune(store, opts["filter"], everything=opts["all"])
    for title, ids in (("Containers", gone), ("Images", removed)):
        if ids:
            print(f"Deleted {title}")
            for one in ids:
                print(one)
    print(f"Total reclaimed space: {human_size(max(0, before - _used(store.root)))}")
    return code or failed
