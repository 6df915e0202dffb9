"""The file that a hot verb's modules are loaded from at once: written, used, and left alone when it does not match."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox

NAME = f"exec.{sys.implementation.cache_tag}.bundle"


class Copy:
    """The package somewhere else, without compiled files."""

    def __init__(self, folder: Path) -> None:
        self.package, self.home = folder / "lib/sandbox", folder / "home"
        self.home.mkdir()
        shutil.copytree(Path(sandbox.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        self.file = self.package / "__pycache__" / NAME

    def exec(self, *flags: str) -> "subprocess.CompletedProcess[str]":
        """`sbx exec` of a container that is not there."""
        return subprocess.run(
            [sys.executable, "-IS", *flags, self.package / "__main__.py", "exec", "nobody", "true"],
            env={"HOME": str(self.home)}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def used(self) -> set[str]:
        """The modules that came from the file."""
        return self.imported()[0]

    def imported(self) -> tuple[set[str], set[str]]:
        """(modules from the file, other modules of ours)"""
        done = self.exec("-v")
        assert done.returncode == 125
        lines = [line for line in done.stderr.splitlines() if line.startswith("import 'sandbox")]
        ours = {line.split("'")[1]: line.endswith("# from a bundle") for line in lines}
        return {name for name in ours if ours[name]}, {name for name in ours if not ours[name]}


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    made = Copy(tmp_path)
    first = made.exec()
    assert (first.returncode, first.stdout) == (125, "")
    assert "nobody" in first.stderr
    return made


def test_the_first_start_writes_it_and_the_next_one_uses_it(copy: Copy) -> None:
    assert copy.file.exists()
    used, others = copy.imported()
    assert {"sandbox.entry", "sandbox.options", "sandbox.linux", "sandbox.exec"} <= used
    assert others == {"sandbox", "sandbox.bundle"}
    before = copy.file.stat()
    assert "nobody" in copy.exec().stderr
    assert copy.file.stat().st_mtime_ns == before.st_mtime_ns
    assert not [name for name in os.listdir(copy.file.parent) if not name.endswith((".pyc", ".bundle"))]


def test_a_source_that_has_changed(copy: Copy) -> None:
    errors = copy.package / "errors.py"
    errors.write_text(errors.read_text().replace('f"sbx: ', 'f"changed: '))
    assert copy.exec().stderr.startswith("changed: ")
    assert "sandbox.errors" in copy.used()  # it was written anew
    assert copy.exec().stderr.startswith("changed: ")


def test_a_source_that_has_gone(copy: Copy) -> None:
    (copy.package / "journal.py").unlink()
    assert copy.used()  # it is not in there
    (copy.package / "channel.py").rename(copy.package / "canal.py")
    assert not copy.used()


@pytest.mark.parametrize("content", [b"", b"\0", b"rubbish", b"00000001N", b"99999999"])
def test_rubbish_in_its_place(copy: Copy, content: bytes) -> None:
    copy.file.write_bytes(content)
    assert "nobody" in copy.exec().stderr
    assert "sandbox.exec" in copy.used()


def test_half_of_it(copy: Copy) -> None:
    copy.file.write_bytes(copy.file.read_bytes()[:-1000])
    assert "nobody" in copy.exec().stderr
    assert "sandbox.exec" in copy.used()


def test_a_part_of_it_that_is_no_code(copy: Copy) -> None:
    copy.file.write_bytes(copy.file.read_bytes()[:-1000] + b"\xff" * 1000)
    assert "nobody" in copy.exec().stderr


def test_nobody_can_write_there(copy: Copy) -> None:
    copy.file.unlink()
    if os.getuid() == 0:
        pytest.skip("root writes everywhere")
    copy.file.parent.chmod(0o555)
    done = copy.exec()
    copy.file.parent.chmod(0o755)
    assert (done.returncode, "nobody" in done.stderr, copy.file.exists()) == (125, True, False)


def test_readable_for_whoever_can_read_the_sources(copy: Copy) -> None:
    copy.file.unlink()
    old = os.umask(0o077)
    try:
        copy.exec()
    finally:
        os.umask(old)
    assert copy.file.stat().st_mode & 0o777 == 0o644


def test_other_verbs_and_an_optimized_start_do_without(copy: Copy) -> None:
    copy.file.unlink()
    done = copy.exec("-O")
    assert (done.returncode, copy.file.exists()) == (125, False)


def test_output_that_takes_no_more_is_told_by_the_start_that_writes_one_too(tmp_path: Path) -> None:
    made = Copy(tmp_path)
    command = [sys.executable, "-IS", str(made.package / "__main__.py"), "run", "--help"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env={"HOME": str(made.home)}, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 125
    assert done.stderr == "sbx: write `standard output`: No space left on device\n"


def test_what_a_killed_writer_left_goes_with_the_next_one(copy: Copy) -> None:
    left = copy.file.with_name(f"{NAME}.123")
    left.touch()
    copy.file.unlink()
    copy.exec()
    assert (copy.file.exists(), left.exists()) == (True, False)
