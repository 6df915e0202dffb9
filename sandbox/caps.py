"""Capabilities: names, numbers, and how they are taken from a process.  (mechanism, hot)"""

from sandbox import linux
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/capability.h, in order of their numbers
NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def canonical(name: str) -> str:
    """`CAP_X` for "x", "cap_x", "CAP_X"; SandboxError for a name that no kernel knows."""
    word = name.upper().removeprefix("CAP_")
    if word not in NAMES:
        raise SandboxError("read capability", name, EINVAL, detail="no such capability")
    return f"CAP_{word}"


def mask(names: "Iterable[str]") -> int:
    """Bit set of capability names, as capset(2) wants it."""
    bits = 0
    for name in names:
        bits |= 1 << NAMES.index(name.removeprefix("CAP_"))
    return bits


def drop_bounding(keep: int) -> None:
    """Remove all capabilities but `keep` from the bounding set of this process, for good; needs CAP_SETPCAP."""
    for number in range(64):
        if keep >> number & 1:
            continue
        try:
            linux.prctl(linux.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno == EINVAL:
                return  # past the kernel's last capability
            raise


def apply(effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    """Set the four sets of this process.  A set that asks for more than is held is refused by the kernel."""
    linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
    linux.capset(effective, permitted, inheritable)
    for number in range(64):
        if ambient >> number & 1:
            linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, number)


def pass_on() -> int:
    """Let the programs that this process starts have its capabilities, though it is not uid 0; returns which.

    What is left to do afterwards is `apply(held, held, 0, 0)`.
    """
    held = 0
    for number in range(64):
        try:
            held |= linux.prctl(linux.PR_CAPBSET_READ, number) << number
        except OSError:
            break  # past the kernel's last capability
    apply(held, held, held, held)
    return held
