"""Images from registries into the store: by policy, each layer once, and little work for what is there.  (cold)

What is asked first is a HEAD: when the store has the manifest that the tag stands for, that is all.  An index stands for
the manifest of a platform; which one is remembered (`index|...`), since neither of the two can change.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sandbox import cache, idmap
from sandbox.errors import SandboxError, tell
from sandbox.image import manifest
from sandbox.image.archive import Image, Layer
from sandbox.image.files import blob_name
from sandbox.image.layers import announce, short
from sandbox.image.layout import content_lock
from sandbox.image.reference import Reference
from sandbox.image.store import SIZE, Store, Stored, named
from sandbox.registry import configuration, glance
from sandbox.registry.access import ORDINARY, Access
from sandbox.registry.local import entry_of, find, index_key
from sandbox.transfer import progress
from sandbox.transfer.sources import RegistrySource
from sandbox.transfer.transports import image_of

POLICIES = ("always", "missing", "never", "newer")


class Wish(NamedTuple):
    """How images are to be fetched."""

    access: Access = ORDINARY
    platform: str = ""
    policy: str = "always"
    shown: str = "plain"  # see progress.choose


class Pulled(NamedTuple):
    """`seen` is what `glance.keep` wants to know, None when the registry can not be asked so simply again."""

    id: str
    stored: Stored
    name: str
    seen: dict[str, Any] | None = None


def name_stored(store: Store, stored: Stored, name: str) -> Stored | None:
    """Give an image that is there one name more; None when another command has removed it meanwhile."""
    if name in stored.names:
        return stored
    gone = False

    def change(old: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nonlocal gone
        entry = next((one for one in old if one.get("digest") == stored.entry.digest), None)
        if entry is None:  # an entry made now would name blobs that are swept
            gone = True
            return old
        size = int((entry.get("annotations") or {}).get(SIZE, "0"))
        return named(old, {key: value for key, value in entry.items() if key != "annotations"}, [name], size)

    with content_lock(store.root):
        store.layout.change(change)
    return None if gone else Stored([*stored.names, name], stored.entry)


def pull(store: Store, ref: Reference, wish: Wish, maps: Callable[[], dict[str, Any]] = idmap.resolve) -> Pulled:
    """Fetch `ref` (a full name) when the registry has another image than the store; RegistryError, SandboxErrors of `take`."""
    source = RegistrySource(ref, wish.access)
    try:
        return _pull(store, source, wish, maps)
    finally:
        source.close()


def _pull(store: Store, source: RegistrySource, wish: Wish, maps: Callable[[], dict[str, Any]]) -> Pulled:
    name = source.what
    try:
        store.find(name)
        worth = True
    except SandboxError:
        worth = bool(source.ref.digest)
    if worth:  # else the answer would be no: one round trip less
        asked = source.ref.digest or source.ref.tag
        head = source.client.head(asked)
        there = entry_of(store, head[1], wish.platform) if head else None
        if head and there:
            image = store.image(there, wish.platform)
            manifest.check_platform(image.config, wish.platform, name)
            if kept := name_stored(store, there, name):
                return Pulled(image.id, kept, name, _seen(source, head[1]))
    while True:
        try:
            image = image_of(source, wish.platform)
            manifest.check_platform(image.config, wish.platform, name)
            outer = source.first
            image_id = take_in(store, [image], maps(), wish.shown)[0]
            break
        except SandboxError as error:
            # What a mirror sends may be wrong; what this machine refuses (errno) would be refused again.
            if error.errno or not source.client.leave_mirror():
                raise
            tell(f"warning: {error}; the next place is asked")
    if outer and outer != image.digest:
        blob = f"{store.root}/{blob_name(image.digest)}"
        cache.put(store.records, index_key(outer, wish.platform), image.digest, [blob])
    stored = entry_of(store, image.digest, wish.platform)
    if stored is None:  # removed by another command since
        raise SandboxError("pull image", name, detail="another command has removed it meanwhile")
    return Pulled(image_id, stored, name, _seen(source, outer))


def _seen(source: RegistrySource, digest: str) -> dict[str, Any] | None:
    places = [session.place("pull manifest", source.what) for session in source.client.way()]
    return {"places": places, "asked": source.ref.digest or source.ref.tag, "digest": digest} if places else None


def remembered(store: Store, text: str, wish: Wish, pulled: Pulled) -> None:
    """Leave what `glance` can use the next time that `text` is asked for."""
    if pulled.seen is None:
        return
    index = store.layout.index_path
    before = cache.stamp(index)
    try:
        stored, name = store.find(pulled.name)
    except SandboxError:
        return  # removed meanwhile
    if stored.entry.digest == pulled.stored.entry.digest and cache.stamp(index) == before:
        seen = {**pulled.seen, "name": name, "id": pulled.id}
        blobs = [f"{store.root}/{blob_name(digest)}" for digest in (stored.entry.digest, f"sha256:{pulled.id}")]
        depends = [index, *blobs, *configuration.stamped()]
        access = wish.access
        glance.keep(store.records, text, wish.platform, access.tls_verify, access.cert_dir, seen, depends)


def take_in(store: Store, images: list[Image], maps: dict[str, Any], shown: str, verb: str = "pull") -> list[str]:
    """Put images that lie anywhere into the store, layers side by side; their ids.  After a failure none of them is there."""
    quiet = shown == "none"
    announce([maps["note"]] if maps["note"] else [], quiet=quiet)
    rows = [
        progress.Row(short(layer.digest or layer.diff_id), layer.size) for image in images for layer in image.layers
    ]
    ids: list[str] = []
    warnings: list[str] = []
    number = 0
    with progress.shown(rows, shown, verb) as display, store.taking():
        for image in images:
            layers = []
            for layer in image.layers:
                counted = functools.partial(_counted, display, number, layer)
                layers.append(layer._replace(pieces=counted))
                number += 1
            image_id, said = store.take(image._replace(layers=layers), maps, quiet=True)
            ids.append(image_id)
            warnings += said
    announce(warnings, quiet=quiet)
    return ids


def _counted(display: progress.Progress, number: int, layer: Layer) -> Iterator[bytes]:
    return display.counted(number, layer.pieces())


def by_policy(store: Store, text: str, wish: Wish, maps: Callable[[], dict[str, Any]] = idmap.resolve) -> Pulled | None:
    """Fetch what a person calls `text` if the policy wants that; None when the store's image is to be used as it is.

    SandboxError "find image" when it is not there and must not be fetched; of a short name's places the first error.
    """
    if wish.policy not in POLICIES:
        raise SandboxError(
            "read option", f"--pull={wish.policy}", detail="no such policy", hint="missing, never, always or newer"
        )
    here: tuple[Stored, str] | None = None
    missing: SandboxError | None = None
    try:
        here = find(store, text, wish.platform)
    except SandboxError as error:
        missing = error
    if wish.policy == "never":
        if missing is not None:
            raise missing
        return None
    if here is not None and wish.policy == "missing" and _fits(store, here[0], wish.platform):
        return None
    if here is not None and not here[1]:
        if wish.policy in ("always", "newer") and not here[0].names:
            return None  # an id, and nobody knows where it came from
        text = here[0].names[0] if here[0].names else text
    elif missing is not None and text.startswith("sha256:"):
        raise missing
    try:
        return _first(store, here[1] if here and here[1] else text, wish, maps)
    except SandboxError as error:
        if here is not None and wish.policy == "newer":
            tell(f"warning: the local image is used: {error}")
            return None
        raise


def _fits(store: Store, stored: Stored, platform: str) -> bool:
    if not platform:
        return True
    try:
        manifest.check_platform(store.image(stored, platform).config, platform, "")
    except SandboxError:
        return False
    return True


def _first(store: Store, text: str, wish: Wish, maps: Callable[[], dict[str, Any]]) -> Pulled:
    """The first of the names that `text` may stand for."""
    from sandbox.registry import names

    candidates = names.candidates(text)
    for number, ref in enumerate(candidates):
        try:
            if wish.shown != "none" and len(candidates) + (str(ref) != text) > 1:
                tell(f"pull {ref}")
            return pull(store, ref, wish, maps)
        except SandboxError as error:
            # Only "no such image" leads to the next registry: what answers otherwise may be the one that was meant.
            if number == len(candidates) - 1 or getattr(error, "status", 0) not in (401, 403, 404):
                raise
    raise SandboxError("pull image", text, detail="no registry to pull from")
