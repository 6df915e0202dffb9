"""./try and ./test: what can be said of them without changing the machine, and, as root, that a second run is idle."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.doctor.packages import PACKAGES

TREE = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ("try", "test", "setup/machine.sh", ".ci/run", ".ci/vm", "bin/sbx")


def shell(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """`code` with the functions of setup/machine.sh at hand."""
    return subprocess.run(
        ["sh", "-euc", f'tree={TREE}; . "$tree/setup/machine.sh"; {code}', "sh", *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **options,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_syntax(script):
    interpreter = "bash" if script.startswith(".ci/") else "sh"
    done = subprocess.run([interpreter, "-n", TREE / script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", ["try", "test"])
def test_help(script):
    done = subprocess.run([TREE / script, "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: ./{script}")


def test_try_refuses_what_it_does_not_know():
    done = subprocess.run([TREE / "try", "--setup"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (125, "sbx: unknown argument: --setup\nhint: ./try --help\n")


@pytest.mark.parametrize("script", ["check", "build", "run"])
def test_scripts_of_the_machines_say_what_they_do(script):
    path = TREE / "tests/vm" / script
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    done = subprocess.run([path, "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_packages_agree_with_those_that_doctor_names():
    lines = (TREE / "setup/packages").read_text().splitlines()
    table = {words[1]: words[2:] for line in lines if not line.startswith("#") and (words := line.split())}
    table["libseccomp"] = table["lib:libseccomp.so.2"]
    for column, manager in enumerate(PACKAGES):
        for program, package in PACKAGES[manager].items():
            if program in table:
                assert table[program][column] == package, (manager, program)
    assert all(len(packages) == len(PACKAGES) for packages in table.values())


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ("", 100000),
        ("a:100000:65536\n", 165536),
        ("a:300000:65536\n", 100000),
        ("b:150000:10\na:100000:65536", 165536),
        ("a:100000:1\nb:231071:65536\n", 296608),
        ("a:100000:600000\n", 755360),
    ],
)
def test_free_range_overlaps_nobody(tmp_path, lines, first):
    (tmp_path / "subuid").write_text(lines)
    done = shell('free_range "$1" "$2"', str(tmp_path / "subuid"), str(tmp_path / "missing"))
    assert done.stdout == f"{first}\n"


@pytest.mark.parametrize(
    ("line", "found"), [("alice:1:65536", 0), ("1000:1:65536", 0), ("alice2:1:65536", 1), ("alice:1:0", 1), ("", 1)]
)
def test_range_is_found_by_name_and_number(tmp_path, line, found):
    (tmp_path / "subuid").write_text(line)
    assert shell('has_range "$1" alice 1000', str(tmp_path / "subuid")).returncode == found


def test_source_hash_follows_the_content(tmp_path):
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox/a.py").write_text("1")
    (tmp_path / "setup").symlink_to(TREE / "setup")
    code = f"tree={tmp_path}; source_hash"
    one = shell(code).stdout
    (tmp_path / "sandbox/a.py").touch()
    assert shell(code).stdout == one
    (tmp_path / "sandbox/a.py").write_text("2")
    assert shell(code).stdout != one
    assert one.strip().isdecimal()


def test_folder_that_others_can_not_reach(tmp_path):
    (tmp_path / "closed" / "open").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    assert shell('others_reach "$1"', str(tmp_path / "closed" / "open")).returncode == 1
    assert shell('others_reach "$1"', "/usr/bin").returncode == 0


@pytest.mark.root
def test_environment_of_another_user_keeps_proxies_and_drops_secrets():
    env = {
        "PATH": os.environ["PATH"],
        "https_proxy": "http://a b",
        "PIP_INDEX_URL": "x y",
        "TOKEN": "secret",
        "HOME": "/root",
    }
    done = shell("as_user nobody env", env=env)
    lines = done.stdout.splitlines()
    assert {"https_proxy=http://a b", "PIP_INDEX_URL=x y"} <= set(lines), done.stderr
    assert "TOKEN=secret" not in lines and "HOME=/root" not in lines


@pytest.mark.root
@pytest.mark.slow
def test_setup_runs_twice_and_the_second_time_changes_nothing(tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(
        TREE, clone, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".git", "*_cache", ".hypothesis")
    )
    first = subprocess.run([clone / "try", "--setup-only"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert first.returncode == 0, first.stderr
    place = (clone / ".venv").resolve()
    try:
        # tmp_path is root's alone, so the environment lies elsewhere, and another user can run it.
        assert place.parent == Path("/usr/local/lib/sbx")
        done = subprocess.run(
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", place / "bin/sbx", "version"],
            capture_output=True, text=True, env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}, cwd="/",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        again = subprocess.run(
            [clone / "try", "--setup-only"], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert again.stderr == f"sbx: ready: {clone}/.venv/bin/sbx\n"
    finally:
        shutil.rmtree(place)
