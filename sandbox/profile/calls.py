"""System calls by name: which number on which architecture, and what libseccomp does not know yet.  (cold)

libseccomp's own table ends with the kernel it was made for (2.5.4: Linux 6.7 at most), while a profile should speak
about today's calls.  From 424 on every architecture uses the same numbers, so one table here is enough.
"""

import difflib
import errno
import os
from typing import Any

from sandbox.errors import SandboxError

# include/uapi/asm-generic/unistd.h; the last entry is of Linux 7.0
FROM_424 = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438, "faccessat2": 439,
    "process_madvise": 440, "epoll_pwait2": 441, "mount_setattr": 442, "quotactl_fd": 443,
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446, "memfd_secret": 447,
    "process_mrelease": 448, "futex_waitv": 449, "set_mempolicy_home_node": 450, "cachestat": 451, "fchmodat2": 452,
    "map_shadow_stack": 453, "futex_wake": 454, "futex_wait": 455, "futex_requeue": 456, "statmount": 457,
    "listmount": 458, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462,
    "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "open_tree_attr": 467,
    "file_getattr": 468, "file_setattr": 469, "listns": 470, "rseq_slice_yield": 471,
}  # fmt: skip

# arch/x86/entry/syscalls/syscall_64.tbl: gaps below 424 that were filled late, for this architecture only
LATE_BELOW_424 = {"x86_64": {"uretprobe": 335, "uprobe": 336}, "aarch64": {}}

# machine of uname(2) -> (AUDIT_ARCH_*, name in OCI, name in docker's profiles)
MACHINES = {
    "x86_64": (0xC000003E, "SCMP_ARCH_X86_64", "amd64"),
    "aarch64": (0xC00000B7, "SCMP_ARCH_AARCH64", "arm64"),
}

_UNKNOWN = -1  # libseccomp's __NR_SCMP_ERROR; other negative numbers are calls that exist on other architectures


def library() -> Any:
    """The module pyseccomp; SandboxError when it or libseccomp is missing."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise SandboxError(
            "load library", "libseccomp.so.2", errno.ENOENT, str(error),
            "install it: `apt-get install libseccomp2` and `pip install pyseccomp`",
        ) from None  # fmt: skip
    return pyseccomp


def machine() -> str:
    """uname's machine; SandboxError for one that has no tables here."""
    name = os.uname().machine
    if name not in MACHINES:
        raise SandboxError(
            "compile seccomp filter", name, errno.ENOSYS, "no system call table for this architecture",
            f"supported are {' and '.join(MACHINES)}; `--security-opt seccomp=unconfined` runs without a filter",
        )  # fmt: skip
    return name


def number(name: str, on: str) -> int | None:
    """The call's number on machine `on`, None when only other architectures have it; KeyError when none has."""
    late = LATE_BELOW_424[on].get(name)
    if late is not None:
        return late
    found: int = library().resolve_syscall(MACHINES[on][0], name)
    if found >= 0:
        return found
    if name in FROM_424:
        return FROM_424[name]
    if found == _UNKNOWN and not came_late(name):
        raise KeyError(name)
    return None


def came_late(name: str) -> bool:
    """Whether some architecture got the call late, so that libseccomp may not know it at all."""
    return any(name in table for table in LATE_BELOW_424.values())


def table(on: str) -> dict[str, int]:
    """All calls of machine `on`, by name."""
    seccomp = library()
    result = {}
    for nr in range(424):
        try:
            result[seccomp.resolve_syscall(MACHINES[on][0], nr).decode()] = nr
        except ValueError:
            continue
    return result | LATE_BELOW_424[on] | FROM_424


def nearest(name: str) -> str:
    """The known call that looks most like `name`, or ""."""
    known = set(table("x86_64")) | set(table("aarch64"))
    return next(iter(difflib.get_close_matches(name, sorted(known), 1)), "")


def looked_at(filtered: bool) -> str:
    """The annotation dev.sbx.explain for this machine; SandboxError for a command without a filter, which is what tells."""
    from sandbox.explain import LOOKED_AT

    if not filtered:
        raise SandboxError("run", "--explain", errno.EINVAL, "this profile has no filter, which is what tells of calls")
    numbers = table(machine())
    return ",".join(f"{numbers[name]}={name}" for name in LOOKED_AT if name in numbers)
