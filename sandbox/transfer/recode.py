"""Manifests of the other family, layers compressed another way.  (cold)

Docker's schema 2 and OCI's manifest say the same with other media types.  Docker's has no zstd, and what only OCI has
(annotations, artifact types) is left out.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from sandbox.errors import SandboxError
from sandbox.image import manifest
from sandbox.image.compression import decompressed
from sandbox.image.jsonstrict import dumps, loads

_DOCKER = "application/vnd.docker."
DOCKER_MANIFEST, DOCKER_INDEX = manifest.MANIFESTS[1], manifest.INDEXES[1]
DOCKER_CONFIG = manifest.CONFIGS[1]
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


# What a person may call them.
FAMILIES = {"": "", "oci": "oci", "docker": "docker", "v2s2": "docker"}


def family(media_type: str) -> str:
    """ "docker" or "oci"."""
    return "docker" if media_type.startswith(_DOCKER) else "oci"


def compression(media_type: str) -> str:
    """ "gzip", "zstd" or "" (plain) by a layer's media type."""
    for name in ("gzip", "zstd"):
        if media_type.endswith((f"+{name}", f".{name}")):
            return name
    return ""


def layer_type(to: str, kind: str) -> str:
    """Media type of a layer in a manifest of family `to`."""
    if to == "docker":
        return DOCKER_LAYER + (f".{kind}" if kind else "")
    return manifest.LAYER + (f"+{kind}" if kind else "")


def manifest_as(raw: bytes, to: str, layers: list[tuple[str, str, int]], what: str) -> tuple[bytes, str]:
    """(bytes, media type) of the manifest `raw` in family `to` with `layers` as (compression, digest, size)."""
    document: dict[str, Any] = loads(raw, what)
    config = document["config"]
    if to == "docker":
        kept = ("digest", "size")
        found: dict[str, Any] = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST}
        found["config"] = {"mediaType": DOCKER_CONFIG, **{key: config[key] for key in kept}}
    else:
        found = {"schemaVersion": 2, "mediaType": manifest.MANIFEST}
        found["config"] = {**config, "mediaType": manifest.CONFIG}
        if "annotations" in document:
            found["annotations"] = document["annotations"]
    found["layers"] = [
        {"mediaType": layer_type(to, kind), "digest": digest, "size": size} for kind, digest, size in layers
    ]
    return dumps(found), str(found["mediaType"])


def index_as(raw: bytes, to: str, inner: list[dict[str, Any]], what: str) -> tuple[bytes, str]:
    """(bytes, media type) of the index `raw` in family `to` with the entries `inner`."""
    document: dict[str, Any] = loads(raw, what)
    media_type = DOCKER_INDEX if to == "docker" else manifest.INDEX
    found = {"schemaVersion": 2, "mediaType": media_type, "manifests": inner}
    if to == "oci" and "annotations" in document:
        found["annotations"] = document["annotations"]
    return dumps(found), media_type


def _compressor(kind: str) -> Any:
    if kind == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3).compressobj()
    try:
        from isal import isal_zlib

        return isal_zlib.compressobj(2, isal_zlib.DEFLATED, 31)
    except ImportError:
        import zlib

        return zlib.compressobj(5, zlib.DEFLATED, 31)


def compressed(pieces: Iterator[bytes], kind: str) -> Iterator[bytes]:
    """`pieces` as gzip or zstd; no time in the header: the same bytes for the same layer."""
    if not kind:
        yield from pieces
        return
    compressor = _compressor(kind)
    for piece in pieces:
        if made := compressor.compress(piece):
            yield made
    yield compressor.flush()


class Recoded:
    """A layer in a file without a name, compressed as `kind`, its diff id verified on the way."""

    def __init__(self, pieces: Iterator[bytes], kind: str, diff_id: str, folder: str) -> None:
        import hashlib

        plain, stored = hashlib.sha256(), hashlib.sha256()

        def watched() -> Iterator[bytes]:
            for piece in decompressed(pieces, diff_id):
                plain.update(piece)
                yield piece

        self.size = 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder)
            for piece in compressed(watched(), kind):
                stored.update(piece)
                self.size += len(piece)
                self._file.write(piece)
            self._file.flush()
        except OSError as error:
            raise SandboxError.of(
                "compress layer", diff_id, error, "TMPDIR names a directory with more space"
            ) from None
        if diff_id and f"sha256:{plain.hexdigest()}" != diff_id:
            raise SandboxError(
                "verify layer",
                diff_id,
                detail=f"unpacked it is sha256:{plain.hexdigest()}, the image config says otherwise",
            )
        self.kind = kind
        self.digest = f"sha256:{stored.hexdigest()}"

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        while piece := os.pread(self._file.fileno(), 1 << 18, offset):
            offset += len(piece)
            yield piece

    def close(self) -> None:
        self._file.close()


def pretty(raw: bytes, what: str) -> str:
    """JSON for people; what a terminal could obey is escaped."""
    return json.dumps(loads(raw, what), indent=4)
