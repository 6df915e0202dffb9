"""The OCI image layout on disk: blobs and index.json, changed so that a crash leaves the old state or the new.  (cold)

oci-layout  index.json  blobs/sha256/<hex>     as skopeo reads them
.index.lock  .content.lock                     flock(2) only; never written, never removed
blobs/sha256/.new-*                            being written, locked by its writer; unlocked ones are rubbish
.new-*                                         the next index.json, written under .index.lock
.spare                                         room for the next index.json: given up when a full disk must be cleared
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sandbox.errors import SandboxError
from sandbox.image import manifest
from sandbox.image.files import FolderFiles, blob_name, digest_of, read
from sandbox.image.jsonstrict import dumps, expect, loads

_NEW = ".new-"
_SPARE = ".spare"
_SPARE_BYTES = 1 << 16


def sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def try_lock(fd: int, how: int) -> bool:
    """flock(2) without waiting."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


@contextlib.contextmanager
def idle(path: str) -> Iterator[bool]:
    """Whether nobody holds a lock on a file or folder, nor gets one meanwhile; False when it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield try_lock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


class BlobWriter:
    """A blob that is being written to `fd`; `commit` makes it visible, `abandon` removes it."""

    def __init__(self, root: str) -> None:
        self._root = root
        folder = f"{root}/blobs/sha256"
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            while True:
                self._path = f"{folder}/{_NEW}{secrets.token_hex(8)}"
                self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(self.fd, fcntl.LOCK_EX)
                if os.fstat(self.fd).st_nlink:  # a sweeper may have come between open and lock
                    break
                os.close(self.fd)
        except OSError as error:
            raise _write_error(folder, error) from None

    def write(self, pieces: Iterable[bytes]) -> None:
        """All of `pieces`, which whoever makes them verifies."""
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(self.fd, view) :]
        except OSError as error:
            raise _write_error(self._root, error) from None

    def commit(self, digest: str) -> None:
        """fsync and rename; the caller has verified that the bytes are those of `digest`."""
        target = f"{self._root}/{blob_name(digest)}"
        try:
            os.fsync(self.fd)
            os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
            os.rename(self._path, target)
            sync_folder(os.path.dirname(target))
        except OSError as error:
            self.abandon()
            raise _write_error(target, error) from None
        os.close(self.fd)
        self.fd = -1

    def abandon(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self.fd)
            self.fd = -1


def room_hint(error: OSError) -> str:
    """The hint for a full disk or quota, "" for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, or set SBX_STORE to a directory on a larger disk; `sbx rmi` removes images"
    return ""


def _write_error(path: str, error: OSError) -> SandboxError:
    hint = room_hint(error)
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        hint = "set SBX_STORE to a directory that you can write"
    return SandboxError("write image store", path, error.errno or 0, hint=hint)


class Layout:
    """An OCI layout that is ours to change."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.index_path = f"{root}/index.json"

    def create(self) -> None:
        """Make what is missing of an empty layout."""
        try:
            os.makedirs(f"{self.root}/blobs/sha256", 0o700, exist_ok=True)
            if not os.path.exists(f"{self.root}/oci-layout") or not os.path.exists(self.index_path):
                with self._index_lock():
                    if not os.path.exists(f"{self.root}/oci-layout"):
                        self._replace("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
                    if not os.path.exists(self.index_path):
                        self._write_index([])
        except OSError as error:
            raise _write_error(self.root, error) from None
        self._save_room()

    def _save_room(self) -> None:
        """Keep as many blocks as the next index.json may need, so that images can be removed from a full disk."""
        path = f"{self.root}/{_SPARE}"
        try:
            wanted = max(_SPARE_BYTES, 2 * os.stat(self.index_path).st_size)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_size >= wanted:
                    return
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, wanted)
            except OSError:
                os.unlink(path)
            finally:
                os.close(fd)
        except OSError:
            pass  # the disk is full already, or can not be written to

    def _give_room(self) -> bool:
        """Give up what can be spared: records and the spare blocks; whether there was anything."""
        found = False
        with contextlib.suppress(OSError):
            for name in os.listdir(f"{self.root}/images"):
                os.unlink(f"{self.root}/images/{name}")
                found = True
        with contextlib.suppress(OSError):
            os.unlink(f"{self.root}/{_SPARE}")
            found = True
        return found

    def files(self) -> FolderFiles:
        return FolderFiles(self.root)

    # -- blobs --

    def has(self, digest: str, size: int) -> bool:
        """Whether the blob is there in full length (it was verified before it got its name)."""
        try:
            return os.stat(f"{self.root}/{blob_name(digest)}").st_size == size
        except OSError:
            return False

    def add(self, raw: bytes) -> str:
        """Keep a small blob; its digest."""
        digest = digest_of(raw)
        if not self.has(digest, len(raw)):
            writer = BlobWriter(self.root)
            try:
                writer.write([raw])
                writer.commit(digest)
            finally:
                writer.abandon()
        return digest

    def blobs(self) -> Iterator[str]:
        """Digests of all blobs there are."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(f"{self.root}/blobs/{algorithm}"):
                    if not name.startswith("."):
                        yield f"{algorithm}:{name}"

    def remove(self, digest: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.root}/{blob_name(digest)}")

    def sweep_new(self) -> None:
        """Remove what killed writers left."""
        with contextlib.suppress(OSError), self._index_lock():
            for name in os.listdir(self.root):
                if name.startswith(_NEW):
                    os.unlink(f"{self.root}/{name}")
        folder = f"{self.root}/blobs/sha256"
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if name.startswith(_NEW):
                    with idle(f"{folder}/{name}") as alone, contextlib.suppress(FileNotFoundError):
                        if alone:
                            os.unlink(f"{folder}/{name}")

    # -- index --

    def raw_entries(self) -> list[dict[str, Any]]:
        """index.json's manifests as they stand, foreign keys kept; [] when there is no index."""
        if not os.path.exists(self.index_path):
            return []
        raw = read(self.files(), "index.json")
        manifest.parse_index(raw, "", self.index_path)
        found: list[dict[str, Any]] = expect(loads(raw, self.index_path), dict, self.index_path, "index")["manifests"]
        return found

    def change(self, function: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Replace the entries by `function` of them, alone at it."""
        try:
            with self._index_lock():
                old = self.raw_entries()
                new = function([dict(entry) for entry in old])
                if new == old:
                    return
                try:
                    self._write_index(new)
                except OSError as error:
                    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                    # Only for what gives room back: what is added has to wait for room of its own.
                    if not full or len(new) > len(old) or not self._give_room():
                        raise
                    self._write_index(new)
        except OSError as error:
            raise _write_error(self.index_path, error) from None

    @contextlib.contextmanager
    def _index_lock(self) -> Iterator[None]:
        fd = os.open(f"{self.root}/.index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        self._replace("index.json", dumps({"schemaVersion": 2, "mediaType": manifest.INDEX, "manifests": entries}))

    def _replace(self, name: str, raw: bytes) -> None:
        path = f"{self.root}/{_NEW}{secrets.token_hex(8)}"  # under the index lock, as its sweeper is
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
            os.rename(path, f"{self.root}/{name}")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        finally:
            os.close(fd)
        sync_folder(self.root)


@contextlib.contextmanager
def content_lock(root: str) -> Iterator[int]:
    """Shared lock on the store's content: nothing unreachable is swept meanwhile.  Yields the descriptor."""
    try:
        fd = os.open(f"{root}/.content.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _write_error(root, error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd
    finally:
        os.close(fd)
