"""Machines that restrict user namespaces: `run` says which step failed, and `doctor` the cause and a fix that is one.

As root, who changes the settings; sbx is run by the ordinary user `ci`.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

# What Ubuntu 24.04 does to programs without a profile: a user namespace may be made, its capabilities are void, and the
# set-uid helpers work.  There the kernel switches to a profile called unprivileged_userns; Debian's kernel can not, so
# this one confines whoever makes the namespace too.
RESTRICTED = """
abi <abi/4.0>,
include <tunables/global>
profile restricted flags=(attach_disconnected) {
  userns,
  network,
  unix,
  signal,
  ptrace,
  dbus,
  mqueue,
  RIGHTS
  file rwlkm /{,**},
  /usr/bin/new[gu]idmap Ux,
  /** pix,
}
"""


@pytest.fixture(scope="module")
def rootfs(busybox_rootfs):
    """A root file system of the ordinary user's."""
    shutil.copytree(busybox_rootfs, "/home/ci/rootfs", symlinks=True)
    subprocess.run(["chown", "-R", "ci:ci", "/home/ci/rootfs"], check=True)
    return "rootfs:/home/ci/rootfs"


@pytest.fixture
def as_user():
    """`as_user(*arguments)`: run sbx as the ordinary user, under another program if asked to."""
    launcher = os.environ["SBX_LAUNCHER"]
    path = f"{Path(launcher).parent}:/usr/bin:/usr/sbin"
    subprocess.run(["install", "-d", "-o", "ci", "/home/ci/work"], check=True)

    def call(*arguments: str, under: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        words = [
            "runuser",
            "-u",
            "ci",
            "--",
            "env",
            "-i",
            "HOME=/home/ci",
            f"PATH={path}",
            *under,
            launcher,
            *arguments,
        ]
        return subprocess.run(words, text=True, capture_output=True, timeout=60, cwd="/home/ci/work", check=False)

    return call


@pytest.fixture
def sysctl():
    """`sysctl(name, value)`; as before at the end."""
    old = {}

    def change(name: str, value: str) -> None:
        path = Path("/proc/sys", *name.split("."))
        old.setdefault(path, path.read_text())
        path.write_text(value)

    yield change
    for path, value in old.items():
        path.write_text(value)


def row(done: "subprocess.CompletedProcess[str]", name: str = "userns") -> dict[str, str]:
    return next(row for row in json.loads(done.stdout) if row["name"] == name)


def test_nothing_is_restricted_at_first(as_user, rootfs):
    done = as_user("run", rootfs, "id", "-u")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("kernel.unprivileged_userns_clone", "create user namespace: Operation not permitted"),
        ("user.max_user_namespaces", "create user namespace: No space left on device"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "wrap"])
def test_user_namespaces_by_sysctl(as_user, sysctl, rootfs, name, cause, verb):
    sysctl(name, "0")
    done = as_user(verb, *([rootfs] if verb == "run" else ["--"]), "true")
    said = done.stderr.splitlines()
    assert done.returncode == 125
    assert said[0] == f"sbx: {cause}"
    assert said[1].startswith("hint: ")
    assert len(said) == 2
    found = as_user("doctor", "--json")
    assert found.returncode == 1
    assert row(found)["status"] == "missing"
    assert row(found)["cause"] == f"{name} is 0"
    # The fix, as root: what follows it works.
    assert f"sysctl -w {name}=" in row(found)["fix"]
    subprocess.run(["sh", "-c", row(found)["fix"].replace("sudo ", "")], check=True, capture_output=True)
    Path("/etc/sysctl.d/60-sbx.conf").unlink()
    assert as_user("run", rootfs, "true").returncode == 0


@pytest.fixture
def confined(tmp_path):
    """`confined(rights)`: the words in front of a command that confine it by RESTRICTED with these rights."""

    def load(rights: str) -> tuple[str, ...]:
        profile = tmp_path / "restricted"
        profile.write_text(RESTRICTED.replace("RIGHTS", rights))
        subprocess.run(["apparmor_parser", "-r", str(profile)], check=True)
        # By env: what aa-exec itself executes is confined whatever profile it has of its own.
        return ("aa-exec", "-p", "restricted", "--", "env")

    return load


def test_apparmor_takes_the_rights_in_the_namespace(as_user, rootfs, confined):
    """The namespace can be made, the helpers write its maps, and the first mount fails: as on Ubuntu."""
    done = as_user("run", rootfs, "true", under=confined("capability sys_admin,"))
    said = done.stderr.splitlines()
    assert done.returncode == 125
    assert said[0] == "sbx: use user namespace: Permission denied"
    assert "AppArmor" in said[1] and "sbx doctor" in said[1]
    assert len(said) == 2


def test_apparmor_and_the_fix_of_doctor(as_user, rootfs, confined):
    under = confined("audit deny capability,")
    done = as_user("run", rootfs, "true", under=under)
    said = done.stderr.splitlines()
    assert done.returncode == 125
    assert said[0] == "sbx: create user namespace: Operation not permitted"
    assert "sbx doctor" in said[1]
    found = as_user("doctor", "--json", under=under)
    assert found.returncode == 1
    assert row(found)["cause"].startswith("AppArmor's profile `restricted`")
    fix = row(found)["fix"]
    assert "apparmor_parser -r /etc/apparmor.d/sbx" in fix
    subprocess.run(["sh", "-c", fix.replace("sudo ", "")], check=True, capture_output=True)
    done = as_user("run", rootfs, "id", "-u", under=under)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert as_user("doctor", "--quiet", under=under).returncode == 0


def test_limits_without_systemd_and_delegation(as_user, rootfs):
    """No user manager, and a control group of somebody else's: refused, with the way out; or replaced."""
    subprocess.run(["loginctl", "disable-linger", "ci"], check=True)
    subprocess.run(["systemctl", "stop", "user@1000.service"], check=True)
    done = as_user("run", "-m", "64m", rootfs, "true")
    cause = "there is neither a systemd of this user nor a control group of its own"
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, f"sbx: set limits: {cause}")
    assert "--allow-degraded=limits" in done.stderr.splitlines()[1]
    done = as_user("run", "-m", "64m", "--allow-degraded=limits", rootfs, "sh", "-c", "ulimit -v")
    assert (done.returncode, done.stdout) == (0, "65536\n")
    assert done.stderr.startswith(f"sbx: limits are weaker than asked for ({cause}): memory: 67108864 bytes")
    found = as_user("doctor", "--json")
    assert row(found, "cgroup")["status"] == "weaker"
    subprocess.run(["loginctl", "enable-linger", "ci"], check=True)
    subprocess.run(["systemctl", "start", "user@1000.service"], check=True)
    done = as_user("run", "-m", "64m", rootfs, "cat", "/sys/fs/cgroup/memory.max")
    assert (done.returncode, done.stdout, done.stderr) == (0, "67108864\n", "")


def test_limits_that_are_not_delegated(as_user, rootfs):
    """systemd hands memory and pids to users by default, and no others."""
    conf = Path("/etc/systemd/system/user@.service.d/delegate.conf")
    text = conf.read_text()
    conf.write_text("[Service]\nDelegate=memory pids\n")
    try:
        for words in (("daemon-reload",), ("restart", "user@1000.service")):
            subprocess.run(["systemctl", *words], check=True)
        done = as_user("run", "--cpuset-cpus", "0", rootfs, "true")
        assert (done.returncode, done.stderr.splitlines()[0]) == (
            125,
            "sbx: set limits: not delegated to this user: cpuset",
        )
        assert as_user("run", "-m", "64m", "--pids-limit", "9", rootfs, "true").returncode == 0
        fix = row(as_user("doctor", "--json"), "cgroup")["fix"]
        assert "Delegate=cpu cpuset io memory pids" in fix
        subprocess.run(["sh", "-c", fix.replace("sudo ", "")], check=True, capture_output=True)
        subprocess.run(["systemctl", "restart", "user@1000.service"], check=True)
        done = as_user("run", "--cpuset-cpus", "0", rootfs, "cat", "/sys/fs/cgroup/cpuset.cpus")
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    finally:
        conf.write_text(text)


def test_limits_for_root(busybox_rootfs):
    """The system's own systemd makes the scope then."""
    ranges = ("--add-subuids", "200000-265535", "--add-subgids", "200000-265535")
    subprocess.run(["usermod", *ranges, "root"], check=True)
    words = ("run", "-m", "64m", "--rm", f"rootfs:{busybox_rootfs}", "cat", "/sys/fs/cgroup/memory.max")
    done = subprocess.run([os.environ["SBX_LAUNCHER"], *words], text=True, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "67108864\n", "")
