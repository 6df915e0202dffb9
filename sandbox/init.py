"""P2, the init: first process of the nested namespaces; executes a finished list of steps, then the payload.  (launch, hot)

It decides nothing, reads no environment and imports nothing: everything it uses was imported before the clone
(code found in the image would run with our rights: CVE-2019-14271).  Errors go to the keeper as data.
"""

import fcntl
import marshal
import os
import resource

from sandbox import caps, linux, mounts
from sandbox.errors import (
    EACCES,
    EBUSY,
    EINVAL,
    ENOENT,
    ENOSYS,
    ENOTDIR,
    EXIT_FAILED,
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    SandboxError,
)
from sandbox.spec import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from collections.abc import Callable
    from typing import Any, NoReturn
else:
    import _signal

_EVERY = frozenset(range(1, 65)) - {9, 19, 32, 33}  # signals but SIGKILL, SIGSTOP and the C library's own two
_ENDING = (1, 2, 3, 15)
_KEYBOARD, _SI_KERNEL = (2, 3, 20), 128  # SIGINT, SIGQUIT, SIGTSTP; sigaction(2)
_ROOT_IS_GONE = (5, 103, 107, 116)  # EIO, ECONNABORTED, ENOTCONN, ESTALE


class Init:
    """The state of the steps: descriptors of the slots, of the root, and the channel to the keeper."""

    def __init__(self, channel: int, slots: dict[int, int]) -> None:
        self.channel = channel
        self.slots = slots
        self.root_fd = -1
        self.null_fd = -1

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
        """Attach the root file system in this mount namespace; `root` is a folder the keeper made for it."""
        mounts.restrict(self.slots[slot], attributes, subject="/")
        point = os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        linux.move_mount(self.slots[slot], point, "root")
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
        """A terminal of the container's own devpts: its master goes to the keeper, its other end becomes 0, 1, 2.

        The other end is had by TIOCGPTPEER, not by a path that may have been replaced (CVE-2025-52565).
        """
        master = linux.openat2(self.root_fd, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        linux.ioctl(master, linux.TIOCSPTLCK, bytes(4))
        peer = linux.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
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

    def landlock(self, text: str) -> None:
        """Files, ports and processes that are in reach: with the host's network its abstract unix sockets would be
        (CVE-2020-15257)."""
        from sandbox import landlock  # which the keeper has loaded

        landlock.restrict(text, lambda words: self.tell("warn", words))

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

    # -- the process --

    def keyring(self) -> None:
        try:
            linux.keyctl_join_session_keyring()
        except OSError as error:
            if error.errno not in (38, 122):  # ENOSYS: no keyrings in this kernel; EDQUOT: see below
                raise
            if error.errno == 122:
                raise SandboxError("make session keyring", errno=122, hint="check /proc/key-users") from None

    def session(self) -> None:
        """A session of one's own: without it TIOCSTI reaches the caller's terminal (CVE-2017-5226)."""
        try:
            os.setsid()
        except PermissionError:
            pass  # `terminal` has done it

    def rlimit(self, number: int, soft: int, hard: int) -> None:
        limits = [resource.RLIM_INFINITY if n >= 1 << 63 or n < 0 else n for n in (soft, hard)]
        try:
            resource.setrlimit(number, (limits[0], limits[1]))
        except (OSError, ValueError):
            _, most = resource.getrlimit(number)
            raise SandboxError(
                "set resource limit", str(number), detail=f"{hard} is above the caller's hard limit {most}"
            ) from None

    def umask(self, mask: int) -> None:
        os.umask(mask)

    def null_stdin(self) -> None:
        fd = os.open("/dev/null", os.O_RDONLY)
        if fd != 0:
            os.dup2(fd, 0)
            os.close(fd)

    def reaper(self) -> None:
        """Stay as pid 1: the rest of the steps happen in a child, this process passes signals on and reaps.

        What a terminal sends (Ctrl-C) reaches the child by itself: it is in our process group.
        """
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _EVERY)
        child = os.fork()
        if child == 0:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            return
        # The keeper learns of a failed exec from the child's channel alone.
        linux.close_range(0)
        _wait_for_signals()
        while True:
            signal = _signal.sigwaitinfo(_EVERY)
            if signal.si_signo == linux.SIGCHLD:
                _reap(child)
            elif signal.si_signo not in _KEYBOARD or signal.si_code != _SI_KERNEL:
                os.kill(child, signal.si_signo)  # not reaped yet: we would have ended with it

    def pause(self) -> None:
        """Be what holds the namespaces of a pod: reap whoever is left to pid 1, and end when asked to."""
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
        _wait_for_signals()
        linux.close_range(0)
        while True:
            number = _signal.sigwaitinfo(_EVERY).si_signo
            if number == linux.SIGCHLD:
                _reap(-1)
            elif number in _ENDING:
                os._exit(0)

    def bounding(self, keep: int) -> None:
        caps.drop_bounding(keep)

    def ids(self, uid: int, gid: int, groups: tuple[int, ...]) -> None:
        """Groups first, while we may; exactly those of the image's user (CVE-2022-2989)."""
        with open("/proc/self/setgroups", "rb", buffering=0) as file:
            allowed = file.read().startswith(b"allow")
        if allowed:
            os.setgroups(groups)
        elif groups:
            raise SandboxError("set groups", str(groups[0]), EINVAL, detail="only one id is mapped")
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            hint = "the id is outside the id map; `cat /etc/subuid` shows how many ids you have"
            raise SandboxError.of("set user", f"{uid}:{gid}", error, hint) from None
        linux.prctl(linux.PR_SET_KEEPCAPS, 0)

    def cwd(self, path: str) -> None:
        try:
            os.chdir(path)
            real = os.getcwd()
        except OSError as error:
            raise SandboxError.of("change directory", path, error, "-w names a directory of the image") from None
        if not real.startswith("/") or real == "/proc" or real.startswith("/proc/"):
            # A descriptor of the host below /proc/self/fd would lead outside (CVE-2024-21626).
            raise SandboxError("change directory", path, detail="it is not inside the container")

    def parent_death_signal(self) -> None:
        linux.prctl(linux.PR_SET_PDEATHSIG, 9)

    def effective(self) -> None:
        """All that is permitted in effect again; a bit that the kernel does not know is ignored."""
        every = caps.mask(caps.NAMES)
        linux.capset(every, every, 0)

    def capabilities(self, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
        caps.apply(effective, permitted, inheritable, ambient)

    def no_new_privs(self) -> None:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)

    def close_fds(self, keep: tuple[int, ...]) -> None:
        linux.close_range(3, cloexec=True)
        for fd in keep:
            os.set_inheritable(fd, True)

    def seccomp(self, program: bytes, telling: bytes, witness: str) -> None:
        """Load the filter; with `telling`, its form that tells of refusals, hand the listener to the keeper.

        `witness` is a call that fails in another way when the filter is in force.
        """
        listener = _load_telling(telling) if telling else -1
        if listener < 0:
            linux.seccomp_load(program)
        else:
            linux.send_descriptor(self.channel, marshal.dumps(("listener", None)), listener)
        if witness:
            try:
                linux.syscall(witness, None, 0)
            except OSError as error:
                if error.errno == ENOSYS:
                    return
            raise SandboxError("load filter", witness, detail="the kernel took it, and does not enforce it")

    def execute(self, args: tuple[str, ...], env: tuple[str, ...]) -> None:
        environment = dict(entry.partition("=")[::2] for entry in env)
        name = args[0]
        if "/" in name:
            candidates = [name]
        else:
            candidates = [f"{folder or '.'}/{name}" for folder in environment.get("PATH", DEFAULT_PATH).split(":")]
        denied = 0
        for path in candidates:
            try:
                os.execve(path, args, environment)
            except OSError as error:
                if error.errno not in (ENOENT, ENOTDIR, EACCES):
                    # A root file system that went away is not the command's fault.
                    code = EXIT_FAILED if error.errno in _ROOT_IS_GONE else EXIT_NOT_EXECUTABLE
                    raise SandboxError("execute", name, error.errno or 0, code=code) from None
                if error.errno == EACCES or os.path.exists(path):
                    denied = error.errno
        if denied == EACCES:
            raise SandboxError("execute", name, EACCES, code=EXIT_NOT_EXECUTABLE)
        if denied:
            hint = "the file is there, but the interpreter it names (`#!` line or ELF loader) is not in the image"
            raise SandboxError("execute", name, ENOENT, hint=hint, code=EXIT_NOT_FOUND)
        raise SandboxError("execute", name, ENOENT, code=EXIT_NOT_FOUND)

    def own_namespaces(self, *kinds: tuple[str, str]) -> None:
        """Hand our namespaces to the keeper, who can not open those of a process that is not dumpable."""
        for kind, file in kinds:
            fd = os.open(f"/proc/self/ns/{file}", os.O_RDONLY | os.O_CLOEXEC)
            linux.send_descriptor(self.channel, marshal.dumps(("namespace", kind)), fd)
            os.close(fd)

    # -- a further process, see join.py --

    def undumpable(self) -> None:
        """Until exec nobody inside may look at what is still the keeper's memory and program (CVE-2019-5736)."""
        linux.prctl(linux.PR_SET_DUMPABLE, 0)

    def join(self, *spaces: int) -> None:
        for fd in spaces:
            linux.setns(fd, 0)

    def descriptors(self, *fds: int) -> None:
        """`fds` become 0, 1, 2 and so on; -1 is /dev/null."""
        # Out of the way first: a target may be the number of another source, or of the channel.
        least = max(3, len(fds))
        self.channel = fcntl.fcntl(self.channel, fcntl.F_DUPFD_CLOEXEC, least)
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least) if fd >= 0 else -1 for fd in fds]
        for number, fd in enumerate(moved):
            os.dup2(fd if fd >= 0 else os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), number)

    def terminal_of(self, peer: int) -> None:
        os.setsid()
        linux.ioctl(peer, linux.TIOCSCTTY, 0)
        self.descriptors(peer, peer, peer)

    # -- the channel to the keeper, see keeper.py --

    def tell(self, *record: "Any") -> None:
        os.write(self.channel, marshal.dumps(record))

    def expect(self, kind: str) -> None:
        message = linux.receive(self.channel)
        if not message or marshal.loads(message)[0] != kind:
            os._exit(EXIT_FAILED)  # the keeper is gone or has given up; it says why


