"""`sbx system prune`: ended containers, images that nobody needs, what killed commands left.  (cold)"""

from typing import Any

from sandbox import idmap
from sandbox.cli.confirm import sure
from sandbox.cli.volume_ls import document
from sandbox.errors import SandboxError, report
from sandbox.image import filters, leftovers
from sandbox.image.describe import human_size
from sandbox.image.prune import prune
from sandbox.image.store import Store
from sandbox.image.usage import sizes
from sandbox.life import ending, volumes
from sandbox.life.chosen import all_known

_WARNING = """WARNING! This command removes:
        - all ended containers
        - all {} images
        - what killed commands left in the store
"""
_IN_USE = 2
_OF_VOLUMES = "        - all volumes that no container has\n"


def _used(store: Store) -> int:
    """Bytes of the store; what others write to the same disk meanwhile is none of it."""
    return sizes([store.root]).get(store.root, 0)


def _volumes(texts: list[str]) -> tuple[list[str], int]:
    """(names of removed volumes, exit status): those without a container that pass the filters."""
    found = volumes.everything()
    rows = {volume.name: document(volume) for volume in found}
    wanted = filters.parse(texts, [], filters.OF_PRUNE)
    removed: list[str] = []
    code = 0
    for volume in found:
        row = rows[volume.name]
        if volume.users() or not wanted({"names": [], "created": row["CreatedAt"], "labels": row["Labels"]}):
            continue
        try:
            volumes.remove(volume)
            removed.append(volume.name)
        except SandboxError as error:
            if error.code != _IN_USE:  # somebody has begun to use it
                code = report(error)
    return removed, code


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove what nobody needs; tells what, and how much less of the disk is used."""
    warning = _WARNING.format("unused" if opts["all"] else "dangling") + (_OF_VOLUMES if opts["volumes"] else "")
    if not sure(warning, "system prune", force=opts["force"]):
        return 0
    store = Store()
    before = _used(store)
    maps = idmap.resolve()
    gone = []
    code = 0
    stays = {known.id for known in all_known()} - {known.id for known in ending.unneeded()}
    for known in leftovers.ended(store.root):
        if known.id in stays:
            continue
        failed = leftovers.remove(known, maps)
        code = code or failed
        if not failed:
            gone.append(known.id)
    removed, failed = prune(store, opts["filter"], everything=opts["all"])
    code = code or failed
    unused: list[str] = []
    if opts["volumes"]:  # last: what ended containers had is free now
        unused, failed = _volumes(opts["filter"])
    for title, ids in (("Containers", gone), ("Images", removed), ("Volumes", unused)):
        if ids:
            print(f"Deleted {title}")
            for one in ids:
                print(one)
    print(f"Total reclaimed space: {human_size(max(0, before - _used(store)))}")
    return code or failed
