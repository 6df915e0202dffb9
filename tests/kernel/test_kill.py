"""SIGKILL of any process of a run, at any moment: nothing of it stays, and the next command works.

Each process is killed at many points of the start, a random time (the same ones in each test run) after the run began or
as soon as it is there, and once more while a payload runs that does all it can to stay: ignores every signal, has
cleared its parent-death signal, and has daemons in sessions of their own.
"""

import os
import random
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from images import Images
from support import Sbx, descendants, leftovers, mount_points

SECONDS = 2.0  # from the kill until nothing may be left
START = 0.06  # the kills are spread over this time, in which a run starts
KILLED = 128 + signal.SIGKILL

STUBBORN = r"""
import ctypes, os, signal, sys, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG
for _ in range(3):
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
            time.sleep(300)
        os._exit(0)
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored: that says that it has ended
print("ready", flush=True)
time.sleep(300)
"""


# -- who is who: by the family tree, read from outside --


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _field(pid: int, name: str) -> list[str]:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return line.split()[1:]
    except OSError:
        pass
    return []


def keeper(cli: int) -> int:
    """The child of the cli that is pid 1 of a pid namespace; newuidmap and newgidmap are in none of their own."""
    return next((pid for pid in children(cli) if _field(pid, "NSpid")[1:] == ["1"]), 0)


def init(cli: int) -> int:
    """The child of the keeper that is pid 1 of the inner pid namespace."""
    return next((pid for pid in children(keeper(cli)) if _field(pid, "NSpid")[2:] == ["1"]), 0) if keeper(cli) else 0


def helper(*names: str) -> Callable[[int], int]:
    def find(cli: int) -> int:
        # One that has ended already is no longer to be killed: pasta is tried in two ways.
        living = (pid for pid in children(keeper(cli)) if _field(pid, "State")[:1] not in ([], ["Z"]))
        return next((pid for pid in living if "".join(_field(pid, "Name")).startswith(names)), 0)

    return find


WHO: dict[str, Callable[[int], int]] = {
    "cli": lambda cli: cli,
    "keeper": keeper,
    "init": init,
    "slirp4netns": helper("slirp4netns"),
    "pasta": helper(
        "passt", "pasta"
    ),  # its program goes by the processor's features: passt.avx2, since 2026 pasta.avx2
    "fuse-overlayfs": helper("fuse-overlayfs"),
}

# who is killed, what is run, and how often
KILLS = [
    pytest.param("cli", [], 14, id="cli"),
    pytest.param("keeper", [], 14, id="keeper"),
    pytest.param("init", [], 14, id="init"),
    pytest.param("slirp4netns", ["--network", "slirp4netns"], 6, id="slirp4netns", marks=pytest.mark.requires("slirp")),
    pytest.param("pasta", ["--network", "pasta"], 6, id="pasta", marks=pytest.mark.requires("pasta")),
    pytest.param("fuse-overlayfs", ["--storage-driver", "fuse-overlayfs"], 6, id="fuse", marks=pytest.mark.requires("fuse")),
    pytest.param("cli", ["--network", "slirp4netns", "--storage-driver", "fuse-overlayfs"], 5, id="cli-with-helpers",
                 marks=pytest.mark.requires("slirp", "fuse")),
    pytest.param("keeper", ["--network", "pasta", "--storage-driver", "fuse-overlayfs"], 5, id="keeper-with-helpers",
                 marks=pytest.mark.requires("pasta", "fuse")),
    pytest.param("init", ["--init"], 4, id="reaper"),
]  # fmt: skip


def kill(who: str, process: "subprocess.Popen[str]", delay: float) -> None:
    """Kill `who` of this run after `delay` seconds, or as soon as it is there."""
    time.sleep(delay)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        pid = WHO[who](process.pid)
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
                return
            except ProcessLookupError:
                pass
        assert process.poll() is None, f"no {who}: {process.communicate()}"
    pytest.fail(f"no {who} after 5 s")


