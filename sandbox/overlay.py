"""The kernel's overlay inside the user namespace: `userxattr`, one detached mount.  (mechanism, hot)"""

import os

from sandbox import linux, trees
from sandbox.errors import E2BIG, EINVAL, SandboxError

# fs/overlayfs: OVL_MAX_STACK
MAX_LAYERS = 500


def prepare(lowers: list[int], upper: str, work: str) -> None:
    """Make the upper and work folders; the root of the merged tree has mode and owner of the upper's folder.

    They are copied from the topmost layer, so `/` looks as the image wants it.
    """
    top = os.stat(lowers[-1])
    try:
        if os.path.isdir(upper):  # a container that is started again
            if not os.path.isdir(work):  # left by a keeper that was killed, the overlay empties it
                os.mkdir(work, 0o700)
            return
        os.mkdir(upper, 0o755)
        os.chmod(upper, top.st_mode & 0o7777)
        os.mkdir(work, 0o700)
        own = os.stat(upper)
        if (own.st_uid, own.st_gid) != (top.st_uid, top.st_gid) and 65534 not in (top.st_uid, top.st_gid):
            os.chown(upper, top.st_uid, top.st_gid)
    except OSError as error:
        raise SandboxError.of("make upper layer", upper, error) from None


def mount(lowers: list[int], upper: str, work: str, *, volatile: bool = True) -> int:
    """A detached overlay of the layers `lowers` (descriptors, bottom first) below `upper`.

    `volatile`: what the container writes is thrown away with it, so nothing is synced, not even at unmount.
    """
    if len(lowers) > MAX_LAYERS:
        raise SandboxError(
            "mount overlay", f"{len(lowers)} layers", E2BIG, detail=f"the kernel takes {MAX_LAYERS} at most",
            hint="use `--storage-driver copy`, or squash the image",
        )  # fmt: skip
    if volatile and os.path.isdir(upper):
        # Of a keeper that was killed: thrown away with it at last, and the kernel takes such a one no second time.
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in (upper, work):
            trees.remove(name, here)
        os.close(here)
    prepare(lowers, upper, work)
    topmost_first = [f"/proc/self/fd/{fd}" for fd in reversed(lowers)]
    try:
        return _mount(topmost_first, upper, work, volatile)
    except OSError as error:
        if error.errno != EINVAL or _kernel() >= (6, 7):
            raise SandboxError.of("mount overlay", upper, error) from None
    try:
        return mount_by_option_string(topmost_first, upper, work, volatile=volatile)
    except OSError as error:
        raise SandboxError.of("mount overlay", upper, error) from None


def _mount(lowers: list[str], upper: str, work: str, volatile: bool) -> int:
    """The new mount API, one `lowerdir+` a layer (Linux 6.7)."""
    fs = linux.fsopen("overlay")
    try:
        linux.fsconfig_flag(fs, "userxattr")
        if volatile:
            linux.fsconfig_flag(fs, "volatile")
        for path in lowers:
            linux.fsconfig_string(fs, "lowerdir+", path)
        linux.fsconfig_string(fs, "upperdir", upper)
        linux.fsconfig_string(fs, "workdir", work)
        linux.fsconfig_create(fs)
        return linux.fsmount(fs)
    finally:
        os.close(fs)


def mount_by_option_string(lowers: list[str], upper: str, work: str, *, volatile: bool = True) -> int:
    """mount(2) for kernels before 6.7: all options in one page of 4096 bytes.

    So 500 layers go by short names: symlinks `0`, `1`, ... in a folder that is the working directory meanwhile.
    """
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.makedirs("root", 0o700, exist_ok=True)
    os.mkdir("l", 0o700)
    os.chdir("l")
    try:
        for number, path in enumerate(lowers):
            os.symlink(path, str(number))
        names = ":".join(map(str, range(len(lowers))))
        flags = "userxattr,volatile" if volatile else "userxattr"
        options = f"{flags},lowerdir={names},upperdir=../{upper},workdir=../{work}"
        linux.mount("overlay", "../root", "overlay", 0, options)
    finally:
        for name in os.listdir("."):  # a container may have more than one overlay
            os.unlink(name)
        os.fchdir(here)
        os.close(here)
        os.rmdir("l")
    fd = linux.open_tree(linux.AT_FDCWD, "root", linux.OPEN_TREE_CLONE)
    linux.umount2("root", linux.MNT_DETACH)
    return fd


def _kernel() -> tuple[int, int]:
    """(major, minor) of the running kernel."""
    major, minor = os.uname().release.split(".")[:2]
    digits = "".join(c for c in minor if c.isdecimal())
    return int(major), int(digits or "0")
