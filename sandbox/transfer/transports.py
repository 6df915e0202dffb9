"""Where images come from and go to: the names of transports, and what a source and a sink can do.  (cold)

    docker://NAME              a registry                    oci:DIR[:NAME]             an OCI layout folder
    store:NAME or a bare NAME  the local store               oci-archive:FILE[:NAME]    the same in a tar
    dir:DIR                    skopeo's plain folder         docker-archive:FILE[:NAME] what `docker save` writes

A source is read in any order and by several threads.  A sink shows nothing before `finish`; `abandon` takes all away.
"""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from sandbox.errors import SandboxError
from sandbox.image import limits, manifest
from sandbox.image.archive import Image, Layer
from sandbox.image.manifest import Descriptor

NAMES = ("docker", "store", "containers-storage", "oci", "oci-archive", "docker-archive", "dir")
FILES = ("oci", "oci-archive", "docker-archive", "dir")
_OTHERS = ("docker-daemon", "ostree", "sif", "tarball")  # skopeo's


class Document(NamedTuple):
    """A manifest or index, its bytes as they were stored."""

    raw: bytes
    media_type: str
    digest: str


class Source(Protocol):
    """One image, or one index of images; `names` are the full names that it has there."""

    what: str
    names: list[str]

    def document(self, wanted: Descriptor | None = None) -> Document:
        """What the source names, or the inner document `wanted`; verified."""

    def blob(self, wanted: Descriptor, offset: int = 0) -> Iterator[bytes]:
        """A blob in pieces; who reads it verifies it."""

    def close(self) -> None: ...


class Sink(Protocol):
    """Where one or more images are written.  Blobs come in any order, from several threads when `parallel`."""

    what: str
    parallel: bool
    family: str  # manifests that it takes: "oci", "docker" or "" (both)

    def has(self, wanted: Descriptor) -> bool:
        """Whether the blob is there, so that it need not come."""

    def blob(self, wanted: Descriptor, open: Callable[[int], Iterator[bytes]], diff_id: str = "") -> None:
        """Keep a blob; `open(offset)` reads it from there on, verified when from 0."""

    def document(self, document: Document, names: list[str] | None) -> None:
        """Keep a manifest or index; `names` is None for one that is inside of an index."""

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


class Place(NamedTuple):
    """A name in parts: `path` is a file, folder, or image name; `name` is that in the archive."""

    transport: str
    path: str
    name: str = ""

    def __str__(self) -> str:
        colon = "://" if self.transport == "docker" else ":"
        return f"{self.transport}{colon}{self.path}" + (f":{self.name}" if self.name else "")


def place(text: str, bare: str = "store") -> Place:
    """`text` in parts; one without a transport belongs to `bare`."""
    transport, colon, rest = text.partition(":")
    if transport in _OTHERS and ":" in rest:
        raise SandboxError(
            "read image name",
            text,
            detail=f"sbx has no transport `{transport}`",
            hint=f"those it has: {', '.join(NAMES)}",
        )
    if not colon or transport not in NAMES:
        return Place(bare, text)
    if transport == "docker":
        if not rest.startswith("//"):
            return Place(bare, text)  # an image called docker
        rest = rest[2:]
    elif transport == "containers-storage":
        transport = "store"
    if not rest:
        form = "docker://NAME" if transport == "docker" else f"{transport}:PATH"
        raise SandboxError("read image name", text, detail="nothing after the colon", hint=f"the form is {form}")
    if transport not in FILES or transport == "dir":
        return Place(transport, rest)
    path = rest
    while not os.path.exists(path) and ":" in path:  # a path may hold colons: the longest one that exists
        path = path.rpartition(":")[0]
    if not os.path.exists(path):
        path = rest.partition(":")[0]
    return Place(transport, path, rest[len(path) + 1 :])


def checked(found: Document, wanted: Descriptor, what: str) -> Document:
    """`found` when it is of the type that its descriptor announces; SandboxError "read manifest"."""
    if wanted.media_type and found.media_type and wanted.media_type != found.media_type:
        raise SandboxError(
            "read manifest", what, detail=f"media type `{found.media_type}` where `{wanted.media_type}` was announced"
        )
    return found._replace(media_type=found.media_type or wanted.media_type)


def refuse_foreign(layer: Descriptor, what: str) -> None:
    """SandboxError for a layer that only another server has: sbx never fetches urls that an image names."""
    if layer.urls or "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        raise SandboxError(
            "read image", what,
            detail=f"layer {layer.digest} is a foreign layer, and sbx never fetches urls that an image names",
        )  # fmt: skip


def small(source: Source, wanted: Descriptor) -> bytes:
    """A blob that is read as a whole, such as a config; verified."""
    if wanted.size > limits.JSON_BYTES:
        raise SandboxError("read image", source.what, detail=f"a config of {wanted.size} bytes")
    return b"".join(verified(source.blob(wanted), wanted))


def verified(pieces: Iterator[bytes], wanted: Descriptor) -> Iterator[bytes]:
    """`pieces`, with SandboxError "verify blob" at the end when size or digest are others than announced."""
    import hashlib

    check = hashlib.new(wanted.digest.partition(":")[0])
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > wanted.size:
            break
        check.update(piece)
        yield piece
    if size != wanted.size:
        detail = f"longer than the {wanted.size} bytes announced" if size > wanted.size else f"{size} bytes where {wanted.size} were announced"  # fmt: skip
        raise SandboxError("verify blob", wanted.digest, detail=detail)
    digest = f"{wanted.digest.partition(':')[0]}:{check.hexdigest()}"
    if digest != wanted.digest:
        raise SandboxError("verify blob", wanted.digest, detail=f"its digest is {digest}")


def chosen(source: Source, document: Document, platform: str) -> Document:
    """The manifest for `platform` ("" is this machine) behind an index; a manifest stands for itself."""
    for _ in range(limits.INDEX_DEPTH + 1):
        if not manifest.is_index(document.raw, document.media_type, source.what):
            return document
        entries = manifest.parse_index(document.raw, document.media_type, source.what)
        wanted = manifest.choose(entries, platform, source.what)
        document = checked(source.document(wanted), wanted, source.what)
    raise SandboxError("read manifest", source.what, detail=f"indexes nested more than {limits.INDEX_DEPTH} deep")


def image_of(source: Source, platform: str = "") -> Image:
    """The image of a source: manifest and config read and verified, layers still where they are."""
    document = chosen(source, source.document(), platform)
    found = manifest.parse_manifest(document.raw, document.media_type, source.what)
    for layer in found.layers:
        refuse_foreign(layer, source.what)
    config_raw = small(source, found.config)
    config = manifest.parse_config(config_raw, source.what, len(found.layers))

    def layer_of(descriptor: Descriptor, diff_id: str) -> Layer:
        return Layer(
            descriptor.digest, descriptor.size, diff_id, descriptor.media_type, lambda: source.blob(descriptor)
        )

    layers = [layer_of(*pair) for pair in zip(found.layers, config.diff_ids, strict=True)]
    names = list(source.names)
    return Image(names, document.digest, document.raw, found.media_type, config_raw, config, layers)
