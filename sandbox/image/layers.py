"""Unpacked layers on disk: made once, whoever comes first, and removed only when nobody runs from them.  (cold)

    layers/<diff id hex>[.<variant>]/fs    complete; whoever runs from it holds LOCK_SH on the folder above fs
    layers/.new-<the same>                 being made, LOCK_EX held; without a lock its maker died
    layers/.old-<random>                   being removed

The temporary name is fixed, so that its lock is the lock per layer: the second process waits for the first, then finds
the finished layer.  A lock counts only while the locked folder still has the name (it may have been renamed or removed
between open and lock).
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

from sandbox import linux_rare
from sandbox.errors import SandboxError, printable, tell
from sandbox.image.archive import Layer
from sandbox.image.layout import room_hint, try_lock
from sandbox.image.owned import FOLDER, empty, give_to_root_of

_NEW, _OLD = ".new-", ".old-"


def short(digest: str) -> str:
    """The beginning of a digest, as people read it."""
    return digest.partition(":")[2][:12]


def _same(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _error(step: str, subject: str, found: OSError) -> SandboxError:
    return SandboxError.of(step, subject, found, room_hint(found))


class Claim(NamedTuple):
    """A layer that this process makes: its names while and after, the locked outer folder, and `fs` in it."""

    temporary: str
    final: str
    fd: int
    folder: int


def warned(layer: Layer, found: dict[str, Any]) -> list[str]:
    """The warnings of one layer, as users see them."""
    return [f"layer {short(layer.diff_id)}: {printable(text)}" for text in found["warnings"]]


class Layers:
    """The folder `layers` of a store."""

    def __init__(self, root: str) -> None:
        self.folder = f"{root}/layers"

    def path(self, diff_id: str, variant: str) -> str:
        """Where the layer is or will be (without /fs)."""
        return f"{self.folder}/{diff_id.partition(':')[2]}" + (f".{variant}" if variant else "")

    def has(self, diff_id: str, variant: str) -> bool:
        return os.path.isdir(f"{self.path(diff_id, variant)}/fs")

    # -- make --

    def make(self, layer: Layer, maps: dict[str, Any], label: str = "") -> list[str]:
        """Unpack `layer` under `maps` unless it is there, or somebody else does it meanwhile; warnings for the user.

        SandboxError "read layer", "unpack layer", "verify layer", ... with nothing left behind.
        """
        claim = self.claim(layer.diff_id, maps, wait=True)
        if not claim:
            return []
        from sandbox.image.lanes import Job, work
        from sandbox.image.scan import check_ids

        try:
            what = short(layer.diff_id)
            found = work([Job(layer, what, folder=claim.folder, label=label)], maps)
            check_ids(found, maps, what)
            self.sync([claim])
            self.name([claim])
            return warned(layer, found[0])
        finally:
            self.abandon([claim])

    def claim(self, diff_id: str, maps: dict[str, Any], *, wait: bool) -> Claim | None:
        """The right to make a layer; None when it is there, or when somebody else makes it and `wait` is not set.

        Who holds claims must not wait for others: two that take the same layers in another order would wait for ever.
        """
        final = self.path(diff_id, maps["variant"])
        if os.path.isdir(f"{final}/fs"):
            return None
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            temporary = f"{self.folder}/{_NEW}{os.path.basename(final)}"
            fd = self._lock_new(temporary, final, wait=wait)
            if fd < 0:
                return None
            claim = Claim(temporary, final, fd, -1)
            try:
                os.mkdir("fs", 0o755, dir_fd=fd)
                claim = claim._replace(folder=os.open("fs", FOLDER, dir_fd=fd))
                give_to_root_of(claim.folder, maps)
            except BaseException:
                self.abandon([claim])
                raise
            return claim
        except OSError as found:
            raise _error("unpack layer", short(diff_id), found) from None

    @staticmethod
    def sync(claims: list[Claim]) -> None:
        """The files first, then the names: after a power loss a layer that has its name is whole."""
        try:
            linux_rare.syncfs(claims[0].fd)  # one for all, and for what else there is to be written on this disk
        except OSError as found:
            raise _error("unpack layer", os.path.basename(claims[0].final)[:12], found) from None

    @staticmethod
    def name(claims: list[Claim]) -> None:
        """Give finished and synced layers their names."""
        for claim in claims:
            try:
                os.rename(claim.temporary, claim.final)
            except OSError as found:
                raise _error("unpack layer", os.path.basename(claim.final)[:12], found) from None

    @staticmethod
    def abandon(claims: list[Claim]) -> None:
        """Remove what has no name yet, and let go of all; harmless after `name`."""
        for claim in claims:
            if claim.folder >= 0:
                os.close(claim.folder)
            with contextlib.suppress(OSError, SandboxError):
                if _same(claim.fd, claim.temporary):
                    _remove(claim.temporary, claim.fd)
            os.close(claim.fd)

    @staticmethod
    def _lock_new(temporary: str, final: str, *, wait: bool) -> int:
        """A locked, empty temporary folder, or -1 when somebody else has finished the layer meanwhile."""
        while True:
            with contextlib.suppress(FileExistsError):
                os.mkdir(temporary, 0o700)
            try:
                fd = os.open(temporary, FOLDER)
            except FileNotFoundError:
                continue
            if not wait and not try_lock(fd, fcntl.LOCK_EX):
                os.close(fd)
                return -1
            if wait:
                fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.isdir(f"{final}/fs"):
                if _same(fd, temporary):
                    os.rmdir(temporary)
                os.close(fd)
                return -1
            if _same(fd, temporary):
                if os.listdir(fd):
                    empty(fd)  # its maker was killed
                return fd
            os.close(fd)

    # -- remove --

    def names(self) -> list[str]:
        """All complete layers, as folder names."""
        try:
            return [name for name in os.listdir(self.folder) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def try_hold(self, name: str) -> int:
        """Descriptor with LOCK_EX on a layer nobody uses; -1 when it is in use, -2 when it is gone."""
        path = f"{self.folder}/{name}"
        try:
            fd = os.open(path, FOLDER)
        except FileNotFoundError:
            return -2
        if not try_lock(fd, fcntl.LOCK_EX):
            os.close(fd)
            return -1
        if not _same(fd, path):
            os.close(fd)
            return -2
        return fd

    def remove(self, name: str, held: int) -> None:
        """Remove a layer whose lock `try_hold` gave; closes it."""
        old = f"{self.folder}/{_OLD}{secrets.token_hex(8)}"
        try:
            os.rename(f"{self.folder}/{name}", old)
            _remove(old, held)
        except OSError as found:
            raise _error("remove layer", name, found) from None
        finally:
            os.close(held)

    def sweep(self) -> None:
        """Remove what killed commands left half made or half removed.  Best effort: the next sweep tries again."""
        try:
            names = [n for n in os.listdir(self.folder) if n.startswith((_NEW, _OLD))]
        except OSError:
            return
        for name in names:
            path = f"{self.folder}/{name}"
            with contextlib.suppress(OSError, SandboxError):
                fd = os.open(path, FOLDER)
                try:
                    if try_lock(fd, fcntl.LOCK_EX) and _same(fd, path):
                        _remove(path, fd)
                finally:
                    os.close(fd)


def _remove(path: str, fd: int) -> None:
    empty(fd)
    os.rmdir(path)


def announce(warnings: list[str], *, quiet: bool) -> None:
    """Warnings on stderr, one line each."""
    if not quiet:
        for text in warnings:
            tell(text)


def hexes(diff_ids: Iterator[str] | list[str]) -> set[str]:
    """Folder names without variant."""
    return {diff_id.partition(":")[2] for diff_id in diff_ids}
