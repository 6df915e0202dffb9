"""Confinement as it is from the inside, with default options: the rows R.. of the catalogue of known weaknesses.

One process inside each kind of sandbox tries everything (confinement_probe.py) and reports; the tests read its report.
The number in a test's name is the row; a row that needs a process of its own has one at the end of this file.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Sbx

from sandbox import channel, linux
from sandbox.profile import calls

MACHINE = os.uname().machine
PROBE = Path(__file__).with_name("confinement_probe.py").read_text()
PYTHON = "/usr/bin/python3"  # the host's own, which `host:` and wrap show

NEW = {
    "user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000,
    "cgroup": 0x2000000,
}  # fmt: skip
HIGH = 1 << 32  # the kernel looks at the low half of an int

# name -> (call, arguments, outcome).  Arguments that would do harm are not valid ones.
CALLS: dict[str, tuple[str, tuple[Any, ...], str]] = {
    **{f"R22 unshare {kind}": ("unshare", (flag,), "EPERM") for kind, flag in NEW.items()},
    "R22 unshare time": ("unshare", (0x80,), "EPERM"),
    **{f"R22 clone {kind}": ("clone", (flag | 17, 0, 0, 0, 0), "EPERM") for kind, flag in NEW.items()},
    "R36 clone3": ("clone3", (0, 0), "ENOSYS"),
    "R14 TIOCSTI": ("ioctl", (0, 0x5412, "x"), "EPERM"),
    "R15 TIOCSTI high": ("ioctl", (0, 0x5412 | HIGH, "x"), "EPERM"),
    "R16 TIOCLINUX": ("ioctl", (0, 0x541C, "\3"), "EPERM"),
    "R16 TIOCSETD": ("ioctl", (0, 0x5423, "\0\0\0\0"), "EPERM"),
    # header: version 3, this process; data: SYS_ADMIN effective and permitted
    "R25 capset": ("capset", ("\x22\x05\x08\x20\0\0\0\0", "\0\0\x20\0" * 2 + "\0" * 16), "EPERM"),
    "R27 keyctl": ("keyctl", (0, -3, 0), "ENOSYS"),
    "R27 add_key": ("add_key", (0, 0, 0, 0, 0), "ENOSYS"),
    "R27 request_key": ("request_key", (0, 0, 0, 0), "ENOSYS"),
    "R29 vsock": ("socket", (40, 1, 0), "EAFNOSUPPORT"),
    "R40 vsock high": ("socket", (40 | HIGH, 1, 0), "EAFNOSUPPORT"),
    "R30 alg": ("socket", (38, 5, 0), "EAFNOSUPPORT"),
    "R40 alg high": ("socket", (38 | HIGH, 5, 0), "EAFNOSUPPORT"),
    "R41 packet": ("socket", (17, 3, 0), "EAFNOSUPPORT"),
    "R41 raw": ("socket", (2, 3, 1), "EPERM"),
    "R41 raw with flags": ("socket", (2, 3 | 0o2000000, 1), "EPERM"),
    "R41 raw high": ("socket", (2, 3 | HIGH, 1), "EPERM"),
    "R41 raw 6": ("socket", (10, 3, 58), "EPERM"),
    "R41 packet by type": ("socket", (2, 10, 3), "EPERM"),
    **{f"R31 netlink {n}": ("socket", (16, 3, n), "EAFNOSUPPORT") for n in (4, 6, 9, 10, 12, 15, 16, 19, 20, 21)},
    "R32 io_uring_setup": ("io_uring_setup", (1, 0), "ENOSYS"),
    "R32 io_uring_enter": ("io_uring_enter", (-1, 0, 0, 0, 0), "ENOSYS"),
    "R32 io_uring_register": ("io_uring_register", (-1, 0, 0, 0), "ENOSYS"),
    "R33 bpf": ("bpf", (0, 0, 0), "EPERM"),
    "R33 perf": ("perf_event_open", (0, 0, -1, -1, 0), "EPERM"),
    "R33 userfaultfd": ("userfaultfd", (1,), "EPERM"),
    "R34 kexec": ("kexec_load", (0, 0, 0, 0), "EPERM"),
    "R34 kexec file": ("kexec_file_load", (-1, -1, 0, 0, 0), "EPERM"),
    "R34 init_module": ("init_module", (0, 0, 0), "EPERM"),
    "R34 finit_module": ("finit_module", (-1, 0, 0), "EPERM"),
    "R34 delete_module": ("delete_module", ("sbx-no-such", 0), "EPERM"),
    "R34 reboot": ("reboot", (0, 0, 0, 0), "EPERM"),
    "R34 swapon": ("swapon", ("/nonexistent", 0), "EPERM"),
    "R34 swapoff": ("swapoff", ("/nonexistent",), "EPERM"),
    "R34 acct": ("acct", ("/nonexistent",), "EPERM"),
    "R34 settimeofday": ("settimeofday", (1, 0), "EPERM"),
    "R34 clock_settime": ("clock_settime", (0, 1), "EPERM"),
    "R34 iopl": ("iopl", (3,), "EPERM"),
    "R34 ioperm": ("ioperm", (0x80, 1, 1), "EPERM"),
    "R35 open_by_handle_at": ("open_by_handle_at", (-1, 0, 0), "EPERM"),
    "R35 name_to_handle_at": ("name_to_handle_at", (-1, "/", 0, 0, 0), "EPERM"),
    "R20 remount": ("mount", ("none", "/", 0, 32 | 4096, 0), "EPERM"),
    "R50 mount": ("mount", ("none", "/tmp", "tmpfs", 0, 0), "EPERM"),
    "R43 umount": ("umount2", ("/proc/kcore", 2), "EPERM"),
    "R43 umount sys": ("umount2", ("/sys/firmware", 2), "EPERM"),
    "R50 pivot_root": ("pivot_root", ("/", "/"), "EPERM"),
    "R50 setns": ("setns", (-1, 0), "EPERM"),
    **{f"R50 {name}": (name, (-1, 0, 0, 0, 0), "ENOSYS") for name in (
        "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "open_tree_attr",
        "statmount", "listmount")},
    "R48 mknod": ("mknodat", (-100, "/tmp/sbx-null", 0o020666, 0x103), "EPERM"),
    "R48 mknod block": ("mknodat", (-100, "/tmp/sbx-disk", 0o060666, 0x800), "EPERM"),
    "R56 syslog": ("syslog", (10, 0, 0), "EPERM"),
    "R57 personality": ("personality", (0x0040000,), "EPERM"),
    "R57 personality high": ("personality", (0x0040000 | HIGH,), "EPERM"),
    "R57 personality read implies exec": ("personality", (0x0400000,), "EPERM"),
    "R58 modify_ldt": ("modify_ldt", (0, 0, 0), "ENOSYS"),
    "R58 memfd_secret": ("memfd_secret", (0,), "ENOSYS"),
    "R58 quotactl": ("quotactl", (0, 0, 0, 0), "EPERM"),
    "R58 fanotify": ("fanotify_init", (0, 0), "EPERM"),
    "R58 move_pages": ("move_pages", (0, 0, 0, 0, 0, 0), "EPERM"),
    "R58 vhangup": ("vhangup", (), "EPERM"),
    "R59 sched_setscheduler": ("sched_setscheduler", (0, 1, "\1\0\0\0"), "EPERM"),
    "R17 pidfd_getfd": ("pidfd_getfd", (-1, 0, 0), "EPERM"),
    "R17 process_vm_writev": ("process_vm_writev", (1, 0, 0, 0, 0, 0), "EPERM"),
    "R17 kcmp": ("kcmp", (1, 1, 0, 0, 0), "EPERM"),
}  # fmt: skip
# By number: calls of tomorrow, and of another table.
NUMBERED = {"R37 a call of tomorrow": (999, (), "ENOSYS")}
if MACHINE == "x86_64":
    NUMBERED["R38 x32 getpid"] = (39 | 0x40000000, (), "ENOSYS")
    NUMBERED["R38 x32 socket"] = (41 | 0x40000000, (2, 1, 0), "ENOSYS")
    NUMBERED["R40 number with a high half"] = (165 | HIGH, ("none", "/tmp", "tmpfs", 0, 0), "EPERM")

MASKED_FILES = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/sched_debug", "/proc/kmsg")
MASKED_FOLDERS = ("/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware", "/sys/devices/virtual/powercap")
CONTROL = (
    "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/user/max_user_namespaces",
    "/proc/sys/fs/binfmt_misc/register", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper", "/sys/power/state",
    "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/cgroup.procs",
)  # fmt: skip
SECRETS = ("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/ssl/private", "/var/log", "/var/lib/docker")
IPC = ("/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem")
SOCKETS = (
    "/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock", "/run/dbus/system_bus_socket",
    "/run/systemd/private", "/run/containerd/containerd.sock", "/tmp/.X11-unix",
)  # fmt: skip
DEVICES = {
    "null": ["char", 1, 3], "zero": ["char", 1, 5], "full": ["char", 1, 7], "random": ["char", 1, 8],
    "urandom": ["char", 1, 9], "tty": ["char", 5, 0],
}  # fmt: skip


# -- the views --

VIEWS = {
    "run": ["run", "host:"],
    "run-user": ["run", "-u", "1000", "host:"],
    "run-init": ["run", "--init", "host:"],
    "run-init-user": ["run", "--init", "-u", "1000", "host:"],
    "run-single": ["run", "--userns", "single", "host:"],
    "run-host-network": ["run", "--network", "host", "host:"],
    "wrap": ["wrap", "--"],
    # in a container that `run -d` of the first word after it made
    "exec": ["exec", "run"],
    "exec-user": ["exec", "-u", "1000", "run"],
    "exec-init": ["exec", "run-init"],
    "exec-single": ["exec", "run-single"],
}
RUN = ("run", "run-user", "run-init", "run-init-user", "run-single", "exec", "exec-user", "exec-init", "exec-single")
# Root of the container, and an ordinary user: where what is allowed depends on it.
ROOTS = ("run", "run-init", "run-single", "run-host-network", "exec", "exec-init", "exec-single")
USERS = ("run-user", "run-init-user", "exec-user", "wrap")
SECRET = {
    "SBX_TEST_TOKEN": "hunter2", "AWS_SECRET_ACCESS_KEY": "hunter2", "SSH_AUTH_SOCK": "/nonexistent/agent",
    "https_proxy": "http://me:hunter2@proxy.example", "HTTP_PROXY": "http://me:hunter2@proxy.example",
}  # fmt: skip


class View:
    """What the probe reported from inside one kind of sandbox."""

    def __init__(self, name: str, found: dict[str, Any]) -> None:
        self.name = name
        self.init = "--init" in name  # sbx's own process is 1
        self.found = found
        self.facts: dict[str, Any] = found["facts"]
        self.status: dict[str, str] = self.facts["status"]

    def mounts(self) -> dict[str, tuple[str, str, set[str]]]:
        """mount point -> (type, its root in the file system, flags of both) of the mount that shows there."""
        result = {}
        for line in self.facts["mountinfo"]:
            fields = line.split(" ")
            dash = fields.index("-")
            flags = {*fields[5].split(","), *(["ro"] if "ro" in fields[dash + 3].split(",") else [])}
            result[fields[4]] = (fields[dash + 1], fields[3], flags)
        return result


def numbers() -> dict[str, tuple[int, tuple[Any, ...]]]:
    found = {name: (calls.number(call, MACHINE), arguments) for name, (call, arguments, _) in CALLS.items()}
    known = {name: (number, arguments) for name, (number, arguments) in found.items() if number is not None}
    return {**known, **{name: (number, arguments) for name, (number, arguments, _) in NUMBERED.items()}}


def probe(sbx: Sbx, verb: list[str], wishes: dict[str, Any], **options: Any) -> View:
    needed = ("socket", "ptrace", "pidfd_open", "pidfd_getfd", "process_vm_readv")
    wishes = {"numbers": {name: calls.number(name, MACHINE) for name in needed}, **wishes}
    done = sbx(*verb, PYTHON, "-Ic", PROBE, json.dumps(wishes), **options)
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return View(" ".join(verb), json.loads(done.stdout))


@pytest.fixture(scope="session")
def host_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where wrap is called, and where a host's program listens."""
    return tmp_path_factory.mktemp("caller")