def _load_telling(program: bytes) -> int:
    """The listener of a filter that tells of refusals; -1 where none can be: refusals are then not explained."""
    flags = linux.SECCOMP_FILTER_FLAG_NEW_LISTENER
    # A signal must not take a call back that the keeper has seen; Linux 5.19 and later can promise that.
    for more in (linux.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0):
        try:
            return linux.seccomp_load(program, flags | more)
        except OSError as error:
            if error.errno == EBUSY:  # we run in a sandbox that has one already, and there can be only one
                return -1
            if error.errno != EINVAL:
                raise
    return -1


def _wait_for_signals() -> None:
    """From now on all signals are had by sigwaitinfo(_EVERY)."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _EVERY)
    for number in _EVERY:
        # Never called.  The keeper looks for it in /proc, where blocked signals that are waited for show as not blocked.
        _signal.signal(number, lambda *_: None)


def _reap(child: int) -> None:
    """Collect whoever has ended; with `child` the process ends."""
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == child:
            status = os.waitstatus_to_exitcode(code)
            os._exit(status if status >= 0 else 128 - status)
        if pid == 0:
            return


def reset_signals() -> None:
    """All dispositions to their defaults and nothing blocked: Python ignores SIGPIPE, callers ignore what they like."""
    for number in _EVERY:
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
            getattr(init, verb)(*arguments)
        # Before anything else: our pid as the host sees it, and the namespaces are there to be opened.
        init.tell("ready", int(os.readlink("/proc/self")))
        for verb, *arguments in steps[first:]:
            if verb == "pivot_root":
                init.expect("go")
            step: Callable[..., None] = getattr(init, verb)
            step(*arguments)
    except SandboxError as error:
        code = error.code
        init.tell("error", error.as_tuple())
    except OSError as error:
        subject = error.filename if isinstance(error.filename, str) else ""
        init.tell("error", SandboxError.of(verb.replace("_", " "), subject, error).as_tuple())
    except BaseException as error:  # nothing may run on in here
        init.tell("error", SandboxError(verb.replace("_", " "), detail=f"{type(error).__name__}: {error}").as_tuple())
    return code
