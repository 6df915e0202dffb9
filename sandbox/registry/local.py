"""Images of the store by what a person calls them: short names mean what registries.conf says, with nobody asked.  (cold)"""

import contextlib

from sandbox import cache
from sandbox.errors import SandboxError
from sandbox.image import manifest, reference
from sandbox.image.store import Store, Stored


def index_key(digest: str, platform: str) -> str:
    """The record that tells which manifest an index stood for when it was pulled for `platform`."""
    return f"index|{digest}|{'/'.join(manifest.platform(platform))}"


def entry_of(store: Store, digest: str, platform: str) -> Stored | None:
    """The stored image that `digest` stands for: its manifest's, or that of an index which was pulled for this platform."""
    known = cache.get(store.records, index_key(digest, platform)) or digest
    return next((stored for stored in store.images() if stored.entry.digest == known), None)


def find(store: Store, name: str, platform: str = "") -> tuple[Stored, str]:
    """(image, its full name or "") of the store, short names as registries.conf reads them too; SandboxError "find image"."""
    try:
        return store.find(name)
    except SandboxError as missing:
        for full in short_names(name):
            with contextlib.suppress(SandboxError):
                return store.find(full)
        ref = reference.parse(name) if "@" in name else None
        if ref is not None and (found := entry_of(store, ref.digest, platform)):
            for full in found.names:
                if reference.normal(full).digest == ref.digest:
                    return found, full
        raise missing


def short_names(name: str) -> list[str]:
    """What registries.conf lets a short name stand for; nothing for any other name, or an id."""
    from sandbox.registry import names

    try:
        return [] if reference.parse(name).host else [str(ref) for ref in names.possible(name)]
    except SandboxError:
        return []