@pytest.fixture(scope="session")
def host_sockets(host_home: Path) -> Iterator[dict[str, Any]]:
    """Listening on the host: an abstract socket, one in a folder, one on loopback."""
    abstract = f"@sbx-confinement-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as two,
        socket.create_server(("127.0.0.1", 0)) as three,
    ):
        one.bind(abstract.replace("@", "\0"))
        one.listen()
        two.bind(f"/tmp/confinement-{os.getpid()}")
        two.listen()
        try:
            yield {
                "abstract": ["unix", abstract],
                "path": ["unix", two.getsockname()],
                "loopback": ["inet", "127.0.0.1", three.getsockname()[1]],
                "port": three.getsockname()[1],
            }
        finally:
            os.unlink(two.getsockname())


def dirty_caller() -> None:
    """A caller that ignores and blocks signals: in the child, before exec."""
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGALRM])


@pytest.fixture(scope="session")
def views() -> Iterator[dict[str, View]]:
    """Filled by `look`."""
    libc = ctypes.CDLL(None)
    segment = libc.shmget(0, 4096, 0o1600)  # IPC_PRIVATE, IPC_CREAT
    assert segment >= 0
    try:
        yield {}
    finally:
        libc.shmctl(segment, 0, None)  # IPC_RMID


@pytest.fixture(scope="session")
def inhabited(session_sbx: Sbx) -> Iterator[Callable[[str], str]]:
    """The id of a container of this view that sleeps."""
    made: dict[str, str] = {}

    def container(name: str) -> str:
        if name not in made:
            verb, *options, image = VIEWS[name]
            done = session_sbx(verb, "-d", "--rm", *options, image, "sleep", "100000")
            assert (done.returncode, done.stderr) == (0, "")
            made[name] = done.stdout.strip()
        return made[name]

    yield container
    for name in made.values():
        sock = channel.connect(f"{session_sbx.store}/containers/{name}")
        channel.send(sock, "signal", {"number": 9})
        assert channel.receive(sock)[0] == "done"
        sock.close()


