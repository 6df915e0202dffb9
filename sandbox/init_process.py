"""P2: the steps that make the command's process, from its session to exec; also for `exec`.  (launch, hot)"""

import marshal
import os

from sandbox import caps, linux
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
    from typing import Any

_ROOT_IS_GONE = (5, 103, 107, 116)  # EIO, ECONNABORTED, ENOTCONN, ESTALE


class Process:
    """Each method is a step, see init.py; `channel` leads to the keeper."""

    def __init__(self, channel: int) -> None:
        self.channel = channel

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
        limits = [linux.RLIM_INFINITY if n >= 1 << 63 or n < 0 else n for n in (soft, hard)]
        try:
            linux.prlimit(number, (limits[0], limits[1]))
        except OSError:
            _, most = linux.prlimit(number)
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

    def landlock(self, text: str) -> None:
        """Files, ports and processes that are in reach: with the host's network its abstract unix sockets would be
        (CVE-2020-15257)."""
        from sandbox import landlock  # which the keeper has loaded

        landlock.restrict(text, lambda words: self.tell("warn", words))

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
        listener = load_telling(telling) if telling else -1
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

    # -- the channel to the keeper, see keeper.py --

    def tell(self, *record: "Any") -> None:
        os.write(self.channel, marshal.dumps(record))

    def expect(self, kind: str) -> None:
        message = linux.receive(self.channel)
        if not message or marshal.loads(message)[0] != kind:
            os._exit(EXIT_FAILED)  # the keeper is gone or has given up; it says why


def load_telling(program: bytes) -> int:
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
