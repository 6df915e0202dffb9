"""What `sbx images` shows of all images, kept in one record: the list is asked for often and changes rarely.  (cold)

Imports little: with 200 images the list takes as long as the imports do.
"""

import os
from typing import Any

from sandbox import cache, paths
from sandbox.errors import SandboxError, tell

# names, digest, id, created (RFC 3339), bytes, labels
Row = dict[str, Any]


def rows() -> list[Row]:
    """One row for each image that can be read, in the order in which they came; others are told on stderr."""
    root = os.path.abspath(paths.store())
    index = f"{root}/index.json"
    known = cache.get(f"{root}/images", "list") if _private(root) else None
    if known is not None:
        return list(known)
    from sandbox.image.store import Store

    store = Store(root)
    # The stamp first: an index that changes while it is read makes the record stale, not wrong.
    before = cache.stamp(index)
    found, whole = [], True
    for stored in store.images():
        try:
            found.append(_row(store, stored))
        except SandboxError as error:
            tell(str(error))
            whole = False
    if whole and cache.stamp(index) == before:
        cache.put(store.records, "list", found, [index])
    return found


def _private(root: str) -> bool:
    """Whether `Store` would find nothing to do or to refuse there."""
    try:
        s = os.stat(root)
    except OSError:
        return False
    return s.st_uid == os.geteuid() and not s.st_mode & 0o077


def _row(store: Any, stored: Any) -> Row:
    from sandbox.image.describe import size_of

    image = store.image(stored)
    return {
        "names": list(stored.names),
        "digest": stored.entry.digest,
        "id": image.id,
        "created": image.config.created,
        "bytes": size_of(stored, image),
        "labels": dict(image.config.run["Labels"]),
    }


def repository_and_tag(name: str) -> tuple[str, str]:
    """A stored name in its two parts, without the grammar: it was checked when it was stored."""
    rest, _, _ = name.partition("@")
    head, slash, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    return head + slash + last, tag