@pytest.fixture
def look(
    views: dict[str, View], session_sbx: Sbx, host_home: Path, host_sockets: dict[str, Any],
    inhabited: Callable[[str], str],
) -> Callable[[str], View]:  # fmt: skip
    def view(name: str) -> View:
        if name not in views:
            verb = VIEWS[name]
            if verb[0] == "exec":
                verb = [*verb[:-1], inhabited(verb[-1])]
            home = os.environ["HOME"]
            wishes = {
                "call": numbers(),
                "read": [*MASKED_FILES, "/etc/resolv.conf", "/etc/shadow", *IPC],
                "list": [*MASKED_FOLDERS, "/home", "/root", home, "/run", "/tmp", "/mnt", "/dev", "/dev/pts", "/var/run",
                         "/var/log", "/sys/class/net", "/sys/firmware", "/sys/fs/cgroup"],
                "write": list(CONTROL),
                "write_below": ["/", "/etc", "/usr", "/proc", "/proc/sys", "/sys", "/sys/fs/cgroup", "/tmp"],
                "node": [*(f"/dev/{name}" for name in DEVICES), *MASKED_FILES, *MASKED_FOLDERS, *SECRETS, *SOCKETS],
                "link": ["/dev/ptmx", "/dev/fd", "/proc/1/exe"],
                "connect": [host_sockets["abstract"], host_sockets["path"], host_sockets["loopback"]],
                "pid1": "-init" in name,
            }  # fmt: skip
            folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in ("/", "/etc")]
            try:
                views[name] = probe(
                    session_sbx, verb, wishes, env=SECRET, umask=0, preexec_fn=dirty_caller, cwd=host_home,
                    pass_fds=folders,
                )  # fmt: skip
            finally:
                for fd in folders:
                    os.close(fd)
            views[name].init |= name.endswith("-init")
        return views[name]

    return view


@pytest.fixture(params=list(VIEWS))
def view(request: pytest.FixtureRequest, look: Callable[[str], View]) -> View:
    return look(request.param)


# -- what the probe found --


@pytest.mark.requires("seccomp")
@pytest.mark.parametrize("name", [*CALLS, *NUMBERED])
def test_call(name: str, view: View) -> None:
    """Each refused call, with the errno that a libc understands."""
    if name not in view.found["call"]:
        pytest.skip(f"probe: {name} on {MACHINE}")
    assert view.found["call"][name] == {**CALLS, **NUMBERED}[name][2]


def test_R01_no_descriptor_of_the_host(view: View) -> None:
    assert set(view.facts["descriptors"]) <= {"0", "1", "2"}
    assert view.facts["cwd"].startswith("/") and "unreachable" not in view.facts["cwd"]


def test_R02_descriptors_of_the_caller_are_not_inherited(view: View) -> None:
    """The caller had two folders open for its children."""
    assert not [path for path in view.facts["descriptors"].values() if path in ("/", "/etc")]


def test_R12_R63_id_maps(view: View) -> None:
    """Root of the host is not mapped; setgroups is denied where no helper checked the groups."""
    for kind in ("uid_map", "gid_map"):
        for _, outside, count in view.facts[kind]:
            assert int(outside) > 0 and int(outside) + int(count) <= 1 << 32
    single = len(view.facts["gid_map"]) == 1 and view.facts["gid_map"][0][2] == "1"
    assert view.facts["setgroups"] == ("deny" if single else "allow")


