"""Verify a store: what is named is there and whole, what is there belongs to something.  (cold)

Each finding is of one kind: `broken` (content is not what its digest says, or is missing) or `left` (by a killed
command; the next one that sweeps removes it).  A layer is compared with a second unpacking of its blob.  All is done
under the shared content lock, so nothing is swept meanwhile and what others are taking in shows up as locked.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox import idmap, userns
from sandbox.errors import SandboxError, printable, tell
from sandbox.image import leftovers
from sandbox.image.archive import Layer
from sandbox.image.compare import difference
from sandbox.image.files import FolderFiles, blob_name
from sandbox.image.lanes import Job, work
from sandbox.image.layers import short
from sandbox.image.layout import content_lock
from sandbox.image.owned import clear_folder
from sandbox.image.store import Store

_PIECE = 1 << 20


class Finding(NamedTuple):
    kind: str  # broken, left
    what: str  # index, image, blob, layer, container, volume, file
    name: str
    detail: str


class Check:
    """One look at a store."""

    def __init__(self, store: Store, maps: dict[str, Any], *, quick: bool) -> None:
        self.store, self.maps, self.quick = store, maps, quick
        self.found: list[Finding] = []
        self.blobs: set[str] = set()  # needed by some image
        self.layers: dict[str, Layer] = {}  # by diff id in hex
        self.unknown = 0  # layers under id maps that can not be made again

    def run(self) -> list[Finding]:
        """All findings, images first."""
        with content_lock(self.store.root):
            try:
                self._images()
            except SandboxError as error:
                self._add("broken", "index", "index.json", str(error))
                return self.found  # what belongs to something can not be known
            self._stored_blobs()
            self._unpacked()
            self._temporary()
            for known in leftovers.ended(self.store.root):
                if not os.path.exists(f"{known.directory}/spec"):
                    self._add("left", "container", known.id, "its command was killed")
            for kind, name, why in leftovers.volumes(self.store.root):
                self._add(kind, "volume", name, why)
        return self.found

    def _add(self, kind: str, what: str, name: str, detail: str) -> None:
        self.found.append(Finding(kind, what, name, detail))

    def _images(self) -> None:
        store = self.store
        for stored in store.images():
            name = stored.names[0] if stored.names else stored.entry.digest
            entries = [e for e in store.layout.raw_entries() if e.get("digest") == stored.entry.digest][:1]
            try:
                blobs, _ = store.reachable(entries)
                self.blobs |= blobs
                images = store.every_image(stored)
            except SandboxError as error:
                self.blobs.add(stored.entry.digest)
                self._add("broken", "image", name, str(error))
                continue
            for layer in [layer for image in images for layer in image.layers]:
                self.layers.setdefault(layer.diff_id.partition(":")[2], layer)
                if not store.layout.has(layer.digest, layer.size):
                    self._add("broken", "image", name, f"layer {short(layer.diff_id)} is missing or has another size")

    def _stored_blobs(self) -> None:
        for digest in sorted(self.store.layout.blobs()):
            if digest not in self.blobs:
                self._add("left", "blob", digest, "no image needs it")
            elif not self.quick and (detail := wrong_blob(self.store.root, digest)):
                self._add("broken", "blob", digest, detail)

    def _unpacked(self) -> None:
        pinned = self.store.pinned()
        damaged = {found.name for found in self.found if found.what == "blob"}
        for name in sorted(self.store.layers.names()):
            layer = self.layers.get(name.partition(".")[0])
            if layer is None:
                if name not in pinned:
                    self._add("left", "layer", name, "no image needs it")
            elif not os.path.isdir(f"{self.store.layers.folder}/{name}/fs"):
                self._add("broken", "layer", name, "it is empty")
            elif not self.quick and layer.digest not in damaged and (detail := self._wrong_layer(name, layer)):
                self._add("broken", "layer", name, detail)

    def maps_of(self, name: str) -> dict[str, Any] | None:
        """The id map that made this folder."""
        variant = name.partition(".")[2]
        for mode in ("", "single", "keep-id"):
            with contextlib.suppress(SandboxError):
                maps = idmap.resolve(mode) if mode else self.maps
                if maps["variant"] == variant:
                    return maps
        return None

    def _wrong_layer(self, name: str, layer: Layer) -> str:
        """How a layer differs from its blob unpacked again, under a hidden name; "" when it does not."""
        maps = self.maps_of(name)
        if maps is None:
            self.unknown += 1
            return ""
        layers = self.store.layers
        claim = layers.claim(layer.diff_id, {**maps, "variant": f"check-{os.getpid()}"}, wait=True)
        if claim is None:
            return ""
        try:
            work([Job(layer, short(layer.diff_id), folder=claim.folder)], maps)
            fd = os.open(f"{layers.folder}/{name}/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return str(userns.call(maps, lambda: difference(fd, claim.folder)))
            finally:
                os.close(fd)
        finally:
            layers.abandon([claim])

    def _temporary(self) -> None:
        """Hidden names without an owner."""
        root = self.store.root
        for folder, starts in ((root, (".new-", ".probe-")), (f"{root}/blobs/sha256", (".new-",)),
                               (self.store.layers.folder, (".new-", ".old-"))):  # fmt: skip
            with contextlib.suppress(FileNotFoundError):
                for name in sorted(os.listdir(folder)):
                    if name.startswith(starts) and leftovers.ownerless(f"{folder}/{name}"):
                        self._add("left", "file", f"{folder}/{name}"[len(root) + 1 :], "its maker was killed")


def wrong_blob(root: str, digest: str) -> str:
    """Why the bytes of a blob are not those of its name; "" when they are."""
    algorithm, _, wanted = digest.partition(":")
    sum_ = hashlib.new(algorithm)
    try:
        for piece in FolderFiles(root).pieces(blob_name(digest)):
            sum_.update(piece)
    except SandboxError as error:
        return str(error)
    return "" if sum_.hexdigest() == wanted else f"its content has the digest {algorithm}:{sum_.hexdigest()}"


def repair(check: Check, sweep_volumes: Callable[[], None]) -> list[Finding]:
    """Put right what `check` has found; what is still wrong afterwards.

    A broken layer is unpacked again from its blob; a broken blob is removed, and with it the images that need it: they
    can not run, and would keep all sweeps from knowing what is needed.  Complete things are not touched.
    """
    store = check.store
    broken = [found for found in check.found if found.kind == "broken"]
    if any(found.what == "index" for found in broken):
        raise SandboxError(
            "repair store", store.layout.index_path, detail=broken[0].detail,
            hint="put a copy of index.json back, or start anew with `sbx system reset`",
        )  # fmt: skip
    for found in broken:
        if found.what == "blob":
            store.layout.remove(found.name)
    store.forget_records()
    gone = _broken_images(store)
    store.layout.change(lambda old: [entry for entry in old if entry.get("digest") not in gone])
    for found in broken:
        if found.what == "layer":
            held = store.layers.try_hold(found.name)
            if held >= 0:
                store.layers.remove(found.name, held)
                layer = check.layers[found.name.partition(".")[0]]
                maps = check.maps_of(found.name)
                if maps and store.layout.has(layer.digest, layer.size):
                    with content_lock(store.root):
                        store.layers.make(layer, maps)
    for known in leftovers.ended(store.root):
        if not os.path.exists(f"{known.directory}/spec"):
            leftovers.remove(known, check.maps)
    sweep_volumes()  # after the containers that some were made for
    _remove_odd(store.root, ".probe-")
    _remove_odd(store.layers.folder, ".new-")
    store.sweep()
    return Check(store, check.maps, quick=check.quick).run()


def _remove_odd(path: str, start: str) -> None:
    """What sweeps leave alone, because no sbx that runs makes it so."""
    with contextlib.suppress(OSError, SandboxError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(fd):
                if name.startswith(start) and leftovers.ownerless(f"{path}/{name}"):
                    clear_folder(fd, name)
        finally:
            os.close(fd)


def _broken_images(store: Store) -> set[str]:
    """Manifest digests of images that lack a blob; each is told."""
    gone = set()
    for stored in store.images():
        try:
            layers = [layer for image in store.every_image(stored) for layer in image.layers]
            if all(store.layout.has(layer.digest, layer.size) for layer in layers):
                continue
        except SandboxError:
            pass
        gone.add(stored.entry.digest)
        tell(f"image removed, pull or load it again: {printable(', '.join(stored.names) or stored.entry.digest)}")
    return gone
