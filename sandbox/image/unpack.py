"""Write one layer's entries below one folder, in overlay form; runs in a child that is root of a user namespace.  (cold)

Confinement: every parent is a descriptor from `inside`, every leaf is made new (O_EXCL, O_NOFOLLOW) after what was there has
been removed.

Overlay form (kernel: Documentation/filesystems/overlayfs.rst, with `userxattr`): a whiteout is a character device 0:0,
an opaque folder has the extended attribute user.overlay.opaque=y.
"""

import errno
import os
import stat
from typing import Any, BinaryIO

from sandbox import trees
from sandbox.errors import SandboxError
from sandbox.image.inside import FOLDER, Inside, MisplacedError
from sandbox.image.layout import room_hint
from sandbox.image.scan import OPAQUE, Seen, fits
from sandbox.image.tarheader import Entry, TarError, error as tar_error, split_name
from sandbox.image.tarstream import TarStream

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 18
_CAPABILITY = "security.capability"
# Overlay markers would make the kernel or fuse-overlayfs see other files (redirects); the others change owners.
_REFUSED = ("user.overlay.", "user.fuseoverlayfs.", "user.containers.", "user.rootlesscontainers")
_OWNER = "user.rootlesscontainers"
_TIME_MAX = (1 << 63) - 1


def owner_record(uid: int, gid: int) -> bytes:
    """The attribute user.rootlesscontainers: protobuf `message Resource { uint32 uid = 1; uint32 gid = 2; }`.

    Source: github.com/rootless-containers/proto; proto3 leaves fields of value 0 out.
    """

    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    return b"".join(tag + varint(value) for tag, value in ((b"\x08", uid), (b"\x10", gid)) if value)