def test_R13_no_groups_of_the_caller(look: Callable[[str], View]) -> None:
    """Not where one id is mapped (wrap, --userns single): there the kernel denies setgroups, for good reason."""
    for name in (*RUN, "run-host-network"):
        assert "single" in name or look(name).facts["groups"] == [], name


def test_R14_session_of_its_own(view: View) -> None:
    assert view.facts["session"] == view.facts["pid"] or view.name.startswith("run --init")


def test_R17_R18_first_process_is_closed(look: Callable[[str], View]) -> None:
    """With --init, process 1 is sbx itself: nothing of it can be opened, read or traced."""
    for view in ("run-init", "run-init-user", "exec-init"):
        found = look(view).found["pid1"]
        for name in ("exe", "cwd", "root", "environ", "maps", "mem", "auxv", "fd", "exe_write"):
            assert found[name] in ("EACCES", "EPERM"), (view, name)
        assert found["ptrace"] == found["seize"] == found["pidfd_getfd"] == "EPERM"
        assert found["process_vm_readv"] == "EPERM"


def test_R17_first_process_is_the_command(look: Callable[[str], View]) -> None:
    for name in ("run", "run-user", "wrap"):
        assert look(name).facts["pid"] == 1


def test_R19_no_propagation(view: View) -> None:
    """No mount is shared with, or follows, a mount outside."""
    for line in view.facts["mountinfo"]:
        optional = line.split(" - ")[0].split(" ")[6:]
        assert optional == [], line


def test_R22_no_nested_user_namespace(view: View) -> None:
    assert view.found["call"]["R22 unshare user"] == view.found["call"]["R22 clone user"] == "EPERM"


def test_R23_inheritable_and_ambient_are_empty(view: View) -> None:
    assert view.status["CapInh"] == view.status["CapAmb"] == "0" * 16


def test_R24_no_capability_but_for_root(look: Callable[[str], View]) -> None:
    for name in USERS:
        assert {look(name).status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}, name


def test_R25_bounding_set_is_what_is_held(look: Callable[[str], View]) -> None:
    """CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SYS_CHROOT SETFCAP and no more."""
    expected = f"{1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 18 | 1 << 31:016x}"
    for name in ROOTS:
        status = look(name).status
        assert status["CapBnd"] == status["CapPrm"] == status["CapEff"] == expected, name


def test_R26_no_new_privileges(view: View) -> None:
    assert view.status["NoNewPrivs"] == "1"


@pytest.mark.requires("seccomp")
def test_R31_only_known_address_families(view: View) -> None:
    """AF_UNIX, AF_INET, AF_INET6, AF_NETLINK; all others as if the kernel had none of them."""
    assert {family for family, outcome in view.found["families"].items() if outcome == "ok"} <= {"1", "2", "10", "16"}
    others = {outcome for family, outcome in view.found["families"].items() if family not in ("1", "2", "10", "16")}
    assert others == {"EAFNOSUPPORT"}


@pytest.mark.requires("seccomp")
def test_R39_no_32_bit_entry(view: View) -> None:
    """`int 0x80` and its multiplexers: ENOSYS (38), or no such entry in this kernel."""
    for name, outcome in view.found.get("i386", {}).items():
        assert outcome in ("exit 38", "SIGSEGV"), name


def test_R42_masked_files(view: View) -> None:
    """They read as empty, because the null device lies over them (R06)."""
    for path in MASKED_FILES:
        assert view.found["read"][path] in ("", "ENOENT"), path
        assert view.found["node"][path] in (["char", 1, 3], "ENOENT"), path


def test_R42_R44_masked_folders(view: View) -> None:
    for path in MASKED_FOLDERS:
        assert view.found["list"][path] in ([], "ENOENT"), path


def test_R42_R46_nothing_of_the_kernel_is_writable(view: View) -> None:
    for path, outcome in view.found["write"].items():
        assert outcome in ("EROFS", "EACCES", "EPERM", "ENOENT"), path
    for path in ("/proc", "/proc/sys", "/sys", "/sys/fs/cgroup"):
        assert view.found["write_below"][path] in ("EROFS", "EACCES", "EPERM", "ENOENT"), path
    mounts = view.mounts()
    for path in ("/proc/sys", "/sys"):
        assert "ro" in mounts[path][2], path


def test_R45_cgroups(view: View) -> None:
    """A namespace of its own: every path is `/`.  What shows is version 2, read-only."""
    assert {line.split(":", 2)[2] for line in view.facts["cgroup"]} == {"/"}
    listed = view.found["list"]["/sys/fs/cgroup"]
    if listed not in ([], "ENOENT"):
        kind, _, flags = view.mounts()["/sys/fs/cgroup"]
        assert kind == "cgroup2" and "ro" in flags
        assert "cgroup.procs" in listed


def test_R47_no_core_dumps(view: View) -> None:
    assert view.facts["limits"]["RLIMIT_CORE"] == [0, 0]


def test_R48_devices(view: View) -> None:
    """The six harmless ones, and no other can be used anywhere: nodev on every mount but theirs."""
    for name, expected in DEVICES.items():
        assert view.found["node"][f"/dev/{name}"] == expected
    listed = set(view.found["list"]["/dev"])
    assert listed <= {*DEVICES, "core", "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue", "console"}
    # What is made in a user namespace (the overlay below /, /dev) gives no devices, with or without the flag.
    may = {f"/dev/{name}" for name in DEVICES} | {"/dev", "/dev/pts", "/"}
    for point, (_, root, flags) in view.mounts().items():
        assert "nodev" in flags or point in may or root.endswith("/null"), point


def test_R49_terminals_of_its_own(view: View) -> None:
    assert view.found["list"]["/dev/pts"] == ["ptmx"]
    assert view.found["link"]["/dev/ptmx"] == "pts/ptmx"


def test_R53_no_name_server_without_a_network(look: Callable[[str], View]) -> None:
    for name in RUN:
        text = look(name).found["read"]["/etc/resolv.conf"]
        assert "search" not in text or text == "ENOENT"


