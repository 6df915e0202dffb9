"""The main job on an ordinary machine: systemd, cgroup v2, a login, the kernels of Debian 12 (6.1) and 13 (6.12)."""

import json
import os
import platform
from pathlib import Path

import images
import pytest

KERNEL = tuple(int(number) for number in platform.release().split("-")[0].split(".")[:2])
DRIVERS = pytest.mark.parametrize("driver", ["overlay", "fuse-overlayfs", "copy"])


@pytest.fixture
def out(session_sbx, busybox_rootfs):
    """`out(script, *options)`: what a script in busybox prints; it must end with 0 and nothing may be said."""

    def run(script: str, *options: str, image: str = "") -> str:
        done = session_sbx("run", *options, image or f"rootfs:{busybox_rootfs}", "sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return run


def test_doctor(sbx):
    """What works here is said to work, with the reason where something is less than on other machines."""
    wanted = {"userns", "idmap", "mount", "proc", "sysfs", "overlay", "fuse", "netns", "slirp", "seccomp", "notify",
              "tty", "timens", "store", "runtime", "cgroup"}  # fmt: skip
    kept = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "SBX_DOCTOR_SECONDS")}
    done = sbx("doctor", "--json", env=kept)
    found = {row["name"]: (row["status"], row["cause"]) for row in json.loads(done.stdout)}
    assert {name: found[name] for name in wanted if found[name][0] != "works"} == {}
    assert done.returncode == 0
    # Linux 6.1 has Landlock for files only (ABI 2).
    assert found["landlock"][0] == ("works" if KERNEL >= (6, 7) else "weaker"), found["landlock"]


@DRIVERS
def test_rootfs(out, driver, busybox_rootfs):
    script = "echo new >/etc/new; rm /etc/group; cat /etc/new; ls /etc | grep -c group; id -u; cat /proc/self/uid_map"
    said = out(script + " | wc -l", "--storage-driver", driver)
    assert said == "new\n0\n0\n2\n"
    assert not (busybox_rootfs / "etc/new").exists()
    assert (busybox_rootfs / "etc/group").exists()


@DRIVERS
def test_layers_merge(out, driver, tmp_path):
    """More layers than fit into the one page of options that mount(2) takes, by their whole paths."""
    count = 60 if driver == "overlay" else 10
    small = [
        images.tar(
            images.entry("layers", None),
            images.entry(f"layers/{number}", str(number).encode()),
            *([images.entry(f"layers/.wh.{number - 2}")] if number > 2 else []),
        )
        for number in range(1, count)
    ]
    images.Layout(tmp_path / "layout").image("latest", [images.busybox_layer(), *small], {"Cmd": ["sh"]})
    said = out("ls /layers | sort -n | xargs", "--storage-driver", driver, image=f"oci:{tmp_path}/layout:latest")
    assert said == f"{count - 2} {count - 1}\n"


def test_host(out):
    """What is the system's can be changed where the owners are squashed; with the kernel's overlay they are nobody."""
    script = "cat /etc/debian_version; ls -A $HOME; echo x >/tmp/x"
    version = Path("/etc/debian_version").read_text()
    assert out(script, "--storage-driver", "overlay", image="host:") == version
    script += "; echo x >/etc/debian_version; cat /etc/debian_version"
    assert out(script, "--storage-driver", "fuse-overlayfs", image="host:") == version + "x\n"
    assert Path("/etc/debian_version").read_text() == version


@pytest.mark.parametrize("network", ["slirp4netns", "pasta"])
def test_network(session_sbx, busybox_rootfs, network):
    script = "ip -4 addr | grep -c 'scope global'; grep -c nameserver /etc/resolv.conf"
    done = session_sbx("run", "--network", network, f"rootfs:{busybox_rootfs}", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["1", "1"]


def test_wrap_with_a_network(session_sbx, tmp_path):
    """Its helper is not root of the namespace, and newer ones may not look at what is more than they are."""
    script = "ls -x /sys/class/net; sleep 2; ls -x /sys/class/net"  # it stays
    done = session_sbx("wrap", "--network", "pasta", "--", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["lo", "tap0"] * 2


def test_cgroups_are_the_containers_own(out):
    said = out("cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused")
    assert said == "0::/\nrefused\n"


def test_wrap(session_sbx, tmp_path):
    script = "id -u; pwd; echo made >made; ls -A ~; touch /usr/x 2>/dev/null || echo refused; ls /sys/class/net"
    done = session_sbx("wrap", "--", "sh", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{os.getuid()}\n{tmp_path}\nrefused\nlo\n"
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_a_container_that_lives_on(sbx, busybox_rootfs, no_leftovers):
    started = sbx("run", "-d", "--rm", "--name", "life", f"rootfs:{busybox_rootfs}", "sleep", "1000")
    assert (started.returncode, started.stderr) == (0, "")
    done = sbx("exec", "life", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '")
    assert (done.returncode, done.stdout) == (0, "sleep 1000 ")
    assert sbx("kill", "life").returncode == 0


def test_refused_calls_are_explained(session_sbx, busybox_rootfs):
    done = session_sbx("run", f"rootfs:{busybox_rootfs}", "sh", "-c", "mount -t tmpfs x /tmp 2>/dev/null; exit 3")
    assert done.returncode == 3
    assert "mount" in done.stderr
