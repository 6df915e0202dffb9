"""How exposed a profile leaves the host, with reasons: 0 is least, 100 most.  (cold)

Each row has a weight; the number is the exposed weight in percent of all.  It compares profiles with each other and
with a threshold in CI; it is no measure of risk.
"""

from typing import Any

from sandbox.profile.kept import Profile
from sandbox.profile.policy import PERMISSIVE

# call, arguments, weight, reason
_CALLS = (
    ("unshare", (0x10000000,), 10, "user namespaces can be made: kernel code that was written for root is in reach"),
    ("mount", (), 6, "file systems can be mounted"),
    ("fsopen", (), 4, "file systems can be opened by the new mount calls"),
    ("bpf", (), 6, "programs can be loaded into the kernel"),
    ("perf_event_open", (), 4, "the kernel can be observed by its performance counters"),
    ("io_uring_setup", (), 6, "io_uring works past the filter"),
    ("userfaultfd", (), 4, "page faults can be held, which helps to exploit the kernel"),
    ("keyctl", (), 4, "keys of the kernel are in reach"),
    ("ptrace", (), 2, "other processes of the sandbox can be taken over"),
    ("process_vm_writev", (), 2, "memory of other processes can be written"),
    ("open_by_handle_at", (), 4, "files can be opened by handle, past every path"),
    ("kexec_load", (), 4, "another kernel could be loaded"),
    ("init_module", (), 4, "modules could be loaded"),
    ("clone3", (), 2, "clone3 can not be inspected by a filter"),
    ("personality", (0x40000,), 1, "address randomisation can be switched off"),
    ("socket", (40, 1), 3, "AF_VSOCK reaches the hypervisor"),
    ("socket", (38, 5), 3, "AF_ALG: the kernel's crypto code is in reach"),
    ("socket", (17, 3), 3, "packet sockets"),
    ("socket", (2, 3), 2, "raw sockets"),
    ("socket", (16, 3, 0), 1, "netlink sockets"),
    ("socket", (2, 1), 3, "internet sockets"),
    ("socket", (1, 1), 1, "unix sockets"),
    ("modify_ldt", (), 1, "relics: modify_ldt"),
    ("clock_settime", (), 1, "the clock"),
)
_CAPABILITIES = {
    "SYS_ADMIN": 8, "SYS_MODULE": 4, "SYS_RAWIO": 3, "NET_ADMIN": 4, "BPF": 3, "PERFMON": 2, "SYS_PTRACE": 3,
    "NET_RAW": 3, "DAC_OVERRIDE": 2, "DAC_READ_SEARCH": 2, "SETUID": 2, "SETGID": 2, "SETPCAP": 1, "SETFCAP": 1,
    "SYS_CHROOT": 1, "CHOWN": 1, "FOWNER": 1, "FSETID": 1, "KILL": 1, "MKNOD": 1, "SYS_TIME": 1, "SYS_BOOT": 1,
    "NET_BIND_SERVICE": 1, "SYSLOG": 1,
}  # fmt: skip
_MASKS = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/sys/firmware")


def rows(profile: Profile) -> list[dict[str, Any]]:
    """{what, weight, exposed, reason} for every row, in the order in which they are looked at."""
    found: list[dict[str, Any]] = []

    def add(what: str, weight: int, exposed: bool, reason: str) -> None:
        found.append({"what": what, "weight": weight, "exposed": exposed, "reason": reason})

    add("seccomp", 15, not profile.policy.confined, "no system call filter")
    for name, arguments, weight, reason in _CALLS:
        answer = profile.policy.answer(name, (*arguments, *(0,) * (6 - len(arguments))))
        label = f"{name} {arguments[0]:#x}" if arguments else name
        add(label, weight, answer.action in PERMISSIVE, reason)
    for name, weight in _CAPABILITIES.items():
        add(f"CAP_{name}", weight, f"CAP_{name}" in profile.capabilities, f"root inside has {name}")
    settings = profile.settings
    user = settings.get("process.user", "0").partition(":")[0]
    add("noNewPrivileges", 8, not profile.no_new_privileges, "set-uid files and file capabilities give rights")
    add("process.user", 4, not user.strip("0"), "the command may be root of the sandbox")
    add("filesystem.readonly", 3, not settings.get("filesystem.readonly"), "the root file system can be written")
    add("filesystem.mounts", 4, bool(settings.get("filesystem.mounts")), "files of the host are mounted")
    for path in _MASKS:
        add(path, 1, path not in profile.masked_paths, "it shows facts about the host's kernel")
    mode = settings.get("network.mode")
    add("network.mode", 4, mode not in (None, "none"), f"the network is {mode}")
    locks = settings.get("lock", ())
    add("lock network", 2, not {"network", "network.mode"} & set(locks), "an option may open the network")
    add("lock seccomp", 2, "seccomp" not in locks, "an option may take the filter away")
    add("environment.pass", 1, bool(settings.get("environment.pass")), "variables of the caller are handed in")
    add("devices.allow", 1, "tty" in settings.get("devices.allow", ("tty",)), "/dev/tty works")
    limits = {kind: hard for kind, _, hard in profile.rlimits}
    add("rlimits.core", 1, limits.get("RLIMIT_CORE", 1) != 0, "core dumps are written")
    add("process.timeout", 1, "process.timeout" not in settings, "no wall clock limit")
    add("limits.memory", 2, "limits.memory.limit" not in settings, "no memory limit")
    add("limits.pids", 2, "limits.pids.limit" not in settings, "no limit of processes")
    return found


def number(found: list[dict[str, Any]]) -> int:
    """Exposure in percent of all weight."""
    exposed, whole = (sum(int(row["weight"]) for row in found if row["exposed"] or every) for every in (False, True))
    return round(100 * exposed / whole)
