"""Run probes: each in a forked child of its own, all side by side, bounded in time, leaving nothing behind.  (cold)

    caller            runner (child subreaper)                probe (one process group each)
      fork  ------->    scratch folder on the store's disk
                        fork, fork, ...  ---------------->     does the real operation
                        reads answers until the deadline  <--  one JSON line: status, cause, fix
                        SIGKILL to each group, reaps all that is left, removes the folder
      rows  <-------    one JSON document

The runner is there for its reaping: a probe that hangs or dies leaves children, and only a subreaper gets them back.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

from sandbox import linux, paths
from sandbox.errors import SandboxError

WORKS, WEAKER, MISSING = "works", "weaker", "missing"
# Seconds that all probes of one look may take together; slirp4netns and pasta need about 0.2 on a slow machine.
DEADLINE = 2.5
try:  # one that is emulated, or busy, may take longer than any limit that suits the rest
    DEADLINE = max(DEADLINE, min(float(os.environ["SBX_DOCTOR_SECONDS"]), 600))
except (KeyError, ValueError):
    pass


@dataclass(frozen=True)
class Verdict:
    """What a probe found: `cause` in one line (for "works" a detail, or nothing), `fix` a command or nothing."""

    status: str
    cause: str = ""
    fix: str = ""


class Refused(Exception):
    """A step of a probe failed in a way that the probe itself could explain."""

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(cause)
        self.verdict = Verdict(MISSING, cause, fix)


@dataclass(frozen=True)
class Scratch:
    """Where a probe may write: `path` is a private folder on the store's file system, "" when none could be made."""

    path: str
    cause: str = ""
    fix: str = ""

    def folder(self, name: str) -> str:
        """A new folder for one probe; Refused when the store's file system can not be written."""
        if not self.path:
            raise Refused(self.cause, self.fix)
        path = f"{self.path}/{name}"
        os.mkdir(path, 0o700)
        return path


@dataclass(frozen=True)
class Probe:
    """One row of the table.  `needs`: names of probes without which this one can not work either."""

    name: str
    title: str
    function: Callable[[Scratch], Verdict]
    needed: str = "optional"
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """The outcome of one probe, as `sbx doctor --json` prints it."""

    name: str
    title: str
    status: str
    cause: str
    fix: str
    needed: str


@contextlib.contextmanager
def step(name: str, subject: str = "") -> Iterator[None]:
    """Give an OSError of the block the step it belongs to."""
    try:
        yield
    except OSError as error:
        raise SandboxError.of(name, subject or str(error.filename or ""), error) from None


def nearest_existing(path: str) -> str:
    """`path`, or the folder above it that exists."""
    while not os.path.lexists(path) and path != "/":
        path = os.path.dirname(path.rstrip("/")) or "/"
    return path


def look(probes: Iterable[Probe]) -> list[Row]:
    """The rows of `probes`, in order; takes at most DEADLINE seconds and a little."""
    wanted = list(probes)
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
            text = json.dumps([asdict(row) for row in _runner(wanted)])
            with open(write, "w", encoding="utf-8") as file:
                file.write(text)
        finally:
            os._exit(0)
    os.close(write)
    try:
        with open(read, encoding="utf-8") as file:
            text = file.read()
    finally:
        os.waitpid(pid, 0)
    if not text:
        raise SandboxError("probe the machine", detail="the probing process died without an answer")
    return [Row(**row) for row in json.loads(text)]


def _runner(probes: list[Probe]) -> list[Row]:
    end = time.monotonic() + DEADLINE
    scratch = _make_scratch()
    verdicts: dict[str, Verdict] = {}
    try:
        # What others stand on goes first, so that one refusal is told once and not in every row.
        waves = [[p for p in probes if not p.needs], [p for p in probes if p.needs]]
        for wave in waves:
            lame = {p.name: _standing_on(p, verdicts) for p in wave}
            verdicts |= {name: verdict for name, verdict in lame.items() if verdict}
            verdicts |= _wave([p for p in wave if not lame[p.name]], scratch, end)
    finally:
        if scratch.path:
            _remove(scratch.path)
    return [Row(p.name, p.title, **asdict(verdicts[p.name]), needed=p.needed) for p in probes]


def _standing_on(probe: Probe, verdicts: dict[str, Verdict]) -> Verdict | None:
    for name in probe.needs:
        if name in verdicts and verdicts[name].status == MISSING:
            return Verdict(MISSING, f"not tried: it needs the row `{name}`")
    return None


def _wave(probes: list[Probe], scratch: Scratch, end: float) -> dict[str, Verdict]:
    """Run `probes` side by side; whoever has not answered at `end` (monotonic seconds) is reported as hanging."""
    running: dict[int, tuple[Probe, int]] = {}
    answers: dict[str, bytes] = {}
    for probe in probes:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(probe, scratch, write)
        os.close(write)
        with contextlib.suppress(OSError):  # the child does the same: whoever comes first
            os.setpgid(pid, pid)
        running[read] = (probe, pid)
        answers[probe.name] = b""
    waiting = set(running)
    while waiting and (left := end - time.monotonic()) > 0:
        for fd in select.select(list(waiting), [], [], left)[0]:
            if chunk := os.read(fd, 65536):
                answers[running[fd][0].name] += chunk
            else:
                waiting.discard(fd)
    for fd, (_, pid) in running.items():
        os.close(fd)
        # The leader is not reaped yet, so its number still names this group and no other.
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    _reap_all()
    hanging = {running[fd][0].name for fd in waiting}
    return {name: _verdict(answer, hanging=name in hanging) for name, answer in answers.items()}


def _reap_all() -> None:
    """Collect every child, own or inherited; those that escaped their group are ended by number."""
    end = time.monotonic() + 0.5
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > end:
                return
            for child in _children():
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.002)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _verdict(answer: bytes, *, hanging: bool) -> Verdict:
    if hanging:
        return Verdict(
            MISSING, f"did not answer within {DEADLINE:g} s", f"SBX_DOCTOR_SECONDS={10 * DEADLINE:g} sbx doctor"
        )
    try:
        return Verdict(**json.loads(answer))
    except ValueError:
        return Verdict(MISSING, "the probe died without an answer")


def _child(probe: Probe, scratch: Scratch, write: int) -> None:
    """The process of one probe; never returns."""
    try:
        os.setpgid(0, 0)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            verdict = probe.function(scratch)
        except Refused as refused:
            verdict = refused.verdict
        except SandboxError as error:
            verdict = Verdict(MISSING, str(error))
        except OSError as error:
            subject = f" `{error.filename}`" if error.filename else ""
            verdict = Verdict(MISSING, f"use{subject}: {error.strerror}")
        except Exception as error:  # a bug of a probe is a row too, never a traceback
            verdict = Verdict(MISSING, f"the probe failed: {type(error).__name__}: {error}")
        os.write(write, json.dumps(asdict(verdict)).encode())
    finally:
        os._exit(0)


def _make_scratch() -> Scratch:
    try:
        parent = nearest_existing(paths.store())
        return Scratch(tempfile.mkdtemp(prefix=".sbx-doctor-", dir=parent))
    except SandboxError as error:
        return Scratch("", str(error), error.hint)
    except OSError as error:
        fix = 'export SBX_STORE="/var/tmp/sbx-$(id -u)"'
        return Scratch("", f"create directory in `{parent}`: {error.strerror}", fix)


def _remove(path: str) -> None:
    """Remove a folder with what overlay leaves in it: `work/work` has mode 000."""
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = f"{folder}/{name}"
            with contextlib.suppress(OSError):
                if not stat.S_ISLNK(os.lstat(inner).st_mode):
                    os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
