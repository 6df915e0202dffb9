"""The image store: find images by name, take new ones in, remove them.  (cold)"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from sandbox import cache
from sandbox.errors import ENOENT, SandboxError, tell
from sandbox.image import manifest, reference
from sandbox.image.archive import Image, Layer, entry_name, every_image, layer_type, make_manifest, oci_image
from sandbox.image.content import WAIT, Content
from sandbox.image.files import blob_name
from sandbox.image.layers import short
from sandbox.image.layout import BlobWriter, content_lock

IN_USE = 2  # exit status for an image that containers are made from, or run from: podman's
SIZE = "dev.sbx.size"  # annotation: bytes of all layers unpacked, for `sbx images`


class Stored(NamedTuple):
    """An image of the store: one manifest and the names it has."""

    names: list[str]
    entry: manifest.Descriptor


def repository(name: str) -> str:
    """The full repository of a stored name; "" when another tool has put something else there."""
    try:
        return reference.normal(name).repository
    except SandboxError:
        return ""


class Store(Content):
    """Images by name, on top of the content that they are made of."""

    # -- find --

    def images(self) -> list[Stored]:
        """All images, in the order in which they came."""
        found: dict[str, Stored] = {}
        for raw in self.layout.raw_entries():
            entry = manifest.descriptor(raw, self.layout.index_path)
            stored = found.setdefault(entry.digest, Stored([], entry))
            if (name := entry_name(entry)) and name not in stored.names:
                stored.names.append(name)
        return list(found.values())

    def image(self, stored: Stored, platform: str = "") -> Image:
        """Manifest and config of a stored image, read and verified; of an index that for `platform`.

        Without `platform`, it is that for this machine, or any when there is none.
        """
        what = stored.names[0] if stored.names else stored.entry.digest
        found = oci_image(self.layout.files(), stored.entry, platform, what, other=not platform)
        return found._replace(names=stored.names)

    def every_image(self, stored: Stored) -> list[Image]:
        """The images of all platforms of a stored image."""
        return every_image(self.layout.files(), stored.entry, stored.names[0] if stored.names else stored.entry.digest)

    def find(self, text: str) -> tuple[Stored, str]:
        """(image, its full name or "" when `text` is an id); SandboxError "find image" when there is none."""
        images = self.images()
        prefix = reference.id_prefix(text)
        try:
            wanted = reference.candidates(text)
        except SandboxError:
            if not prefix:
                raise
            wanted = []
        for ref in wanted:
            for stored in images:
                if ref.digest:
                    same = [name for name in stored.names if repository(name) == ref.repository]
                    if same and stored.entry.digest == ref.digest:
                        return stored, same[0]
                elif str(ref) in stored.names:
                    return stored, str(ref)
        if prefix:
            found = [stored for stored in images if self._has_id(stored, prefix)]
            ids = len({self.id_of(stored) for stored in found})
            if ids == 1:  # of several manifests for one image, one that has a name
                return next((stored for stored in found if stored.names), found[0]), ""
            if found:
                raise SandboxError("find image", text, detail=f"{ids} ids begin so", hint="give more digits")
        hint = (
            "`sbx images` lists what is there; `sbx load -i FILE` takes an archive in, and oci:DIR, oci-archive:FILE, "
            "docker-archive:FILE run without loading"
        )
        ends = f"/{text}"
        named = [name for stored in images for name in stored.names]
        # It may be somebody else's image of that name: only who says so gets it.
        if near := [name for name in named if name.endswith(ends) or repository(name).endswith(ends)]:
            hint = f"there is {', '.join(near[:3])}: give the whole name"
        raise SandboxError("find image", text, ENOENT, detail="no such image in the local store", hint=hint)

    def _has_id(self, stored: Stored, prefix: str) -> bool:
        return stored.entry.digest.partition(":")[2].startswith(prefix) or self.id_of(stored).startswith(prefix)

    def id_of(self, stored: Stored) -> str:
        """The image's id; its manifest's digest when it is broken."""
        try:
            return self.image(stored).id
        except SandboxError:
            return stored.entry.digest

    def alike(self, stored: Stored) -> list[Stored]:
        """All manifests of the image that `stored` is of: the same layers compressed in another way, or of the other family."""
        wanted = self.id_of(stored)
        return [other for other in self.images() if self.id_of(other) == wanted]

    def size_of(self, layer: Layer) -> int:
        """Bytes of a layer unpacked; of its blob when that is not known."""
        known = cache.get(self.records, f"scan|{layer.digest}") if layer.digest else None
        return int(known["bytes"]) if known else layer.size

    # -- take in --

    def scanned(self, layer: Layer, label: str = "") -> dict[str, Any]:
        """Names, sizes and owners of a layer; remembered for blobs of this store."""
        path = f"{self.root}/{blob_name(layer.digest)}" if layer.digest else ""
        ours = bool(layer.digest) and self.layout.has(layer.digest, layer.size)
        if ours and (known := cache.get(self.records, f"scan|{layer.digest}")):
            return dict(known)
        from sandbox.image.lanes import Job, work
        from sandbox.image.scan import scan_of

        [told] = work([Job(layer, short(layer.diff_id), label=label)], {})
        found = scan_of(told)
        if ours:
            cache.put(self.records, f"scan|{layer.digest}", found, [path])
        return found

    def keep_layer(self, layer: Layer, label: str = "", *, must_end: bool = False) -> tuple[Layer, dict[str, Any]]:
        """Copy a layer's blob into the store, verified on the way; (the layer as it lies here, its scan)."""
        files = self.layout.files()
        if layer.digest and self.layout.has(layer.digest, layer.size):
            here = layer._replace(pieces=lambda: files.pieces(blob_name(layer.digest)))
            return here, self.scanned(here, label)
        from sandbox.image.intake import checked_kind
        from sandbox.image.lanes import Job, work
        from sandbox.image.scan import scan_of

        what = short(layer.diff_id) or "layer"
        writer = BlobWriter(self.root)
        try:
            [facts] = work([Job(layer, what, tee=writer.fd, label=label, must_end=must_end)], {})
            checked_kind(facts["kind"], what)
            writer.commit(facts["digest"])
        finally:
            writer.abandon()
        name, found = blob_name(facts["digest"]), scan_of(facts)
        cache.put(self.records, f"scan|{facts['digest']}", found, [f"{self.root}/{name}"])
        media_type = layer.media_type or layer_type(facts["kind"])
        here = Layer(facts["digest"], facts["size"], facts["diff_id"], media_type, lambda: files.pieces(name))
        return here, found

    def take(self, image: Image, maps: dict[str, Any], *, quiet: bool) -> tuple[str, list[str]]:
        """Copy, check, unpack and name an image; (its id, warnings).  Under the content lock; see `taking`."""
        from sandbox.image.intake import Intake  # a third of this module's import; who only looks needs none of it

        what = image.names[0] if image.names else image.id[:12]
        count = len(image.layers)
        labels = ["" if quiet else f"layer {number}/{count}" for number in range(1, count + 1)]
        lines = [
            "" if quiet or os.isatty(2) else f"layer {number}/{count} {short(layer.diff_id)} {layer.size} bytes"
            for number, layer in enumerate(image.layers, 1)
        ]
        intake = Intake(self.layout, self.layers, self.records, maps)
        kept, scans, warnings = intake.take(image.layers, what, labels, lines)
        self.layout.add(image.config_raw)
        raw = image.manifest_raw or make_manifest(image.config_raw, [(l.media_type, l.digest, l.size) for l in kept])
        digest = self.layout.add(raw)
        entry = {
            "mediaType": image.manifest_type,
            "digest": digest,
            "size": len(raw),
            "platform": {"os": image.config.os or "linux", "architecture": image.config.architecture or "unknown"},
        }
        self.layout.change(lambda old: named(old, entry, image.names, sum(found["bytes"] for found in scans)))
        return image.id, warnings

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Around `take` and `keep_layer`: content lock; what is left over from before or from a failure goes away."""
        self.sweep(layers=set(), wait=0)
        before = set(self.layers.names())
        try:
            with content_lock(self.root):
                yield
        except BaseException:
            # Half an image is no image: its verified blobs and layers go too, unless somebody else has them.
            with contextlib.suppress(OSError, SandboxError):
                self.sweep(layers=set(self.layers.names()) - before, wait=0)
            raise

    # -- remove --

    def untag(self, digest: str, name: str) -> None:
        """Take one name of several away."""
        self.layout.change(lambda old: [e for e in old if e.get("digest") != digest or raw_name(e) != name])

    def ids_of(self, stored: Stored) -> list[str]:
        """The id of an image, for each platform; none when it is broken."""
        try:
            return [image.id for image in self.every_image(stored)]
        except SandboxError:
            return []

    def _refuse_used(self, stored: Stored, what: str) -> None:
        ids = self.ids_of(stored)
        for container, image_id in self.made_from().items():
            if image_id in ids and len(self.alike(stored)) == 1:
                raise SandboxError(
                    "remove image", what, detail=f"image is in use by container {container[:12]}", code=IN_USE,
                    hint="remove the container first; --force removes the name now and the layers later",
                )  # fmt: skip

    def delete(self, stored: Stored, *, force: bool) -> None:
        """Remove an image with all its names; SandboxError "remove image" when something runs from it.

        With `force` only what is not in use goes; the rest goes with the next sweep.
        """
        what = stored.names[0] if stored.names else stored.entry.digest
        gone = stored.entry.digest
        with self.alone(WAIT) as alone:
            entries = self.layout.raw_entries()
            if not force:
                self._refuse_used(stored, what)
            with contextlib.ExitStack() as held:
                try:
                    _, own = self.reachable([e for e in entries if e.get("digest") == gone])
                    _, keep = self.reachable([e for e in entries if e.get("digest") != gone])
                except SandboxError:
                    own = keep = set()  # this one or another is broken: what is needed is not known
                for name in self.layers.names():
                    if name.partition(".")[0] in own - keep:
                        fd = self.layers.try_hold(name)
                        if fd >= 0:
                            held.callback(os.close, fd)
                        elif fd == -1 and not force:
                            raise SandboxError(
                                "remove image", what, detail="image is in use by a running container", code=IN_USE,
                                hint="stop the container first; --force removes the name now and the layers later",
                            )  # fmt: skip
                self.layout.change(lambda old: [e for e in old if e.get("digest") != gone])
            if alone:
                try:
                    self._sweep(None)
                except SandboxError as error:
                    tell(f"warning: the space is not given back: {error}; `sbx system check --repair` puts that right")
            else:
                tell("another sbx is loading an image; the space is given back by the next `sbx rmi`")


def raw_name(entry: dict[str, Any]) -> str:
    """The name in an entry of index.json, "" when it has none."""
    annotations = entry.get("annotations") or {}
    name: str = annotations.get(manifest.CONTAINERD_NAME, "") or annotations.get(manifest.REF_NAME, "")
    return name


def named(
    old: list[dict[str, Any]], entry: dict[str, Any], names: list[str], size: "int | str"
) -> list[dict[str, Any]]:
    """Index entries after `entry` has got `names`; an image that loses its last name stays, nameless.  Pure."""
    digest = entry["digest"]
    kept: list[dict[str, Any]] = []
    lost: list[dict[str, Any]] = []
    for other in old:
        name = raw_name(other)
        if other.get("digest") == digest and (name in names or not name):
            continue
        (lost if name in names else kept).append(other)
    for other in lost:
        if all(e.get("digest") != other.get("digest") for e in kept):
            annotations = {k: v for k, v in (other.get("annotations") or {}).items() if k == SIZE}
            kept.append({**other, "annotations": annotations})
    for name in names:
        kept.append({**entry, "annotations": {manifest.REF_NAME: name, SIZE: str(size)}})
    if not names and all(e.get("digest") != digest for e in kept):
        kept.append({**entry, "annotations": {SIZE: str(size)}})
    return kept
