"""Images where they lie: a registry, the store, layouts, archives, folders.  (cold)"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sandbox.errors import SandboxError
from sandbox.image import archive, jsonstrict, limits, manifest, reference
from sandbox.image.archive import Image
from sandbox.image.compression import kind
from sandbox.image.files import Files, FolderFiles, blob_name, digest_of, open_archive, read, verified as verified_file
from sandbox.image.manifest import Descriptor
from sandbox.image.reference import Reference
from sandbox.registry.access import Access
from sandbox.registry.local import find
from sandbox.transfer.transports import Document, Place, Source, checked

if TYPE_CHECKING:
    from sandbox.image.store import Store
    from sandbox.registry.client import Client


_CONNECTIONS = 3  # for one big blob, when one is slow; each keeps up to 4 MiB in memory


def _from(pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """`pieces` without their first `offset` bytes."""
    for piece in pieces:
        if offset >= len(piece):
            offset -= len(piece)
            continue
        yield piece[offset:] if offset else piece
        offset = 0


class RegistrySource:
    """`ref`, a full name, in its registry.  Works in forked children too."""

    def __init__(self, ref: Reference, access: Access) -> None:
        self.ref = ref._replace(tag="") if ref.digest else ref
        self.what = str(self.ref)
        self.names = [self.what]
        self.first = ""  # digest of what the name itself stands for, once it was asked for
        self._access = access
        self._client: tuple[int, Client] | None = None

    @property
    def client(self) -> "Client":
        """This process's client; a child's has the tokens of its parent's, and connections of its own."""
        pid = os.getpid()
        if self._client is None:
            from sandbox.registry.client import Client

            self._client = pid, Client(self.ref, self._access)
        elif self._client[0] != pid:
            self._client = pid, self._client[1].forked()
        return self._client[1]

    def document(self, wanted: Descriptor | None = None) -> Document:
        if wanted is not None and wanted.size > limits.JSON_BYTES:
            raise SandboxError("read manifest", self.what, detail=f"a manifest of {wanted.size} bytes")
        found = self.client.manifest(wanted.digest if wanted else self.ref.digest or self.ref.tag)
        if wanted is None:
            self.first = found.digest
        return Document(found.raw, found.media_type, found.digest)

    def blob(self, wanted: Descriptor, offset: int = 0) -> Iterator[bytes]:
        return self.client.blob(wanted.digest, wanted.size, offset, _CONNECTIONS)

    def close(self) -> None:
        if self._client is not None and self._client[0] == os.getpid():
            self._client[1].close()


class LayoutSource:
    """An entry of an OCI layout, in a folder, a tar or the store."""

    def __init__(self, files: Files, entry: Descriptor, what: str, names: list[str]) -> None:
        self._files, self._entry = files, entry
        self.what = what
        self.names = names

    def document(self, wanted: Descriptor | None = None) -> Document:
        entry = wanted or self._entry
        raw = verified_file(self._files, entry.digest, entry.size)
        media_type = entry.media_type
        if not media_type:
            index = manifest.is_index(raw, "", self.what)
            value = jsonstrict.loads(raw, self.what)
            media_type = value.get("mediaType") or (manifest.INDEX if index else manifest.MANIFEST)
        return Document(raw, media_type, entry.digest)

    def blob(self, wanted: Descriptor, offset: int = 0) -> Iterator[bytes]:
        return _from(self._files.pieces(blob_name(wanted.digest)), offset)

    def close(self) -> None: ...


class DockerArchiveSource:
    """An image of a docker-archive.  It has no manifest there; it gets the one that its files make."""

    def __init__(self, image: Image, what: str) -> None:
        self.what = what
        self.names = image.names
        self._config = image.config_raw
        self._blobs = {}
        layers = []
        for layer in image.layers:
            first = next(iter(layer.pieces()), b"")[:8]
            # Plain, as docker writes it, a layer's digest is its diff id.
            digest = _hashed(layer.pieces()) if kind(first) else layer.diff_id
            self._blobs[digest] = layer.pieces
            layers.append((archive.layer_type(kind(first)), digest, layer.size))
        self._blobs[digest_of(self._config)] = lambda: iter([self._config])
        raw = archive.make_manifest(self._config, layers)
        self._document = Document(raw, manifest.MANIFEST, digest_of(raw))

    def document(self, wanted: Descriptor | None = None) -> Document:
        return self._document

    def blob(self, wanted: Descriptor, offset: int = 0) -> Iterator[bytes]:
        return _from(self._blobs[wanted.digest](), offset)

    def close(self) -> None: ...


