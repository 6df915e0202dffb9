"""Several layers at once, each in one pass from its blob to its folder.  (cold)

    lane: a feeder (host ids)                       an unpacker (root of the image's user namespace)
      takes the next job from the queue
      pieces --> sha256, size --> copy to `tee`
             --> decompress --> sha256 --pipe-->    tar headers, files below the job's `folder`
      facts of all its jobs, at the end             what it has read of all its jobs, at the end

All unpackers share one user namespace, so newuidmap and newgidmap run once an image.  The queue is a pipe that holds
the numbers of the jobs; a read of two bytes takes one of them.  On a lane's pipe numbers are 4 bytes, big-endian: the
job's, then for each piece its length (never 0) and its bytes, then 0.  End of file between two jobs is the end; inside
a job it is a feeder that has failed, whose error is the one that is told.

A few lanes keep the processors busy while others wait for the network or the disk; more cost memory (10 MB each).
"""

import contextlib
import fcntl
import io
import os
import select
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from sandbox import linux, userns
from sandbox.errors import SandboxError, tell
from sandbox.image.archive import Layer
from sandbox.image.feeder import STOPPED, Expected, pump, write_all
from sandbox.image.scan import scan
from sandbox.image.tarheader import TarError
from sandbox.image.unpack import unpack
from sandbox.results import receive_result, send_result

_F_SETPIPE_SZ = 1031
_PIPE = 1 << 20
_BUFFER = 1 << 18
_LANES, _MOST = 4, 8  # ordinarily; where there are more processors than that


class Job(NamedTuple):
    """One layer: copied to `tee` and unpacked onto `folder` (descriptors; -1: not), in any case read and verified."""

    layer: Layer
    what: str
    folder: int = -1
    tee: int = -1
    label: str = ""  # of the progress on a terminal
    line: str = ""  # told when it begins
    must_end: bool = False  # one that is only read; see `scan`


class _Frames(io.RawIOBase):
    """The pieces of one job as a file."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._left = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left and not self._ended:
            self._left = _number(self._fd)
            self._ended = not self._left
        if self._ended:
            return 0
        got = os.readv(self._fd, [memoryview(buffer)[: self._left]]) if self._left > 0 else 0
        if not got:
            raise TarError("its feeder ended in the middle")
        self._left -= got
        return got


def _number(fd: int) -> int:
    """The next number of a lane's pipe; -1 at its end."""
    raw = b""
    while len(raw) < 4:
        got = os.read(fd, 4 - len(raw))
        if not got:
            return -1
        raw += got
    return int.from_bytes(raw, "big")


def _ready(fds: list[int], seconds: float | None = None) -> list[int]:
    """Which of `fds` have something to read; poll, because descriptors may be beyond what select takes."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if seconds is None else 1000 * seconds)]


def _forked(function: Callable[[], Any], close: list[int]) -> tuple[int, int]:
    """(pid, descriptor of the result) of a child that runs `function` and dies with this process."""
    result, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            if os.getppid() == parent:
                for fd in (result, *close):
                    os.close(fd)
                send_result(write, function)
                code = 0
        finally:
            os._exit(code)
    os.close(write)
    return pid, result


class _Child:
    """A child of `_forked`, until its result or its end."""

    def __init__(self, function: Callable[[], Any], close: list[int]) -> None:
        self.pid, self.result = _forked(function, close)

    def finish(self) -> Any:
        """Its result, waited for; its SandboxError."""
        try:
            return receive_result(self.result)
        finally:
            self.stop()

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        if self.pid:
            os.close(self.result)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


# -- feeders --


def _feed(queue: int, out: int, jobs: list[Job]) -> dict[int, dict[str, Any]]:
    """Jobs of the queue onto the pipe `out`; their facts by number."""
    found = {}

    def write(piece: bytes) -> None:
        write_all(out, len(piece).to_bytes(4, "big"))
        write_all(out, piece)

    while raw := os.read(queue, 2):
        number = int.from_bytes(raw, "big")
        job = jobs[number]
        if job.line:
            tell(job.line)
        try:
            write_all(out, number.to_bytes(4, "big"))
        except BrokenPipeError:
            raise SandboxError("read layer", job.what, detail=STOPPED) from None
        expected = Expected(job.layer.digest, job.layer.size, job.layer.diff_id)
        found[number] = pump(job.layer.pieces(), write, job.tee, expected, job.what, job.label)
        with contextlib.suppress(BrokenPipeError):  # its reader's error says more
            write_all(out, bytes(4))
    return found


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, _F_SETPIPE_SZ, _PIPE)
    except OSError:
        pass  # the user's pipe budget is used up: slower, no harm
    return read, write


# -- unpackers --


def _take(fd: int, jobs: list[Job], maps: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """All jobs that come by one lane's pipe."""
    found = {}
    while (number := _number(fd)) >= 0:
        job = jobs[number]
        file = io.BufferedReader(_Frames(fd), _BUFFER)
        if job.folder >= 0:
            found[number] = unpack(job.folder, file, job.what, maps)
        else:
            found[number] = {"warnings": [], **scan(file, job.what, must_end=job.must_end)}
    return found


