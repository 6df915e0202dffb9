"""Remove the images that nobody needs.  (cold)"""

import os

from sandbox.errors import SandboxError, report
from sandbox.image import filters, listing
from sandbox.image.store import Store


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
        if busy(store, stored.entry.digest):
            continue
        try:
            store.delete(stored, force=False)
            removed.append(row["id"])
        except SandboxError as error:
            if not error.detail.startswith("image is in use"):
                code = report(error)
    store.sweep()
    return removed, code


def busy(store: Store, digest: str) -> bool:
    """Whether containers are made from this image; running ones hold its layers, others name them in their spec."""
    entries = [entry for entry in store.layout.raw_entries() if entry.get("digest") == digest]
    try:
        _, layers = store.reachable(entries[:1])
    except SandboxError:
        return False
    pinned = {name.partition(".")[0] for name in store.pinned()}
    return bool(layers & (pinned | held(store)))


def held(store: Store) -> set[str]:
    """Layers (hex diff ids) that running containers hold."""
    found = set()
    for name in store.layers.names():
        fd = store.layers.try_hold(name)
        if fd == -1:
            found.add(name.partition(".")[0])
        elif fd >= 0:
            os.close(fd)
    return found
