"""What is being written to a place of the caller's choice, before it gets its name there.  (cold)

A file has no name at all until it is whole, where the file system can do that (O_TMPFILE): when its maker is killed, it is
gone.  Folders, and files elsewhere, have a hidden name next to the real one, `.sbx-new-<16 digits>`, and are locked by their
maker; what lies there without a lock is removed by the next of the same machine who writes into that folder.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil

from sandbox.image.layout import idle

_NAME = re.compile(r"\.sbx-new-[0-9a-f]{16}\Z")


@functools.cache
def _machine() -> str:
    """Digits for this machine: a folder may be another's too (NFS, sshfs, 9p), and locks do not always tell of it there."""
    told = os.uname().nodename.encode()
    with contextlib.suppress(OSError), open("/etc/machine-id", "rb") as file:
        told += file.read(64)
    return hashlib.sha256(told).hexdigest()[:8]


def _fresh(parent: str) -> str:
    return f"{parent}/.sbx-new-{_machine()}{secrets.token_hex(4)}"


def _sweep(parent: str) -> None:
    """Remove what killed makers left; best effort."""
    with contextlib.suppress(OSError):
        for name in filter(_NAME.match, os.listdir(parent)):
            path = f"{parent}/{name}"
            if not name.startswith(f".sbx-new-{_machine()}"):
                continue
            with idle(path) as alone, contextlib.suppress(OSError):
                if alone and os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                elif alone:
                    os.unlink(path)


def _lock(fd: int) -> None:
    """Where there are no locks (NFS without its daemon, some FUSE) nobody can be seen to be dead: nothing is swept there."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise


def _there(fd: int, path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    return False


def folder(parent: str) -> tuple[str, int]:
    """(path of a new folder in `parent`, a descriptor that holds its lock).  OSError."""
    _sweep(parent)
    while True:
        path = _fresh(parent)
        os.mkdir(path, 0o755)
        with contextlib.suppress(FileNotFoundError):  # a sweeper came between
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            _lock(fd)
            if _there(fd, path):
                return path, fd
            os.close(fd)


def file(parent: str) -> tuple[str, int]:
    """(path, or "" while it has none; descriptor to write to) of a new file for `parent`.  OSError."""
    _sweep(parent)
    try:
        return "", os.open(parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
    while True:
        path = _fresh(parent)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _lock(fd)
        if _there(fd, path):
            return path, fd
        os.close(fd)


def name(path: str, fd: int, target: str) -> None:
    """Call a finished file `target`, in the place of what has that name.  OSError."""
    if not path:
        path = _fresh(os.path.dirname(target))
        # A descriptor that is not needed: only linkat(2) follows the link in /proc, and os.link chooses link(2) without it.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    os.rename(path, target)
