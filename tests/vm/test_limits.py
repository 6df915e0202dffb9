"""Limits by cgroup v2: in a scope of the user's systemd, and below a delegated group."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from sandbox import scope

ROOT = Path("/sys/fs/cgroup")
OWN = ROOT / Path("/proc/self/cgroup").read_text().split("::")[1].strip().lstrip("/")
DELEGATED = os.access(OWN / "cgroup.procs", os.W_OK)
BUS = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "bus"
HOG = "head -c 200m /dev/zero | tail -c 200m | wc -c"


@pytest.fixture(params=["systemd", "folder"])
def place(request, monkeypatch):
    """Where the group is: asked of systemd, or below our own."""
    if request.param == "folder":
        if not DELEGATED:
            pytest.skip("this session is not delegated")
        request.getfixturevalue("sbx").environment["SBX_CGROUP"] = str(OWN.parent if OWN.name == "others" else OWN)
    return request.param


@pytest.fixture
def limited(sbx, busybox_rootfs, place, no_leftovers):
    def run(script: str, *options: str):
        return sbx("run", *options, f"rootfs:{busybox_rootfs}", "sh", "-c", script)

    run.sbx = sbx
    yield run
    assert no_groups()


def no_groups() -> bool:
    """systemd removes a scope a little after its last process."""
    for _ in range(50):
        found = [f"{folder}/{name}" for folder, names, _ in os.walk(ROOT) for name in names if name.startswith("sbx-")]
        if not found:
            return True
        time.sleep(0.1)
    raise AssertionError(found)


def test_all_values(limited):
    disk = os.stat("/").st_dev
    name = Path(f"/sys/dev/block/{os.major(disk)}:{os.minor(disk)}").resolve().name
    script = """cd /sys/fs/cgroup; for f in memory.max memory.swap.max memory.low cpu.max cpu.weight cpuset.cpus pids.max memory.high; do
        [ -e $f ] && echo $f $(cat $f); done; cat io.max; cat /proc/self/cgroup"""
    done = limited(
        script, "-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "--cpus", "0.5", "--cpu-shares", "2048",
        "--cpuset-cpus", "0", "--pids-limit", "50", "--device-write-bps", f"/dev/{name}:1mb",
        "--cgroup-conf", "memory.high=48M",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines() if "." in line)
    swap = found.pop("memory.swap.max", "33554432")
    assert swap == "33554432"
    assert found == {
        "memory.max": "67108864", "memory.low": "33554432", "cpu.max": "50000 100000", "cpu.weight": "79",
        "cpuset.cpus": "0", "pids.max": "50", "memory.high": "50331648",
    }  # fmt: skip
    assert f"{os.major(disk)}:{os.minor(disk)} rbps=max wbps=1048576 riops=max wiops=max" in done.stdout
    assert done.stdout.splitlines()[-1] == "0::/"


def test_R54_out_of_memory_is_said_in_words(limited):
    done = limited(f"{HOG}; echo after", "-m", "32m")
    assert done.returncode == 0
    assert done.stdout.split()[-1] == "after"
    said = done.stderr.splitlines()[-1]  # the first is the shell's own
    assert said.startswith("sbx: out of memory: "), done
    assert "limit 32.0 MiB, peak 32.0 MiB, " in said
    assert said.endswith(("1 process killed", "1 process killed: `tail`")), done


def test_out_of_memory_of_the_command_itself(limited):
    done = limited("exec tail -c 200m /dev/zero", "-m", "32m")
    assert done.returncode == 137
    assert done.stderr.endswith("1 process killed: `tail`\n")


def test_R54_pids(limited):
    done = limited("for n in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait", "--pids-limit", "5")
    assert "can't fork" in done.stderr


def test_under_another_map(limited):
    """The keeper is a subordinate id then, which owns nothing of the group."""
    done = limited("cat /sys/fs/cgroup/memory.max; cat /proc/self/cgroup", "-m", "64m", "--userns", "keep-id")
    assert (done.returncode, done.stdout, done.stderr) == (0, "67108864\n0::/\n", "")


def test_oom_score(limited):
    done = limited("cat /proc/self/oom_score_adj", "--oom-score-adj", "500")
    assert (done.returncode, done.stdout, done.stderr) == (0, "500\n", "")


def test_what_can_not_be(limited):
    done = limited("true", "--cpuset-cpus", "700")
    assert done.returncode == 125
    assert done.stderr.startswith("sbx: set limit `cpuset.cpus = 700`: ")


def test_wrap(sbx, place, tmp_path):
    done = sbx(
        "wrap", "-m", "64m", "--", "sh", "-c", "head -c 200m /dev/zero | tail -c 200m | wc -c; true", cwd=tmp_path
    )
    assert "1 process killed" in done.stderr


@pytest.mark.parametrize("userns", ["auto", "keep-id"])
def test_pause_update_and_exec(sbx, busybox_rootfs, place, no_leftovers, userns):
    count = "n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.1; done"
    done = sbx(
        "run", "-d", "--name", "life", "--userns", userns, "-m", "64m", f"rootfs:{busybox_rootfs}", "sh", "-c", count
    )
    assert (done.returncode, done.stderr) == (0, "")

    def frozen() -> bool:
        (path,) = (path for path in ROOT.glob("**/sbx-*/payload/cgroup.events"))
        return "frozen 1" in path.read_text()

    done = sbx(
        "exec",
        "life",
        "sh",
        "-c",
        "cat /proc/self/cgroup /sys/fs/cgroup/memory.max; wc -l </sys/fs/cgroup/cgroup.procs",
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.split()
    assert lines[:2] == ["0::/", "67108864"]
    assert int(lines[2]) >= 3
    assert sbx("pause", "life").returncode == 0
    assert "paused" in sbx("ps", "--format", "{{.State}} {{.Status}}").stdout.lower()
    done = sbx("exec", "life", "true")
    assert done.returncode == 255 and done.stderr.startswith(
        "sbx: execute in container `life`: it is paused; can only "
    )
    again = sbx("pause", "life")
    assert (again.returncode, again.stderr.splitlines()[0]) == (
        125,
        "sbx: pause container `life`: it is paused; not running, can't pause: container state improper",
    )
    first = sbx("inspect", "--format", "{{.State.Status}}", "life").stdout.strip()
    assert first == "paused"
    assert frozen()
    assert sbx("unpause", "life").returncode == 0
    assert not frozen()
    assert sbx("update", "-m", "96m", "--pids-limit", "30", "life").returncode == 0
    done = sbx("exec", "life", "sh", "-c", "cd /sys/fs/cgroup; cat memory.max pids.max")
    assert (done.returncode, done.stdout) == (0, "100663296\n30\n")
    template = "{{.MemLimit}} {{.MemUsageBytes}} {{.PIDs}} {{.CPUNano}} {{.BlockIO}}"
    done = sbx("stats", "--no-stream", "--format", template, "life")
    limit, memory, pids, cpu, block = done.stdout.split(maxsplit=4)
    assert (limit, block != "-- / --\n") == ("100663296", True)
    assert 0 < int(memory) < 100663296 and 1 <= int(pids) <= 4 and int(cpu) > 0
    # What was updated holds at the next start too, in a group of its own.
    done = sbx("restart", "-t", "0", "life")
    assert (done.returncode, done.stderr) == (0, "")
    done = sbx("exec", "life", "sh", "-c", "cd /sys/fs/cgroup; cat memory.max pids.max")
    assert (done.returncode, done.stdout) == (0, "100663296\n30\n"), done
    assert sbx("pause", "life").returncode == 0
    assert sbx("rm", "-f", "life").returncode == 0
    # The keeper can not remove what is not its own; what it leaves the next container's start removes, a minute later.
    if place == "systemd" or userns == "auto":
        assert no_groups()
    else:
        for path in list(ROOT.glob("**/sbx-*/")):
            for name in ("payload", "keeper", ""):
                (path / name).rmdir()


def test_killed_keeper_leaves_no_group(sbx, busybox_rootfs):
    process = sbx.popen("run", "-m", "64m", f"rootfs:{busybox_rootfs}", "sh", "-c", "echo up; sleep 100")
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.wait()
    assert no_groups()


def test_profile(sbx, busybox_rootfs, tmp_path):
    (tmp_path / "small.toml").write_text('extends = "default"\nlimits.memory.limit = "64m"\nlimits.pids.limit = 20\n')
    script = "cd /sys/fs/cgroup; cat memory.max pids.max"
    words = ("--profile", tmp_path / "small.toml", f"rootfs:{busybox_rootfs}", "sh", "-c", script)
    done = sbx("run", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "67108864\n20\n", "")
    done = sbx("run", "-m", "96m", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "100663296\n20\n", "")


@pytest.mark.skipif(not BUS.exists(), reason="this session has no bus")
def test_systemd_over_the_bus_of_the_session():
    """As where its own socket is not to be had."""
    assert scope._is_on(str(BUS))
    process = subprocess.Popen(["sleep", "60"])
    try:
        name = f"sbx-bus-{process.pid}.scope"
        path = scope.start(f"bus:{BUS}", name, process.pid, "bus.slice")
        assert path.endswith(f"/bus.slice/{name}") and (ROOT / path.lstrip("/") / "cgroup.procs").exists()
    finally:
        process.kill()
        process.wait()
    assert no_groups()


def test_parent(limited, place):
    """Without a limit too; below a slice of systemd's, or a folder."""
    done = limited("echo up; sleep 2", "-d", "--name", "c", "--cgroup-parent", "build.slice")
    assert (done.returncode, done.stderr) == (0, "")
    found = [Path(folder) for folder, names, _ in os.walk(ROOT) for name in names if name.startswith("sbx-")]
    assert [folder.name for folder in found] == ["build.slice"]
    assert limited.sbx("wait", "c").stdout == "0\n" and limited.sbx("rm", "c").returncode == 0
