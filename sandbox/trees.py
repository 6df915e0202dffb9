"""Remove whole folders that a sandbox left, by descriptor.  (mechanism, hot)

A payload may leave symlinks, folders of mode 0, very deep trees: nothing is followed, no other file system is entered.
"""

import os

from sandbox import linux
from sandbox.errors import EEXIST, ENOTDIR, ENOTEMPTY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def _entries(fd: int) -> "Iterator[tuple[str, bool]]":
    with os.scandir(fd) as found:
        for entry in found:
            yield entry.name, entry.is_dir(follow_symlinks=False)


def remove(name: str, dir_fd: int) -> None:
    """Remove the folder `name` of `dir_fd` with all it holds; absent is fine.  OSError when something resists.

    Works downwards by moving each subfolder's content up to its own level of the walk, so depth costs no recursion
    and only two descriptors are open at a time.
    """
    try:
        os.rmdir(name, dir_fd=dir_fd)  # most are empty
        return
    except FileNotFoundError:
        return
    except OSError:
        pass
    try:
        top = _open(name, dir_fd)
    except NotADirectoryError:
        os.unlink(name, dir_fd=dir_fd)
        return
    try:
        serial = 0
        while True:
            folders = []
            for child, is_folder in list(_entries(top)):
                if is_folder:
                    try:
                        os.rmdir(child, dir_fd=top)
                    except OSError:
                        folders.append(child)
                else:
                    os.unlink(child, dir_fd=top)
            if not folders:
                break
            for child in folders:
                fd = _open(child, top)
                try:
                    for inner, is_folder in list(_entries(fd)):
                        if is_folder:
                            # One level up, under a name that is free: its turn comes in the next round.
                            serial = _lift(inner, fd, top, serial + 1)
                        else:
                            os.unlink(inner, dir_fd=fd)
                finally:
                    os.close(fd)
                os.rmdir(child, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=dir_fd)


def _open(name: str, dir_fd: int) -> int:
    """The folder itself: no link, and (EXDEV) no mount on it, be it of the same file system."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        fd = linux.openat2(dir_fd, name, flags, linux.RESOLVE_NO_XDEV)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=dir_fd)
        fd = linux.openat2(dir_fd, name, flags, linux.RESOLVE_NO_XDEV)
    if os.fstat(fd).st_mode & 0o300 != 0o300:
        try:
            os.fchmod(fd, 0o700)
        except OSError:
            pass  # somebody else's: what is in it resists, or we have the right anyway
    return fd


def _lift(name: str, source: int, top: int, serial: int) -> int:
    """Remove the folder when it is empty, else move it to `top`; returns the number last used for a name there."""
    try:
        os.rmdir(name, dir_fd=source)
        return serial
    except OSError:
        pass
    while True:
        try:
            os.rename(name, f".sbx-{serial}", src_dir_fd=source, dst_dir_fd=top)
            return serial
        except PermissionError:
            # Moving a folder changes its `..`, which takes write permission on it.
            if os.stat(name, dir_fd=source, follow_symlinks=False).st_mode & 0o200:
                raise
            os.chmod(name, 0o700, dir_fd=source)
        except OSError as error:
            if error.errno not in (EEXIST, ENOTDIR, ENOTEMPTY):
                raise
            serial += 1000
