"""What the end-to-end tests of `run`, `wrap` and `unshare` share: a busybox to run things in, and how errors look."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import images
import pytest


@dataclass
class Box:
    """`sbx run OPTIONS rootfs:BUSYBOX sh -c SCRIPT`, with the store of the session unless told otherwise."""

    sbx: Any
    rootfs: Path

    def __call__(
        self, script: str, *options: str | Path, image: str = "", **rest: Any
    ) -> subprocess.CompletedProcess[str]:
        return self.sbx("run", *options, image or f"rootfs:{self.rootfs}", "sh", "-c", script, **rest)

    def out(self, script: str, *options: str | Path, **rest: Any) -> str:
        """Stdout of a script that must end with 0 and say nothing on stderr."""
        done = self(script, *options, **rest)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def popen(self, script: str, *options: str | Path, **rest: Any) -> "subprocess.Popen[str]":
        return self.sbx.popen("run", *options, f"rootfs:{self.rootfs}", "sh", "-c", script, **rest)


@pytest.fixture
def box(session_sbx: Any, busybox_rootfs: Path) -> Box:
    """Runs scripts in busybox."""
    return Box(session_sbx, busybox_rootfs)


@pytest.fixture
def own_box(sbx: Any, busybox_rootfs: Path) -> Box:
    """The same with the empty store of this test."""
    return Box(sbx, busybox_rootfs)


@pytest.fixture
def rootfs(tmp_path: Path, busybox_rootfs: Path) -> Iterator[Path]:
    """A busybox root file system of this test's own, to be spoilt."""
    path = tmp_path / "rootfs"
    shutil.copytree(busybox_rootfs, path, symlinks=True)
    yield path
    images.remove_tree(path)


@pytest.fixture
def refused() -> Callable[..., None]:
    """`refused(done, "line", code=125, hint="")`: sbx said exactly this line (and a hint that starts so), nothing else."""

    def check(done: subprocess.CompletedProcess[str], line: str, code: int = 125, hint: str = "") -> None:
        said = done.stderr.splitlines()
        assert said[:1] == [f"sbx: {line}"], done
        assert done.returncode == code, done
        assert done.stdout == ""
        assert len(said) <= 2 and all(more.startswith("hint: ") for more in said[1:]), said
        if hint:
            assert said[1:] and hint in said[1], said

    return check


@pytest.fixture
def range_of() -> Callable[[str], list[tuple[int, int]]]:
    """The subordinate ranges of the caller in a file like /etc/subuid, read with other eyes than the product's."""

    def ranges(path: str) -> list[tuple[int, int]]:
        name = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        fields = [line.split(":") for line in Path(path).read_text().splitlines()]
        return [(int(f[1]), int(f[2])) for f in fields if len(f) == 3 and f[0] in (name, str(os.getuid()))]

    return ranges
