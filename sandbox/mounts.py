"""Mounts by file descriptor inside a root file system that may be hostile.  (mechanism, hot)

No path inside the new root is ever looked up by name twice: a target is opened (and made) with openat2 below the
root's descriptor, and a detached mount is moved onto that descriptor.  So a symlink in an image, or one swapped in by
another sandbox that shares a volume, can not lead a mount outside (CVE-2021-30465, CVE-2025-31133 and their kin).
"""

import fcntl
import os

from sandbox import linux
from sandbox.errors import EACCES, EINVAL, ELOOP, ENOENT, EOVERFLOW, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# OCI and mount(8) option -> (attributes to set, attributes to clear); the rest of the options goes to the file system
ATTRIBUTES = {
    "ro": (linux.MOUNT_ATTR_RDONLY, 0), "rro": (linux.MOUNT_ATTR_RDONLY, 0), "rw": (0, linux.MOUNT_ATTR_RDONLY),
    "nosuid": (linux.MOUNT_ATTR_NOSUID, 0), "suid": (0, linux.MOUNT_ATTR_NOSUID),
    "nodev": (linux.MOUNT_ATTR_NODEV, 0), "dev": (0, linux.MOUNT_ATTR_NODEV),
    "noexec": (linux.MOUNT_ATTR_NOEXEC, 0), "exec": (0, linux.MOUNT_ATTR_NOEXEC),
    "noatime": (linux.MOUNT_ATTR_NOATIME, 0), "relatime": (0, 0),
    "strictatime": (linux.MOUNT_ATTR_STRICTATIME, 0),
}  # fmt: skip
BINDS = {"bind": False, "rbind": True}
PROPAGATION = ("private", "rprivate")
# A symlink here would put a kernel file system, and all masks on it, somewhere else (CVE-2019-19921).
_EMPTY = linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC
_KERNEL_FOLDERS = ("/proc", "/sys", "/dev")


def split_options(options: "Iterable[str]") -> tuple[int, int, list[str]]:
    """Mount options -> (attributes to set, attributes to clear, file system's own options); bind words are dropped."""
    attributes = cleared = 0
    rest = []
    for option in options:
        if option in ATTRIBUTES:
            set_, clear = ATTRIBUTES[option]
            attributes, cleared = attributes & ~clear | set_, cleared & ~set_ | clear
        elif option not in BINDS and option not in PROPAGATION:
            rest.append(option)
    return attributes, cleared, rest


def _resolve(path: str) -> int:
    """RESOLVE_* flags for a mount target: in the root, and without any symlink below /proc, /sys and /dev."""
    strict = any(path == folder or path.startswith(folder + "/") for folder in _KERNEL_FOLDERS)
    return linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS | (linux.RESOLVE_NO_SYMLINKS if strict else 0)


def target(root: int, path: str, *, directory: bool, links: int = 8) -> int:
    """An O_PATH descriptor of `path` below `root`, made (0755, empty file 0644) when it is not there.

    A symlink that points nowhere (/etc/resolv.conf of many images) gets the target made where it points, in the root.
    """
    resolve = _resolve(path)
    try:
        return linux.openat2(root, path, os.O_PATH, resolve)
    except FileNotFoundError:
        pass
    except OSError as error:
        hint = "the image has a symlink there" if error.errno == ELOOP else ""
        raise SandboxError.of("open mount target", path, error, hint) from None
    parts = [part for part in path.split("/") if part]
    fd = os.dup(root)
    try:
        for count, name in enumerate(parts, 1):
            try:
                if count == len(parts) and not directory:
                    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=fd))
                else:
                    os.mkdir(name, 0o755, dir_fd=fd)
            except FileExistsError:
                pass
            try:
                inner = linux.openat2(root, "/".join(parts[:count]), os.O_PATH, resolve)
            except FileNotFoundError:
                points_to = os.readlink(name, dir_fd=fd)
                if links == 0:
                    raise OSError(ELOOP, os.strerror(ELOOP)) from None
                folder = "" if points_to.startswith("/") else "/".join(parts[: count - 1])
                rest = "/".join(parts[count:])
                return target(root, f"{folder}/{points_to}/{rest}".rstrip("/"), directory=directory, links=links - 1)
            os.close(fd)
            fd = inner
        return os.dup(fd)
    except OSError as error:
        foreign = error.errno in (EACCES, EOVERFLOW)
        hint = "the image's folder may belong to an id that this id map does not have" if foreign else ""
        raise SandboxError.of("make mount target", path, error, hint) from None
    finally:
        os.close(fd)


def attach(mount_fd: int, root: int, path: str) -> None:
    """Put the detached mount on `path` below `root`."""
    directory = os.stat(mount_fd).st_mode & 0o170000 == 0o040000
    fd = target(root, path, directory=directory)
    try:
        if (os.stat(fd).st_mode & 0o170000 == 0o040000) != directory:
            words = ("a file", "a directory") if directory else ("a directory", "a file")
            raise SandboxError("mount", path, detail=f"the target is {words[0]}, what is mounted is {words[1]}")
        linux.move_mount(mount_fd, fd, path)
    except OSError as error:
        raise SandboxError.of("mount", path, error) from None
    finally:
        os.close(fd)


