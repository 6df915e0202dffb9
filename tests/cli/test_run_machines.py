"""`sbx run` on machines that root has changed: no ranges, helpers, devices or overlay, a covered /proc.  One line each."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import images
import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store")

UID = 12345


class Machine:
    """This machine with changes, in a mount namespace of its own; `sbx` there by root or by a user (UID) with a home."""

    def __init__(self, box, folder):
        self.box, self.folder = box, folder
        self.setup = ["set -e"]
        self.rootfs = folder / "rootfs"
        shutil.copytree(box.rootfs, self.rootfs, symlinks=True)
        self.subordinate(f"{UID}:700000:65536\nroot:800000:65536\n")
        self.cover("/etc/passwd", f"root:x:0:0::/root:/bin/sh\nsomebody:x:{UID}:{UID}::{folder}:/bin/sh\n")

    def cover(self, path, text):
        name = self.folder / path.replace("/", "_")
        name.write_text(text)
        self.setup.append(f"mount --bind {name} {path}")

    def subordinate(self, text):
        self.cover("/etc/subuid", text)
        self.cover("/etc/subgid", text)

    def without(self, path):
        """A program that is there and can not be executed is passed over."""
        self.setup.append(f"mount --bind /dev/null {path}")

    def devices(self, *nodes):
        """A /dev with the usual nodes, and of fuse and net/tun only what is given: (path, mode)."""
        self.setup += [
            "mkdir -p $T/dev/net $T/dev/pts $T/dev/shm $T/dev/mqueue",
            "mount -t tmpfs dev $T/dev",
            "mkdir -p $T/dev/net $T/dev/pts $T/dev/shm $T/dev/mqueue",
            "for n in null zero full random urandom tty ptmx; do touch $T/dev/$n; mount --bind /dev/$n $T/dev/$n; done",
        ]
        numbers = {"fuse": "10 229", "net/tun": "10 200"}
        for path, mode in nodes:
            self.setup.append(f"mknod -m {mode:o} $T/dev/{path} c {numbers[path]}; chmod {mode:o} $T/dev/{path}")
        self.setup.append("mount --rbind $T/dev /dev")

    def run(self, *arguments, user=False, store="", cwd=None):
        """Exit status, stdout, stderr of `sbx ARGUMENTS`."""
        store = store or str(self.folder / ("store-user" if user else "store"))
        env = {**self.box.sbx.environment, "SBX_STORE": store, "T": str(self.folder), "HOME": str(self.folder)}
        env |= {"XDG_CACHE_HOME": f"{store}-cache", "XDG_RUNTIME_DIR": ""}
        words = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--"] if user else []
        words += self.box.sbx.command(*arguments)
        script = "\n".join([*self.setup, 'exec "$@"'])
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False, cwd=cwd)
        folder = Path(store) / "containers"
        assert not folder.exists() or os.listdir(folder) == []
        return done

    def sh(self, script, *options, **rest):
        return self.run("run", *options, f"rootfs:{self.rootfs}", "sh", "-c", script, **rest)


@pytest.fixture
def machine(own_box):
    """Below /var/tmp, where the other user can get to."""
    folder = Path(tempfile.mkdtemp(prefix="machine-", dir="/var/tmp"))
    try:
        made = Machine(own_box, folder)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
        folder.chmod(0o755)
        yield made
    finally:
        images.remove_tree(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.root
def test_without_a_range_one_id_is_used_and_said(machine):
    machine.subordinate("somebody-else:100000:65536\n")
    done = machine.sh("id -u; cat /proc/self/uid_map", user=True)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "0", str(UID), "1"])
    assert done.stderr == (
        "sbx: no subordinate ids in /etc/subuid: only one id inside; "
        "fix: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 somebody\n"
    )
    assert machine.sh("true", "--quiet", user=True).stderr == ""
    done = machine.sh("true", "--userns=single", user=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.root
@pytest.mark.parametrize("mode", ["keep-id", "nomap"])
def test_without_a_range_what_needs_one_is_an_error(machine, refused, mode):
    machine.subordinate("")
    done = machine.sh("true", f"--userns={mode}", user=True)
    refused(done, "map ids `somebody`: no range in /etc/subuid", hint="usermod --add-subuids")


@pytest.mark.root
def test_root_without_a_range_is_an_error(machine, refused):
    machine.subordinate(f"{UID}:700000:65536\n")
    refused(machine.sh("true"), "map ids `root`: no range in /etc/subuid", hint="usermod --add-subuids")


@pytest.mark.root
def test_ranges_by_number_and_several(machine):
    machine.subordinate(f"somebody:600000:1000\nother:1:2\n{UID}:700000:65536\n")
    done = machine.sh("cat /proc/self/uid_map; touch /f; chown 30000 /f; stat -c %u /f", user=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(n) for n in (0, UID, 1, 1, 600000, 1000, 1001, 700000, 65536, 30000)]


@pytest.mark.root
@pytest.mark.parametrize("program", ["newuidmap", "newgidmap"])
def test_without_newuidmap(machine, refused, program):
    machine.without(shutil.which(program))
    done = machine.sh("true", user=True)
    refused(done, f"find program `{program}`: No such file or directory", hint="install the package uidmap")
    done = machine.sh("id -u", "--userns=single", user=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.root
def test_newuidmap_without_its_set_uid_bit(machine):
    copy = machine.folder / "newuidmap"
    shutil.copy(shutil.which("newuidmap"), copy)
    copy.chmod(0o755)
    machine.setup.append(f"mount --bind {copy} {shutil.which('newuidmap')}")
    done = machine.sh("true", user=True)
    assert (done.returncode, done.stdout) == (125, "")
    said = done.stderr.splitlines()
    assert said[0].startswith(
        "sbx: map user ids `newuidmap`: newuidmap: write to uid_map failed: Operation not permitted"
    )
    assert said[1].startswith("hint: newuidmap needs its set-uid bit")


@pytest.mark.root
def test_range_that_newuidmap_does_not_grant(machine):
    """/etc/subgid lacks what /etc/subuid has."""
    machine.cover("/etc/subgid", "somebody-else:1:2\n")
    done = machine.sh("true", user=True)
    assert done.returncode == 0
    assert done.stderr.startswith("sbx: no subordinate ids in /etc/subgid: only one id inside; fix: sudo usermod")


@pytest.mark.root
@pytest.mark.requires("fuse")
def test_without_dev_fuse(machine, refused):
    machine.devices(("net/tun", 0o666))
    done = machine.sh("true", "--storage-driver=fuse-overlayfs", user=True)
    refused(done, "open fuse device `/dev/fuse`: No such file or directory", hint="load the fuse module")


@pytest.mark.root
@pytest.mark.requires("fuse")
def test_dev_fuse_for_root_only(machine, refused):
    machine.devices(("fuse", 0o600))
    done = machine.sh("true", "--storage-driver=fuse-overlayfs", user=True)
    refused(done, "open fuse device `/dev/fuse`: Permission denied", hint="chmod 666 /dev/fuse")


@pytest.mark.root
@pytest.mark.requires("fuse")
def test_without_fuse_overlayfs(machine, refused):
    machine.without(shutil.which("fuse-overlayfs"))
    done = machine.sh("true", "--storage-driver=fuse-overlayfs", user=True)
    refused(done, "find program `fuse-overlayfs`: No such file or directory", hint="install the package fuse-overlayfs")


@pytest.mark.root
@pytest.mark.requires("slirp", "pasta")
@pytest.mark.parametrize("network", ["slirp4netns", "pasta"])
def test_without_dev_net_tun(machine, refused, network):
    machine.devices(("fuse", 0o666))
    done = machine.sh("true", f"--network={network}", user=True)
    refused(done, "open network device `/dev/net/tun`: No such file or directory", hint="modprobe tun")
    done = machine.sh("ls /sys/class/net", user=True)
    assert (done.returncode, done.stdout) == (0, "lo\n")


@pytest.mark.root
@pytest.mark.requires("slirp")
def test_dev_net_tun_for_root_only(machine, refused):
    machine.devices(("net/tun", 0o600))
    done = machine.sh("true", "--network=slirp4netns", user=True)
    refused(done, "open network device `/dev/net/tun`: Permission denied", hint="chmod 666 /dev/net/tun")


@pytest.mark.root
@pytest.mark.parametrize(("network", "package"), [("slirp4netns", "slirp4netns"), ("pasta", "passt")])
def test_without_the_network_helper(machine, refused, network, package):
    if shutil.which(network) is None:
        pytest.skip(f"{network} is not installed anyway")
    machine.without(shutil.which(network))
    done = machine.sh("true", f"--network={network}", user=True)
    refused(done, f"find program `{network}`: No such file or directory", hint=f"install the package {package}")


@pytest.mark.root
@pytest.mark.requires("slirp")
def test_network_helper_that_fails_at_once(machine, refused):
    broken = machine.folder / "broken"
    broken.write_text("#!/bin/sh\necho 'cannot do it' >&2\nexit 3\n")
    broken.chmod(0o755)
    machine.setup.append(f"mount --bind {broken} {shutil.which('slirp4netns')}")
    done = machine.sh("true", "--network=slirp4netns", user=True)
    refused(done, "connect network `slirp4netns`: it ended with status 3: cannot do it")


@pytest.mark.root
@pytest.mark.requires("overlay")
@pytest.mark.parametrize("fuse", [pytest.param(True, marks=pytest.mark.requires("fuse")), False])
def test_store_where_overlay_does_not_work(machine, fuse):
    """A store on an overlay, as in a container of docker's: no upper layer can be there.  Said once, then remembered."""
    machine.devices(*[("fuse", 0o666)] * fuse)
    machine.setup.append(
        "mkdir -p $T/l $T/u $T/w $T/store && mount -t overlay -o lowerdir=$T/l,upperdir=$T/u,workdir=$T/w o $T/store"
    )
    machine.setup.append(f"chmod 700 $T/store; chown {UID} $T/store")
    store = str(machine.folder / "store")
    show = "awk '$5 == \"/\"' /proc/self/mountinfo | sed 's/.* - //' | cut -d' ' -f1; echo new >/etc/new; cat /etc/new"
    done = machine.sh(show, user=True, store=store)
    expected = "fuse-overlayfs" if fuse else "copy"
    assert done.returncode == 0, done
    assert done.stderr.startswith(f"sbx: kernel overlay does not work in `{store}` (mount overlay ")
    assert done.stderr.endswith(f": using {expected}\n") and len(done.stderr.splitlines()) == 1
    assert done.stdout == ("fuse.fuse-overlayfs" if fuse else "overlay") + "\nnew\n"
    done = machine.sh(show, user=True, store=store)
    assert (done.returncode, done.stderr) == (0, "")
    done = machine.run("run", "--print-config", f"rootfs:{machine.rootfs}", user=True, store=store)
    assert json.loads(done.stdout)["annotations"]["dev.sbx.storage"] == expected


