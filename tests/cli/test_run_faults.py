"""`sbx run` where a folder, an image or a namespace is missing or broken: one line, the right exit code, nothing left."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store")


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


def test_what_ctrl_c_ends_with_the_start_is_no_fault(sbx):
    """It goes to all: newuidmap dies of it as well, and the keeper has it before it can be told not to."""
    for step in range(60):
        # From when the cli has its hands on: before, Python itself is what ends.
        start = sbx.popen("run", "--network=none", "host:", "sleep", "5")
        time.sleep(0.022 + step * 0.0003)
        os.killpg(start.pid, signal.SIGINT)
        _, words = start.communicate(timeout=20)
        assert (start.returncode, words) == (130, ""), step
