"""The last resort for a root file system: the layers copied on top of each other.  (mechanism, hot)

For machines where neither overlay works.  Takes time and space in proportion to the image; the files' blocks are shared
where the file system can (reflink).
"""

import fcntl
import os

from sandbox import linux, trees
from sandbox.errors import EINVAL, SandboxError

_FICLONE = 0x40049409
_OPAQUE = "user.overlay.opaque"
_CHUNK = 1 << 30
_EXDEV, _EOPNOTSUPP = 18, 95


def mount(lowers: list[int], target: str) -> int:
    """Copy the layers (descriptors, bottom first) to the folder `target` and return a detached bind of it."""
    try:
        if os.path.isdir(target):  # a container that is started again
            lowers = []
        else:
            os.mkdir(target, 0o755)
        for fd in lowers:
            source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            copy = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            _merge(source, copy, _Links(copy))
            _own(source, os.fstat(source), copy)
            os.close(source)
            os.close(copy)
        return linux.open_tree(linux.AT_FDCWD, target, linux.OPEN_TREE_CLONE)
    except OSError as error:
        raise SandboxError.of("copy layer", str(error.filename or target), error) from None


def tree(source: int, target: int, *, whole: bool) -> None:
    """Copy the open folder `source` over `target`; without `whole` its owner and mode only."""
    if whole:
        _merge(source, target, _Links(target))
    _own(source, os.fstat(source), target)


class _Links:
    """Where the first copy of each hard-linked file of a layer lies: (device, inode) -> path below `top`."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.names: dict[tuple[int, int], str] = {}


def _merge(source: int, target: int, links: _Links, path: str = ".") -> None:
    """Lay the folder `source` over `target`; `links` finds the first copy of a hard-linked file."""
    with os.scandir(source) as found:
        entries = list(found)
    for entry in entries:
        name = entry.name
        status = entry.stat(follow_symlinks=False)
        kind = status.st_mode & 0o170000
        if kind == 0o020000 and status.st_rdev == 0:  # a whiteout
            trees.remove(name, target)
            continue
        if kind == 0o040000:
            _merge_folder(name, status, source, target, links, path)
            continue
        trees.remove(name, target)
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in links.names:
            os.link(links.names[key], name, src_dir_fd=links.top, dst_dir_fd=target)
            continue
        if kind == 0o120000:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            _own_special(name, status, target)
        elif kind == 0o100000:
            _copy_file(name, status, source, target)
        elif kind == 0o010000:
            os.mkfifo(name, status.st_mode & 0o7777, dir_fd=target)
            _own_special(name, status, target)
        if status.st_nlink > 1:
            links.names[key] = f"{path}/{name}"


def _merge_folder(name: str, status: os.stat_result, source: int, target: int, links: _Links, path: str) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        try:
            opaque = os.getxattr(inner, _OPAQUE) == b"y"
        except OSError:
            opaque = False
        if opaque:
            trees.remove(name, target)
        try:
            os.mkdir(name, 0o700, dir_fd=target)
        except FileExistsError:
            if os.stat(name, dir_fd=target, follow_symlinks=False).st_mode & 0o170000 != 0o040000:
                os.unlink(name, dir_fd=target)
                os.mkdir(name, 0o700, dir_fd=target)
        copy = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        try:
            _merge(inner, copy, links, f"{path}/{name}")
            _own(inner, status, copy)
        finally:
            os.close(copy)
    finally:
        os.close(inner)


def _copy_file(name: str, status: os.stat_result, source: int, target: int) -> None:
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    write = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    try:
        try:
            fcntl.ioctl(write, _FICLONE, read)
        except OSError:
            _copy_content(read, write)
        _own(read, status, write)
        for key in os.listxattr(read):
            if key.startswith("user.") or key == "security.capability":
                os.setxattr(write, key, os.getxattr(read, key))
        os.utime(write, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(read)
        os.close(write)


def _copy_content(read: int, write: int) -> None:
    """In the kernel; between two file systems, where copy_file_range gives up, by sendfile from where it stopped."""
    try:
        while os.copy_file_range(read, write, _CHUNK):
            pass
    except OSError as error:
        if error.errno not in (_EXDEV, EINVAL, _EOPNOTSUPP):
            raise
        while os.sendfile(write, read, None, _CHUNK):
            pass


def _own(source: int, status: os.stat_result, fd: int) -> None:
    """Give `fd` owner and mode of `source`.  Owner first: chown clears set-uid bits.

    What belongs to an id outside of the map, shown as 65534, becomes root's.
    """
    if 65534 not in (status.st_uid, status.st_gid) or _is_mapped(source):
        os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, status.st_mode & 0o7777)


def _own_special(name: str, status: os.stat_result, target: int) -> None:
    """The same for a symlink or pipe, which has no descriptor."""
    try:
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno != EINVAL:  # 65534 is not mapped itself
            raise


def _is_mapped(fd: int) -> bool:
    """Whether an owner that shows as 65534 is that id, and not one without a mapping: open(2), O_NOATIME."""
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NOATIME | os.O_CLOEXEC))
        return True
    except PermissionError:
        return False