@pytest.mark.root
def test_proc_that_is_covered(machine):
    """As in a container of docker's: the kernel gives no new /proc to who can not see all of the old one."""
    machine.setup.append("mount -t tmpfs cover /proc/scsi 2>/dev/null || mount -t tmpfs cover /proc/fs")
    done = machine.sh("true", user=True)
    assert (done.returncode, done.stdout) == (125, "")
    said = done.stderr.splitlines()
    assert said[0].startswith("sbx: mount proc") and said[0].endswith("Operation not permitted")
    assert said[1].startswith("hint: part of /proc is covered on this machine")


@pytest.mark.root
def test_mounts_that_are_shared_stay_as_they_are(machine, own_box):
    """systemd makes `/` shared: nothing that sbx mounts gets out into the caller's namespace."""
    script = "\n".join([
        *machine.setup, "mount --make-rshared /", "cat /proc/self/mountinfo | wc -l >$T/before", '"$@"',
        "cat /proc/self/mountinfo | wc -l >$T/after",
    ])  # fmt: skip
    words = own_box.sbx.command("run", "--tmpfs=/t", f"rootfs:{machine.rootfs}", "true")
    env = {**own_box.sbx.environment, "SBX_STORE": str(machine.folder / "s"), "T": str(machine.folder)}
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (machine.folder / "before").read_text() == (machine.folder / "after").read_text()


@pytest.mark.root
def test_wrap_needs_no_range_and_no_helper(machine):
    machine.subordinate("")
    machine.without(shutil.which("newuidmap"))
    work = machine.folder / "work"
    work.mkdir()
    os.chown(work, UID, UID)
    done = machine.run("wrap", "sh", "-c", "id -u; touch made", user=True, cwd=work)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{UID}\n", "")
    assert (work / "made").stat().st_uid == UID