class After:
    """What must hold after a kill; `before` is what was there before the run."""

    def __init__(self, sbx: Sbx, image: str) -> None:
        self.sbx, self.image = sbx, image
        self.processes, self.mounts = set(descendants()), mount_points()

    def left(self) -> list[str]:
        found = [f"process {pid}: {words}" for pid, words in descendants().items() if pid not in self.processes]
        found += [f"mount {point}" for point in mount_points() if point not in self.mounts]
        # Folders of containers go with the next command.
        return found + [
            line for line in leftovers(self.sbx.store) if not line.startswith(f"{self.sbx.store}/containers/")
        ]

    def end_all(self) -> None:
        for pid in set(descendants()) - self.processes:
            os.kill(pid, signal.SIGKILL)

    def nothing_stays(self, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while self.left():
            if time.monotonic() > deadline:
                left = self.left()
                self.end_all()
                pytest.fail(f"{what}: after {SECONDS} s there is still\n" + "\n".join(left))
            time.sleep(0.005)

    def next_command_works(self, what: str) -> None:
        done = self.sbx("run", self.image, "echo", "works")
        assert (done.returncode, done.stdout, done.stderr) == (0, "works\n", ""), what
        assert os.listdir(self.sbx.store / "containers") == [], what


@pytest.fixture
def after(sbx: Sbx, busybox_oci: Images) -> Iterator[After]:
    prepared = sbx("run", busybox_oci.oci, "true")
    assert prepared.returncode == 0, prepared.stderr
    found = After(sbx, busybox_oci.oci)
    yield found
    found.end_all()


def end_of(process: "subprocess.Popen[str]", what: str) -> tuple[int, str]:
    """(exit status, stderr) of the cli; it must end on its own."""
    try:
        _, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{what}: the cli does not end")
    assert "Traceback" not in err
    return process.returncode, err


@pytest.mark.parametrize(("who", "options", "times"), KILLS)
def test_at_the_start(who: str, options: list[str], times: int, after: After) -> None:
    chance = random.Random(who)
    statuses = {"cli": {-signal.SIGKILL}, "keeper": {125}, "init": {125, KILLED}}.get(who, {125})
    for number in range(times):
        # One after another through the whole time, and not all at the same places.
        delay = START * (number + chance.random()) / times
        what = f"{who}, kill {number}, after {delay * 1000:.1f} ms"
        process = after.sbx.popen("run", *options, after.image, "sleep", "300")
        kill(who, process, delay)
        status, err = end_of(process, what)
        assert status in statuses, f"{what}: {status}\n{err}"
        assert status != 125 or err.startswith("sbx: "), what
        after.nothing_stays(what)
        if number % 3 == 0 or number == times - 1:
            after.next_command_works(what)


@pytest.mark.parametrize("who", ["cli", "keeper", "init"])
def test_a_payload_that_does_not_want_to_end(who: str, after: After) -> None:
    what = f"{who}, while running"
    process = after.sbx.popen("run", "host:", "/usr/bin/python3", "-Ic", STUBBORN)
    assert process.stdout and process.stdout.readline() == "ready\n", process.communicate()
    inside = [pid for pid in descendants() if pid not in after.processes]
    assert len(inside) >= 6  # cli, keeper, the payload and three daemons
    kill(who, process, 0)
    status, err = end_of(process, what)
    assert status == {"cli": -signal.SIGKILL, "keeper": 125, "init": KILLED}[who], err
    if who == "keeper":
        assert "its keeper was killed by signal 9" in err
    after.nothing_stays(what)
    after.next_command_works(what)


@pytest.mark.parametrize(
    ("who", "options", "words"),
    [
        pytest.param("slirp4netns", ["--network", "slirp4netns"], "sbx: connect network `network helper`: ",
                     marks=pytest.mark.requires("slirp")),
        pytest.param("slirp4netns", ["--network", "slirp4netns", "-p", "127.0.0.1::80"], "sbx: connect network `network helper`: ",
                     marks=pytest.mark.requires("slirp")),
        pytest.param("pasta", ["--network", "pasta"], "sbx: connect network `network helper`: ",
                     marks=pytest.mark.requires("pasta")),
        pytest.param("fuse-overlayfs", ["--storage-driver", "fuse-overlayfs"],
                     "sbx: serve root file system `fuse-overlayfs`: ", marks=pytest.mark.requires("fuse")),
    ],
)  # fmt: skip
def test_helper_while_running(who: str, options: list[str], words: str, after: After) -> None:
    """The container ends with its helper, and the message names it."""
    process = after.sbx.popen("run", *options, after.image, "sh", "-c", "echo ready; trap '' TERM INT HUP; sleep 300")
    assert process.stdout and process.stdout.readline() == "ready\n", process.communicate()
    kill(who, process, 0)
    status, err = end_of(process, who)
    assert status == 125 and err.startswith(words), err
    after.nothing_stays(who)
    after.next_command_works(who)


@pytest.mark.parametrize("who", ["cli", "keeper", "init"])
def test_terminal_is_given_back(who: str, after: After) -> None:
    """The user's terminal was in raw mode; after the kill it is as it was."""
    master, slave = os.openpty()
    try:
        saved = termios.tcgetattr(slave)
        process = after.sbx.popen("run", "-it", after.image, "sleep", "300", stdin=slave, stdout=slave, stderr=slave)
        deadline = time.monotonic() + 5
        while termios.tcgetattr(slave)[3] & termios.ICANON:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        kill(who, process, 0.01)
        process.wait(SECONDS)
        after.nothing_stays(who)
        assert termios.tcgetattr(slave) == saved
    finally:
        os.close(master)
        os.close(slave)
    after.next_command_works(who)


@pytest.mark.parametrize("who", ["cli", "keeper"])
def test_wrap(who: str, after: After, tmp_path: Path) -> None:
    process = after.sbx.popen("wrap", "--", "/usr/bin/python3", "-Ic", STUBBORN, cwd=tmp_path)
    assert process.stdout and process.stdout.readline() == "ready\n", process.communicate()
    kill(who, process, 0)
    end_of(process, who)
    after.nothing_stays(who)
    after.next_command_works(who)


def test_S04_while_unpacking(sbx: Sbx, busybox_oci: Images) -> None:
    """The cli and what it forked, in the middle of an image's first use: the next run finds the store usable."""
    after = After(sbx, busybox_oci.oci)
    chance = random.Random(7)
    for number in range(8):
        delay = 0.03 + 0.2 * (number + chance.random()) / 8
        process = sbx.popen("run", busybox_oci.oci, "sleep", "300")
        time.sleep(delay)
        process.kill()
        process.wait()
        after.nothing_stays(f"cli while unpacking, after {delay * 1000:.1f} ms")
        process.communicate()
    after.next_command_works("after eight kills while unpacking")


@pytest.mark.root
@pytest.mark.parametrize("who", ["cli", "keeper", "init"])
def test_called_by_root(who: str, after: After) -> None:
    """The keeper is a subordinate id there, and its files are."""
    for number in range(5):
        what = f"{who}, kill {number}, by root"
        process = after.sbx.popen("run", after.image, "sh", "-c", "echo >/file; sleep 300")
        kill(who, process, START * number / 5)
        end_of(process, what)
        after.nothing_stays(what)
    after.next_command_works(who)
