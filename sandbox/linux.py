"""Every system call number, flag and struct that Python 3.11 has no function for, and the wrappers.  (core, hot)

The only file that talks to C; wrappers that most starts do without are in linux_rare.py.  It uses `_ctypes`, the
extension below ctypes: `import ctypes` costs 3 ms at each start, `_ctypes` 0.4 ms, and what is needed of the package
on top of it is the eight lines of `_Syscall`.

One wrapper per call, named as in the manual page.  Each raises OSError with the path or name it was about; the
callers, who know the step, turn that into a SandboxError.  Numbers: the kernel's asm/unistd.h and uapi headers.
"""

import os
import sys
from _ctypes import FUNCFLAG_CDECL, FUNCFLAG_PYTHONAPI, FUNCFLAG_USE_ERRNO, CFuncPtr, _SimpleCData, dlopen, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MACHINE = os.uname().machine

# From 424 on all architectures share their numbers; below, each has a table of its own.
_NUMBERS_BELOW_424 = {
    "x86_64": {
        "clone": 56, "umask": 95, "ptrace": 101, "capget": 125, "capset": 126, "personality": 135, "pivot_root": 155,
        "prctl": 157, "mount": 165, "umount2": 166, "sethostname": 170, "setdomainname": 171, "ioctl": 16,
        "socket": 41, "unshare": 272, "setns": 308, "seccomp": 317, "execveat": 322, "keyctl": 250, "ioprio_set": 251,
        "socketpair": 53, "sendmsg": 46, "recvmsg": 47, "getdents64": 217, "statfs": 137, "fstatfs": 138, "syncfs": 306,
        "prlimit64": 302,
    },
    "aarch64": {
        "clone": 220, "umask": 166, "ptrace": 117, "capget": 90, "capset": 91, "personality": 92, "pivot_root": 41,
        "prctl": 167, "mount": 40, "umount2": 39, "sethostname": 161, "setdomainname": 162, "ioctl": 29,
        "socket": 198, "unshare": 97, "setns": 268, "seccomp": 277, "execveat": 281, "keyctl": 219, "ioprio_set": 30,
        "socketpair": 199, "sendmsg": 211, "recvmsg": 212, "getdents64": 61, "statfs": 43, "fstatfs": 44, "syncfs": 267,
        "prlimit64": 261,
    },
}  # fmt: skip
_NUMBERS_FROM_424 = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438, "mount_setattr": 442,
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
}  # fmt: skip
NR = {**_NUMBERS_BELOW_424.get(MACHINE, {}), **_NUMBERS_FROM_424}

# linux/audit.h: what seccomp_data.arch says
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# clone(2), unshare(2), setns(2)
CLONE_PARENT = 0x8000
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x80, 0x20000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
SIGCHLD = 17

# mount(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

# open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), mount_setattr(2)
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC = 1, 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME, MOUNT_ATTR_IDMAP = 0x10, 0x20, 0x70, 0x100000

# openat2(2)
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16

# prctl(2)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 4, 8, 23, 24
PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT = 38, 36, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4

# seccomp(2)
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1, 8, 32
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101

# ioctl_tty(2), netdevice(7), keyctl(2)
TIOCSCTTY, TIOCGWINSZ, TIOCSWINSZ, TIOCSPTLCK, TIOCGPTPEER = 0x540E, 0x5413, 0x5414, 0x40045431, 0x5441
TIOCGDEV = 0x80045432
SIOCSIFFLAGS, IFF_UP, AF_INET, SOCK_DGRAM, SOCK_CLOEXEC = 0x8914, 1, 2, 2, 0o2000000
KEYCTL_JOIN_SESSION_KEYRING = 1
TUNSETPERSIST = 0x400454CB  # linux/if_tun.h

# getrlimit(2); the module `resource` is a file to be found and loaded
RLIMIT_NOFILE, RLIM_INFINITY = 7, (1 << 64) - 1

STATFS_MAGIC_PROC, STATFS_MAGIC_NSFS = 0x9FA0, 0x6E736673


class c_long(_SimpleCData):  # type: ignore[type-arg]  # generic in the stubs only
    """C's long; ctypes has the same three lines."""

    _type_ = "l"


class _Argument(_SimpleCData):  # type: ignore[type-arg]
    """C's void *, as wide as long: an int, the address of bytes, or None for NULL."""

    _type_ = "P"


