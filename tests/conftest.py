"""What all tests share: probes as skips, a time limit, images, the installed launcher, and a check of what is left behind.

@pytest.mark.requires("overlay", "slirp")   probes of `sbx doctor`, tried as the user who runs the tests
@pytest.mark.slow, @pytest.mark.root, @pytest.mark.limit(seconds)
SBX_MUST_WORK=overlay,slirp                 a missing one of these fails the test instead of skipping it
SBX_LAUNCHER=/path/to/sbx                   another launcher than the one next to this Python
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

# Behind what is installed: only where sbx is not, the tree itself is under test.
sys.path.append(str(Path(__file__).resolve().parent.parent))

import images
from images import Images

from sandbox import linux
from sandbox.doctor.probe import MISSING, Row
from sandbox.doctor.table import NAMES, rows

TREE = Path(__file__).resolve().parent.parent
LIMIT = 120  # seconds per test; slow ones get five times as much


# -- probes, marks, time limit --


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "requires(*names): probes of sbx doctor that must work, else the test is skipped (SBX_MUST_WORK: fails)",
        "root: needs to be run by root",
        "limit(seconds): a time limit of its own",
    ):
        config.addinivalue_line("markers", line)
    # Whatever a test leaves running becomes our child, so that `no_leftovers` sees it and nothing outlives us.
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)


_rows: dict[str, Row] = {}


def probe(name: str) -> Row:
    """The row of one probe; all are tried once per session."""
    if not _rows:
        _rows.update({row.name: row for row in rows(NAMES)})
    return _rows[name]


def _must_work() -> set[str]:
    return {name for name in os.environ.get("SBX_MUST_WORK", "").split(",") if name}


def pytest_sessionstart(session: pytest.Session) -> None:
    unknown = _must_work() - set(NAMES)
    if unknown:
        raise pytest.UsageError(f"SBX_MUST_WORK: no such probe: {', '.join(sorted(unknown))}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast tests first; those for root only when root runs."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    if os.geteuid() != 0:
        roots = [item for item in items if item.get_closest_marker("root")]
        config.hook.pytest_deselected(items=roots)
        items[:] = [item for item in items if item not in roots]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for name in mark.args:
            row = probe(name)
            if row.status != MISSING:
                continue
            told = f"{name}: {row.cause}" + (f" (fix: {row.fix})" if row.fix else "")
            if name in _must_work():
                pytest.fail(f"SBX_MUST_WORK: {told}", pytrace=False)
            pytest.skip(told)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Nothing hangs: a test that takes too long fails, and the next one runs."""
    mark = item.get_closest_marker("limit")
    seconds = mark.args[0] if mark else LIMIT * (5 if item.get_closest_marker("slow") else 1)

    def too_long(number: int, frame: FrameType | None) -> None:
        signal.alarm(10)  # for what follows: fixtures that are taken down
        pytest.fail(f"took longer than {seconds} s")

    old = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


# -- the launcher --


