"""Files of a container as a tar stream, in PAX form, with whiteouts where something is gone.  (cold)"""

import io
import os
import stat
import tarfile
from collections.abc import Callable
from typing import Any

from sandbox import linux
from sandbox.errors import SandboxError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What belongs to the way the file system is put together, and not to the files.
_OURS = ("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.", "trusted.fuseoverlayfs.")
_OWNERS = "user.rootlesscontainers"


class TarWriter:
    """Writes to the descriptor `out`; `owner` is whom everything belongs to, if not to whom it does."""

    def __init__(self, out: int, *, owner: tuple[int, int] | None = None) -> None:
        self._file = open(out, "wb", closefd=False, buffering=1 << 18)
        self._tar = tarfile.open(
            fileobj=self._file, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape",
            bufsize=1 << 18,
        )  # fmt: skip
        self._owner = owner
        self._links: dict[tuple[int, int], str] = {}

    def __enter__(self) -> "TarWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            stream: Any = self._tar.fileobj
            stream.closed = True  # who reads is gone: it would write the end all the same
            return
        self._tar.close()
        self._file.close()

    def whiteout(self, path: str) -> None:
        """Say that `path` of a layer below is gone."""
        folder, _, name = path.rpartition("/")
        self._tar.addfile(tarfile.TarInfo(f"{folder}/.wh.{name}".lstrip("/")))

    def tree(self, folder: int, name: str, path: str, *, skip: Callable[[str], bool] = lambda _: False) -> None:
        """Add `name` of the open `folder` as `path`, and what is below; nothing below what `skip` says (mounts)."""
        if self.one(folder, name, path) and not skip(path):
            inner = os.open(name, _FOLDER, dir_fd=folder)
            try:
                for child in sorted(os.listdir(inner)):
                    self.tree(inner, child, f"{path}/{child}" if path != "." else child, skip=skip)
            finally:
                os.close(inner)

    def one(self, folder: int, name: str, path: str) -> bool:
        """Add one entry; whether it is a folder.  Sockets are left out: they mean nothing elsewhere."""
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        info = tarfile.TarInfo(path)
        info.mode, info.mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns / 1e9
        info.uid, info.gid = self._owner or (status.st_uid, status.st_gid)
        if status.st_mtime_ns % 1_000_000_000 == 0:
            info.mtime = status.st_mtime_ns // 1_000_000_000
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return False
        self._attributes(info, folder, name)
        key = (status.st_dev, status.st_ino)
        if kind != stat.S_IFDIR and status.st_nlink > 1 and key in self._links:
            info.type, info.linkname = tarfile.LNKTYPE, self._links[key]
            self._tar.addfile(info)
            return False
        if kind != stat.S_IFDIR:
            self._links[key] = path
        if kind == stat.S_IFREG:
            self._file_of(info, folder, name)
            return False
        info.type = {
            stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
            stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE,
        }[kind]  # fmt: skip
        if kind == stat.S_IFLNK:
            info.linkname = os.readlink(name, dir_fd=folder)
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._tar.addfile(info)
        return kind == stat.S_IFDIR

    def _file_of(self, info: tarfile.TarInfo, folder: int, name: str) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(fd, "rb", buffering=0) as file:
            info.size = os.fstat(fd).st_size
            self._tar.addfile(info, _Padded(file))

    def _attributes(self, info: tarfile.TarInfo, folder: int, name: str) -> None:
        headers: dict[str, str] = {}
        info.pax_headers = headers
        path = f"/proc/self/fd/{folder}/{name}"
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            return  # a file system without any
        for attribute in names:
            if attribute.startswith(_OURS):
                continue
            try:
                value = os.getxattr(path, attribute, follow_symlinks=False)
            except OSError:
                continue  # removed meanwhile, or not ours to read
            if attribute == _OWNERS:
                if self._owner is None:
                    info.uid, info.gid = owners(value)
                continue
            headers[f"SCHILY.xattr.{attribute}"] = value.decode("utf-8", "surrogateescape")


def owners(value: bytes) -> tuple[int, int]:
    """What `owner_record` of image/unpack.py says: with one id only, files can not have the owners they should have."""
    found = {8: 0, 16: 0}
    position = 0
    while position < len(value):
        tag, number, shift = value[position], 0, 0
        position += 1
        while position < len(value):
            number |= (value[position] & 0x7F) << shift
            shift += 7
            position += 1
            if not value[position - 1] & 0x80:
                break
        found[tag] = number & 0xFFFFFFFF
    return found[8], found[16]


class _Padded(io.RawIOBase):
    """A file that grows or shrinks while it is read has the size that its header says."""

    def __init__(self, file: Any) -> None:
        self._of = file

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._of.read(size) or b""
        while len(data) < size:
            more = self._of.read(size - len(data))
            data += more or bytes(size - len(data))
        return data


def reopened(root: int, path: str) -> int:
    """The folder `path` below `root`, opened to be read; no link is followed."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return linux.openat2(root, path or ".", flags, linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise SandboxError.of("read folder", path, error) from None
