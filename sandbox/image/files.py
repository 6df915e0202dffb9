"""Read the files of an image archive in place: a folder, or the members of a tar; nothing is extracted.  (cold)"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Protocol

from sandbox import linux
from sandbox.errors import SandboxError
from sandbox.image import limits
from sandbox.image.compression import decompressed, kind
from sandbox.image.tarheader import BLOCK, TarError, error, split_name
from sandbox.image.tarstream import TarStream

_PIECE = 1 << 18


class Files(Protocol):
    """Named byte sequences; `what` names the whole in messages."""

    what: str

    def has(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def pieces(self, name: str) -> Iterator[bytes]: ...


def read(files: Files, name: str, most: int = limits.JSON_BYTES) -> bytes:
    """All of file `name`; SandboxError when it is missing or longer than `most`."""
    raw = bytearray()
    for piece in files.pieces(name):
        raw += piece
        if len(raw) > most:
            raise SandboxError("read archive", files.what, detail=f"`{name}` is longer than {most >> 20} MiB")
    return bytes(raw)


def digest_of(raw: bytes, like: str = "sha256") -> str:
    """Digest of `raw` by the algorithm of the digest `like`."""
    name = "sha512" if like.startswith("sha512") else "sha256"
    return f"{name}:{hashlib.new(name, raw).hexdigest()}"


def blob_name(digest: str) -> str:
    """Where an OCI layout keeps the blob; `digest` has been checked by `reference.valid_digest`."""
    return "blobs/" + digest.replace(":", "/")


def verified(files: Files, digest: str, size: int) -> bytes:
    """A small blob whose size and digest have been compared."""
    raw = read(files, blob_name(digest))
    if size >= 0 and len(raw) != size:
        raise SandboxError("verify blob", digest, detail=f"{len(raw)} bytes where {size} were announced")
    if digest_of(raw, digest) != digest:
        raise SandboxError("verify blob", digest, detail=f"its digest is {digest_of(raw, digest)}")
    return raw


class FolderFiles:
    """Files below a folder; links that leave it, pipes and devices are refused."""

    def __init__(self, path: str) -> None:
        self.what = path
        try:
            self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as found:
            raise SandboxError.of("open directory", path, found) from None

    def _open(self, name: str) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            try:
                fd = linux.openat2(self._fd, name, flags, linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS)
            except OSError as found:
                if found.errno != errno.ENOSYS:
                    raise
                fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=self._fd)
        except OSError as found:
            raise SandboxError.of("open", f"{self.what}/{name}", found) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise SandboxError("open", f"{self.what}/{name}", detail="not a regular file")
        return fd

    def has(self, name: str) -> bool:
        try:
            os.close(self._open(name))
        except SandboxError:
            return False
        return True

    def size(self, name: str) -> int:
        fd = self._open(name)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def pieces(self, name: str) -> Iterator[bytes]:
        fd = self._open(name)
        try:
            yield from stream_pieces(fd, f"{self.what}/{name}")
        finally:
            os.close(fd)


class TarFiles:
    """Regular members of an uncompressed tar behind the seekable descriptor `fd`, which this object then owns."""

    def __init__(self, fd: int, what: str) -> None:
        self.what = what
        self._file = open(fd, "rb")  # lives as long as the object
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        stream = TarStream(self._file, limits.ARCHIVE_MEMBERS, 1 << 62, seekable=True)
        try:
            while entry := stream.next():
                name = "/".join(entry.parts)
                if entry.kind == "file" and entry.sparse is None:
                    if self._members.setdefault(name, (stream.offset, entry.size)) != (stream.offset, entry.size):
                        raise TarError(f"member `{name[:200]}` appears twice")
                elif entry.kind in ("symlink", "link"):
                    base = [] if entry.kind == "link" else entry.parts[:-1]
                    self._links[name] = _lexical(base, entry.linkname)
        except TarError as found:
            if stream.offset <= BLOCK:
                raise SandboxError("read archive", what, detail=f"not a tar archive ({found})") from None
            raise error("read archive", what, found) from None

    def _find(self, name: str) -> tuple[int, int]:
        for _ in range(4):  # old `docker save` links the second copy of a layer to the first
            if name in self._members:
                return self._members[name]
            if name not in self._links:
                break
            name = self._links[name]
        raise SandboxError("read archive", self.what, detail=f"`{name[:200]}` is missing")

    def has(self, name: str) -> bool:
        return name in self._members or self._links.get(name, "") in self._members

    def size(self, name: str) -> int:
        return self._find(name)[1]

    def pieces(self, name: str) -> Iterator[bytes]:
        offset, left = self._find(name)
        while left:
            piece = os.pread(self._file.fileno(), min(left, _PIECE), offset)
            if not piece:
                raise SandboxError("read archive", self.what, detail="the archive ends in the middle")
            offset += len(piece)
            left -= len(piece)
            yield piece


def _lexical(base: list[str], target: str) -> str:
    """Link target as a member name; links inside an archive are names, never followed on disk."""
    parts = list(base) if not target.startswith("/") else []
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part and part != ".":
            parts.append(part)
    return "/".join(parts)


def stream_pieces(fd: int, what: str) -> Iterator[bytes]:
    """What a descriptor delivers, to its end."""
    try:
        while piece := os.read(fd, _PIECE):
            yield piece
    except OSError as found:
        raise SandboxError.of("read", what, found) from None


def open_archive(path: str, spool_folder: str) -> Files:
    """The files of an archive at `path` ("-" is stdin): a folder, a tar, or a compressed tar.

    What can not be read at random places is first written, unpacked by one step, to a nameless file in `spool_folder`.
    """
    if path != "-" and os.path.isdir(path):
        return FolderFiles(path)
    what = "stdin" if path == "-" else path
    try:
        fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as found:
        raise SandboxError.of("open", what, found) from None
    if stat.S_ISREG(os.fstat(fd).st_mode) and not kind(os.pread(fd, 8, 0)):
        if path == "-":
            os.lseek(fd, 0, os.SEEK_SET)
        return TarFiles(fd, what)
    try:
        return TarFiles(_spool(decompressed(stream_pieces(fd, what), what), spool_folder, what), what)
    finally:
        os.close(fd)


def _spool(pieces: Iterator[bytes], folder: str, what: str) -> int:
    try:
        import tempfile  # 3 ms, which all verbs about images would wait for

        with tempfile.TemporaryFile(dir=folder) as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            fd = os.dup(file.fileno())
    except OSError as found:
        raise SandboxError.of(
            "copy archive", what, found, "the copy goes to the store; set SBX_STORE to a larger disk"
        ) from None
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


__all__ = [
    "Files",
    "FolderFiles",
    "TarFiles",
    "blob_name",
    "digest_of",
    "open_archive",
    "read",
    "split_name",
    "verified",
]
