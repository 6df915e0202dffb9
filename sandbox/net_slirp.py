"""User-mode networking: slirp4netns and pasta, started by the keeper outside the payload's namespaces.  (mechanism, hot)

Both give the same fixed addresses, so nothing of the host's network shows inside and images find the same everywhere:
the container is 10.0.2.100/24, its gateway 10.0.2.2, its name server 10.0.2.3.  The host's own loopback is out of
reach (`--disable-host-loopback`, `--no-map-gw`).
"""

import fcntl
import os

from sandbox import caps, linux, linux_rare, userns
from sandbox.errors import EACCES, ENOENT, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
else:
    import _signal

ADDRESS, GATEWAY, NAMESERVER = "10.0.2.100", "10.0.2.2", "10.0.2.3"
_LOG = "network.log"
_INSTALL = {
    "slirp4netns": "install the package slirp4netns, or choose `--network pasta` or `--network none`",
    "pasta": "install the package passt, or choose `--network slirp4netns` or `--network none`",
}
_PID = "network.pid"
_NETNS_FD, _READY_FD, _SIGPIPE = 10, 11, 13
_SOME_DESCRIPTORS = 24  # slirp4netns and pasta have a dozen open

SLIRP4NETNS = (
    "slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp",
    f"--ready-fd={_READY_FD}", "--netns-type=path", f"/proc/self/fd/{_NETNS_FD}", "tap0",
)  # fmt: skip
_CLOSED = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")  # what is forwarded: in, in, out, out
PASTA = (
    "pasta", "--config-net", "--quiet", "--pid", _PID, "--netns-only",
    "--ns-ifname", "tap0", "-a", ADDRESS, "-n", "24", "-g", GATEWAY, "-D", "none", "--dns-forward", NAMESERVER,
    "--no-map-gw", "--mtu", "65520", "--ipv4-only", *_CLOSED,
)  # fmt: skip


def start(program: str, pid: int, published: str = "", namespace: int = -1) -> int:
    """Connect the network namespace of process `pid` (as the host numbers it); returns the helper's pid when it is up.

    `namespace`: a descriptor of it, where that of the process can not be opened.
    `published`: lines of dev.sbx.ports, see ports.py.  Errors: SandboxError with the program's own last words.
    """
    path = userns.find(program)
    if not path:
        raise SandboxError("find program", program, ENOENT, hint=_INSTALL[program])
    if program == "slirp4netns" and os.geteuid():
        # Its own sandbox, which we do not want to do without, starts with setegid(0).
        raise SandboxError(
            "connect network", program, detail="it must be root of the namespace, which has only your own id",
            hint="`--network pasta` can do it",
        )  # fmt: skip
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        hint = "load the tun module: `sudo modprobe tun`"
        if error.errno in (1, EACCES):
            hint = "/dev/net/tun must be readable and writable for everyone; `sudo chmod 666 /dev/net/tun`"
        raise SandboxError.of("open network device", "/dev/net/tun", error, hint) from None
    given: list[tuple[str, str, int, int]] = []
    if published:
        from sandbox import ports

        given = ports.read(published)
        ports.check(given)
    try:
        namespace = os.dup(namespace) if namespace >= 0 else os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("open network namespace", str(pid), error) from None
    try:
        if program == "pasta":
            helper = _start_pasta(path, pid, namespace, given)
        else:
            helper = _start_slirp4netns(path, namespace, given)
    finally:
        os.close(namespace)
    _let_device_outlive(helper)
    return helper


def _let_device_outlive(helper: int) -> None:
    """Make the helper's tap device persistent: it goes with its namespace, not with the helper's descriptor.

    Closing the descriptor of a device that is not persistent removes it there and then, for which the kernel waits 10 to
    20 ms; we would wait with it at the end of each run.  The namespace's own end removes it in the background.  Without
    this all works the same, only later.
    """
    try:
        pidfd = linux_rare.pidfd_open(helper)
    except OSError:
        return
    for number in range(3, _SOME_DESCRIPTORS):
        try:
            fd = linux_rare.pidfd_getfd(pidfd, number)
        except OSError:
            continue
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == "/dev/net/tun":
                linux.ioctl(fd, linux.TUNSETPERSIST, 1)
        except OSError:
            pass
        finally:
            os.close(fd)
    os.close(pidfd)