def test_R54_descriptor_limit(view: View) -> None:
    soft, hard = view.facts["limits"]["RLIMIT_NOFILE"]
    assert soft <= 1024 and hard <= 1048576


def test_R59_environment(view: View) -> None:
    """None of the caller's variables but those that wrap names."""
    allowed = {"PATH", "HOME", "container", "HOSTNAME", "LC_CTYPE"}
    if view.name.startswith("wrap"):
        allowed |= {"USER", "LOGNAME", "LANG", "TERM", "LANGUAGE", "TZ", "COLUMNS", "LINES", "NO_COLOR"}
    assert set(view.facts["environment"]) <= allowed
    assert "hunter2" not in json.dumps(view.found)


def test_R59_umask(view: View) -> None:
    assert view.facts["umask"] == 0o022


def test_R59_signals(view: View) -> None:
    """Nothing is ignored or blocked but what Python itself ignores: SIGPIPE and SIGXFSZ."""
    ignored = int(view.status["SigIgn"], 16) & ~(1 << 12 | 1 << 24)
    assert (ignored, int(view.status["SigBlk"], 16)) == (0, 0)


def test_R60_namespaces(view: View) -> None:
    shared = {"time", "time_for_children"} | ({"net"} if "host" in view.name.split() else set())
    for name, found in view.facts["namespaces"].items():
        assert (found == os.readlink(f"/proc/self/ns/{name}")) == (name in shared), name


def test_R60_only_its_own_processes(view: View) -> None:
    command = [2] if view.init else []
    assert view.facts["processes"] == sorted({1, *command, view.facts["pid"]})


def test_R60_only_loopback(look: Callable[[str], View]) -> None:
    for name in (*RUN, "wrap"):
        assert look(name).facts["interfaces"] == ["lo"], name


def test_R60_sysv_ipc(view: View) -> None:
    """Nothing of the host's below the heading; the host has a segment while the probe runs."""
    for path in IPC:
        assert len(view.found["read"][path].splitlines()) == 1, path


def test_R60_hostname(view: View) -> None:
    assert view.facts["hostname"] != os.uname().nodename


def test_R28_abstract_socket_of_the_host(look: Callable[[str], View], host_sockets: dict[str, Any]) -> None:
    for name in (*RUN, "wrap"):
        assert look(name).found["connect"][repr(host_sockets["abstract"])] == "ECONNREFUSED", name


def test_R51_loopback_of_the_host(look: Callable[[str], View], host_sockets: dict[str, Any]) -> None:
    for name in (*RUN, "wrap"):
        assert look(name).found["connect"][repr(host_sockets["loopback"])] == "ECONNREFUSED", name


def test_R61_sockets_of_the_host(view: View, host_sockets: dict[str, Any]) -> None:
    for path in SOCKETS:
        assert view.found["node"][path] in ("ENOENT", "EACCES"), path
    assert view.found["connect"][repr(host_sockets["path"])] == "ENOENT"
    assert view.found["list"]["/run"] == []


def test_R61_files_of_the_host(view: View, host_home: Path) -> None:
    """Homes, temporary files and secrets; masked files are null devices, masked folders empty."""
    home = os.environ["HOME"]
    for path in ("/home", "/root", home, "/mnt", "/var/log"):
        assert view.found["list"][path] in ([], "ENOENT", "EACCES", [home.rpartition("/")[2]]), path
    assert view.found["read"]["/etc/shadow"] in ("", "ENOENT", "EACCES")
    for path in SECRETS:
        assert view.found["node"][path] in (["char", 1, 3], ["folder", 0, 0], "ENOENT", "EACCES"), path
    if not str(host_home).startswith("/tmp/"):
        assert view.found["list"]["/tmp"] == []
    assert f"confinement-{os.getpid()}" not in view.found["list"]["/tmp"]


@pytest.mark.requires("seccomp")
def test_R62_filter_on_every_thread(view: View) -> None:
    assert view.facts["threads"] == ["2", "2"]
    assert view.status["Seccomp"] == "2"


@pytest.mark.parametrize("pair", ["run exec", "run-user exec-user", "run-init exec-init", "run-single exec-single"])
def test_E08_exec_is_as_confined_as_run(pair: str, look: Callable[[str], View]) -> None:
    """What the probe could do, and what it is, is the same: rights, filter, limits, ids, mounts, namespaces' kinds, variables."""
    first, second = (look(name) for name in pair.split())
    for kind in ("call", "families", "i386", "connect", "write", "write_below", "node", "read"):
        assert first.found.get(kind) == second.found.get(kind), kind
    for fact in ("limits", "uid_map", "gid_map", "setgroups", "groups", "umask", "cgroup", "threads", "interfaces"):
        assert first.facts[fact] == second.facts[fact], fact
    for field, value in first.status.items():
        if (
            field.startswith(("Cap", "Sig", "Seccomp", "NoNew", "Uid", "Gid", "Groups", "Speculation"))
            and field != "SigQ"
        ):
            assert second.status[field] == value, field
    assert {(point, kind, *sorted(flags)) for point, (kind, _, flags) in first.mounts().items()} == {
        (point, kind, *sorted(flags)) for point, (kind, _, flags) in second.mounts().items()
    }
    assert set(first.facts["environment"]) >= set(second.facts["environment"])


def test_wrap_shows_the_host_read_only(look: Callable[[str], View]) -> None:
    found = look("wrap").found["write_below"]
    assert [found[path] for path in ("/", "/etc", "/usr")] == ["EROFS"] * 3
    assert found["/tmp"] == "ok"


# -- rows that need a process, an image or a network of their own --


@pytest.fixture
def rootfs(busybox_rootfs: Path, tmp_path: Path) -> Path:
    path = tmp_path / "rootfs"
    shutil.copytree(busybox_rootfs, path, symlinks=True)
    return path


Start = Callable[..., str]


