"""A tar stream written out below one folder; nothing in it reaches outside.  (cold)"""

import contextlib
import os
import tarfile
from errno import ELOOP

from sandbox import linux, trees
from sandbox.errors import EEXIST, EINVAL, SandboxError, tell

_BENEATH = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS
_XATTR = "SCHILY.xattr."
_PIECE = 1 << 20


class TarReader:
    """Writes below the open `folder`.

    `owner`: whom it all belongs to, None for us.  `ids`: owners are taken from the archive.  `plain`: for files that
    come from a container to the host: no set-id bits, devices or attributes but `user.`.
    """

    def __init__(
        self, folder: int, *, owner: tuple[int, int] | None = None, ids: bool = False, plain: bool = False,
        overwrite: bool = False,
    ) -> None:  # fmt: skip
        self._folder, self._owner, self._ids = folder, owner, ids
        self._plain, self._overwrite = plain, overwrite
        self._times: list[tuple[str, tarfile.TarInfo]] = []  # of folders, set when nothing is written to them any more

    def read(self, source: int) -> None:
        """All that comes from the descriptor `source`."""
        with open(source, "rb", closefd=False, buffering=_PIECE) as file:
            try:
                # Plain or compressed; told by the stream itself.
                with tarfile.open(fileobj=file, mode="r|*", errors="surrogateescape", bufsize=_PIECE) as tar:
                    for info in tar:
                        self._take(tar, info)
                for path, info in reversed(self._times):
                    self._attributes(info, path, directory=True)
            except (tarfile.TarError, ValueError, OverflowError) as error:  # a time that is none, a zero byte in a name
                raise SandboxError("read archive", "", EINVAL, detail=str(error) or "it is no tar archive") from None
            while file.read(_PIECE):
                pass  # what follows the end: who writes must not be stopped

    def _take(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        path = _inside(info.name)
        head, _, name = path.rpartition("/")
        try:
            self._make_parents(head)
            parent = self._open(head)
            try:
                self._make(tar, info, parent, name, path)
            finally:
                os.close(parent)
        except OSError as error:
            raise SandboxError.of("write", path or ".", error, _hint(error)) from None

    def _open(self, path: str) -> int:
        return linux.openat2(self._folder, path or ".", os.O_RDONLY | os.O_DIRECTORY, _BENEATH)

    def _make_parents(self, path: str) -> None:
        done = ""
        for part in path.split("/") if path else ():
            parent = self._open(done)
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
            os.close(parent)
            done = f"{done}/{part}".lstrip("/")

    def _make(self, tar: tarfile.TarFile, info: tarfile.TarInfo, parent: int, name: str, path: str) -> None:
        if info.isdir():
            if name:
                self._make_room(parent, name, directory=True)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
            self._times.append((path, info))
            return
        if not name:
            raise SandboxError("read archive", info.name, EINVAL, detail="a file without a name")
        if self._plain and not (info.isreg() or info.issym() or info.islnk()):
            tell(f"{path} is left out: a device or pipe")
            return
        self._make_room(parent, name, directory=False)
        if info.isreg():
            self._file(tar, info, parent, name)
        elif info.issym():
            os.symlink(info.linkname, name, dir_fd=parent)
        elif info.islnk():
            first, _, last = _inside(info.linkname).rpartition("/")
            other = self._open(first)
            try:
                os.link(last, name, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(other)
            return
        elif info.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            kind = 0o020000 if info.ischr() else 0o060000
            os.mknod(name, kind | 0o600, os.makedev(info.devmajor, info.devminor), dir_fd=parent)
        self._attributes(info, path, directory=False)

    def _make_room(self, parent: int, name: str, *, directory: bool) -> None:
        """What is there goes away, if it is of the kind that may be replaced."""
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode & 0o170000 == 0o040000
        except FileNotFoundError:
            return
        if there and directory:
            return
        if there != directory and not self._overwrite and (there or directory):
            raise SandboxError(
                "write",
                name,
                EEXIST,
                detail="a folder is there" if there else "a file is there",
                hint="--overwrite replaces it",
            )
        trees.remove(name, parent)

    def _file(self, tar: tarfile.TarFile, info: tarfile.TarInfo, parent: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        with open(fd, "wb", buffering=0) as out:
            source = tar.extractfile(info)
            while source and (piece := source.read(_PIECE)):
                view = memoryview(piece)
                while view:
                    view = view[out.write(view) :]

    def _attributes(self, info: tarfile.TarInfo, path: str, *, directory: bool) -> None:
        """Owner, mode, attributes, time, in this order: each may undo the one before."""
        head, _, name = path.rpartition("/")
        parent = self._open(head)
        try:
            name = name or "."
            owner = (info.uid, info.gid) if self._ids else self._owner
            if owner:
                os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
            where = f"/proc/self/fd/{parent}/{name}"
            for key, text in info.pax_headers.items():
                attribute = key.removeprefix(_XATTR)
                if key.startswith(_XATTR) and (not self._plain or attribute.startswith("user.")):
                    with contextlib.suppress(OSError):  # not every file system has them all
                        os.setxattr(where, attribute, text.encode("utf-8", "surrogateescape"), follow_symlinks=False)
            if not info.issym():
                os.chmod(name, info.mode & (0o777 if self._plain else 0o7777), dir_fd=parent)
            moment = int(info.mtime * 1_000_000_000) if isinstance(info.mtime, float) else info.mtime * 1_000_000_000
            os.utime(name, ns=(moment, moment), dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)


def _inside(name: str) -> str:
    """The path of an entry below the folder; SandboxError for one that leads outside."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise SandboxError("read archive", name, EINVAL, detail="an entry leads outside")
    return "/".join(parts)


def _hint(error: OSError) -> str:
    return "there is a link on the way, which is not followed" if error.errno == ELOOP else ""
