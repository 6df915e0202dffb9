"""Give names to images of the store and take them away.  (cold)"""

from collections.abc import Callable
from typing import Any

from sandbox.errors import SandboxError
from sandbox.image import manifest, reference
from sandbox.image.layout import content_lock
from sandbox.image.store import SIZE, Store, Stored, named, raw_name


def full_name(text: str) -> str:
    """The name as it is stored; SandboxError for one with a digest, which only content can give."""
    ref = reference.normal(text)
    if ref.digest:
        raise SandboxError("tag image", text, detail="a name with a digest can not be given", hint="leave @... out")
    return str(ref)


def tag(store: Store, find: Callable[[], Stored], text: str, names: list[str]) -> None:
    """Give the image `text`, which `find` finds, these names; another image that had one of them loses it, and stays."""
    wanted = list(dict.fromkeys(full_name(name) for name in names))
    with content_lock(store.root):
        digest = find().entry.digest

        def change(old: list[dict[str, Any]]) -> list[dict[str, Any]]:
            mine = next((entry for entry in old if entry.get("digest") == digest), None)
            if mine is None:
                raise SandboxError("tag image", text, detail="it was removed meanwhile")
            size = (mine.get("annotations") or {}).get(SIZE, "")
            return named(old, mine, wanted, size)

        store.layout.change(change)


def untag(store: Store, stored: Stored, names: list[str], meanings: Callable[[str], list[str]]) -> None:
    """Take `names` (all, when there are none) from an image; without names it stays, dangling.

    `meanings`: the full names that a short one has besides the store's own.
    """
    gone = _of(stored, names, meanings) if names else list(stored.names)
    digest = stored.entry.digest

    def change(old: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lost = [entry for entry in old if entry.get("digest") == digest and raw_name(entry) in gone]
        kept = [entry for entry in old if entry not in lost]
        if lost and all(entry.get("digest") != digest for entry in kept):
            annotations = lost[0].get("annotations") or {}
            names = (manifest.REF_NAME, manifest.CONTAINERD_NAME)
            kept.append({**lost[0], "annotations": {k: v for k, v in annotations.items() if k not in names}})
        return kept

    store.layout.change(change)


def _of(stored: Stored, names: list[str], meanings: Callable[[str], list[str]]) -> list[str]:
    """The full names behind `names`, which the image must have."""
    found = []
    for name in names:
        wanted = [*map(str, reference.candidates(name)), *meanings(name)]
        full = next((one for one in wanted if one in stored.names), "")
        if not full:
            raise SandboxError(
                "untag image", name, detail="the image has no such name", hint=f"names: {', '.join(stored.names)}"
            )
        found.append(full)
    return found
