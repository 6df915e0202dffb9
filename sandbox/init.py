"""P2, the init: first process of the nested namespaces; executes a finished list of steps, then the payload.  (launch, hot)

It decides nothing, reads no environment and imports nothing: everything it uses was imported before the clone
(code found in the image would run with our rights: CVE-2019-14271).  Errors go to the keeper as data.
"""

import marshal
import os
import sys

from sandbox import linux, mounts
from sandbox.errors import EINVAL, ENOENT, EXIT_FAILED, SandboxError
from sandbox.init_process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any, NoReturn
else:
    import _signal

EVERY = frozenset(range(1, 65)) - {9, 19, 32, 33}  # signals but SIGKILL, SIGSTOP and the C library's own two
# Steps that most starts do without -> the module that has them, as functions of the Init; the keeper has loaded it.
ROOMS = {
    **dict.fromkeys(("reaper", "pause"), "init_reaper"),
    **dict.fromkeys(("undumpable", "join", "descriptors", "terminal_of", "own_namespaces"), "join"),
}


class Init(Process):
    """The state of the steps: descriptors of the slots, of the root, and the channel to the keeper."""

    def __init__(self, channel: int, slots: dict[int, int]) -> None:
        super().__init__(channel)
        self.slots = slots
        self.root_fd = -1
        self.null_fd = -1

    def step(self, verb: str, *arguments: "Any") -> None:
        """Execute one step."""
        if verb in ROOMS:
            getattr(sys.modules[f"sandbox.{ROOMS[verb]}"], verb)(self, *arguments)
        else:
            getattr(self, verb)(*arguments)

    # -- before all others --

    def cgroup(self, procs: int, apart: bool) -> None:
        """Into the container's control group; with `apart` what is above it is seen no more from now on."""
        os.write(procs, b"0")
        if apart:
            linux.unshare(linux.CLONE_NEWCGROUP)

    def oom_score_adj(self, score: int) -> None:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))

    # -- mounts: everything below the root's descriptor --

    def hostname(self, name: str) -> None:
        linux.sethostname(name.encode())

    def loopback(self) -> None:
        linux.loopback_up()

    def unreachable(self, network: str, prefix: int) -> None:
        from sandbox import linux_rare  # which the keeper has loaded

        linux_rare.unreachable_route(network, prefix)

    def root(self, slot: int, attributes: int) -> None:
        """Attach the root file system in this mount namespace, on the container's folder: all that is needed of it is open."""
        mounts.restrict(self.slots[slot], attributes, subject="/")
        point = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        linux.move_mount(self.slots[slot], point, "/")
        os.close(point)
        self.root_fd = self.slots[slot]

    def mount(self, destination: str, fstype: str, source: str, attributes: int, *options: str) -> None:
        fd = mounts.filesystem(fstype, source, attributes, options)
        mounts.attach(fd, self.root_fd, destination)
        os.close(fd)

    def bind(self, destination: str, slot: int, attributes: int, cleared: int) -> None:
        fd = self.slots[slot]
        mounts.restrict(fd, attributes, cleared, destination)
        mounts.attach(fd, self.root_fd, destination)
        if destination == "/dev/null":
            self.null_fd = fd

    def folder(self, path: str) -> None:
        """A folder that the image's config names (WorkingDir, Volumes) and that may be missing in its layers."""
        os.close(mounts.target(self.root_fd, path, directory=True))

    def symlink(self, points_to: str, path: str) -> None:
        folder, _, name = path.rpartition("/")
        fd = mounts.target(self.root_fd, folder, directory=True)
        try:
            os.symlink(points_to, name, dir_fd=fd)
        except FileExistsError:
            pass
        finally:
            os.close(fd)

    def terminal(self, uid: int) -> None:
        """A terminal of the container's own devpts: its master goes to the keeper, its other end becomes 0, 1, 2."""
        master, peer = open_terminal(self.root_fd)
        name = os.readlink(f"/proc/self/fd/{peer}").rpartition("/")[2]
        console = mounts.tree(f"dev/pts/{name}", recursive=False, dirfd=self.root_fd)
        mounts.attach(console, self.root_fd, "/dev/console")
        os.close(console)
        try:
            os.fchown(peer, uid, -1)
        except OSError as error:
            if error.errno != EINVAL:  # not mapped: `ids` says it
                raise
        linux.send_descriptor(self.channel, marshal.dumps(("fd", None)), master)
        self.expect("go")
        os.close(master)
        os.setsid()
        linux.ioctl(peer, linux.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(peer, fd)
        os.close(peer)

    def sysctl(self, key: str, value: str) -> None:
        """Write through our own procfs, which `mount` put there: no link, no other file system (CVE-2025-52881)."""
        path = "proc/sys/" + key.replace(".", "/")
        resolve = linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_BENEATH
        try:
            fd = linux.openat2(self.root_fd, path, os.O_WRONLY, resolve)
            try:
                if linux.file_system_magic(fd) != linux.STATFS_MAGIC_PROC:
                    raise SandboxError("set sysctl", key, detail="not a file of /proc/sys")
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise SandboxError.of("set sysctl", key, error) from None

    def no_namespaces(self) -> None:
        """No user namespace below ours, whatever the filter lets through: the limit is ours, and who set it can lift it,
        which takes CAP_SYS_RESOURCE and a /proc/sys that can be written."""
        try:
            self.sysctl("user.max_user_namespaces", "0")
        except SandboxError as error:
            if error.errno != ENOENT:  # a kernel without user namespaces to limit
                raise

    def readonly(self, path: str) -> None:
        mounts.make_readonly(self.root_fd, path)

    def mask(self, *paths: str) -> None:
        status = os.stat(self.null_fd)
        if status.st_mode & 0o170000 != 0o020000 or status.st_rdev != os.makedev(1, 3):
            raise SandboxError("mask", "/dev/null", detail="it is not the null device")
        for path in paths:
            mounts.mask(self.root_fd, path, self.null_fd)

    def readonly_root(self) -> None:
        linux.mount_setattr(self.root_fd, "", linux.AT_EMPTY_PATH, linux.MOUNT_ATTR_RDONLY)

    def pivot_root(self) -> None:
        """Swap the roots on one spot and let go of the old one: nothing of the host stays reachable."""
        os.fchdir(self.root_fd)
        linux.pivot_root(".", ".")
        linux.umount2(".", linux.MNT_DETACH)
        os.chdir("/")


def open_terminal(root: int) -> tuple[int, int]:
    """(master, its other end) of a new terminal of the devpts below the folder `root`.

    The other end is had by TIOCGPTPEER, not by a path that may have been replaced (CVE-2025-52565).
    """
    master = linux.openat2(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    linux.ioctl(master, linux.TIOCSPTLCK, bytes(4))
    return master, linux.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def reset_signals() -> None:
    """All dispositions to their defaults and nothing blocked: Python ignores SIGPIPE, callers ignore what they like."""
    for number in EVERY:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def run(steps: "list[tuple[Any, ...]]", channel: int, slots: dict[int, int]) -> "NoReturn":
    """Execute the steps; does not return.  A failed step is reported to the keeper with its verb and subject."""
    init = Init(channel, slots)
    code = EXIT_FAILED
    try:
        code = _steps(init, steps)
    finally:
        os._exit(code)  # whatever happened: the keeper's code above us must never run in here


def _steps(init: Init, steps: "list[tuple[Any, ...]]") -> int:
    """Execute the steps; returns the exit status of one that failed, which was reported."""
    verb = "start"
    code = EXIT_FAILED
    try:
        reset_signals()
        # The last namespace may have to be made yet, and the group joined.
        first = 1 if steps[0][0] == "cgroup" else 0
        for verb, *arguments in steps[:first]:
            init.step(verb, *arguments)
        # Before anything else: our pid as the host sees it, and the namespaces are there to be opened.
        init.tell("ready", int(os.readlink("/proc/self")))
        for verb, *arguments in steps[first:]:
            if verb == "pivot_root":
                init.expect("go")
            init.step(verb, *arguments)
    except SandboxError as error:
        code = error.code
        init.tell("error", error.as_tuple())
    except OSError as error:
        subject = error.filename if isinstance(error.filename, str) else ""
        init.tell("error", SandboxError.of(verb.replace("_", " "), subject, error).as_tuple())
    except BaseException as error:  # nothing may run on in here
        init.tell("error", SandboxError(verb.replace("_", " "), detail=f"{type(error).__name__}: {error}").as_tuple())
    return code