@dataclass
class Sbx:
    """The installed `sbx`, called as a user calls it, with a store of its own and no settings of the caller's."""

    store: Path
    environment: dict[str, str] = field(default_factory=dict)
    launcher: str = ""

    def command(self, *arguments: str | Path) -> list[str]:
        """The argv of `sbx ARGUMENTS`."""
        return [self.launcher, *(str(a) for a in arguments)]

    def popen(self, *arguments: str | Path, env: Mapping[str, str | None] | None = None, **options: Any) -> subprocess.Popen[str]:  # fmt: skip
        """Start `sbx ARGUMENTS` in a session of its own; `env` adds to the environment, None removes."""
        merged = {**self.environment, "SBX_STORE": str(self.store), **(env or {})}
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            self.command(*arguments),
            env={name: value for name, value in merged.items() if value is not None},
            text=True, encoding="utf-8", errors="surrogateescape", start_new_session=True, **options,
        )  # fmt: skip

    def __call__(
        self, *arguments: str | Path, input: str = "", timeout: float = 60, env: Mapping[str, str | None] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run `sbx ARGUMENTS` to its end; its exit status, stdout and stderr.  On a timeout its session is killed."""
        process = self.popen(*arguments, env=env, stdin=subprocess.PIPE if input else subprocess.DEVNULL, **options)
        try:
            out, err = process.communicate(input or None, timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            sys.stderr.write(f"killed: sbx {' '.join(map(str, arguments))}\nstdout: {out}\nstderr: {err}\n")
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _launcher() -> str:
    # sys.executable is not resolved: in a virtual environment it is a link to the system's Python.
    for path in (os.environ.get("SBX_LAUNCHER", ""), f"{os.path.dirname(sys.executable)}/sbx", f"{TREE}/bin/sbx"):
        if path and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError("sbx: neither installed next to this Python nor in the tree")


def _environment(base: Path) -> dict[str, str]:
    kept = ("HOME", "XDG_RUNTIME_DIR", "TMPDIR", "SBX_DEBUG", "PYTHONDONTWRITEBYTECODE")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        # In the tree the launcher takes the first python3 of PATH: that of the tests has what cold verbs import.
        "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(base / "cache"),
        "XDG_CONFIG_HOME": str(base / "config"),
    }


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sbx")
    yield path
    images.remove_tree(path)


@pytest.fixture(scope="session")
def session_sbx(session_folder: Path) -> Sbx:
    """`sbx` with one store for the whole session: layers are unpacked once.  For tests that only run images."""
    return Sbx(session_folder / "store", _environment(session_folder), _launcher())


@pytest.fixture
def sbx(tmp_path: Path, session_folder: Path) -> Iterator[Sbx]:
    """`sbx` with an empty store of this test's own; compiled profiles are shared."""
    yield Sbx(tmp_path / "store", _environment(session_folder), _launcher())
    images.remove_tree(tmp_path / "store")


# -- images --


@pytest.fixture(scope="session")
def busybox_rootfs() -> Path:
    return images.busybox_rootfs()


@pytest.fixture(scope="session")
def busybox_oci() -> Images:
    return images.busybox()


@pytest.fixture(scope="session")
def layered_oci() -> Callable[[int], Images]:
    """`layered_oci(3)`: see images.layered."""
    return images.layered


@pytest.fixture(scope="session")
def debian_rootfs() -> Path:
    """Takes about a minute when it is made first: for tests marked slow."""
    return images.debian_rootfs()


@pytest.fixture(scope="session")
def debian_oci() -> Images:
    """Takes about a minute when it is made first: for tests marked slow."""
    return images.debian()


# -- what is left behind --


def _descendants() -> dict[int, str]:
    """pid -> command line of every living process below this one; whatever lost its parent is ours (subreaper)."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(name)] = int(parent)
    found: dict[int, str] = {}
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
            except OSError:
                continue
    return found


def _mounts() -> list[str]:
    """Mount points of our own namespace; other programs may mount elsewhere meanwhile, so only sbx's are taken."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(point for point in points if "sbx" in point or "pytest" in point)


def _runtime_entries() -> set[str]:
    found = set()
    for folder in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/dev/shm", "/run"):
        try:
            found |= {
                f"{folder}/{name}" for name in os.listdir(folder or "/nonexistent") if name.startswith((".sbx", "sbx"))
            }
        except OSError:
            continue
    return found


def leftovers(store: Path) -> list[str]:
    """What a finished command must not leave in its store: containers, half-made things, held locks."""
    found = [str(path) for path in sorted((store / "containers").glob("*"))]
    found += [
        str(path) for folder in ("layers", "images", "blobs/sha256") for path in sorted((store / folder).glob(".*"))
    ]
    layers: Sequence[Path] = sorted((store / "layers").glob("*"))
    for path in layers:
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            found.append(f"lock on {path}")
        finally:
            os.close(fd)
    return found


@pytest.fixture
def no_leftovers(sbx: Sbx) -> Iterator[Callable[[], None]]:
    """After the test (and when called): no process, mount, container, temporary file or lock of sbx is left."""
    before, mounts, runtime = set(_descendants()), _mounts(), _runtime_entries()

    def check() -> None:
        found: list[str] = []
        # Two seconds: what dies with its parent is still dying when the parent is reaped.
        for _ in range(100):
            processes = {pid: words for pid, words in _descendants().items() if pid not in before}
            found = [f"process {pid}: {words}" for pid, words in processes.items()]
            found += [f"mount {point}" for point in _mounts() if point not in mounts]
            found += sorted(_runtime_entries() - runtime)
            found += leftovers(sbx.store)
            if not found:
                return
            time.sleep(0.02)
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        pytest.fail("left behind:\n" + "\n".join(found), pytrace=False)

    yield check
    check()