@pytest.fixture
def lasting(session_sbx: Sbx) -> Iterator[Start]:
    """`lasting(IMAGE, OPTIONS...)`: a container that sleeps until the test ends; its id."""
    made = []

    def start(image: str, *options: str) -> str:
        done = session_sbx("run", "-d", "--rm", *options, image, "sleep", "1000")
        assert (done.returncode, done.stderr) == (0, "")
        made.append(done.stdout.strip())
        return made[-1]

    yield start
    for id_ in made:
        session_sbx("rm", "-f", id_)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that an image points to; it must stay as it is."""
    path = tmp_path / "canary"
    path.mkdir()
    (path / "file").write_text("of the host\n")
    yield path
    assert os.listdir(path) == ["file"]
    assert (path / "file").read_text() == "of the host\n"


def replace(path: Path, target: Path | str) -> None:
    """Put a symlink where the image has a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize(
    "path", ["/proc/self/fd/{fd}", "/proc/1/cwd", "/proc/self/root", "/proc/thread-self/fd/{fd}/..", "/link{fd}"]
)
@pytest.mark.parametrize("verb", ["run", "run -u app", "exec", "exec -u app"])
def test_R01_workdir_below_proc(path: str, verb: str, session_sbx: Sbx, rootfs: Path, lasting: Start) -> None:
    """CVE-2024-21626: no descriptor of the host as working directory, by name or by a link of the image."""
    for fd in range(3, 13):
        (rootfs / f"link{fd}").symlink_to(f"/proc/self/fd/{fd}")
    where = lasting(f"rootfs:{rootfs}") if verb.startswith("exec") else f"rootfs:{rootfs}"
    for fd in range(3, 13):
        words = [*verb.split(), "-w", path.format(fd=fd), where, "cat", "/proc/self/cwd/etc/os-release"]
        done = session_sbx(*words)
        if done.returncode == 0:
            assert "sbx-test" in done.stdout  # /proc/self/root is the container's own
        else:
            assert done.returncode == 125
            assert done.stderr.startswith(("sbx: change directory `/proc/", f"sbx: change directory `/link{fd}`"))
        if "{fd}" not in path:
            break


def test_R02_preserved_descriptor(session_sbx: Sbx, busybox_rootfs: Path, tmp_path: Path) -> None:
    """--preserve-fd hands in that one and no other."""
    folders = [os.open(path, os.O_RDONLY) for path in (tmp_path, "/", "/etc")]
    script = "for fd in /proc/$$/fd/*; do readlink $fd; done; true"
    try:
        words = ["run", "--preserve-fd", str(folders[1]), f"rootfs:{busybox_rootfs}", "sh", "-c", script]
        done = session_sbx(*words, pass_fds=folders)
    finally:
        for fd in folders:
            os.close(fd)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in (str(tmp_path), "/", "/etc")] == ["/"]


