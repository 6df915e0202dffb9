"""bin/sbx and the wheel: found in a virtual environment, a prefix, through links, from any folder."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import sandbox
from sandbox.cli import completion, manpages

TREE = Path(__file__).resolve().parent.parent.parent
LAUNCHER = TREE / "bin/sbx"
VERSION = f"sbx {sandbox.__version__}\n"


def run(*argv: str | Path, **options: object) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "PYTHONPATH": "/nonexistent",
        "PYTHONHOME": "/nonexistent",
    }
    return subprocess.run(
        [str(word) for word in argv],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """What an installation with --prefix leaves: the launcher, the package, and no Python of its own."""
    root = tmp_path / "a prefix"
    (root / "bin").mkdir(parents=True)
    shutil.copy2(LAUNCHER, root / "bin/sbx")
    python = "python{}.{}".format(*sys.version_info[:2])
    package = root / f"lib/{python}/site-packages/sandbox"
    shutil.copytree(Path(sandbox.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "bin" / python).symlink_to(sys.executable)
    return root


def test_a_prefix(prefix: Path) -> None:
    done = run(prefix / "bin/sbx", "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, VERSION, "")


def test_any_current_folder_and_any_way_to_name_it(prefix: Path) -> None:
    assert run("./sbx", "version", cwd=prefix / "bin").stdout == VERSION
    assert run("sh", "sbx", "version", cwd=prefix / "bin").stdout == VERSION
    assert run("a prefix/bin/sbx", "version", cwd=prefix.parent).stdout == VERSION


def test_links(prefix: Path) -> None:
    """To the file (as pipx makes them), to that link, and to its folder."""
    one, two, folder = prefix.parent / "one", prefix.parent / "two", prefix.parent / "folder"
    one.symlink_to(prefix / "bin/sbx")
    two.symlink_to("one")
    folder.symlink_to(prefix / "bin")
    for path in (one, two, folder / "sbx"):
        assert run(path, "version").stdout == VERSION


def test_distribution_packages(prefix: Path) -> None:
    """Debian: /usr/lib/python3/dist-packages and whatever `python3` is in the same folder."""
    python = next((prefix / "lib").iterdir()).name
    (prefix / "lib" / python).rename(prefix / "lib/python3")
    (prefix / "lib/python3/site-packages").rename(prefix / "lib/python3/dist-packages")
    (prefix / "bin" / python).rename(prefix / "bin/python3")
    assert run(prefix / "bin/sbx", "version").stdout == VERSION


def test_S11_the_caller_can_not_slip_modules_in(prefix: Path, tmp_path: Path) -> None:
    for name in ("sandbox", "io", "json", "platform"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('slipped in')")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [prefix / "bin/sbx", "version", "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_arguments_arrive_as_they_are(prefix: Path) -> None:
    done = run(prefix / "bin/sbx", "a  b\n*")
    assert done.stderr.startswith("sbx: unknown verb `a  b\\n*`\n") or "typer" in done.stderr


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "version"], cwd=TREE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, VERSION)


def test_by_the_path_of_the_script() -> None:
    """Without -I, Python puts the script's folder first: sandbox/profile must not hide the standard library's."""
    script = Path(sandbox.__file__).parent / "__main__.py"
    done = subprocess.run([sys.executable, script, "version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, VERSION)


def test_the_shell_script_is_plain_sh() -> None:
    assert LAUNCHER.read_text().startswith("#!/bin/sh\n")
    assert os.access(LAUNCHER, os.X_OK)
    for shell in ("dash", "bash", "busybox"):
        path = shutil.which(shell)
        if path:
            argv = [path, "sh"] if shell == "busybox" else [path]
            assert subprocess.run([*argv, "-n", LAUNCHER], check=False).returncode == 0


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this tree, built by setuptools of this environment: nothing is downloaded."""
    pytest.importorskip("setuptools", minversion="77")
    base = tmp_path_factory.mktemp("wheel")
    (base / "tree").mkdir()
    for name in ("bin", "profiles", "sandbox"):
        shutil.copytree(TREE / name, base / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy2(TREE / name, base / "tree")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", base, base / "tree"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(base.glob("*.whl"))


@pytest.mark.slow
def test_what_the_wheel_carries_is_current(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        share = f"sbx-{sandbox.__version__}.data/data/share"
        for name, text in manpages.pages().items():
            assert archive.read(f"{share}/man/man1/{name}").decode() == text
        for shell, path in (
            ("bash", "bash-completion/completions/sbx"),
            ("zsh", "zsh/site-functions/_sbx"),
            ("fish", "fish/vendor_completions.d/sbx.fish"),
        ):
            assert archive.read(f"{share}/{path}").decode() == completion.SCRIPTS[shell]()
        for profile in (TREE / "profiles").glob("*.toml"):
            assert archive.read(f"sandbox/_data/profiles/{profile.name}") == profile.read_bytes()
        modules = {str(p.relative_to(TREE)) for p in (TREE / "sandbox").rglob("*.py")}
        assert modules <= names
        assert not any(name.startswith(("tests", "setup", "build")) for name in names)


@pytest.mark.slow
def test_the_wheel_in_a_virtual_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, system_site_packages=False, symlinks=True)
    python = tmp_path / "venv/bin/python3"
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    done = run(tmp_path / "venv/bin/sbx", "version", cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, VERSION, "")
    done = run(tmp_path / "venv/bin/sbx", "rnu")
    # Its dependencies are not installed here: that is said, and is no traceback.
    assert (done.returncode, done.stderr.split("\n")[0]) == (
        125,
        "sbx: load Python package `typer`: it is not installed",
    )
