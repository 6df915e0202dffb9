"""`sbx run` on machines where something is missing or broken: one line, the right exit code, nothing left."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import images
import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store")

UID = 12345


# -- folders of the caller --


def test_without_runtime_directory(own_box, no_leftovers):
    assert own_box.out("echo ran", env={"XDG_RUNTIME_DIR": None}) == "ran\n"
    assert own_box.out("echo ran", env={"XDG_RUNTIME_DIR": "/not/there"}) == "ran\n"


def test_without_home(own_box, no_leftovers):
    """HOME from passwd; nothing lands in `/`."""
    before = os.listdir("/")
    assert own_box.out("echo $HOME", env={"HOME": None}) == "/root\n"
    assert own_box.out("echo ran", env={"HOME": ""}) == "ran\n"
    assert os.listdir("/") == before


def test_store_below_home(own_box, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    assert own_box.out("echo ran", env={"HOME": str(home), "SBX_STORE": None}) == "ran\n"
    assert os.listdir(home / ".local/share/sbx/containers") == []
    assert (home / ".local/share/sbx").stat().st_mode & 0o777 == 0o700


def test_unwritable_home(own_box, refused, no_leftovers, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o555)
    done = own_box("true", env={"HOME": str(home), "SBX_STORE": None, "XDG_DATA_HOME": None})
    store = f"{home}/.local/share/sbx"
    refused(done, f"create directory `{store}`: Permission denied", hint="SBX_STORE")
    assert os.listdir(home) == []


def test_unwritable_cache_is_no_reason_to_fail(own_box, no_leftovers, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o555)
    done = own_box("echo ran", env={"XDG_CACHE_HOME": str(cache)})
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "Traceback" not in done.stderr


def test_unwritable_store(own_box, refused, no_leftovers):
    own_box.out("true")
    (own_box.sbx.store / "containers").chmod(0o555)
    done = own_box("true")
    (own_box.sbx.store / "containers").chmod(0o700)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"sbx: make container directory `{own_box.sbx.store}/containers/")
    assert done.stderr.splitlines()[0].endswith(": Permission denied")
    assert done.stderr.splitlines()[1] == "hint: set SBX_STORE to a directory that you can write"


def test_S02_store_of_somebody_else(own_box, refused):
    if os.geteuid():
        refused(own_box("true", env={"SBX_STORE": "/etc"}), "use directory `/etc`: it belongs to uid 0, not to you")
    refused(
        own_box("true", env={"SBX_STORE": "/proc/none"}), "create directory `/proc/none`: No such file or directory"
    )


def test_store_that_is_a_file(own_box, tmp_path):
    (tmp_path / "file").write_text("")
    done = own_box("true", env={"SBX_STORE": str(tmp_path / "file")})
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.splitlines()[0].endswith(": Not a directory")
    assert "internal error" not in done.stderr


def test_cache_with_rubbish_in_it(own_box, tmp_path, no_leftovers):
    """The cache may be deleted or damaged at any time."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    own_box.out("true", env=env)
    spoilt = 0
    for folder, _, files in os.walk(tmp_path / "cache"):
        for name in files:
            Path(folder, name).write_bytes(b"\xff rubbish")
            spoilt += 1
    assert spoilt >= 2
    assert own_box.out("echo ran", env=env) == "ran\n"
    shutil.rmtree(tmp_path / "cache")
    assert own_box.out("echo ran", env=env) == "ran\n"


def test_working_directory_that_is_gone(own_box, tmp_path, no_leftovers):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = own_box("echo ran", preexec_fn=lambda: (os.chdir(gone), os.rmdir(gone)))
    assert (done.returncode, done.stdout) == (0, "ran\n")
    # The shell that starts the launcher may have its say (dash has).
    assert done.stderr in ("", "sh: 0: getcwd() failed: No such file or directory\n")


def test_no_such_image(own_box, no_leftovers):
    done = own_box("true", "--pull=never", image="none-such")
    assert (done.returncode, done.stdout) == (125, "")
    error, *hint = done.stderr.splitlines()
    assert error == "sbx: find image `none-such`: no such image in the local store"
    assert len(hint) <= 1
    # Here every registry is blocked.
    done = own_box("true", image="none-such")
    assert (done.returncode, done.stdout) == (125, "")
    said, error, hint = done.stderr.splitlines()
    assert said == "sbx: pull docker.io/library/none-such:latest"
    assert error == "sbx: use registry `docker.io`: `docker.io` is blocked in registries.conf"


def test_no_more_user_namespaces(own_box, no_leftovers):
    """The limit is per namespace: one is made in which no other may be made."""
    words = own_box.sbx.command("run", f"rootfs:{own_box.rootfs}", "true")
    script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *words]
    env = {**own_box.sbx.environment, "SBX_STORE": str(own_box.sbx.store)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    said = [line for line in done.stderr.splitlines() if not line.startswith("sbx: no subordinate ids")]
    assert said[0] == "sbx: create user namespace: No space left on device"
    assert said[1].startswith("hint: the limit of user namespaces is reached or zero")


@pytest.fixture
def elsewhere(own_box, tmp_path):
    """sbx in a folder below /tmp that is closed to everybody but the caller, as a clone may be."""
    tree = Path(__file__).resolve().parent.parent.parent
    for name in ("sandbox", "profiles"):
        shutil.copytree(tree / name, tmp_path / "closed/tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "closed/tree/bin").mkdir()
    shutil.copy(tree / "bin/sbx", tmp_path / "closed/tree/bin")
    shutil.copy(tree / "pyproject.toml", tmp_path / "closed/tree")
    (tmp_path / "closed").chmod(0o700)
    own_box.sbx.launcher = str(tmp_path / "closed/tree/bin/sbx")
    return own_box


ELSEWHERE = pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--storage-driver=fuse-overlayfs", "-t"], marks=pytest.mark.requires("fuse", "tty")),
        pytest.param(
            ["--storage-driver=fuse-overlayfs", "--network=pasta"], marks=pytest.mark.requires("fuse", "pasta")
        ),
        pytest.param(
            ["--storage-driver=overlay", "--network=slirp4netns", "-t"], marks=pytest.mark.requires("overlay", "slirp")
        ),
        ["--storage-driver=copy", "-t"],
    ],
)


@ELSEWHERE
@pytest.mark.parametrize("userns", ["auto", "keep-id"])
def test_sbx_below_tmp(elsewhere, no_leftovers, options, userns):
    """The keeper covers /tmp for fuse-overlayfs, and changes its ids: what it needs is in memory before."""
    done = elsewhere("echo ran", *options, f"--userns={userns}")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "ran", "")


@pytest.mark.root
@ELSEWHERE
def test_sbx_in_a_folder_of_root(elsewhere, no_leftovers, options):
    done = elsewhere("echo ran", *options)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "ran", "")


# -- machines made by root --


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


def test_what_ctrl_c_ends_with_the_start_is_no_fault(sbx):
    """It goes to all: newuidmap dies of it as well, and the keeper has it before it can be told not to."""
    for step in range(60):
        # From when the cli has its hands on: before, Python itself is what ends.
        start = sbx.popen("run", "--network=none", "host:", "sleep", "5")
        time.sleep(0.022 + step * 0.0003)
        os.killpg(start.pid, signal.SIGINT)
        _, words = start.communicate(timeout=20)
        assert (start.returncode, words) == (130, ""), step
