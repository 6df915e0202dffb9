"""Remove the images that nobody needs.  (cold)"""

import contextlib
import os

from sandbox.errors import SandboxError, report
from sandbox.image import filters, listing
from sandbox.image.store import IN_USE, Store, Stored


def prune(store: Store, texts: list[str], *, everything: bool) -> tuple[list[str], int]:
    """(ids of removed images, exit status): nameless ones, or with `everything` all that no container is made from."""
    rows = listing.rows()
    wanted = filters.parse(texts, rows, filters.OF_PRUNE)
    by_digest = {stored.entry.digest: stored for stored in store.images()}
    removed: list[str] = []
    code = 0
    for row in rows:
        stored = by_digest.get(row["digest"])
        if stored is None or not wanted(row) or (stored.names and not everything):
            continue
        if busy(store, stored):
            continue
        try:
            store.delete(stored, force=False)
            removed.append(row["id"])
        except SandboxError as error:
            if error.code != IN_USE:
                code = report(error)
    store.sweep()
    return removed, code


def busy(store: Store, stored: Stored) -> bool:
    """Whether there are containers that are made from this image, running or not."""
    return bool(set(store.made_from().values()) & set(store.ids_of(stored)))


def held(store: Store, *, sure: bool = False) -> set[str]:
    """Layers (hex diff ids) that running containers hold.

    Unless it is to be `sure`, as far as the kernel tells: in a pid namespace it keeps locks of processes elsewhere to itself,
    and those that were handed on by one that has ended.
    """
    found = set()
    locked = None if sure else _locked()
    for name in store.layers.names():
        with contextlib.suppress(FileNotFoundError):
            if locked is not None and os.stat(f"{store.layers.folder}/{name}").st_ino not in locked:
                continue
            fd = store.layers.try_hold(name)
            if fd == -1:
                found.add(name.partition(".")[0])
            elif fd >= 0:
                os.close(fd)
    return found


def _locked() -> set[int] | None:
    """Inodes, on whatever disk, that somebody holds a flock on; None when the kernel does not tell.

    A lock that is only tried, to see whether it can be had, would turn a container away that begins just then.
    """
    try:
        with open("/proc/locks", encoding="ascii") as file:
            fields = [line.split() for line in file]
    except (OSError, ValueError):
        return None
    return {int(one[5].rpartition(":")[2]) for one in fields if len(one) > 5 and one[1] == "FLOCK"}
