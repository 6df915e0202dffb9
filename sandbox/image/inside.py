"""Folders below one layer's own, opened so that no name in an archive leads out of it.  (cold)

Every folder is opened by openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) and used by descriptor; what lies outside is never
opened, whatever links lie in the layer.
"""

import errno
import os

from sandbox import linux
from sandbox.image.tarheader import TarError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS


class MisplacedError(TarError):
    """An entry that is well formed, but can not be written where it wants to be."""


class Inside:
    """The folders below `root`, a descriptor."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.made: list[str] = []  # folders that no entry has named so far
        self._parent: tuple[list[str], int] = ([], -1)  # the folder used last: neighbours come one after another

    def open(self, parts: list[str], *, make: bool) -> int:
        """A descriptor of the folder `parts`; symlinks on the way are TarErrors, missing ones are made."""
        if not parts:
            return os.dup(self.root)
        path = "/".join(parts)
        try:
            return linux.openat2(self.root, path, FOLDER, _RESOLVE)
        except OSError as error:
            if error.errno == errno.ENOENT and not make:
                raise
            if error.errno not in (errno.ENOENT, errno.ENOSYS):
                raise self._parent_error(path, error) from None
        return self._walk(parts, make=make)

    def _walk(self, parts: list[str], *, make: bool) -> int:
        """The same, part by part: makes what is missing, and serves kernels before 5.6."""
        fd = os.dup(self.root)
        for count, part in enumerate(parts, 1):
            try:
                try:
                    below = os.open(part, FOLDER, dir_fd=fd)
                except FileNotFoundError:
                    if not make:
                        raise
                    os.mkdir(part, 0o755, dir_fd=fd)
                    self.made.append("/".join(parts[:count]))
                    below = os.open(part, FOLDER, dir_fd=fd)
            except OSError as error:
                raise self._parent_error("/".join(parts), error) from None
            finally:
                os.close(fd)
            fd = below
        return fd

    @staticmethod
    def _parent_error(path: str, error: OSError) -> Exception:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return MisplacedError(f"an entry below `{path[:200]}` goes through something that is not a folder")
        return error

    def parent_of(self, parts: list[str]) -> int:
        """Descriptor of the parent, made where it is missing; owned by this object and valid until the next call."""
        wanted = parts[:-1]
        if self._parent[1] < 0 or self._parent[0] != wanted:
            self.forget_parent()
            self._parent = (wanted, self.open(wanted, make=True))
        return self._parent[1]

    def forget_parent(self) -> None:
        if self._parent[1] >= 0:
            os.close(self._parent[1])
        self._parent = ([], -1)
