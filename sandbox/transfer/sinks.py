"""Where images are written, all at once or not at all: registries, layout folders, skopeo's folders.  (cold)"""

import contextlib
import fcntl
import io
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from sandbox.errors import SandboxError
from sandbox.image import archive, jsonstrict, manifest
from sandbox.image.files import FolderFiles, blob_name
from sandbox.image.layout import sync_folder
from sandbox.image.manifest import Descriptor
from sandbox.image.reference import Reference
from sandbox.registry.access import Access
from sandbox.transfer import unfinished
from sandbox.transfer.transports import Document

Open = Callable[[int], Iterator[bytes]]


class Pieces(io.RawIOBase):
    """An iterator of bytes as a file.

    It is one piece ahead: what the iterator says at its end (a digest that is wrong) comes before the last bytes are read,
    by somebody who stops reading when he has as many as were announced.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces, self._rest = pieces, b""
        self._next = next(pieces, None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if self._next is None:
                return 0
            self._rest, self._next = self._next, next(self._pieces, None)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class RegistrySink:
    """`ref` in its registry; blobs that `origins` (other repositories of that registry) may have are mounted."""

    parallel = True
    family = ""

    def __init__(self, ref: Reference, access: Access, origins: list[str]) -> None:
        from sandbox.registry.client import Client

        self.what = str(ref)
        self._ref = ref
        self._origins = [path for path in dict.fromkeys(origins) if path != ref.path]
        self._client: Client = Client(ref, access)

    def has(self, wanted: Descriptor) -> bool:
        if self._client.has_blob(wanted.digest) is not None:
            return True
        return any(self._client.mount(wanted.digest, path) for path in self._origins)

    def blob(self, wanted: Descriptor, open: Open, diff_id: str = "") -> None:
        self._client.upload(wanted.digest, wanted.size, lambda offset: io.BufferedReader(Pieces(open(offset)), 1 << 18))

    def document(self, document: Document, names: list[str] | None) -> None:
        at = document.digest
        if names is not None:
            at = self._ref.tag or self._ref.digest
            if self._ref.digest and self._ref.digest != document.digest:
                raise SandboxError(
                    "push image", self.what, detail=f"the image's digest is {document.digest}", hint="push it to a tag"
                )
        self._client.put_manifest(at, document.raw, document.media_type)

    def finish(self) -> None:
        self._client.close()

    def abandon(self) -> None:
        self._client.close()


def write_error(path: str, error: OSError) -> SandboxError:
    return SandboxError.of("write image", path, error)


class _Folder:
    """A folder that is made under another name; `_new` is that while it is not finished, or the old folder itself."""

    parallel = True

    def __init__(self, path: str) -> None:
        self.what = path
        self._path = os.path.abspath(path)
        self._old = os.path.isdir(self._path) and bool(os.listdir(self._path))
        try:
            self._new, self._lock = unfinished.folder(os.path.dirname(self._path))
        except OSError as error:
            raise write_error(path, error) from None

    def _write(self, name: str, pieces: Iterator[bytes]) -> None:
        path = f"{self._new}/{name}"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb", buffering=0) as file:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[file.write(view) or 0 :]
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(path, error) from None

    def abandon(self) -> None:
        shutil.rmtree(self._new, ignore_errors=True)
        self._let_go()

    @contextlib.contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """Around what is done before anybody could call `abandon`."""
        try:
            yield
        except BaseException:
            self.abandon()
            raise

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class LayoutSink(_Folder):
    """An OCI layout folder, new or added to; `name` is what the image is called in it."""

    family = "oci"

    def __init__(self, path: str, name: str = "") -> None:
        super().__init__(path)
        self._name = name
        self._entries: list[dict[str, Any]] = []
        with self._or_nothing():
            if self._old:
                archive.oci_index(FolderFiles(self._path))  # else it is no layout: nothing is written into it
            self._write("oci-layout", iter([b'{"imageLayoutVersion":"1.0.0"}']))

    def has(self, wanted: Descriptor) -> bool:
        for root in (self._new, self._path):
            with contextlib.suppress(OSError):
                if os.stat(f"{root}/{blob_name(wanted.digest)}").st_size == wanted.size:
                    return True
        return False

    def blob(self, wanted: Descriptor, open: Open, diff_id: str = "") -> None:
        self._write(blob_name(wanted.digest), open(0))

    def document(self, document: Document, names: list[str] | None) -> None:
        self._write(blob_name(document.digest), iter([document.raw]))
        if names is not None:
            self._entries += entries(document, [self._name] if self._name else names)

    def finish(self) -> None:
        try:
            if not self._old:
                self._write("index.json", iter([index(self._entries)]))
                os.rename(self._new, self._path)
                self._let_go()
            else:
                self._merge()
            sync_folder(os.path.dirname(self._path))
        except OSError as error:
            raise write_error(self.what, error) from None

    def _merge(self) -> None:
        """Into a layout that is there: blobs first, then its index, by one rename."""
        lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for folder, _, names in os.walk(f"{self._new}/blobs"):
                target = self._path + folder.removeprefix(self._new)
                os.makedirs(target, exist_ok=True)
                for name in names:
                    os.rename(f"{folder}/{name}", f"{target}/{name}")
                sync_folder(target)
            raw = jsonstrict.loads(b"".join(FolderFiles(self._path).pieces("index.json")), self.what)
            new = {_name(entry) for entry in self._entries}
            digests = {entry["digest"] for entry in self._entries}
            kept = [
                entry for entry in raw["manifests"]
                if not (_name(entry) in new and (_name(entry) or entry["digest"] in digests))
            ]  # fmt: skip
            raw["manifests"] = kept + self._entries
            self._write("index.json", iter([jsonstrict.dumps(raw)]))
            os.rename(f"{self._new}/index.json", f"{self._path}/index.json")
        finally:
            os.close(lock)
        self.abandon()


def _name(entry: dict[str, Any]) -> str:
    return str((entry.get("annotations") or {}).get(manifest.REF_NAME, ""))


def entries(document: Document, names: list[str]) -> list[dict[str, Any]]:
    """Descriptors for a layout's index: one for each name, or one without."""
    plain = {"mediaType": document.media_type, "digest": document.digest, "size": len(document.raw)}
    return [{**plain, "annotations": {manifest.REF_NAME: name}} for name in names] or [plain]