def test_R02_preserved_descriptors_of_exec(
    session_sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, lasting: Start
) -> None:
    """--preserve-fds 1 hands in 3 and no other, whatever is open."""
    id_ = lasting(f"rootfs:{busybox_rootfs}")
    script = "for fd in /proc/$$/fd/*; do readlink $fd; done; true"
    helper = f"""
import os, sys
for path in ({str(tmp_path)!r}, "/", "/etc"):  # 3, 4, 5
    os.set_inheritable(os.open(path, os.O_RDONLY), True)
os.execv(sys.argv[1], sys.argv[1:])
"""
    words = session_sbx.command("exec", "--preserve-fds", "1", id_, "sh", "-c", script)
    environment = {**session_sbx.environment, "SBX_STORE": str(session_sbx.store)}
    done = subprocess.run([sys.executable, "-Ic", helper, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in (str(tmp_path), "/", "/etc")] == [str(tmp_path)]


def test_R05_nothing_of_the_image_is_loaded(session_sbx: Sbx, rootfs: Path, tmp_path: Path) -> None:
    """CVE-2019-14271: every module that Python could import lies as a trap where the interpreter looks."""
    traps = tmp_path / "fired"
    traps.mkdir()
    traps.chmod(0o777)
    for folder in {path for path in sys.path if path.startswith("/")} | {str(Path(linux.__file__).parent.parent)}:
        inside = rootfs / folder.lstrip("/")
        if inside.is_file() or inside.suffix == ".zip":
            continue
        inside.mkdir(parents=True, exist_ok=True)
        for name in {*sys.stdlib_module_names, "sandbox", "pyseccomp", "typer"}:
            (inside / f"{name}.py").write_text(f"open('/fired/{name}', 'w')\n")
    for words, status in (
        (["run", "IMAGE", "true"], 0),
        (["run", "--init", "-u", "app", "IMAGE", "true"], 0),
        (["run", "IMAGE", "no-such-command"], 127),
        (["run", "IMAGE", "/etc/passwd"], 126),
        (["run", "-w", "/etc/passwd", "IMAGE", "true"], 125),
        (["run", "-u", "nobody-knows", "IMAGE", "true"], 125),
        (["run", "-t", "IMAGE", "true"], 0),
    ):
        options = [word if word != "IMAGE" else f"rootfs:{rootfs}" for word in words[1:]]
        done = session_sbx("run", "-v", f"{traps}:/fired", *options)
        assert done.returncode == status, (words, done.stderr)
    assert os.listdir(traps) == []


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
def test_R09_R10_kernel_folders_are_no_symlinks(name: str, session_sbx: Sbx, rootfs: Path, canary: Path) -> None:
    """An image whose /dev, /proc or /sys is a symlink is refused; where it points to, nothing is mounted or made.

    Several times: the init ends in the middle of its talk with the keeper, and its words must arrive all the same.
    """
    replace(rootfs / name, canary)
    for _ in range(12):
        done = session_sbx("run", f"rootfs:{rootfs}", "true")
        assert done.returncode == 125
        assert f"`/{name}" in done.stderr and "the image has a symlink there" in done.stderr


@pytest.mark.parametrize("options", [[], ["-u", "app"], ["--init"]], ids=["root", "user", "init"])
def test_R06_R07_links_in_the_images_dev(options: list[str], session_sbx: Sbx, rootfs: Path, canary: Path) -> None:
    """CVE-2025-31133, CVE-2025-52565: what an image has in /dev is covered before anything in it is used."""
    for name in ("null", "console", "pts", "ptmx", "shm", "mqueue", "zero"):
        replace(rootfs / "dev" / name, canary / "file" if name in ("null", "console", "zero") else canary)
    script = "test -c /dev/null && test -c /dev/console && cat /proc/keys && tty && ls /dev/pts"
    done = session_sbx("run", "-t", *options, f"rootfs:{rootfs}", "sh", "-c", script)
    assert (done.returncode, done.stdout.split()) == (0, ["/dev/pts/0", "0", "ptmx"]), done.stderr


def test_R09_I19_files_of_etc_stay_in_the_image(session_sbx: Sbx, rootfs: Path, canary: Path) -> None:
    """/etc/hosts and its kin as symlinks out, and a volume on one: mounted inside, wherever they point to."""
    for name in ("hosts", "hostname", "resolv.conf"):
        replace(rootfs / "etc" / name, canary / "file")
    replace(rootfs / "mnt", f"../../../..{canary}")
    words = ["-v", f"{canary}:/mnt/below:ro", "--dns", "192.0.2.1", "--hostname", "inside"]
    done = session_sbx("run", *words, f"rootfs:{rootfs}", "cat", "/etc/hostname", "/mnt/below/file")
    assert done.returncode in (0, 1), done.stderr
    # All three point to one file of the image: the last of them shows.
    assert "of the host" in done.stdout


@pytest.mark.requires("overlay")
def test_R11_mount_target_race(session_sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, canary: Path) -> None:
    """A volume in which a name flips between folder and symlink, while containers mount something below it."""
    shared = tmp_path / "shared"
    (shared / "real").mkdir(parents=True)
    (shared / "flip").symlink_to(canary)
    flipper = subprocess.Popen([sys.executable, "-Ic", f"""
import ctypes, os
os.chdir({str(shared)!r})
rename = ctypes.CDLL(None).renameat2
while True:
    rename(-100, b"real", -100, b"flip", 2)  # RENAME_EXCHANGE
"""])  # fmt: skip
    try:
        statuses = set()
        for _ in range(40):
            words = ["-v", f"{shared}:/shared", "-v", f"{busybox_rootfs}:/shared/flip/below:ro"]
            done = session_sbx("run", *words, f"rootfs:{busybox_rootfs}", "true")
            statuses.add(done.returncode)
            assert os.listdir(canary) == ["file"]
        assert statuses <= {0, 125} and 0 in statuses
    finally:
        flipper.kill()
        flipper.wait()


def test_R13_groups_are_the_images(session_sbx: Sbx, busybox_rootfs: Path) -> None:
    done = session_sbx("run", "-u", "app", f"rootfs:{busybox_rootfs}", "id", "-G")
    assert done.stdout == "1000 29 44\n", done.stderr


@pytest.mark.parametrize("how", ["run", "run -u app", "exec", "exec -u app"])
def test_R20_R21_E06_volumes(how: str, session_sbx: Sbx, busybox_rootfs: Path, lasting: Start) -> None:
    """Read-only reaches the mounts below (/dev/shm is one); volumes give neither set-uid files nor devices."""
    script = "touch /v/shm/sbx-test; touch /v/sbx-test; grep ' /v' /proc/self/mountinfo | cut -d' ' -f6"
    where = [*how.split(), "-v", "/dev:/v:ro", f"rootfs:{busybox_rootfs}"]
    if how.startswith("exec"):
        where = [*how.split(), lasting(f"rootfs:{busybox_rootfs}", "-v", "/dev:/v:ro")]
    done = session_sbx(*where, "sh", "-c", script)
    assert done.stderr.count("Read-only file system") == 2, done.stderr
    flags = [set(line.split(",")) for line in done.stdout.splitlines()]
    assert flags and all({"ro", "nosuid", "nodev"} <= line for line in flags)


GAIN = """
import os, shutil, struct, sys
for name in ("suid", "cap"):
    shutil.copy("/bin/cat", f"/tmp/{name}")
os.chmod("/tmp/suid", 0o4755)
os.chmod("/tmp/cap", 0o755)
os.setxattr("/tmp/cap", "security.capability", struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0))  # setuid+ep
os.setgroups([])
os.setresgid(1000, 1000, 1000)
os.setresuid(1000, 1000, 1000)
sys.stdout.flush()
for name in ("suid", "cap"):
    os.spawnv(os.P_WAIT, f"/tmp/{name}", [name, "/proc/self/status"])
"""


@pytest.mark.parametrize("how", ["run", "exec"])
@pytest.mark.parametrize("allowed", [False, True])
def test_R26_set_uid_and_file_capabilities(allowed: bool, how: str, session_sbx: Sbx, lasting: Start) -> None:
    """Neither gives anything, unless no_new_privs was taken away: then both work, so the files are good ones."""
    option = ["--security-opt", "no-new-privileges=false"] if allowed else []
    where = ["run", *option, "host:"] if how == "run" else ["exec", lasting("host:", *option)]
    done = session_sbx(*where, PYTHON, "-Ic", GAIN)
    assert done.returncode == 0, done.stderr
    fields = [line.split() for line in done.stdout.splitlines()]
    effective = [words[2] for words in fields if words[:1] == ["Uid:"]]
    capabilities = [int(words[1], 16) for words in fields if words[:1] == ["CapEff:"]]
    assert effective == (["0", "1000"] if allowed else ["1000", "1000"])
    assert capabilities[1] == (1 << 7 if allowed else 0)


@pytest.mark.parametrize("how", ["run", "run -u 1000", "exec", "wrap"])
def test_R27_session_keyring_of_its_own(how: str, session_sbx: Sbx, lasting: Start, host_home: Path) -> None:
    """With the filter off, for keyctl: the keyring found inside is not the caller's."""
    ask = f"import ctypes; print(ctypes.CDLL(None).syscall({calls.number('keyctl', MACHINE)}, 0, -3, 0))"
    caller = subprocess.run([sys.executable, "-Ic", ask], capture_output=True, text=True, check=True).stdout
    off = ["--security-opt", "seccomp=unconfined"]
    where = [*how.split(), *off, "--" if how == "wrap" else "host:"]
    if how == "exec":
        where = ["exec", lasting("host:", *off)]
    done = session_sbx(*where, PYTHON, "-Ic", ask, cwd=host_home)
    assert done.returncode == 0 and int(done.stdout) > 0
    assert done.stdout != caller


def test_R61_sockets_as_volumes(
    session_sbx: Sbx, busybox_rootfs: Path, host_sockets: dict[str, Any], host_home: Path
) -> None:
    runtime = os.environ.get("XDG_RUNTIME_DIR") or "/run"
    for source in (host_sockets["path"][1], runtime, "/run", "/"):
        for words in (["run", "-v", f"{source}:/x", f"rootfs:{busybox_rootfs}"], ["wrap", "--rw", source, "--"]):
            done = session_sbx(*words, "true", cwd=host_home)
            assert done.returncode == 125, (source, done)
            assert "mount volume" in done.stderr or (source, words[0]) == ("/", "wrap"), (source, done)


# -- user-mode networks --

# The last one is no such service.  Link-local IPv6 is not here: both helpers carry IPv4 only.
METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254", "198.51.100.1"]


NETWORKS = {
    "slirp4netns": ["run", "--network", "slirp4netns", "host:"],
    "slirp4netns-user": ["run", "-u", "1000", "--network", "slirp4netns", "host:"],
    "slirp4netns-exec": ["exec", "run", "--network", "slirp4netns", "host:"],
    "pasta": ["run", "--network", "pasta", "host:"],
    "pasta-user": ["run", "-u", "1000", "--network", "pasta", "host:"],
    "pasta-wrap": ["wrap", "--network", "pasta", "--"],
}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.requires("slirp" if name[0] == "s" else "pasta")) for name in NETWORKS]
)
def network(
    request: pytest.FixtureRequest, views: dict[str, View], session_sbx: Sbx, host_sockets: dict[str, Any],
    lasting: Start, host_home: Path,
) -> View:  # fmt: skip
    """The view with a user-mode network."""
    if request.param in views:
        return views[request.param]
    verb = NETWORKS[request.param]
    if verb[0] == "exec":
        verb = ["exec", lasting(verb[-1], *verb[2:-1])]
    port = host_sockets["port"]
    targets = [["inet", address, port] for address in ("127.0.0.1", "10.0.2.2", "10.0.2.3", "10.0.2.100")]
    wishes = {"connect": targets, "route": METADATA, "read": ["/etc/resolv.conf"], "call": numbers()}
    views[request.param] = probe(session_sbx, verb, wishes, cwd=host_home)
    return views[request.param]