def _hashed(pieces: Iterator[bytes]) -> str:
    import hashlib

    check = hashlib.sha256()
    for piece in pieces:
        check.update(piece)
    return f"sha256:{check.hexdigest()}"


class FolderSource:
    """skopeo's `dir:`: manifest.json, and each blob under the digits of its digest."""

    def __init__(self, path: str) -> None:
        self.what = f"dir:{path}"
        self.names: list[str] = []
        self._files = FolderFiles(path)

    def document(self, wanted: Descriptor | None = None) -> Document:
        if wanted is None:
            raw = read(self._files, "manifest.json")
            digest = digest_of(raw)
        else:
            raw = read(self._files, f"{wanted.digest.partition(':')[2]}.manifest.json")
            digest = wanted.digest
            if digest_of(raw, digest) != digest:
                raise SandboxError("verify blob", digest, detail=f"its digest is {digest_of(raw, digest)}")
        value = jsonstrict.expect(jsonstrict.loads(raw, self.what), dict, self.what, "document")
        media_type = jsonstrict.expect(value.get("mediaType", ""), str, self.what, "mediaType")
        found = Document(raw, media_type or (manifest.INDEX if "manifests" in value else manifest.MANIFEST), digest)
        return checked(found, wanted, self.what) if wanted else found

    def blob(self, wanted: Descriptor, offset: int = 0) -> Iterator[bytes]:
        return _from(self._files.pieces(wanted.digest.partition(":")[2]), offset)

    def close(self) -> None: ...


def stored(store: "Store", name: str) -> LayoutSource:
    """An image of the store by name or id; SandboxError "find image"."""
    found, full = find(store, name)
    names = [full, *(n for n in found.names if n != full)] if full else found.names
    return LayoutSource(store.layout.files(), found.entry, full or name, names)


def docker_image(files: Files, wanted: str) -> Image:
    """The image of a docker-archive called `wanted`, or the only one."""
    images = archive.docker_images(files)
    if not wanted:
        if len(images) == 1:
            return images[0]
    else:
        full = str(reference.normal(wanted, "docker.io"))
        local = str(reference.normal(wanted))
        for image in images:
            if full in image.names or local in image.names:
                return image
    names = ", ".join(name for image in images for name in image.names)
    raise SandboxError(
        "find image", f"{files.what}:{wanted}" if wanted else files.what,
        detail="no image of this name in it" if wanted else f"it holds {len(images)} images", hint=f"names in it: {names}",
    )  # fmt: skip


def source_of(where: Place, store: "Store | None", platform: str, access: Access) -> Source:
    """The source behind a name."""
    if where.transport == "docker":
        return RegistrySource(reference.normal(where.path, "docker.io"), access)
    if where.transport == "store":
        assert store is not None
        return stored(store, where.path)
    if where.transport == "dir":
        return FolderSource(where.path)
    if where.transport == "oci" and not os.path.isdir(where.path):
        FolderFiles(where.path)  # says why not
    if where.transport != "oci" and os.path.isdir(where.path):
        raise SandboxError(
            "read archive", where.path, detail="it is a directory", hint=f"oci:{where.path} names an OCI layout folder"
        )
    files = open_archive(where.path, store.root if store else os.environ.get("TMPDIR", "/var/tmp"))
    if where.transport == "docker-archive":
        return DockerArchiveSource(docker_image(files, where.name), where.path)
    entries = archive.oci_index(files)
    entry = archive.pick(entries, where.name, platform, where.path)
    name = archive.entry_name(entry)
    return LayoutSource(files, entry, str(where), [name] if name else [])