def _spawn(path: str, arguments: tuple[str, ...], *copies: tuple[int, int]) -> int:
    """Start a helper whose words go to the log; `copies` are (descriptor, its number in the helper).  Returns its pid."""
    # Out of the way first: a number may be that of another's source, as it falls.
    least = max(number for _, number in copies) + 1
    moved = [(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least), number) for fd, number in copies]
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        *((os.POSIX_SPAWN_DUP2, fd, number) for fd, number in moved),
    ]
    # To enter the namespace takes rights, which an exec by another uid than 0 (wrap) loses.
    held = caps.pass_on() if os.geteuid() else 0
    try:
        # pasta takes an ignored SIGPIPE, as Python leaves it, for a failure.
        return os.posix_spawn(path, arguments, {}, file_actions=actions, setsigdef=[_SIGPIPE])
    except OSError as error:
        raise SandboxError.of("start program", path, error) from None
    finally:
        for fd, _ in moved:
            os.close(fd)
        if held:
            caps.apply(held, held, 0, 0)


def _start_slirp4netns(path: str, namespace: int, given: "list[tuple[str, str, int, int]]") -> int:
    """slirp4netns stays our child and writes to its ready descriptor; then it is told of the published ports."""
    words: tuple[str, ...] = SLIRP4NETNS
    if given:
        from sandbox import ports

        ports.remove_socket()
        words = (*SLIRP4NETNS[:1], f"--api-socket={ports.API}", *SLIRP4NETNS[1:])
    read, write = os.pipe()
    try:
        helper = _spawn(path, words, (namespace, _NETNS_FD), (write, _READY_FD))
    finally:
        os.close(write)
    ready = os.read(read, 1)
    os.close(read)
    if not ready:
        raise died(os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]), "slirp4netns")
    if given:
        ports.forward(given, ADDRESS)
    return helper


def _start_pasta(path: str, pid: int, namespace: int, given: "list[tuple[str, str, int, int]]") -> int:
    """pasta goes to the background when it is ready; its orphan is our child, since we are pid 1 here.

    It gets the namespace by descriptor, because it has given up the right to look at other processes when it opens it.
    Since 2025 it keeps that right, and closes all descriptors that it inherits: then by the path of a process.  Where it
    is not root of the namespace (wrap) it keeps too few rights for that, and gets one to look at that has none.
    """
    words: tuple[str, ...] = PASTA
    if given:
        from sandbox import ports

        words = (*PASTA[: -len(_CLOSED)], *ports.pasta_arguments(given), *_CLOSED[4:])
    status = 1
    ways = [
        ("--netns", f"/proc/self/fd/{_NETNS_FD}"),
        ("--netns", f"/proc/{pid}/ns/net"),
        *([()] if os.geteuid() else ()),
    ]
    while status > 0 and ways:  # else it is up, or killed
        stand_in, way = 0, ways.pop(0)
        if not way:
            stand_in, number = _stand_in(namespace)
            way = ("--no-netns-quit", "--netns", f"/proc/{number}/ns/net")
        child = _spawn(path, (*words, *way), (namespace, _NETNS_FD))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if stand_in:
            os.kill(stand_in, 9)
            os.waitpid(stand_in, 0)
    if status:
        raise died(status, "pasta")
    with open(_PID, encoding="utf-8") as file:
        return int(file.read())


def _stand_in(namespace: int) -> "tuple[int, str]":
    """A process in `namespace` that has no capabilities and waits: (its pid, the same as /proc has it)."""
    read, write = os.pipe2(os.O_CLOEXEC)
    child = linux.clone(0)
    if child == 0:
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            linux.setns(namespace, linux.CLONE_NEWNET)
            caps.apply(0, 0, 0, 0)
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
            os.write(write, os.readlink("/proc/self").encode())
            while True:
                _signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    number = os.read(read, 20).decode()
    os.close(read)
    return child, number


def died(status: int, program: str = "network helper") -> SandboxError:
    """The error for a helper that ended, at its start or while the container ran."""
    words = ""
    try:
        with open(_LOG, encoding="utf-8", errors="replace") as file:
            words = file.read(4096).strip().split("\n")[-1]
    except OSError:
        pass
    return SandboxError(
        "connect network", program, detail=f"it ended with status {status}" + (f": {words}" if words else ""),
        hint="the container is ended with it; `sbx doctor` tries the network helpers",
    )  # fmt: skip