def test_R51_host_loopback_by_network(network: View) -> None:
    """A server on the host's 127.0.0.1 is not behind the gateway, nor behind any other address of the helper."""
    assert "ok" not in network.found["connect"].values(), network.found["connect"]


def test_R52_metadata_of_clouds(network: View) -> None:
    """No route there, by look-up only: nothing is sent."""
    assert network.found["route"].pop("198.51.100.1") == "ok"  # others go to the helper
    assert set(network.found["route"].values()) <= {"EHOSTUNREACH", "ENETUNREACH"}, network.found["route"]


def test_R53_name_server_is_the_helpers(network: View) -> None:
    assert network.found["read"]["/etc/resolv.conf"] == "nameserver 10.0.2.3\n"


@pytest.mark.requires("seccomp")
def test_R41_R22_calls_with_a_network(network: View) -> None:
    wrong = {
        name: outcome for name, outcome in network.found["call"].items() if outcome != {**CALLS, **NUMBERED}[name][2]
    }
    assert wrong == {}


def test_R60_interfaces_of_the_helper(network: View) -> None:
    assert network.facts["interfaces"] == ["lo", "tap0"]


# -- called by root --


@pytest.mark.root
@pytest.mark.parametrize(
    "verb",
    [["run", "host:"], ["run", "-u", "1000", "host:"], ["wrap", "--"], ["exec"]],
    ids=["run", "user", "wrap", "exec"],
)
def test_R63_called_by_root(verb: list[str], session_sbx: Sbx, host_home: Path, lasting: Start) -> None:
    """Root of the host is not mapped, and what the probe can do is what it can do for everybody."""
    wishes = {"call": numbers(), "write": list(CONTROL), "read": ["/etc/shadow"]}
    where = ["exec", lasting("host:")] if verb == ["exec"] else verb
    view = probe(session_sbx, where, wishes, cwd=host_home, env=SECRET).found
    for kind in ("uid_map", "gid_map"):
        assert all(int(outside) > 0 for _, outside, _ in view["facts"][kind])
    wrong = {name: outcome for name, outcome in view["call"].items() if outcome != {**CALLS, **NUMBERED}[name][2]}
    assert wrong == {}
    assert set(view["write"].values()) <= {"EROFS", "EACCES", "EPERM", "ENOENT"}
    assert view["read"]["/etc/shadow"] in ("", "ENOENT", "EACCES")
    assert view["facts"]["groups"] == []


@pytest.mark.root
def test_host_for_root_can_be_written_to(session_sbx: Sbx) -> None:
    """The top level of `host:` belongs to root of the container, also where root of the host made it."""
    script = (
        "for folder in / /tmp /home /root /run /mnt /etc; do echo x >$folder/made || exit 1; done; ls -ld /tmp /root"
    )
    done = session_sbx("run", "host:", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:1] + line.split()[2:4] for line in done.stdout.splitlines()] == [
        ["drwx------", "root", "root"], ["drwxrwxrwt", "root", "root"],
    ]  # fmt: skip
