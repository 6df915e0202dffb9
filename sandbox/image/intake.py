"""Take the layers of an image in: one pass over each, one sync for all, and only then their names.  (cold)

Blobs are copied under hidden names and layers unpacked under hidden names while they are read for the first time.
When all are there, verified, and their owners known to fit the id map, one syncfs(2) makes them safe, and they get
their names: blobs first, since a manifest needs them, then layers.  What fails before that leaves nothing.
"""

import contextlib
import os
import resource
from collections.abc import Iterator
from typing import Any

from sandbox import cache, linux_rare
from sandbox.errors import SandboxError
from sandbox.image.archive import Layer, layer_type
from sandbox.image.files import blob_name
from sandbox.image.lanes import Job, work
from sandbox.image.layers import Claim, Layers, short, warned
from sandbox.image.layout import BlobWriter, Layout, sync_folder
from sandbox.image.scan import check_ids, scan_of


class _Blob(BlobWriter):
    """A blob whose bytes another call has made safe."""

    def name(self, digest: str) -> str:
        """Make it visible; the folder whose entry is then still to be synced."""
        target = f"{self._root}/{blob_name(digest)}"
        folder = os.path.dirname(target)
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            os.rename(self._path, target)
        except OSError as error:
            raise SandboxError.of("write image store", target, error) from None
        os.close(self.fd)
        self.fd = -1
        return folder


def checked_kind(kind: str, what: str) -> None:
    """SandboxError for a compression that OCI has no media type for."""
    if kind not in ("", "gzip", "zstd"):
        raise SandboxError("read layer", what, detail=f"layers compressed by {kind} do not exist in OCI")


class Intake:
    """One image's layers on their way into the store."""

    def __init__(self, layout: Layout, layers: Layers, records: str, maps: dict[str, Any]) -> None:
        self._layout, self._layers, self._records, self._maps = layout, layers, records, maps
        self._files = layout.files()

    def take(
        self, wanted: list[Layer], what: str, labels: list[str], lines: list[str], *, copy: bool = True
    ) -> tuple[list[Layer], list[dict[str, Any]], list[str]]:
        """(the layers as they lie in the store, what is in each, warnings); under the content lock.

        Without `copy` layers are unpacked from where they lie, and the second answer is of those only that had to be.
        SandboxErrors as `lanes.work` has them, "unpack image" for ids that the map does not have.
        """
        claims: dict[str, Claim] = {}
        blobs: dict[str, _Blob] = {}
        try:
            with _descriptors(3 * len(wanted)):
                if not copy:
                    missing = [number for number, layer in enumerate(wanted) if not self._unpacked(layer)]
                    wanted = [wanted[n] for n in missing]
                    labels, lines = [labels[n] for n in missing], [lines[n] for n in missing]
                kept, scans, warnings = self._pass(wanted, what, labels, lines, claims, blobs, copy=copy)
                self._name(wanted, kept, scans, claims, blobs)
        finally:
            self._layers.abandon(list(claims.values()))
            for writer in blobs.values():
                writer.abandon()
        # What others were making meanwhile; nothing is held any more, so this may wait.
        for layer in kept:
            warnings += self._layers.make(layer, self._maps)
        return kept, scans, warnings

    def _pass(
        self, wanted: list[Layer], what: str, labels: list[str], lines: list[str],
        claims: dict[str, Claim], blobs: dict[str, _Blob], *, copy: bool,
    ) -> tuple[list[Layer], list[dict[str, Any]], list[str]]:  # fmt: skip
        """Read each layer that is not here as blob, as folder and as record; `claims` and `blobs` are filled."""
        jobs: dict[int, Job] = {}
        first: dict[str, int] = {}  # where a layer that comes several times comes first
        kept: list[Layer] = []
        scans: list[dict[str, Any]] = []
        for number, layer in enumerate(wanted):
            key = layer.digest or layer.diff_id
            if first.setdefault(key, number) != number:
                kept.append(layer)
                scans.append({})
                continue
            folder = tee = -1
            if layer.diff_id not in claims:
                # The first one may be waited for: who makes it makes all of this image, most likely.
                claim = self._layers.claim(layer.diff_id, self._maps, wait=not claims)
                if claim:
                    claims[layer.diff_id] = claim
                    folder = claim.folder
            here = self._here(layer)
            known = cache.get(self._records, f"scan|{here.digest}") if here else None
            if not here and copy:
                blobs[key] = _Blob(self._layout.root)
                tee = blobs[key].fd
            kept.append(here or layer)
            scans.append(dict(known) if known else {})
            if folder >= 0 or tee >= 0 or (not known and (copy or not self._unpacked(layer))):
                name = short(layer.diff_id) or "layer"
                jobs[number] = Job(here or layer, name, folder, tee, labels[number], lines[number])
        warnings: list[str] = []
        for (number, job), found in zip(jobs.items(), work(list(jobs.values()), self._maps), strict=True):
            checked_kind(found["kind"], job.what)
            warnings += warned(job.layer, found)
            scans[number] = scan_of(found)
            kept[number] = self._stored(job.layer, found) if copy else job.layer
        places = [first[layer.digest or layer.diff_id] for layer in wanted]
        found_of = [scans[place] for place in places]
        check_ids([found for found in found_of if found], self._maps, what)
        return [kept[place] for place in places], found_of, warnings

    def _unpacked(self, layer: Layer) -> bool:
        return self._layers.has(layer.diff_id, self._maps["variant"])

    def _here(self, layer: Layer) -> Layer | None:
        """The layer from the store's own blob.  A docker-archive's plain tar has its diff id as digest."""
        digest = layer.digest or layer.diff_id
        if not digest or not self._layout.has(digest, layer.size):
            return None
        return self._stored(layer, {"digest": digest, "size": layer.size, "diff_id": layer.diff_id, "kind": ""})

    def _stored(self, layer: Layer, found: dict[str, Any]) -> Layer:
        name = blob_name(found["digest"])
        media_type = layer.media_type or layer_type(found["kind"])
        return Layer(found["digest"], found["size"], found["diff_id"], media_type, lambda: self._files.pieces(name))

    def _name(
        self, wanted: list[Layer], kept: list[Layer], scans: list[dict[str, Any]],
        claims: dict[str, Claim], blobs: dict[str, _Blob],
    ) -> None:  # fmt: skip
        """Everything is there: make it safe, then visible."""
        if blobs:
            linux_rare.syncfs(next(iter(blobs.values())).fd)
        if claims and not (blobs and self._same_disk(claims, blobs)):
            self._layers.sync(list(claims.values()))
        digests = {layer.digest or layer.diff_id: here.digest for layer, here in zip(wanted, kept, strict=True)}
        for folder in {writer.name(digests[key]) for key, writer in blobs.items()}:
            sync_folder(folder)
        self._layers.name(list(claims.values()))
        for layer, found in zip(kept, scans, strict=True):
            if found and layer.digest and self._layout.has(layer.digest, layer.size):
                path = f"{self._layout.root}/{blob_name(layer.digest)}"
                cache.put(self._records, f"scan|{layer.digest}", found, [path])

    @staticmethod
    def _same_disk(claims: dict[str, Claim], blobs: dict[str, _Blob]) -> bool:
        """`layers` may be a mount of its own."""
        fds = next(iter(claims.values())).fd, next(iter(blobs.values())).fd
        return os.fstat(fds[0]).st_dev == os.fstat(fds[1]).st_dev


@contextlib.contextmanager
def _descriptors(count: int) -> Iterator[None]:
    """Room for `count` more descriptors than usual, as far as the hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(256 + count, hard) if hard != resource.RLIM_INFINITY else 256 + count
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
