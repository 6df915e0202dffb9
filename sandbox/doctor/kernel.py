"""Probes of what the kernel itself does: mounts, filters, Landlock, cgroups, terminals, clocks.  (cold)"""

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable

from sandbox import linux, linux_rare
from sandbox.doctor import inside
from sandbox.doctor.ids import OUTER
from sandbox.doctor.packages import as_root
from sandbox.doctor.probe import DEADLINE, MISSING, WEAKER, WORKS, Refused, Scratch, Verdict, step
from sandbox.errors import SandboxError

# Mounted over in a private mount namespace: any folder does that exists everywhere.
POINT = "/tmp"


def _tmpfs() -> None:
    with step("mount tmpfs"):
        linux.mount("tmpfs", POINT, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")


def mount_namespace(scratch: Scratch) -> Verdict:
    """A tmpfs, a bind mount made read-only, and a new root, all in a private mount namespace."""
    inside.enter(linux.CLONE_NEWNS)
    _tmpfs()
    for name in ("root", "old"):
        os.mkdir(f"{POINT}/{name}")
    with step("bind mount", "/usr"):
        linux.mount("/usr", f"{POINT}/old", None, linux.MS_BIND | linux.MS_REC)
    with step("mount tmpfs", "new root"):
        linux.mount("tmpfs", f"{POINT}/root", "tmpfs", 0)
    with step("make mount read-only"):
        linux.mount(None, f"{POINT}/root", None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY)
    os.chdir(f"{POINT}/root")
    with step("pivot root"):
        linux.pivot_root(".", ".")
        linux.umount2(".", linux.MNT_DETACH)
    if os.listdir("/"):
        return Verdict(MISSING, "the old root is still visible after pivot_root")
    return Verdict(WORKS)


def proc_mount(scratch: Scratch) -> Verdict:
    """A new /proc by the first process of a new pid namespace."""
    inside.enter(linux.CLONE_NEWNS | linux.CLONE_NEWPID)

    def as_init() -> str:
        _tmpfs()
        linux.mount("proc", POINT, "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        return os.readlink(f"{POINT}/self")

    try:
        seen = in_child(as_init)
    except OSError as error:
        if error.errno == errno.EPERM:
            return Verdict(
                MISSING, "part of /proc is covered here (a container?), so the kernel refuses a new one", OUTER
            )
        return Verdict(MISSING, f"mount proc: {error.strerror}")
    return Verdict(WORKS) if seen == "1" else Verdict(MISSING, f"the new /proc shows pid {seen} instead of 1")


def sysfs_mount(scratch: Scratch) -> Verdict:
    """A new /sys of a new network namespace; a bind mount of the host's is the fallback."""
    inside.enter(linux.CLONE_NEWNS | linux.CLONE_NEWNET)
    try:
        linux.mount("sysfs", POINT, "sysfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RDONLY)
    except OSError as error:
        return Verdict(WEAKER, f"mount sysfs: {error.strerror}; the host's /sys is shown read-only instead")
    devices = sorted(os.listdir(f"{POINT}/class/net"))
    if "lo" not in devices or len(set(devices) - {"lo", "bonding_masters"}) > 8:
        return Verdict(WEAKER, "the new /sys shows other network devices than the new namespace has")
    return Verdict(WORKS)


def in_child(function: Callable[[], str]) -> str:
    """The text that `function` returns in a forked child; its OSError is raised here."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = "+" + function()
        except OSError as error:
            text = f"-{error.errno}"
        except Exception as error:  # its name is the answer; nothing may leave the child
            text = f"+{type(error).__name__}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(pid, 0)
    if text.startswith("-"):
        raise OSError(int(text[1:]), os.strerror(int(text[1:])))
    return text[1:]


# -- filters --


def _filter(action: int) -> bytes:
    """BPF: `action` for personality(2), allow for the rest.  A probe needs no check of the architecture."""
    allow = 0x7FFF0000
    return b"".join(
        code.to_bytes(2, "little") + bytes((true, false)) + value.to_bytes(4, "little")
        for code, true, false, value in (
            (0x20, 0, 0, 0),  # load the call's number
            (0x15, 0, 1, linux.NR["personality"]),  # equal: next, else skip one
            (0x06, 0, 0, action),
            (0x06, 0, 0, allow),
        )
    )


_NO_SECCOMP = (
    "this kernel was built without seccomp filters (CONFIG_SECCOMP_FILTER), or an outer filter forbids more of them"
)


def seccomp_filter(scratch: Scratch) -> Verdict:
    """Load a filter that gives one call an error number of ours, and make that call."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    try:
        linux.seccomp_load(_filter(0x00050000 | errno.EXDEV))
    except OSError as error:
        return Verdict(MISSING, f"{_NO_SECCOMP} ({error.strerror})")
    try:
        linux_rare.personality(0xFFFFFFFF)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return Verdict(WORKS)
    return Verdict(MISSING, "the filter was accepted, but the filtered call went through")


# struct seccomp_notif is 80 bytes, struct seccomp_notif_resp 24 (linux/seccomp.h)
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101


def seccomp_notify(scratch: Scratch) -> Verdict:
    """A child's call is stopped, reported to us, and answered with an error number of ours."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    try:
        listener = linux.seccomp_load(_filter(linux.SECCOMP_RET_USER_NOTIF), linux.SECCOMP_FILTER_FLAG_NEW_LISTENER)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return Verdict(MISSING, "a listener is in force around this shell already, and the kernel allows one")
        return Verdict(MISSING, f"load a filter with listener: {error.strerror} (Linux 5.5 or newer has it)")
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            linux_rare.personality(0xFFFFFFFF)
            os._exit(0)
        os._exit(1)
    # The kernel writes into this object, which is nobody else's (bytes of a literal could be).
    request = bytes(bytearray(80))
    linux.ioctl(listener, _NOTIF_RECV, request)
    number = int.from_bytes(request[16:20], "little")
    answer = request[:8] + bytes(8) + (-errno.EXDEV & 0xFFFFFFFF).to_bytes(4, "little") + bytes(4)
    linux.ioctl(listener, _NOTIF_SEND, answer)
    failed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    if number != linux.NR["personality"] or not failed:
        return Verdict(MISSING, "the listener did not get the call, or the answer did not arrive")
    return Verdict(WORKS)


def landlock(scratch: Scratch) -> Verdict:
    """Forbid ourselves to read files, and try to read one."""
    try:
        abi = linux_rare.landlock_abi()
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            fix = "add `landlock,` in front of the kernel's boot parameter lsm= (see /sys/kernel/security/lsm)"
            return Verdict(MISSING, "the kernel has Landlock but does not switch it on", fix)
        return Verdict(
            MISSING, f"this kernel has no Landlock ({error.strerror}; Linux 5.13 or newer, CONFIG_SECURITY_LANDLOCK)"
        )
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    read_file = 1 << 2
    rules = linux.syscall("landlock_create_ruleset", read_file.to_bytes(8, "little"), 8, 0)
    linux.syscall("landlock_restrict_self", rules, 0)
    try:
        os.close(os.open("/etc/passwd", os.O_RDONLY))
    except PermissionError:
        if abi < 4:
            return Verdict(WEAKER, f"ABI {abi}: files only; network ports need ABI 4 (Linux 6.7)")
        return Verdict(WORKS, f"ABI {abi}")
    return Verdict(MISSING, "the rules were accepted, but the forbidden file was opened")


# -- control groups --

_WANTED = ("cpu", "memory", "pids")
_PER_PROCESS = "limits then count per process (rlimits), not per container"


def _delegate() -> str:
    """The command that has systemd give every user's sessions the controllers; "" where there is no systemd."""
    if not os.path.isdir("/run/systemd/system"):
        return ""
    folder = "/etc/systemd/system/user@.service.d"
    text = "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n'"
    return (
        f"{as_root('mkdir')} -p {folder} && {text} | {as_root('tee')} {folder}/delegate.conf && "
        f"{as_root('systemctl')} daemon-reload"
    )


def cgroup_delegation(scratch: Scratch) -> Verdict:
    """Make a control group below our own; where that is refused, ask the user's systemd for a delegated one."""
    mount = next((fields[4] for fields in _mountinfo() if fields[fields.index("-") + 1] == "cgroup2"), "")
    unified = "boot with systemd.unified_cgroup_hierarchy=1" if os.path.isdir("/run/systemd/system") else ""
    if not mount:
        return Verdict(WEAKER, f"cgroup v2 is not mounted; {_PER_PROCESS}", unified)
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = next((line[3:].strip() for line in file if line.startswith("0::")), "/")
    if not set(_WANTED) & set(_controllers(mount)):
        return Verdict(WEAKER, f"the controllers belong to cgroup v1 here; {_PER_PROCESS}", unified)
    folder = f"{mount}{own}/sbx-doctor-{os.getpid()}"
    try:
        os.mkdir(folder)
        os.rmdir(folder)
        return _judge_controllers(_controllers(f"{mount}{own}"), "")
    except OSError as error:
        refusal = f"{own}: {error.strerror}"
    manager = _from_user_manager()
    if manager is not None:
        return _judge_controllers(manager, "through the user's systemd")
    return Verdict(WEAKER, f"no control group of our own ({refusal}); {_PER_PROCESS}", _delegate())


def _judge_controllers(there: list[str], how: str) -> Verdict:
    lacking = [name for name in _WANTED if name not in there]
    if lacking:
        cause = f"not delegated: {', '.join(lacking)}; {_PER_PROCESS} for these"
        return Verdict(WEAKER, cause, _delegate())
    return Verdict(WORKS, f"{', '.join(_WANTED)} {how}".strip())


def _mountinfo() -> list[list[str]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        return [line.split() for line in file]


def _controllers(folder: str) -> list[str]:
    with contextlib.suppress(OSError), open(f"{folder}/cgroup.controllers", encoding="ascii") as file:
        return file.read().split()
    return []


def _from_user_manager() -> list[str] | None:
    """The controllers of a scope that systemd --user really made for us; None when there is no such manager."""
    if not shutil.which("systemd-run"):
        return None
    command = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--", "cat"]
    try:
        done = subprocess.run(
            [*command, "/proc/self/cgroup"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=0.6 * DEADLINE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    own = next((line[3:] for line in done.stdout.decode().split("\n") if line.startswith("0::")), "")
    if done.returncode or not own:
        return None
    # The scope is gone by now; the folder above it has the same controllers at most.
    return _controllers(f"/sys/fs/cgroup{os.path.dirname(own)}")


# -- terminal, clocks --


def terminal(scratch: Scratch) -> Verdict:
    """A pseudo terminal of a private devpts: its other end opened through the master, bytes passed through."""
    inside.enter(linux.CLONE_NEWNS)
    with step("mount devpts"):
        linux.mount("devpts", POINT, "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    with step("open terminal"):
        master = os.open(f"{POINT}/ptmx", os.O_RDWR | os.O_NOCTTY)
        linux.ioctl(master, linux.TIOCSPTLCK, bytes(bytearray(4)))
    try:
        peer = linux.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        return Verdict(
            MISSING,
            f"open the terminal through its master (TIOCGPTPEER): {error.strerror} (Linux 4.13 or newer has it)",
        )
    os.write(master, b"hello\n")
    if not inside.readable(peer, 1) or os.read(peer, 64) != b"hello\n":
        return Verdict(MISSING, "bytes do not pass through the new terminal")
    return Verdict(WORKS)


def time_namespace(scratch: Scratch) -> Verdict:
    """A clock an hour ahead, read by a child."""
    try:
        inside.enter(linux.CLONE_NEWTIME)
    except SandboxError as error:
        if error.errno == errno.EINVAL:
            raise Refused("this kernel has no time namespaces (Linux 5.6 or newer, CONFIG_TIME_NS)") from None
        raise
    with step("set clock offset"), open("/proc/self/timens_offsets", "w", encoding="ascii") as file:
        file.write("monotonic 3600 0\n")
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    ahead = float(in_child(lambda: str(time.clock_gettime(time.CLOCK_MONOTONIC)))) - before
    return (
        Verdict(WORKS) if 3590 < ahead < 3700 else Verdict(MISSING, f"the clock is {ahead:.0f} s ahead instead of 3600")
    )
