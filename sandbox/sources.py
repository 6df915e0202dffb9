"""The plan's `open` and `build` steps: what the keeper opens and puts together before the init starts.  (launch, hot)"""

import fcntl
import os

from sandbox import linux, mounts, paths
from sandbox.errors import EAGAIN, SandboxError


class Sources:
    """Fills the slots that the init uses; each method is a verb of the plan."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.folders: dict[int, int] = {}  # of named volumes

    def layer(self, slot: int, path: str) -> None:
        """An unpacked layer, locked (shared) through its folder for as long as the keeper lives: rmi leaves it alone."""
        folder, _, name = path.rpartition("/")
        try:
            if name == "fs":
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                # `lock` stays open for good: the kernel releases it when the keeper ends.
                self.slots[slot] = os.open("fs", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=lock)
            else:
                self.slots[slot] = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            busy = "the image is being removed" if error.errno == EAGAIN else ""
            raise SandboxError.of("open layer", path, error, busy) from None

    def path(self, slot: int, path: str) -> None:
        """The lower folder of a volume with an overlay: a path without links, see `tree`."""
        try:
            self.slots[slot] = linux.openat2(linux.AT_FDCWD, path, os.O_PATH, linux.RESOLVE_NO_SYMLINKS)
        except OSError as error:
            raise SandboxError.of("open volume source", path, error) from None

    def tree(self, slot: int, path: str, recursive: bool) -> None:
        """The root, a volume, or a file of sbx.

        A volume's path has no links, and must have none by now: another container may have planted one in a folder that
        it was given, after `volumes` has looked.  Links to these, and on the way to the store, are nobody else's to plant.
        """
        own = path in ("/proc", "/sys", "/dev/shm", "/dev/mqueue") or path.startswith(f"{paths.store()}/")
        self.slots[slot] = (mounts.tree if slot == 0 or own else mounts.real_tree)(path, recursive=recursive)

    def volume(self, slot: int, path: str) -> None:
        """A named volume, locked (shared) for as long as the keeper lives: `volume rm` leaves it alone."""
        folder = path.rpartition("/")[0]
        try:
            self.folders[slot] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(self.folders[slot], fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            busy = "the volume is being removed" if error.errno == EAGAIN else ""
            raise SandboxError.of("open volume", folder.rpartition("/")[2], error, busy) from None
        self.slots[slot] = mounts.tree(path, recursive=False)

    def fill(self, slot: int, destination: str, copy: bool, uid: int, gid: int) -> None:
        """At its first use a volume gets what the image has there."""
        from sandbox import fill

        fill.once(self.folders[slot], self.slots[0], destination, (uid, gid), copy=copy)

    def device(self, slot: int, path: str) -> None:
        fd = mounts.tree(path, recursive=False)
        if os.stat(fd).st_mode & 0o170000 != 0o020000:
            raise SandboxError("open device", path, detail="not a character device")
        self.slots[slot] = fd

    def inherited(self, slot: int, fd: int) -> None:
        """A volume that the cli opened and mapped to the namespace's ids, as only root of the host may."""
        self.slots[slot] = fd

    def attach(self, slot: int, name: str) -> None:
        """Put an inherited layer on the folder `name`: overlays take no layer that is mounted nowhere (before Linux 6.15)."""
        try:
            os.mkdir(name, 0o700)
            point = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            linux.move_mount(self.slots[slot], point, name)
            os.close(point)
        except OSError as error:
            raise SandboxError.of("mount layer", name, error) from None

    def chown(self, slot: int, uid: int, gid: int) -> None:
        """Give a volume and all in it to the container's user (`U`)."""
        name = ""
        try:
            os.chown(f"/proc/self/fd/{self.slots[slot]}", uid, gid)
            if os.stat(self.slots[slot]).st_mode & 0o170000 != 0o040000:
                return
            for _, folders, files, fd in os.fwalk(".", dir_fd=self.slots[slot]):
                for name in (*folders, *files):
                    os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            raise SandboxError.of("give volume to user", name, error) from None

    # -- root file systems: see overlay.py and fuse_overlay.py --

    def overlay(self, slot: int, lowers: tuple[int, ...], upper: str, work: str, lasting: bool = False) -> None:
        from sandbox import overlay

        self.slots[slot] = overlay.mount([self.slots[n] for n in lowers], upper, work, volatile=not lasting)
        self._close(lowers)

    def fuse_overlayfs(self, slot: int, lowers: tuple[int, ...], upper: str, work: str) -> None:
        from sandbox import fuse_overlay

        self.slots[slot] = fuse_overlay.mount([self.slots[n] for n in lowers], upper, work)
        self._close(lowers)

    def fuse_overlayfs_squashed(self, slot: int, lowers: tuple[int, ...], upper: str, work: str) -> None:
        from sandbox import fuse_overlay

        self.slots[slot] = fuse_overlay.mount([self.slots[n] for n in lowers], upper, work, squash=True)
        self._close(lowers)

    def copy(self, slot: int, lowers: tuple[int, ...], upper: str, work: str) -> None:
        from sandbox import copy_root

        self.slots[slot] = copy_root.mount([self.slots[n] for n in lowers], upper)
        self._close(lowers)

    def _close(self, lowers: tuple[int, ...]) -> None:
        """The mount has them; the init, under the command's own limit, has no use for hundreds of descriptors."""
        for number in lowers:
            os.close(self.slots.pop(number))
