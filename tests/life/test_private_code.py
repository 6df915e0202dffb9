"""sbx in a folder that only its owner may enter: where the caller is not mapped, the keeper can read no more code."""

import shutil
import sys
from pathlib import Path

import pytest
from living import Verbs
from support import TREE, Sbx

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay", "tty")


@pytest.fixture
def private(sbx, busybox_rootfs, busybox_oci, tmp_path, no_leftovers):
    home = tmp_path / "private"
    home.mkdir(0o700)
    for name in ("bin", "sandbox", "profiles"):
        shutil.copytree(TREE / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TREE / "pyproject.toml", home)
    (home / ".venv/bin").mkdir(parents=True)
    (home / ".venv/bin/python3").symlink_to(sys.executable)
    (home / ".venv/pyvenv.cfg").write_text(f"home = {Path(sys.base_prefix) / 'bin'}\n")
    (home / ".venv/lib").symlink_to(Path(sys.prefix) / "lib")
    verbs = Verbs(Sbx(sbx.store, sbx.environment, str(home / "bin/sbx")), busybox_rootfs)
    verbs.image = busybox_oci.oci  # its layers get owners that are mapped
    yield verbs
    verbs("rm", "-f", "-a")


APART = ("--userns", "nomap")  # the caller is nobody inside


def test_further_processes(private):
    private.live(*APART)
    assert private.out("exec", "c", "echo", "there") == "there\n"
    assert private.out("exec", "-t", "c", "tty") == "/dev/pts/0\n"
    assert private.out("exec", "-i", "c", "cat", input="passed on") == "passed on"
    assert private.column("State") == ["running"]


def test_a_terminal_from_the_start(private):
    private.live(*APART, "-t", script="tty; exec sleep 1000")
    private.until("c", "/dev/pts/0")
    assert private("kill", "c").stdout == "c\n"
    assert private.out("wait", "c") == "137\n"


@pytest.mark.parametrize("options", [("--network", "host"), ("--init",), ("--pid", "host"), ("--read-only",)])
def test_in_the_foreground(private, options):
    assert private.out("run", "--rm", *APART, *options, private.image, "echo", "done") == "done\n"


def test_what_can_not_be_loaded_any_more_ends_nobody(private):
    running = private.sbx.popen("run", "--name", "f", "--rm", *APART, private.image, "sh", "-c", "echo up; sleep 1000")
    assert running.stdout.readline() == "up\n"
    done = private("exec", "-t", "f", "tty", code=125)
    assert "make terminal: the keeper can not read the code for terminals any more\nhint: " in done.stderr
    assert private.out("exec", "f", "echo", "there") == "there\n"
    private("kill", "f")
    running.communicate(timeout=10)
