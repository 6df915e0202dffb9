"""fuse-overlayfs, where the kernel's overlay can not be had: started by the keeper, dies with it.  (mechanism, hot)"""

import os
import time

from sandbox import linux, mounts, overlay, userns
from sandbox.errors import EACCES, ENOENT, SandboxError

PROGRAM = "fuse-overlayfs"
_INSTALL = "install the package fuse-overlayfs, or use `--storage-driver overlay` or `copy`"
_LOG = "fuse-overlayfs.log"
_SIGPIPE = 13  # Python ignores it, and an exec would inherit that
_MAGIC_FUSE = 0x65735546
_PATIENCE = 10.0  # seconds until the mount must be there
started: "list[int]" = []  # pids of those that serve this keeper's mounts


def mount(lowers: list[int], upper: str, work: str, *, squash: bool = False) -> int:
    """A detached bind of the fuse mount; `squash` shows all files as root's, for layers that belong to the host."""
    program = userns.find(PROGRAM)
    if not program:
        raise SandboxError("find program", PROGRAM, ENOENT, hint=_INSTALL)
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        errno = EACCES if error.errno == 1 else error.errno or 0
        raise SandboxError("open fuse device", "/dev/fuse", errno) from None
    overlay.prepare(lowers, upper, work)
    os.makedirs("root", 0o700, exist_ok=True)  # of a container that is started again it may be there
    lower = ":".join(reversed(_within_reach(lowers)))
    options = f"lowerdir={lower},upperdir={upper},workdir={work}" + (",squash_to_root" if squash else "")
    actions: list[tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    try:
        pid = os.posix_spawn(
            program, [PROGRAM, "-f", "-o", options, "root"], {}, file_actions=actions, setsigdef=[_SIGPIPE]
        )
    except OSError as error:
        raise SandboxError.of("start program", program, error) from None
    started.append(pid)
    _await_mount(pid)
    try:
        return linux.open_tree(linux.AT_FDCWD, "root", linux.OPEN_TREE_CLONE)
    except OSError as error:
        raise SandboxError.of("mount fuse-overlayfs", "root", error) from None


def _within_reach(lowers: list[int]) -> list[str]:
    """Bind the layers and the working directory below a tmpfs on /tmp of the keeper's mount namespace.

    fuse-overlayfs walks to its folders by name, as root of the namespace, who may be nobody on the way there (root's own
    home, another map).  The working directory is the container's folder again, by its new name.
    """
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    binds = [mounts.tree("", recursive=False, dirfd=fd) for fd in [here, *lowers]]
    base = mounts.filesystem("tmpfs", "tmpfs", 0, ("mode=755",))
    names = ["container", *map(str, range(len(lowers)))]
    try:
        point = os.open("/tmp", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        linux.move_mount(base, point, "/tmp")
        os.close(point)
        for name, fd in zip(names, binds, strict=True):
            os.mkdir(name, 0o755, dir_fd=base)
            point = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)
            linux.move_mount(fd, point, name)
            os.close(point)
        os.chdir("/tmp/container")
    except OSError as error:
        raise SandboxError.of("bind layer", str(error.filename or ""), error) from None
    finally:
        for fd in (here, base, *binds):
            os.close(fd)
    return [f"/tmp/{name}" for name in names[1:]]


def _await_mount(pid: int) -> None:
    """Until `root` is the fuse file system; the program in the foreground has no other sign of being ready."""
    deadline = time.monotonic() + _PATIENCE
    pause = 0.0005
    while True:
        fd = os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if linux.file_system_magic(fd) == _MAGIC_FUSE:
                return
        finally:
            os.close(fd)
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise died(1)
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            raise SandboxError("mount fuse-overlayfs", "root", detail=f"not there after {_PATIENCE:.0f} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def died(status: int) -> SandboxError:
    """The error for a fuse-overlayfs that ended while it was needed, with its own last words."""
    words = ""
    try:
        with open(_LOG, encoding="utf-8", errors="replace") as file:
            words = file.read(4096).strip().split("\n")[-1]
    except OSError:
        pass
    return SandboxError("serve root file system", PROGRAM, detail=words or f"it ended with status {status}")