def filesystem(fstype: str, source: str, attributes: int, options: "Iterable[str]") -> int:
    """A detached mount of a new file system; `options` as in its manual ("size=1m", "newinstance")."""
    try:
        fs = linux.fsopen(fstype)
        try:
            linux.fsconfig_string(fs, "source", source or fstype)
            for option in options:
                key, equals, value = option.partition("=")
                if equals:
                    linux.fsconfig_string(fs, key, value)
                else:
                    linux.fsconfig_flag(fs, key)
            linux.fsconfig_create(fs)
            return linux.fsmount(fs, attributes)
        finally:
            os.close(fs)
    except OSError as error:
        raise SandboxError.of(f"mount {fstype}", "", error) from None


def tree(path: str, *, recursive: bool, dirfd: int = linux.AT_FDCWD) -> int:
    """A detached copy of the mount at `path` (a bind mount to be), with those below it when `recursive`."""
    flags = linux.OPEN_TREE_CLONE | (linux.AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= linux.AT_EMPTY_PATH
    try:
        return linux.open_tree(dirfd, path, flags)
    except OSError as error:
        if error.errno == EINVAL and not recursive:
            # Mounts below, made in a more privileged namespace, must not be uncovered: only the whole tree is copied.
            return tree(path, recursive=True, dirfd=dirfd)
        hint = f"`{path}` does not exist on the host" if error.errno == ENOENT else ""
        raise SandboxError.of("open volume source" if path else "copy mount", path, error, hint) from None


def real_tree(path: str, *, recursive: bool) -> int:
    """`tree` of a path that has no links: who checked that name has checked what is mounted, however links change meanwhile."""
    try:
        fd = linux.openat2(linux.AT_FDCWD, path, os.O_PATH, linux.RESOLVE_NO_SYMLINKS)
    except OSError as error:
        hint = "there is a link by now that was none before" if error.errno == ELOOP else ""
        raise SandboxError.of("open volume source", path, error, hint) from None
    try:
        return tree("", recursive=recursive, dirfd=fd)
    finally:
        os.close(fd)


def read_only_input(fd: int) -> int:
    """A file that was opened for reading, once more through a mount that is read-only; -1 for all else that `fd` may be.

    As root inside, the command is the caller: /proc/self/fd/0 would be his file to write to, whatever the shell opened it for.
    """
    if os.fstat(fd).st_mode & 0o170000 != 0o100000 or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return -1
    try:
        named = linux.openat2(linux.AT_FDCWD, os.readlink(f"/proc/self/fd/{fd}"), os.O_PATH, linux.RESOLVE_NO_SYMLINKS)
    except OSError:
        return -1  # it has no name any more, or none here
    try:
        if not os.path.samestat(os.stat(named), os.fstat(fd)):
            return -1
        copy = tree("", recursive=False, dirfd=named)
    finally:
        os.close(named)
    try:
        restrict(
            copy, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV, subject="standard input"
        )
        found = os.open(f"/proc/self/fd/{copy}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(copy)
    os.lseek(found, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    return found


def restrict(mount_fd: int, attributes: int, cleared: int = 0, subject: str = "") -> None:
    """Set and clear attributes of a mount and all mounts below it."""
    if attributes or cleared:
        if attributes & linux.MOUNT_ATTR__ATIME:
            cleared |= linux.MOUNT_ATTR__ATIME
        try:
            linux.mount_setattr(mount_fd, "", linux.AT_EMPTY_PATH | linux.AT_RECURSIVE, attributes, cleared)
        except OSError as error:
            raise SandboxError.of("set mount options of", subject, error) from None


def mask(root: int, path: str, null: int) -> None:
    """Cover `path`: a file by `null` (our own /dev/null), a folder by an empty read-only tmpfs; absent is fine.

    Below a folder that is closed to us (it belongs to an id outside of the map), that folder is covered.  Of a symlink
    it is what it points to, in the root: the link alone hides nothing.
    """
    try:
        fd = linux.openat2(root, path, os.O_PATH, linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno in (ENOENT, 20):
            return
        parent = path.rstrip("/").rpartition("/")[0]
        if error.errno == EACCES and parent:
            mask(root, parent, null)
            return
        raise SandboxError.of("mask", path, error) from None
    try:
        if os.stat(fd).st_mode & 0o170000 == 0o040000:
            cover = filesystem("tmpfs", "tmpfs", _EMPTY, ("size=4k", "nr_inodes=2", "mode=755"))
        else:
            cover = tree("", recursive=False, dirfd=null)
        try:
            linux.move_mount(cover, fd, path)
        finally:
            os.close(cover)
    except OSError as error:
        raise SandboxError.of("mask", path, error) from None
    finally:
        os.close(fd)


def make_readonly(root: int, path: str) -> None:
    """Bind `path` over itself, read-only with everything below it; absent is fine."""
    try:
        fd = linux.openat2(root, path, os.O_PATH | os.O_NOFOLLOW, linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno in (ENOENT, 20):
            return
        raise SandboxError.of("make read-only", path, error) from None
    try:
        copy = tree("", recursive=True, dirfd=fd)
        try:
            restrict(copy, linux.MOUNT_ATTR_RDONLY, subject=path)
            linux.move_mount(copy, fd, path)
        finally:
            os.close(copy)
    except OSError as error:
        raise SandboxError.of("make read-only", path, error) from None
    finally:
        os.close(fd)