class Unpacker:
    """Entries of one layer onto the folder `root` (a descriptor); `squash` gives all files to id 0."""

    def __init__(self, root: int, *, squash: bool) -> None:
        self._inside = Inside(root)
        self._squash = squash
        self._folders: dict[str, int] = {}  # path -> mtime, set when all files are in
        self._skipped: list[str] = []
        self._xattrs_lost: set[str] = set()

    def _clear(self, parent: int, leaf: str) -> None:
        """Remove what has the name of a new entry: the later entry wins, as in tar(1)."""
        if stat.S_ISDIR(os.lstat(leaf, dir_fd=parent).st_mode):
            trees.remove(leaf, parent)
        else:
            os.unlink(leaf, dir_fd=parent)

    # -- entries --

    def add(self, entry: Entry, stream: TarStream, hidden: str) -> None:
        """Write one entry, of which `whiteout` said `hidden`; TarError when it makes no sense, OSError when the file
        system refuses."""
        self._add(entry, stream, hidden)
        if self._inside.made:
            # No entry says when these were made.  That of the first one in them does: the same each time it is unpacked.
            for path in self._inside.made:
                self._folders.setdefault(path, entry.mtime)
            self._inside.made.clear()

    def _add(self, entry: Entry, stream: TarStream, hidden: str) -> None:
        if hidden:
            if hidden == OPAQUE:
                self._set_opaque(entry.parts[:-1])
            elif hidden != ".":
                self._whiteout(entry.parts, hidden)
        elif not entry.parts:
            if entry.kind != "dir":
                raise MisplacedError(f"entry `{entry.name[:200]}` replaces the root folder")
            self._metadata(self._inside.root, entry)
            self._folders["."] = entry.mtime
        elif entry.kind in ("char", "block"):
            self._skipped.append(entry.name)
        else:
            getattr(self, f"_{entry.kind}")(entry, self._inside.parent_of(entry.parts), entry.parts[-1], stream)

    def _dir(self, entry: Entry, parent: int, leaf: str, stream: TarStream) -> None:
        was_whiteout = False
        try:
            os.mkdir(leaf, 0o700, dir_fd=parent)
        except FileExistsError:
            there = os.lstat(leaf, dir_fd=parent)
            if not stat.S_ISDIR(there.st_mode):
                was_whiteout = stat.S_ISCHR(there.st_mode)
                os.unlink(leaf, dir_fd=parent)
                os.mkdir(leaf, 0o700, dir_fd=parent)
        fd = os.open(leaf, FOLDER, dir_fd=parent)
        try:
            if was_whiteout:
                # Hidden below and new here: only what this layer puts into it may be seen.
                os.setxattr(fd, "user.overlay.opaque", b"y")
            self._metadata(fd, entry)
        finally:
            os.close(fd)
        self._folders["/".join(entry.parts)] = entry.mtime

    def _file(self, entry: Entry, parent: int, leaf: str, stream: TarStream) -> None:
        try:
            fd = os.open(leaf, _NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, leaf)
            fd = os.open(leaf, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            if entry.sparse is None:
                self._copy(fd, entry.size, stream)
            else:
                for offset, length in entry.sparse:
                    os.lseek(fd, offset, os.SEEK_SET)
                    self._copy(fd, length, stream)
                os.ftruncate(fd, entry.size)
            self._metadata(fd, entry)
            os.utime(fd, ns=_times(entry.mtime))
        finally:
            os.close(fd)

    @staticmethod
    def _copy(fd: int, left: int, stream: TarStream) -> None:
        while left:
            piece = stream.read(min(left, _CHUNK))
            if not piece:
                raise TarError("a file is shorter than its header says")
            left -= len(piece)
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]

    def _symlink(self, entry: Entry, parent: int, leaf: str, stream: TarStream) -> None:
        if not entry.linkname or "\0" in entry.linkname:
            raise MisplacedError(f"symbolic link `{entry.name[:200]}` has no target")
        try:
            os.symlink(entry.linkname, leaf, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, leaf)
            os.symlink(entry.linkname, leaf, dir_fd=parent)
        self._leaf_metadata(entry, parent, leaf)

    def _fifo(self, entry: Entry, parent: int, leaf: str, stream: TarStream) -> None:
        try:
            os.mkfifo(leaf, entry.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, leaf)
            os.mkfifo(leaf, entry.mode & 0o777, dir_fd=parent)
        self._leaf_metadata(entry, parent, leaf)

    def _link(self, entry: Entry, parent: int, leaf: str, stream: TarStream) -> None:
        """A second name of a file of this layer.  (The image spec: the target is in the same layer.)"""
        target = split_name(entry.linkname)
        wrong = MisplacedError(
            f"hard link `{entry.name[:200]}` to `{entry.linkname[:200]}`, which is no file of this layer"
        )
        if not target or target == entry.parts:
            raise wrong
        try:
            source = self._inside.open(target[:-1], make=False)
        except FileNotFoundError:
            raise wrong from None
        try:
            there = os.lstat(target[-1], dir_fd=source)
            if stat.S_ISDIR(there.st_mode) or stat.S_ISCHR(there.st_mode):
                raise wrong
            try:
                os.link(target[-1], leaf, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                here = os.lstat(leaf, dir_fd=parent)
                if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
                    if stat.S_ISDIR(here.st_mode) and target[: len(entry.parts)] == entry.parts:
                        raise wrong from None
                    self._clear(parent, leaf)
                    os.link(target[-1], leaf, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise wrong from None
        finally:
            os.close(source)

    # -- whiteouts --

    def _whiteout(self, parts: list[str], hidden: str) -> None:
        parent = self._inside.parent_of(parts)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # A whiteout hides what is in lower layers, never what this one adds.
            if stat.S_ISDIR(os.lstat(hidden, dir_fd=parent).st_mode):
                self._set_opaque([*parts[:-1], hidden])

    def _set_opaque(self, parts: list[str]) -> None:
        fd = self._inside.open(parts, make=True)
        try:
            os.setxattr(fd, "user.overlay.opaque", b"y")
        finally:
            os.close(fd)

    # -- metadata --

    def _metadata(self, fd: int, entry: Entry) -> None:
        """Owner, mode, attributes of an open file or folder, in the order in which one does not undo another."""
        if self._squash:
            os.fchown(fd, 0, 0)
        else:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)  # after chown, which clears set-uid bits
        for name, value in entry.xattrs.items():
            if name == _CAPABILITY or (name.startswith("user.") and not name.startswith(_REFUSED)):
                self._xattr(fd, name, value, entry)
        if self._squash and (entry.uid or entry.gid):
            self._xattr(fd, _OWNER, owner_record(entry.uid, entry.gid), entry)

    def _xattr(self, fd: int, name: str, value: bytes, entry: Entry) -> None:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise OSError(error.errno, error.strerror, f"{entry.name} ({name})") from None
            self._xattrs_lost.add(name)  # told once per layer

    def _leaf_metadata(self, entry: Entry, parent: int, leaf: str) -> None:
        if not self._squash:
            os.chown(leaf, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(leaf, ns=_times(entry.mtime), dir_fd=parent, follow_symlinks=False)

    def finish(self) -> list[str]:
        """Times of folders, which each new file in them has changed; the warnings."""
        self._inside.forget_parent()
        for path, mtime in self._folders.items():
            try:
                fd = self._inside.open([] if path == "." else path.split("/"), make=False)
            except (OSError, TarError):
                continue  # a later entry has replaced it
            try:
                os.utime(fd, ns=_times(mtime))
            finally:
                os.close(fd)
        said = []
        if self._skipped:
            more = f" and {len(self._skipped) - 1} more" if len(self._skipped) > 1 else ""
            said.append(f"device nodes are not unpacked: {self._skipped[0][:200]}{more}")
        if self._xattrs_lost:
            said.append(f"the store's file system can not keep {', '.join(sorted(self._xattrs_lost))}")
        return said


def _times(mtime: int) -> tuple[int, int]:
    mtime = max(-_TIME_MAX, min(mtime, _TIME_MAX))
    return mtime, mtime


def unpack(root: int, file: BinaryIO, what: str, maps: dict[str, Any]) -> dict[str, Any]:
    """The plain layer `file` onto the empty folder `root`, to the end of the stream.

    {"warnings"} and what `scan` finds.  From the first entry on whose owner the map does not have, nothing more is
    written and the rest is only read: the caller's `check_ids` tells, with the greatest id there is.
    SandboxErrors "read layer" and "unpack layer" `what`.  What was written until then stays: the caller throws the
    folder away.
    """
    os.umask(0)
    unpacker: Unpacker | None = Unpacker(root, squash=maps["variant"] == "single")
    stream = TarStream(file)
    seen = Seen()
    owners = 0
    name = ""
    try:
        os.fchmod(root, 0o755)
        os.fchown(root, 0, 0)
        while entry := stream.next():
            name = entry.name
            hidden = seen.add(entry)
            if owners != len(seen.uids) + len(seen.gids):
                owners = len(seen.uids) + len(seen.gids)
                if not fits(seen, maps):
                    unpacker = None
            if unpacker:
                unpacker.add(entry, stream, hidden)
        stream.drain()
        name = ""
        return {"warnings": unpacker.finish() if unpacker else [], **seen.facts(stream)}
    except MisplacedError as found:
        raise tar_error("unpack layer", what, found) from None
    except TarError as found:
        raise tar_error("read layer", what, found) from None
    except OSError as found:
        raise _refused(found, what, name) from None
    except OverflowError:
        raise SandboxError("unpack layer", what, detail=f"entry `{name[:200]}` has a number out of range") from None


def _refused(found: OSError, what: str, name: str) -> SandboxError:
    hint = room_hint(found)
    if found.errno == errno.EINVAL:
        hint = "an owner or attribute of this entry can not be expressed under this id map"
    elif found.errno == errno.EPERM and not name:
        hint = "the store's file system refuses changes of owner; set SBX_STORE to a local disk"
    where = f" at `{name[:200]}`" if name else ""
    reason = os.strerror(found.errno) if found.errno else str(found)
    return SandboxError("unpack layer", what, found.errno or 0, f"{reason}{where}", hint)