def _take_all(lanes: list[int], jobs: list[Job], maps: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """One process for each lane but the only one; the first error ends all."""
    if len(lanes) == 1:
        return _take(lanes[0], jobs, maps)
    children: dict[int, _Child] = {}
    try:
        for lane in lanes:
            others = [*children, *[fd for fd in lanes if fd != lane]]
            child = _Child(lambda lane=lane: _take(lane, jobs, maps), others)  # type: ignore[misc]
            children[child.result] = child
        for lane in lanes:
            os.close(lane)
        found: dict[int, dict[str, Any]] = {}
        while children:
            for result in _ready(list(children)):
                found.update(children.pop(result).finish())
        return found
    finally:
        for child in children.values():
            child.stop()


# -- all together --


def _width(jobs: list[Job]) -> int:
    return min(len(jobs), max(_LANES, min(_MOST, len(os.sched_getaffinity(0)))))


def work(jobs: list[Job], maps: dict[str, Any]) -> list[dict[str, Any]]:
    """All of `jobs`; for each {"digest", "size", "diff_id", "plain", "kind"} and what `unpack` or `scan` gives.

    SandboxError of the first that fails; what was written until then is for the caller to remove.
    """
    if not jobs:
        return []
    queue, fill = os.pipe()
    os.write(fill, b"".join(number.to_bytes(2, "big") for number in range(len(jobs))))  # less than a pipe holds
    os.close(fill)
    lanes: list[int] = []
    feeders: list[_Child] = []
    try:
        for _ in range(_width(jobs)):
            read, write = _pipe()
            close = [*lanes, read, *[feeder.result for feeder in feeders]]
            lanes.append(read)
            feeders.append(_Child(lambda write=write: _feed(queue, write, jobs), close))  # type: ignore[misc]
            os.close(write)
        found = _unpacked(lanes, feeders, jobs, maps)
        for feeder in feeders:
            for number, facts in feeder.finish().items():
                found[number].update(facts)
        return [found[number] for number in range(len(jobs))]
    finally:
        for feeder in feeders:
            feeder.stop()
        for fd in (queue, *lanes):
            os.close(fd)


def _unpacked(
    lanes: list[int], feeders: list[_Child], jobs: list[Job], maps: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    """What the unpackers found, by number; when they fail because a blob is broken, the blob's error."""
    try:
        if any(job.folder >= 0 for job in jobs):
            found: dict[int, dict[str, Any]] = userns.call(maps, lambda: _take_all(lanes, jobs, maps))
            return found
        child = _Child(lambda: _take_all(lanes, jobs, maps), [feeder.result for feeder in feeders])
        try:
            found = child.finish()
        finally:
            child.stop()
        return found
    except SandboxError:
        # Nobody reads any more: each feeder ends soon, unless its source says nothing.
        while lanes:
            os.close(lanes.pop())
        waiting = {feeder.result: feeder for feeder in feeders}
        while waiting and (ready := _ready(list(waiting), 2)):
            for result in ready:
                try:
                    waiting.pop(result).finish()
                except SandboxError as cause:
                    if cause.detail != STOPPED:
                        raise cause from None
        raise