def index(found: list[dict[str, Any]]) -> bytes:
    """index.json of a layout."""
    return jsonstrict.dumps({"schemaVersion": 2, "mediaType": manifest.INDEX, "manifests": found})


class FolderSink(_Folder):
    """skopeo's `dir:`: manifest.json, and each blob under the digits of its digest.  Replaces one that is there."""

    def __init__(self, path: str, family: str = "") -> None:
        super().__init__(path)
        self.family = family
        with self._or_nothing():
            if self._old and not os.path.exists(f"{self._path}/version"):
                raise SandboxError("write image", path, detail="the directory is not empty, and it is no `dir:` image")
            self._write("version", iter([b"Directory Transport Version: 1.1\n"]))

    def has(self, wanted: Descriptor) -> bool:
        with contextlib.suppress(OSError):
            return os.stat(f"{self._new}/{wanted.digest.partition(':')[2]}").st_size == wanted.size
        return False

    def blob(self, wanted: Descriptor, open: Open, diff_id: str = "") -> None:
        self._write(wanted.digest.partition(":")[2], open(0))

    def document(self, document: Document, names: list[str] | None) -> None:
        inner = f"{document.digest.partition(':')[2]}.manifest.json"
        self._write("manifest.json" if names is not None else inner, iter([document.raw]))

    def finish(self) -> None:
        gone = f"{os.path.dirname(self._path)}/.sbx-old-{os.path.basename(self._new)[-16:]}"
        try:
            if self._old:
                os.rename(self._path, gone)
            os.rename(self._new, self._path)
            self._let_go()
            sync_folder(os.path.dirname(self._path))
        except OSError as error:
            raise write_error(self.what, error) from None
        shutil.rmtree(gone, ignore_errors=True)
