"""A volume at its first use: it gets what the image has at its destination.  (mechanism, hot)

`.filling` is there while that is done and `.filled` once it was: what a kill left half-done is done again.  A volume that
somebody has put files into is left as it is.
"""

import fcntl
import os

from sandbox import copy_root, linux, trees
from sandbox.errors import ENOENT, ENOTDIR, SandboxError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DONE, BEGUN = ".filled", ".filling"


def once(folder: int, root: int, destination: str, owner: tuple[int, int], *, copy: bool) -> None:
    """Fill `data` of the volume's `folder` from below `root`; a folder that the image has not belongs to `owner`."""
    if _exists(folder, DONE):
        return
    try:
        data = os.open("data", _FOLDER, dir_fd=folder)
        fcntl.flock(data, fcntl.LOCK_EX)  # of two containers one fills it, and the other waits
        try:
            if not _exists(folder, DONE):
                if _exists(folder, BEGUN) or not os.listdir(data):
                    _mark(folder, BEGUN)
                    _fill(data, root, destination, owner, copy)
                _mark(folder, DONE)
        finally:
            os.close(data)
    except OSError as error:
        raise SandboxError.of("fill volume", destination, error) from None


def _fill(data: int, root: int, destination: str, owner: tuple[int, int], copy: bool) -> None:
    for name in os.listdir(data):
        trees.remove(name, data)
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY
        source = linux.openat2(root, destination, flags, linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR):
            raise
        os.fchown(data, *owner)
        return
    try:
        copy_root.tree(source, data, whole=copy)
    finally:
        os.close(source)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return False


def _mark(folder: int, name: str) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder))
