"""What `--print-config` prints, run by crun and runc, is what `sbx run` does: ids, rights, mounts, limits, environment.

crun does not start where cgroup versions are mixed, and mounting anything takes a user namespace: the runtimes run in
`sbx unshare`, with cgroup2 on /sys/fs/cgroup.  The host's ids in the id maps of the spec are put in the numbers that they
have there, and the maps that a process of the container got are read from the host's side.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from images import Images
from support import Sbx

from sandbox import idmap

RUNTIMES = ("crun", "runc")

OPTIONS: dict[str, list[str]] = {
    "default": [],
    "user": ["-u", "1000"],
    "user-name": ["-u", "app", "-w", "/home/app"],
    "user-caps": ["-u", "app", "--cap-add", "NET_ADMIN", "--cap-add", "CHOWN"],
    "read-only": ["--read-only"],
    "capabilities": ["--cap-add", "SYS_PTRACE", "--cap-drop", "CHOWN", "--cap-drop", "SETUID"],
    "volumes": [
        "-v",
        "{volume}:/data",
        "-v",
        "{volume}:/data-ro:ro,noexec",
        "--mount",
        "type=bind,src={volume}/file,dst=/f",
    ],
    "tmpfs": ["--tmpfs", "/scratch:size=1m,mode=700,noexec", "--tmpfs", "/tmp"],
    "limits": ["--ulimit", "nofile=64:128", "--ulimit", "core=0", "--ulimit", "nproc=100:200", "--umask", "0077"],
    "sysctl": ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shm_rmid_forced=1"],
    "host-network": ["--network", "host"],
    "environment": ["-e", "A=b c", "-e", "EMPTY=", "--hostname", "oracle", "-w", "/etc", "--shm-size", "1m"],
    "no-seccomp": ["--security-opt", "seccomp=unconfined"],
    "single-id": ["--userns", "single"],
    "keep-id": ["--userns", "keep-id"],
    "new-privileges": ["--security-opt", "no-new-privileges=false"],
}

# What the payload says about itself; it ends when its standard input does, so that we can look at it from outside.
PAYLOAD = """
for file in status mountinfo limits; do echo "== $file"; cat /proc/self/$file; done
echo == cwd; pwd; echo == umask; umask; echo == hostname; hostname; echo == environment; env
echo == sysctl; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ping_group_range
echo == devices; ls -l /dev | sed 's/ [A-Z][a-z][a-z] *[0-9]* [0-9:]*//'
echo == files; cat /etc/hosts /etc/hostname /etc/resolv.conf 2>/dev/null
echo == pid; echo $$; echo == end
read line || :
"""

# Lines of /proc/self/status that say what a process may do; the others count (pid, memory, switches).
STATUS = (
    "Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapInh", "CapPrm", "CapEff", "CapBnd",
    "CapAmb", "SigBlk", "SigIgn", "SigCgt",
)  # fmt: skip


@dataclass
class Found:
    """What one runtime made of one spec."""

    sections: dict[str, list[str]]
    maps: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> dict[str, str]:
        pairs = (line.partition(":")[::2] for line in self.sections["status"])
        return {name: " ".join(value.split()) for name, value in pairs if name in STATUS}


def look(process: "subprocess.Popen[str]", marker: str) -> Found:
    """Read the payload's report, then its id maps as the host sees them, and let it end."""
    assert process.stdin and process.stdout and process.stderr
    sections: dict[str, list[str]] = {}
    name = ""
    for line in map(str.rstrip, process.stdout):
        if line == "== end":
            break
        if line.startswith("== "):
            name = line[3:]
            sections[name] = []
        elif name:
            sections[name].append(line)
    else:
        process.wait(20)
        pytest.fail(f"{process.args}: {process.returncode}\n{process.stderr.read()}")
    found = Found(sections)
    for kind in ("uid_map", "gid_map"):
        found.maps[kind] = Path(f"/proc/{payload(marker)}/{kind}").read_text()
    process.stdin.close()
    assert process.wait(20) == 0, process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    return found


def payload(marker: str) -> int:
    """The pid, as we see it, of the shell with `marker` in its environment."""
    # The shell itself, not a launcher that was called with these words: $0 is the marker.
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"/bin/sh", b"-c"] and words[3:4] == [marker.encode()]:
                return int(name)
    pytest.fail(f"no process {marker}")