class _Syscall(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI | FUNCFLAG_USE_ERRNO  # PYTHONAPI: the GIL stays held, see `clone`
    _restype_ = c_long


class _Library:
    """What CFuncPtr looks a symbol up in: an object with a dlopen(3) handle; NULL is the running program itself."""

    _handle = dlopen(None, 0)  # type: ignore[arg-type]  # the stubs do not know about NULL


def _with_arguments(count: int) -> "Any":
    function: Any = _Syscall(("syscall", _Library))  # type: ignore[arg-type]
    function.argtypes = (c_long, *[_Argument] * count)
    return function


_syscall = [_with_arguments(count) for count in range(7)]


def syscall(name: str, *args: "int | bytes | None", subject: str = "") -> int:
    """System call `name`; ints, bytes (their address) and None (NULL) as arguments.

    Raises OSError(errno, strerror, subject or name) when it fails, ENOSYS for a name without a number here.
    """
    number = NR.get(name)
    if number is None:
        raise OSError(38, os.strerror(38), f"{name} on {MACHINE}")
    result: int = _syscall[len(args)](number, *args)
    if result == -1:
        error = get_errno()
        raise OSError(error, os.strerror(error), subject or name)
    return result


def packed(*fields: tuple[int, int]) -> bytes:
    """Little-endian C struct of (value, size in bytes) pairs; both supported architectures are little-endian."""
    return b"".join((value & ((1 << 8 * size) - 1)).to_bytes(size, "little") for value, size in fields)


# -- processes and namespaces --


def clone(flags: int) -> int:
    """Like fork(2), with CLONE_NEW* flags: 0 in the child, the child's pid in the parent.

    Raw clone keeps the interpreter as it is, without Python's after-fork work: sound only because sbx has one thread
    and the GIL is held throughout.  glibc's cached thread id is the parent's in the child; nothing here uses it.
    """
    return syscall("clone", flags | SIGCHLD, 0, 0, 0, 0)


def unshare(flags: int) -> None:
    syscall("unshare", flags)


def setns(fd: int, kinds: int) -> None:
    syscall("setns", fd, kinds)


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    return syscall("prctl", option, a, b, c, d, subject=f"prctl {option}")


def prlimit(number: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
    """(soft, hard) limit of this process, RLIMIT_* `number`, as it was before `limits` were set."""
    known = bytes(bytearray(16))  # struct rlimit64 of our own for the kernel to fill
    new = packed((limits[0], 8), (limits[1], 8)) if limits else None
    syscall("prlimit64", 0, number, new, known, subject=f"limit {number}")
    return int.from_bytes(known[:8], sys.byteorder), int.from_bytes(known[8:], sys.byteorder)


def close_range(first: int, last: int = 0xFFFFFFFF, *, cloexec: bool = False) -> None:
    """Close descriptors first..last, or with `cloexec` only mark them."""
    syscall("close_range", first, last, 4 if cloexec else 0)


def sethostname(name: bytes) -> None:
    syscall("sethostname", name, len(name), subject=os.fsdecode(name))


def write_file(path: str, text: str) -> None:
    """Into a file of /proc or of a control group, in one write(2)."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# -- mounts --


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    syscall(
        "mount",
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if fstype is None else fstype.encode(),
        flags,
        None if data is None else os.fsencode(data),
        subject=target,
    )


def umount2(target: str, flags: int = 0) -> None:
    syscall("umount2", os.fsencode(target), flags, subject=target)


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", os.fsencode(new), os.fsencode(old), subject=new)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """A descriptor of the mount at `path`; with OPEN_TREE_CLONE a new, detached copy of it."""
    return syscall("open_tree", dirfd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC, subject=path)


def move_mount(mount_fd: int, target_fd: int, subject: str = "") -> None:
    """Attach the detached mount `mount_fd` on top of the file or folder behind `target_fd`: no path is looked up."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall("move_mount", mount_fd, b"", target_fd, b"", flags, subject=subject)


def fsopen(fstype: str) -> int:
    return syscall("fsopen", fstype.encode(), FSOPEN_CLOEXEC, subject=fstype)


def fsconfig_string(fs: int, key: str, value: str) -> None:
    syscall("fsconfig", fs, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0, subject=f"{key}={value}")


def fsconfig_flag(fs: int, key: str) -> None:
    syscall("fsconfig", fs, FSCONFIG_SET_FLAG, key.encode(), None, 0, subject=key)


def fsconfig_create(fs: int) -> None:
    syscall("fsconfig", fs, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fs: int, attributes: int = 0) -> int:
    """A detached mount of the file system configured in `fs`, with MOUNT_ATTR_* attributes."""
    return syscall("fsmount", fs, FSMOUNT_CLOEXEC, attributes)


def mount_setattr(
    fd: int, path: str, flags: int, set_: int, clear: int = 0, propagation: int = 0, userns: int = 0
) -> None:
    """Set and clear MOUNT_ATTR_* of a mount, with AT_RECURSIVE of the whole tree; the kernel keeps locked flags."""
    attr = packed((set_, 8), (clear, 8), (propagation, 8), (userns, 8))
    syscall("mount_setattr", fd, os.fsencode(path), flags, attr, len(attr), subject=path)


def openat2(dirfd: int, path: str, flags: int, resolve: int = RESOLVE_IN_ROOT, mode: int = 0) -> int:
    """open(2) with RESOLVE_* limits; the default treats `dirfd` as the root, whatever links or `..` say."""
    how = packed((flags | os.O_CLOEXEC, 8), (mode, 8), (resolve, 8))
    while True:
        try:
            return syscall("openat2", dirfd, os.fsencode(path), how, len(how), subject=path)
        except BlockingIOError:
            continue  # EAGAIN: a rename or mount elsewhere raced with a `..`; the manual says to try again


def file_system_magic(fd: int) -> int:
    """f_type of fstatfs(2)."""
    buffer = bytearray(256)
    # The kernel writes into our buffer: a bytes object of our own, never shared, stands in for char[256].
    data = bytes(buffer)
    syscall("fstatfs", fd, data)
    return int.from_bytes(data[:8], sys.byteorder)


def socketpair() -> tuple[int, int]:
    """Two connected AF_UNIX SOCK_SEQPACKET sockets, close-on-exec: message boundaries are kept, and end of file is seen."""
    pair = bytes(bytearray(8))  # int[2] of our own for the kernel to fill
    syscall("socketpair", 1, 5 | SOCK_CLOEXEC, 0, pair)
    return int.from_bytes(pair[:4], sys.byteorder), int.from_bytes(pair[4:], sys.byteorder)


def receive(fd: int) -> bytes:
    """The next record of a `socketpair`, b"" at its end.

    A peer that ended with records of ours unread leaves ECONNRESET in front of what it said last: told once, passed over.
    """
    while True:
        try:
            return os.read(fd, 1 << 16)
        except ConnectionResetError:
            continue


def send_descriptor(channel: int, record: bytes, fd: int) -> None:
    """Send `record` over a `socketpair`, and a copy of `fd` with it."""
    control = packed((20, 8), (1, 4), (1, 4), (fd, 4), (0, 4))  # struct cmsghdr: SOL_SOCKET, SCM_RIGHTS, one int
    part = packed((address(record), 8), (len(record), 8))
    message = packed((0, 8), (0, 8), (address(part), 8), (1, 8), (address(control), 8), (len(control), 8), (0, 8))
    syscall("sendmsg", channel, message, 0)


def receive_descriptor(channel: int) -> tuple[bytes, int]:
    """(next record, descriptor that came with it or -1); as `receive` at the end.  For records of at most 64 KiB."""
    buffer, control = bytes(1 << 16), bytes(bytearray(24))  # of our own for the kernel to fill
    part = packed((address(buffer), 8), (len(buffer), 8))
    while True:
        fields = ((0, 8), (0, 8), (address(part), 8), (1, 8), (address(control), 8), (len(control), 8), (0, 8))
        message = packed(*fields)
        try:
            length = syscall("recvmsg", channel, message, 0x40000000)  # MSG_CMSG_CLOEXEC
        except OSError as error:
            if error.errno not in (4, 104):  # interrupted; reset, see `receive`
                raise
            continue
        given = int.from_bytes(message[40:48], sys.byteorder)  # msg_controllen as the kernel leaves it
        return buffer[:length], int.from_bytes(control[16:20], sys.byteorder) if given >= 20 else -1


# -- rights --


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2), version 3: three bit sets of 64."""
    header = packed((0x20080522, 4), (0, 4))
    low, high = 0xFFFFFFFF, 32
    data = packed(
        (effective & low, 4), (permitted & low, 4), (inheritable & low, 4),
        (effective >> high, 4), (permitted >> high, 4), (inheritable >> high, 4),
    )  # fmt: skip
    syscall("capset", header, data)


def seccomp_load(program: bytes, flags: int = SECCOMP_FILTER_FLAG_TSYNC) -> int:
    """Load a BPF program (struct sock_filter[], 8 bytes each); returns the listener with NEW_LISTENER, else 0."""
    fprog = packed((len(program) // 8, 8), (address(program), 8))
    return syscall("seccomp", SECCOMP_SET_MODE_FILTER, flags, fprog)


def address(data: bytes) -> int:
    """Where the bytes of `data` lie in memory; valid while the caller keeps a reference to it."""
    # CPython's bytes object: the payload starts at id + basicsize - 1 (its terminating NUL is counted there).
    return id(data) + bytes.__basicsize__ - 1


def keyctl_join_session_keyring() -> None:
    """A new anonymous session keyring, so that keys of the login session can not be found from inside."""
    syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None, 0, 0, 0)


# -- terminals and network devices --


def ioctl(fd: int, request: int, argument: "int | bytes" = 0) -> int:
    return syscall("ioctl", fd, request, argument, subject=f"ioctl {request:#x}")


def loopback_up() -> None:
    """Set IFF_UP of `lo` in the current network namespace."""
    fd = syscall("socket", AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        request = b"lo".ljust(16, b"\0") + packed((IFF_UP | 0x40, 2)) + bytes(22)
        ioctl(fd, SIOCSIFFLAGS, request)
    finally:
        os.close(fd)
