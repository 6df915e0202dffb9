"""What all tests share: probes as skips, a time limit, images, the installed launcher, and a check of what is left behind.

@pytest.mark.requires("overlay", "slirp")   probes of `sbx doctor`, tried as the user who runs the tests
@pytest.mark.slow, @pytest.mark.root, @pytest.mark.limit(seconds)
SBX_MUST_WORK=overlay,slirp                 a missing one of these fails the test instead of skipping it
SBX_LAUNCHER=/path/to/sbx                   another launcher than the one next to this Python
SBX_TEST_SLOWER=5                           time limits are that much longer: on an emulated machine
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

# Behind what is installed: only where sbx is not, the tree itself is under test.
sys.path.append(str(Path(__file__).resolve().parent.parent))

import images
from images import Images
from support import SLOWER, Sbx, clean_environment, descendants, launcher_path, leftovers, mount_points, runtime_entries

from sandbox import linux
from sandbox.doctor.probe import MISSING, Row
from sandbox.doctor.table import NAMES, rows

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
    if SLOWER > 1:
        try:
            from hypothesis import settings
        except ImportError:
            return
        settings.register_profile("slower", deadline=None, max_examples=20)
        settings.load_profile("slower")


_rows: dict[str, Row] = {}


def probe(name: str) -> Row:
    """The row of one probe; all are tried once per session."""
    if not _rows:
        _rows.update({row.name: row for row in rows(NAMES)})
    return _rows[name]


def _must_work() -> set[str]:
    return {name for name in os.environ.get("SBX_MUST_WORK", "").split(",") if name}


def _without(name: str, told: str) -> NoReturn:
    """Skip a test for want of `name`, unless that must work here."""
    if name in _must_work():
        pytest.fail(f"SBX_MUST_WORK: {told}", pytrace=False)
    pytest.skip(told)


def pytest_sessionstart(session: pytest.Session) -> None:
    # Who started us may have ignored them (nohup, a background job), and whoever we start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    unknown = _must_work() - {*NAMES, "mirror"}
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
            _without(name, told)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Nothing hangs: a test that takes too long fails, and the next one runs."""
    mark = item.get_closest_marker("limit")
    seconds = mark.args[0] if mark else LIMIT * (5 if item.get_closest_marker("slow") else 1)
    seconds = round(seconds * SLOWER)

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


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("sbx")
    yield path
    images.remove_tree(path)


@pytest.fixture(scope="session")
def session_sbx(session_folder: Path) -> Sbx:
    """`sbx` with one store for the whole session: layers are unpacked once.  For tests that only run images."""
    return Sbx(session_folder / "store", clean_environment(session_folder), launcher_path())


@pytest.fixture
def sbx(tmp_path: Path, session_folder: Path) -> Iterator[Sbx]:
    """`sbx` with an empty store of this test's own; compiled profiles are shared."""
    yield Sbx(tmp_path / "store", clean_environment(session_folder), launcher_path())
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
def debian_oci() -> Images:
    """Takes about a minute when it is made first: for tests marked slow."""
    try:
        return images.debian()
    except (FileNotFoundError, RuntimeError) as error:
        _without("mirror", f"mirror: {str(error).strip().splitlines()[-1]}")


# -- what is left behind --


@pytest.fixture
def no_leftovers(sbx: Sbx) -> Iterator[Callable[[], None]]:
    """After the test (and when called): no process, mount, container, temporary file or lock of sbx is left."""
    before, mounts, runtime = set(descendants()), mount_points(), runtime_entries()

    def check(*, reap: bool = False) -> None:
        found: list[str] = []
        # Two seconds: what dies with its parent is still dying when the parent is reaped.
        for _ in range(100):
            # The first process of a pid namespace ends when all in it have been reaped: those that have become ours, by us.
            with contextlib.suppress(ChildProcessError):
                while reap and os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            processes = {pid: words for pid, words in descendants().items() if pid not in before}
            found = [f"process {pid}: {words}" for pid, words in processes.items()]
            found += [f"mount {point}" for point in mount_points() if point not in mounts]
            found += sorted(runtime_entries() - runtime)
            found += leftovers(sbx.store)
            if not found:
                return
            time.sleep(0.02)
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pytest.fail("left behind:\n" + "\n".join(found), pytrace=False)

    yield check
    check(reap=True)