@pytest.fixture(scope="module")
def rootfs(busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of our own: the runtimes make mount points in it."""
    path = tmp_path_factory.mktemp("oracle") / "rootfs"
    shutil.copytree(busybox_rootfs, path, symlinks=True)
    for name in ("data", "data-ro", "scratch"):
        (path / name).mkdir()
    (path / "f").touch()
    return path


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume")
    (path / "file").write_text("of the host\n")
    return path


@dataclass
class Pair:
    """One set of options: the printed spec, what sbx makes of it, and what the others do."""

    spec: dict[str, Any]
    ours: Found
    others: dict[str, Found] = field(default_factory=dict)


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    """By name of OPTIONS; each is made when a test first asks for it."""
    return {}


@pytest.fixture(params=list(OPTIONS))
def pair(request: pytest.FixtureRequest, pairs: dict[str, Pair], session_sbx: Sbx, rootfs: Path, volume: Path) -> Pair:
    name: str = request.param
    if name not in pairs:
        options = [word.format(volume=volume) for word in OPTIONS[name]]
        marker = f"oracle-{name}-{os.getpid()}"
        words = [*options, "-i", f"rootfs:{rootfs}", "/bin/sh", "-c", PAYLOAD, marker]
        printed = session_sbx("run", "--print-config", *words)
        assert printed.returncode == 0, printed.stderr
        spec = json.loads(printed.stdout)
        # The same host name as in the printed spec, where a container's own is random.
        named = [] if "--hostname" in options else ["--hostname", spec["hostname"]]
        started = session_sbx.popen("run", *named, *words, stdin=subprocess.PIPE)
        pairs[name] = Pair(spec, look(started, marker))
    return pairs[name]


@pytest.fixture(params=RUNTIMES)
def theirs(request: pytest.FixtureRequest, pair: Pair, session_sbx: Sbx, tmp_path: Path) -> Found:
    runtime: str = request.param
    if shutil.which(runtime) is None:
        pytest.skip(f"probe: {runtime} is installed")
    if runtime not in pair.others:
        pair.others[runtime] = run_bundle(runtime, pair.spec, session_sbx, tmp_path)
    return pair.others[runtime]


def run_bundle(runtime: str, spec: dict[str, Any], sbx: Sbx, folder: Path) -> Found:
    """The spec run by `runtime`, with nothing changed but the id maps."""
    spec = json.loads(json.dumps(spec))
    outside = idmap.resolve()
    for kind, entries in (("uidMappings", outside["uid"]), ("gidMappings", outside["gid"])):
        for entry in spec["linux"][kind]:
            inside, first, count = next(e for e in entries if e[1] <= entry["hostID"] < e[1] + e[2])
            entry["hostID"] += inside - first
            assert entry["hostID"] + entry["size"] <= inside + count
    (folder / "config.json").write_text(json.dumps(spec))
    marker = spec["process"]["args"][3]
    manage = ["--cgroup-manager=disabled"] if runtime == "crun" else []
    shell = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    started = sbx.popen(
        "unshare", "unshare", "-mC", "sh", "-c", shell, "sh", runtime, f"--root={folder}/state", *manage, "run",
        f"--bundle={folder}", f"oracle-{os.getpid()}-{time.monotonic_ns()}", stdin=subprocess.PIPE,
    )  # fmt: skip
    return look(started, marker)


def test_status(pair: Pair, theirs: Found) -> None:
    ours, others = pair.ours.status, theirs.status
    if len(pair.spec["linux"]["gidMappings"]) == 1 and pair.spec["linux"]["gidMappings"][0]["size"] == 1:
        # One id is mapped without a helper, so setgroups is denied; `sbx unshare` has dropped all groups before them.
        del ours["Groups"], others["Groups"]
    assert others == ours


def test_id_maps(pair: Pair, theirs: Found) -> None:
    assert theirs.maps == pair.ours.maps


@pytest.mark.parametrize("section", ["limits", "cwd", "umask", "hostname", "environment", "sysctl", "files", "pid"])
def test_report(section: str, pair: Pair, theirs: Found) -> None:
    assert sorted(theirs.sections[section]) == sorted(pair.ours.sections[section])


def test_devices(pair: Pair, theirs: Found) -> None:
    """Names, types, numbers, modes, owners and link targets in /dev."""
    # runc makes core only where the kernel has /proc/kcore, and gives mqueue to another of the caller's groups.
    ours, others = (
        {line for line in found.sections["devices"] if not {"core", "mqueue"} & {*line.split()}}
        for found in (pair.ours, theirs)
    )
    assert others == ours


# -- mounts --


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: proc(5)."""

    kind: str
    flags: frozenset[str]
    options: frozenset[str]  # of the file system


STRICTER = {"ro", "nosuid", "nodev", "noexec"}
NULL = "a null device lies over it: neither flag changes what can be done with it"


@dataclass(frozen=True)
class Difference:
    """A known, harmless difference on the mount points of one `place`: these flags are only ours, or may differ."""

    runtimes: str
    place: str
    reason: str
    ours: frozenset[str] = frozenset()  # flags that we have and they lack: ours is stricter
    either: frozenset[str] = frozenset()
    options: bool = False  # the file system's own options may differ
    kind: bool = False  # its type, too


DIFFERENCES = (
    Difference("crun runc", "root", "sbx puts the root together from layers, they bind root.path", options=True,
               kind=True),
    Difference("crun runc", "masked folder", "an empty read-only tmpfs: ours is tiny and has all flags",
               ours=frozenset({"nosuid", "nodev", "noexec"}), options=True),
    Difference("crun runc", "masked file", NULL, either=frozenset({"ro", "nosuid", "noexec"})),
    Difference("runc", "device", "runc binds device nodes as they are", ours=frozenset({"nosuid", "noexec"})),
    Difference("crun", "read-only path", "crun 1.8 binds a path over itself without the flags of its mount",
               ours=frozenset({"nosuid", "nodev", "noexec"})),
    Difference("crun", "bind", "crun 1.8 sets the flags of a bind mount only when `ro` is among them",
               ours=frozenset({"nosuid", "nodev", "noexec"})),
    Difference("runc", "sysfs", "runc gives `ro` to the file system too", options=True),
    Difference("runc", "cgroup in the host's /sys", "refused there on the first cgroup2, runc puts an empty tmpfs",
               ours=frozenset({"nosuid", "nodev", "noexec"}), options=True, kind=True),
    *(Difference("crun", where, "crun 1.28 follows no links there, and cgroup2 has none", either=frozenset({"nosymfollow"}))
      for where in ("cgroup", "cgroup in the host's /sys")),
    Difference("crun runc", "below a bind", "ro and the others reach the mounts below only with sbx",
               ours=frozenset(STRICTER)),
)  # fmt: skip


def mounts(found: Found) -> dict[str, Mount]:
    """By mount point; the last mount on a point is the one that shows."""
    result = {}
    for line in found.sections["mountinfo"]:
        fields = line.split(" ")
        dash = fields.index("-")
        flags, options = (frozenset(fields[n].split(",")) - {"rw"} for n in (5, dash + 3))
        result[fields[4]] = Mount(fields[dash + 1], flags, options)
    return result


def place(point: str, mount: Mount, spec: dict[str, Any]) -> str:
    """Which of the places of DIFFERENCES a mount point is."""
    kinds = {m["destination"]: m for m in spec["mounts"]}
    if point == "/":
        return "root"
    if point in spec["linux"]["maskedPaths"]:
        return "masked folder" if mount.kind == "tmpfs" else "masked file"
    if point in spec["linux"]["readonlyPaths"]:
        return "read-only path"
    if point == "/sys/fs/cgroup" and kinds["/sys"]["type"] == "bind":
        return "cgroup in the host's /sys"
    if point in kinds:
        return "bind" if kinds[point]["type"] == "bind" else kinds[point]["type"]
    if point.startswith("/dev/"):
        return "device"
    if any(m["type"] == "bind" and point.startswith(d + "/") for d, m in kinds.items()):
        return "below a bind"
    return "?"


def same(ours: Mount, others: Mount, known: list[Difference]) -> bool:
    allowed = frozenset().union(*(row.ours | row.either for row in known))
    either = frozenset().union(*(row.either for row in known))
    if (ours.flags ^ others.flags) - allowed or (others.flags - ours.flags) - either:
        return False
    if ours.kind != others.kind and not any(row.kind for row in known):
        return False
    return ours.options == others.options or any(row.options for row in known)


def test_mounts(pair: Pair, theirs: Found, request: pytest.FixtureRequest) -> None:
    """Mount points, types and options; what differs is in DIFFERENCES, and there is never less of a lock in ours."""
    runtime = request.node.callspec.params["theirs"]
    ours, others = mounts(pair.ours), mounts(theirs)
    assert sorted(ours) == sorted(others)
    wrong = []
    for point, mount in ours.items():
        where = place(point, mount, pair.spec)
        known = [row for row in DIFFERENCES if row.place == where and runtime in row.runtimes.split()]
        if not same(mount, others[point], known):
            wrong.append((point, where, mount, others[point]))
    assert wrong == []


# -- the printed spec by itself --


def test_printed_twice(session_sbx: Sbx, busybox_rootfs: Path) -> None:
    """The same host name, and files that outlive the call; nothing is made in the store."""
    before = list((session_sbx.store / "containers").glob("*"))  # other tests' may live
    first, second = (session_sbx("run", "--print-config", f"rootfs:{busybox_rootfs}", "true") for _ in range(2))
    assert first.returncode == 0 and first.stdout == second.stdout
    spec = json.loads(first.stdout)
    sources = {m["destination"]: m["source"] for m in spec["mounts"] if m["destination"].startswith("/etc/")}
    assert sorted(sources) == ["/etc/hostname", "/etc/hosts"]
    assert Path(sources["/etc/hostname"]).read_text() == spec["hostname"] + "\n"
    assert f"127.0.1.1\t{spec['hostname']}" in Path(sources["/etc/hosts"]).read_text()
    assert list((session_sbx.store / "containers").glob("*")) == before


@pytest.mark.requires("overlay")
def test_printed_user_is_looked_up_through_all_layers(sbx: Sbx, layered_oci: Callable[[int], Images]) -> None:
    """passwd is in the first of three layers; the printed spec has numbers, the rights of that user, and its home."""
    look_up_through_layers(sbx, layered_oci(3).oci)


@pytest.mark.root
def test_printed_user_by_root(sbx: Sbx, layered_oci: Callable[[int], Images]) -> None:
    """The layers belong to subordinate ids, below a folder that is root's alone."""
    look_up_through_layers(sbx, layered_oci(3).oci)


def look_up_through_layers(sbx: Sbx, image: str) -> None:
    printed = sbx("run", "--print-config", "-u", "app", "--group-add", "video", image, "id")
    assert printed.returncode == 0, printed.stderr
    spec = json.loads(printed.stdout)
    assert spec["process"]["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [29, 44], "umask": 0o022}
    assert "HOME=/home/app" in spec["process"]["env"]
    assert set(map(tuple, spec["process"]["capabilities"].values())) == {()}
    assert not {"dev.sbx.user", "dev.sbx.groups", "dev.sbx.home"} & set(spec["annotations"])


def test_printed_user_that_is_not_there(session_sbx: Sbx, busybox_rootfs: Path) -> None:
    printed = session_sbx("run", "--print-config", "-u", "nosuch", f"rootfs:{busybox_rootfs}", "id")
    assert (printed.returncode, printed.stdout) == (125, "")
    assert printed.stderr.startswith("sbx: find user `nosuch`: ")


def test_printed_to_a_reader_that_is_gone(session_sbx: Sbx, busybox_rootfs: Path) -> None:
    """As `sbx run --print-config ... | head -1`: the end that SIGPIPE gives other programs, and no word."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = session_sbx("run", "--print-config", f"rootfs:{busybox_rootfs}", "true", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_printed_words_that_are_no_utf_8(session_sbx: Sbx, busybox_rootfs: Path) -> None:
    word = os.fsdecode(b"A=\xff\xe4")
    done = session_sbx("run", "--print-config", "-e", word, "-e", "B=\u00e4", f"rootfs:{busybox_rootfs}", "true")
    assert done.returncode == 0, done.stderr
    assert {word, "B=\u00e4"} <= set(json.loads(done.stdout)["process"]["env"])
