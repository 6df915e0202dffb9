"""What a real `sbx run` imports, in all of its processes, against a list: start-up is a feature.

The launcher's own script is run with one more flag for its interpreter, -v, which reports every import on stderr.
A module that is new here costs each start its time: see docs/architecture.md before adding one.
"""

import re
import shutil
from pathlib import Path

import pytest
from images import Images
from support import Sbx

# What the interpreter itself imports with -IS, before the first line of ours.
INTERPRETER = """
_abc _codecs _collections_abc _frozen_importlib _frozen_importlib_external _imp _io _signal _stat _thread _warnings
_weakref abc codecs encodings encodings.aliases encodings.utf_8 encodings.ascii encodings.latin_1 errno genericpath io
marshal os posix posixpath stat time winreg zipimport
""".split()

# A launch by the kernel's overlay, everything in the caches.
RUN = """
_ctypes _signal _socket fcntl gc marshal select time
sandbox sandbox.bundle sandbox.cache sandbox.caps sandbox.channel sandbox.cold sandbox.compose sandbox.compose_mounts
sandbox.containers sandbox.control sandbox.control_exec sandbox.entry sandbox.errors sandbox.etc sandbox.filters sandbox.idmap sandbox.init
sandbox.init_process sandbox.join sandbox.keeper sandbox.keeper_init sandbox.launch sandbox.linux sandbox.mounts
sandbox.options sandbox.options_run sandbox.overlay sandbox.paths sandbox.plan sandbox.profiles sandbox.refusals
sandbox.results sandbox.run sandbox.sources sandbox.spec sandbox.state sandbox.storage sandbox.trees sandbox.userns
sandbox.users sandbox.values sandbox.vigil
""".split()

# What is slow or large, named so that a failure says it; none of them is in a list above either.
NEVER = """
argparse ast click collections ctypes dataclasses enum functools importlib inspect json logging pathlib re shutil
signal site socket struct subprocess tempfile tomli tomllib traceback typer typing
""".split()


def imports(sbx: Sbx, *arguments: str | Path) -> set[str]:
    """Names of all modules that `sbx ARGUMENTS` imports, in the second of two runs: the first fills the caches."""
    first = sbx(*arguments)
    assert first.returncode == 0, first.stderr
    script = Path(sbx.launcher).read_text()
    verbose = script.replace(" -IS ", " -ISv ")
    assert verbose != script
    # $0 is the launcher's path, so the script finds what it finds itself.
    process = Sbx(sbx.store, sbx.environment, "/bin/sh")
    done = process("-c", verbose, sbx.launcher, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {name.strip("'") for name in re.findall(r"^import ('[^']+'|\w+)", done.stderr, re.MULTILINE)}
    assert "sandbox.init" in found  # -v reports what we think it does
    return found


def check(found: set[str], *more: str) -> None:
    new = found - {*INTERPRETER, *RUN, *more}
    assert not new, f"new imports on the hot path: {' '.join(sorted(new))}"
    assert not found & set(NEVER)


@pytest.mark.requires("overlay")
def test_run_rootfs(session_sbx: Sbx, busybox_rootfs: Path) -> None:
    check(imports(session_sbx, "run", "--rm", "--network", "none", f"rootfs:{busybox_rootfs}", "true"))


@pytest.mark.requires("overlay")
def test_run_image(session_sbx: Sbx, busybox_oci: Images) -> None:
    """A named image comes from its prepared record."""
    check(imports(session_sbx, "run", busybox_oci.oci, "true"))


@pytest.mark.requires("overlay")
def test_run_with_many_options(session_sbx: Sbx, busybox_oci: Images, tmp_path: Path) -> None:
    options = [
        "-u",
        "app",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "-v",
        f"{tmp_path}:/data:ro",
        "--tmpfs",
        "/t",
        "--ulimit",
        "core=0",
    ]
    rights = ["--cap-add", "NET_ADMIN", "--sysctl", "net.ipv4.ip_forward=1", "--init", "--timeout", "9", "--read-only"]
    check(
        imports(session_sbx, "run", *options, *rights, busybox_oci.oci, "true"),
        "sandbox.init_reaper",
        "sandbox.volumes",
    )


@pytest.mark.requires("slirp")
def test_run_slirp4netns(session_sbx: Sbx, busybox_oci: Images) -> None:
    found = imports(session_sbx, "run", "--network", "slirp4netns", busybox_oci.oci, "true")
    check(found, "sandbox.net_slirp", "sandbox.linux_rare")


@pytest.mark.requires("fuse")
def test_run_fuse_overlayfs(session_sbx: Sbx, busybox_oci: Images) -> None:
    check(
        imports(session_sbx, "run", "--storage-driver", "fuse-overlayfs", busybox_oci.oci, "true"),
        "sandbox.fuse_overlay",
    )


def test_run_terminal(session_sbx: Sbx, busybox_oci: Images) -> None:
    check(imports(session_sbx, "run", "-t", busybox_oci.oci, "true"), "sandbox.console", "termios")


def test_wrap(session_sbx: Sbx, tmp_path: Path) -> None:
    true = shutil.which("true", path="/usr/bin:/bin")
    assert true
    found = imports(session_sbx, "wrap", "-w", tmp_path, "--", true)
    check(found, "sandbox.wrap", "sandbox.options_wrap", "sandbox.hostroot", "sandbox.volumes")
    assert "sandbox.run" not in found
