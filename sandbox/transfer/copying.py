"""One image, or an index with all of its images, from a source to a sink.  (cold)

Blobs first, several at a time where the sink can take that; then the manifest, which names them; an index last.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sandbox.errors import SandboxError
from sandbox.image import jsonstrict, limits, manifest
from sandbox.image.files import digest_of
from sandbox.image.layers import short
from sandbox.image.manifest import Descriptor
from sandbox.transfer import progress, recode
from sandbox.transfer.recode import Recoded
from sandbox.transfer.transports import Document, Sink, Source, checked, chosen, refuse_foreign, small, verified

_AT_ONCE = 4


class Plan(NamedTuple):
    """What is to become of an image on its way."""

    platform: str = ""
    every: bool = False  # all images of an index
    family: str = ""  # "oci" or "docker" manifests; "" is what the sink needs, else what there is
    compress: str = ""  # layers anew, by this; "none": written plain
    compress_plain: bool = False  # by gzip, those that are not compressed and go to a registry
    preserve: bool = False  # the digests
    shown: str = "none"
    verb: str = "copy"


class _Stop(Exception):
    """Another thread has failed."""


class Copy:
    """One copy; `run` says what was written last."""

    def __init__(self, source: Source, sink: Sink, plan: Plan) -> None:
        self._source, self._sink, self._plan = source, sink, plan
        self._stopped = False

    def run(self, names: list[str]) -> Document:
        """Copy to the sink, where the image gets `names`; the caller finishes or abandons the sink."""
        document = self._source.document()
        if not self._plan.every:
            document = chosen(self._source, document, self._plan.platform)
        return self._document(document, names, 0)

    def _document(self, document: Document, names: list[str] | None, depth: int) -> Document:
        if manifest.is_index(document.raw, document.media_type, self._source.what):
            made = self._index(document, depth)
        else:
            made = self._image(document)
        if self._plan.preserve and made.digest != document.digest:
            raise SandboxError(
                "copy image", self._source.what, detail="the destination can not hold its manifest as it is",
                hint="leave --preserve-digests out, or choose an `oci` destination",
            )  # fmt: skip
        self._sink.document(made, names)
        return made

    def _family(self, document: Document) -> str:
        return self._plan.family or self._sink.family or recode.family(document.media_type)

    def _index(self, document: Document, depth: int) -> Document:
        what = self._source.what
        if depth >= limits.INDEX_DEPTH:
            raise SandboxError("read manifest", what, detail=f"indexes nested more than {limits.INDEX_DEPTH} deep")
        to = self._family(document)
        entries = jsonstrict.loads(document.raw, what)["manifests"]
        made: list[dict[str, Any]] = []
        seen: dict[str, Document] = {}
        for raw, entry in zip(entries, manifest.parse_index(document.raw, document.media_type, what), strict=True):
            if entry.digest not in seen:
                inner = checked(self._source.document(entry), entry, what)
                if manifest.attestation(entry):
                    seen[entry.digest] = self._opaque(inner)
                else:
                    seen[entry.digest] = self._document(inner, None, depth + 1)
            new = seen[entry.digest]
            made.append({**raw, "mediaType": new.media_type, "digest": new.digest, "size": len(new.raw)})
        if made == entries and to == recode.family(document.media_type):
            return document
        raw_index, media_type = recode.index_as(document.raw, to, made, what)
        return Document(raw_index, media_type, digest_of(raw_index))

    def _opaque(self, document: Document) -> Document:
        """An attestation: its blobs are nobody's layers, and go as they are."""
        what = self._source.what
        for entry in manifest.opaque_parts(document.raw, what):
            if not self._sink.has(entry):
                self._sink.blob(entry, lambda offset, entry=entry: self._pieces(entry, offset))  # type: ignore[misc]
        self._sink.document(document, None)
        return document

    def _pieces(self, wanted: Descriptor, offset: int) -> Iterator[bytes]:
        pieces = self._source.blob(wanted, offset)
        for piece in pieces if offset else verified(pieces, wanted):
            if self._stopped:
                raise _Stop
            yield piece

    def _image(self, document: Document) -> Document:
        what = self._source.what
        found = manifest.parse_manifest(document.raw, document.media_type, what)
        config_raw = small(self._source, found.config)
        config = manifest.parse_config(config_raw, what, len(found.layers))
        for layer in found.layers:
            refuse_foreign(layer, what)
        to = self._family(document)
        rows = [progress.Row(short(layer.digest), layer.size) for layer in found.layers]
        with progress.shown(rows, self._plan.shown, self._plan.verb) as display:
            jobs = [
                functools.partial(self._layer, n, layer, diff_id, to, display)
                for n, (layer, diff_id) in enumerate(zip(found.layers, config.diff_ids, strict=True))
            ]
            kept = self._all(jobs)
            if not self._sink.has(found.config):
                self._sink.blob(found.config, lambda offset: iter([config_raw[offset:]]))
        same = [(recode.compression(layer.media_type), layer.digest, layer.size) for layer in found.layers]
        if kept == same and to == recode.family(document.media_type):
            return document
        raw, media_type = recode.manifest_as(document.raw, to, kept, what)
        return Document(raw, media_type, digest_of(raw))

    def _all(self, jobs: Sequence[Callable[[], tuple[str, str, int]]]) -> list[tuple[str, str, int]]:
        """All of them; the first failure stops the others."""
        if not self._sink.parallel or len(jobs) < 2:
            return [job() for job in jobs]
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "copy") as threads:
            futures = [threads.submit(job) for job in jobs]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except BaseException:
                self._stopped = True
                threads.shutdown(wait=True, cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def _layer(
        self, number: int, layer: Descriptor, diff_id: str, to: str, display: progress.Progress
    ) -> tuple[str, str, int]:
        """(compression, digest, size) of a layer as it was written."""
        kind = recode.compression(layer.media_type)
        wanted = "" if self._plan.compress == "none" else self._plan.compress or kind
        if not wanted and not self._plan.compress and self._plan.compress_plain:
            wanted = "gzip"
        if wanted == "zstd" and to == "docker":
            wanted = "gzip"

        def open(offset: int) -> Iterator[bytes]:
            return display.counted(number, self._pieces(layer, offset))

        if wanted == kind:
            if self._sink.has(layer):
                display.exists(number)
            else:
                self._sink.blob(layer, open, diff_id)
            return kind, layer.digest, layer.size
        made = Recoded(open(0), wanted, diff_id, os.environ.get("TMPDIR", "/var/tmp"))
        try:
            entry = Descriptor(recode.layer_type(to, wanted), made.digest, made.size, {}, {}, [])
            if not self._sink.has(entry):
                self._sink.blob(entry, made.pieces, diff_id)
        finally:
            made.close()
        return wanted, made.digest, made.size
