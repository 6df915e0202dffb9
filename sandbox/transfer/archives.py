"""Images written as one tar: oci-archive and docker-archive, to a file or a pipe.  (cold)

A file is written without a name, and gets it at the end.  Blobs of the OCI form are streamed; the docker form wants plain
layers, whose size stands before them: each is unpacked to a file without a name first.
"""

import contextlib
import os
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

from sandbox.errors import SandboxError
from sandbox.image import manifest
from sandbox.image.files import blob_name
from sandbox.image.jsonstrict import dumps
from sandbox.image.layout import sync_folder
from sandbox.image.manifest import Descriptor
from sandbox.transfer import unfinished
from sandbox.transfer.recode import Recoded
from sandbox.transfer.sinks import entries, index, write_error
from sandbox.transfer.transports import Document

Open = Callable[[int], Iterator[bytes]]


class TarWriter:
    """A tar at `path`, or on stdout when that is "-"; the same files give the same bytes."""

    def __init__(self, path: str) -> None:
        self.what = "stdout" if path == "-" else path
        self._path = "" if path == "-" else os.path.abspath(path)
        self._new, self._beside = "", False
        try:
            if not self._path:
                self._fd = os.dup(1)
                return
            if os.path.isdir(self._path):
                raise SandboxError("write image", path, detail="it is a directory")
            if os.path.exists(self._path) and not os.path.isfile(self._path):
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)  # a pipe or a device: nothing to rename
                return
            self._new, self._fd = unfinished.file(os.path.dirname(self._path))
            self._beside = True
        except OSError as error:
            raise write_error(path, error) from None

    @property
    def folder(self) -> str:
        """Where there is room for what is unpacked on the way."""
        return os.path.dirname(self._path) if self._beside else os.environ.get("TMPDIR", "/var/tmp")

    def _write(self, piece: bytes) -> None:
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise write_error(self.what, error) from None

    def file(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        """One member of exactly `size` bytes."""
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, 0o644
        self._write(header.tobuf(tarfile.GNU_FORMAT))
        left = size
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                break
            self._write(piece)
        if left:
            raise SandboxError("write image", self.what, detail=f"`{name}` has not the {size} bytes announced")
        self._write(bytes(-size % 512))

    def directory(self, name: str) -> None:
        """Readers that make folders which are not in the archive give them to root, or fail to."""
        header = tarfile.TarInfo(name)
        header.type, header.mode = tarfile.DIRTYPE, 0o755
        self._write(header.tobuf(tarfile.GNU_FORMAT))

    def finish(self) -> None:
        self._write(bytes(1024))
        try:
            if self._beside:
                os.fsync(self._fd)
                unfinished.name(self._new, self._fd, self._path)
                sync_folder(os.path.dirname(self._path))
            os.close(self._fd)
        except OSError as error:
            raise write_error(self.what, error) from None
        self._new, self._fd = "", -1

    def abandon(self) -> None:
        if self._new:
            with contextlib.suppress(OSError):
                os.unlink(self._new)
        if self._fd >= 0:
            os.close(self._fd)
        self._new, self._fd = "", -1


def _item(config: str, names: list[str], layers: list[str]) -> dict[str, Any]:
    """An image in manifest.json, which docker reads."""
    return {"Config": config, "RepoTags": [name for name in names if "@" not in name], "Layers": layers}


class OciArchiveSink:
    """An OCI layout in a tar, with any number of images; and docker's manifest.json, so that every docker loads it too."""

    parallel = False
    family = "oci"

    def __init__(self, path: str, name: str = "") -> None:
        self._tar = TarWriter(path)
        self.what = self._tar.what
        self._name = name
        self._have: set[str] = set()
        self._entries: list[dict[str, Any]] = []
        self._items: list[dict[str, Any]] = []
        for folder in ("blobs", "blobs/sha256"):
            self._tar.directory(folder)
        marker = b'{"imageLayoutVersion":"1.0.0"}'
        self._tar.file("oci-layout", len(marker), iter([marker]))

    def has(self, wanted: Descriptor) -> bool:
        return wanted.digest in self._have

    def blob(self, wanted: Descriptor, open: Open, diff_id: str = "") -> None:
        self._have.add(wanted.digest)
        self._tar.file(blob_name(wanted.digest), wanted.size, open(0))

    def document(self, document: Document, names: list[str] | None) -> None:
        if document.digest not in self._have:
            self._have.add(document.digest)
            self._tar.file(blob_name(document.digest), len(document.raw), iter([document.raw]))
        if names is not None:
            self._entries += entries(document, [self._name] if self._name else names)
            if not manifest.is_index(document.raw, document.media_type, self.what):
                found = manifest.parse_manifest(document.raw, document.media_type, self.what)
                layers = [blob_name(layer.digest) for layer in found.layers]
                self._items.append(_item(blob_name(found.config.digest), [] if self._name else names, layers))

    def finish(self) -> None:
        for name, raw in (("index.json", index(self._entries)), ("manifest.json", dumps(self._items))):
            self._tar.file(name, len(raw), iter([raw]))
        self._tar.finish()

    def abandon(self) -> None:
        self._tar.abandon()


class DockerArchiveSink:
    """What `docker save` writes: plain layers under their diff ids, configs, and manifest.json last."""

    parallel = False
    family = ""  # it has no manifests

    def __init__(self, path: str, name: str = "") -> None:
        self._tar = TarWriter(path)
        self.what = self._tar.what
        self._name = name
        self._have: set[str] = set()  # diff ids
        self._configs: set[str] = set()
        self._layers: dict[str, str] = {}  # digest of a layer's blob -> its diff id
        self._items: list[dict[str, Any]] = []

    def has(self, wanted: Descriptor) -> bool:
        return wanted.digest in self._layers or wanted.digest in self._configs

    def blob(self, wanted: Descriptor, open: Open, diff_id: str = "") -> None:
        if not diff_id:  # the config
            self._configs.add(wanted.digest)
            self._tar.file(f"{wanted.digest.partition(':')[2]}.json", wanted.size, open(0))
            return
        self._layers[wanted.digest] = diff_id
        if diff_id in self._have:
            return
        self._have.add(diff_id)
        layer = Recoded(open(0), "", diff_id, self._tar.folder)
        try:
            self._tar.file(f"{diff_id.partition(':')[2]}.tar", layer.size, layer.pieces())
        finally:
            layer.close()

    def document(self, document: Document, names: list[str] | None) -> None:
        if manifest.is_index(document.raw, document.media_type, self.what):
            raise SandboxError(
                "write image", self.what, detail="a docker-archive has no indexes", hint="leave --all-platforms out"
            )
        found = manifest.parse_manifest(document.raw, document.media_type, self.what)
        made = _item(
            f"{found.config.digest.partition(':')[2]}.json",
            [self._name] if self._name else names or [],
            [f"{self._layers[layer.digest].partition(':')[2]}.tar" for layer in found.layers],
        )
        for item in self._items:
            item["RepoTags"] = [tag for tag in item["RepoTags"] if tag not in made["RepoTags"]]
        self._items.append(made)

    def finish(self) -> None:
        raw = dumps(self._items)
        self._tar.file("manifest.json", len(raw), iter([raw]))
        self._tar.finish()

    def abandon(self) -> None:
        self._tar.abandon()
