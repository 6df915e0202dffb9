"""The watch over a running payload: its signals, terminal and output, the clock, the helpers, who asks; until it ends.
  (launch, hot)

The keeper's loop.  Nothing in it may wait for anything but poll(2): the payload, the user's terminal and other commands
all have their own pace.
"""

import gc
import marshal
import os
import select
import time

from sandbox import filters, linux
from sandbox.errors import EIO, EPIPE, EXIT_SIGNAL, EXIT_TIMEOUT, SandboxError, report
from sandbox.results import send as send  # noqa: PLC0414 - the keeper has it from here

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any

    from sandbox.cgroup_keeper import Group
    from sandbox.control import Control
    from sandbox.refusals import Refusals
    from sandbox.streams import Streams
else:
    import _signal

SIGHUP, SIGKILL, SIGSYS = 1, 9, 31
# Ctrl-C, Ctrl-\\, its end; a pipe that nobody reads any more, and what everything ends with
_OF_TERMINALS = (1, 2, 3, 13, 15)
# Signals that end a process whose disposition is the default; the others stop, continue or are ignored.
TERMINATING = (1, 2, 3, 6, 10, 12, 13, 14, 15)
_SOON = 0.004  # seconds until others find a container that nobody has to find before
_AGAIN = 200  # milliseconds until the terminal is looked at once more that another job reads
_DAY = 86400.0  # poll(2) counts milliseconds in an int


class Vigil:
    """What runs, and what there is to watch of it; `wait` is the loop."""

    def __init__(self, cli: int, bpf: bytes, annotations: "dict[str, str]") -> None:
        self.cli, self.bpf, self.annotations = cli, bpf, annotations
        self.pid = self.helper = 0  # init and network helper, as this pid namespace numbers them
        self.host_pid = 0
        self.status: int | None = None
        self.command = ""  # name of the first process, which may not be what was started any more
        self.signal = 0  # what has ended the first process, or the command behind the reaper
        self.reaper = annotations.get("dev.sbx.init") == "reaper"
        self.sent: set[int] = set()  # signals that went to it from here
        self.patient = True  # wait for a terminal that does not take the last output of the payload
        self.woken = self.wake = -1  # the two ends of a pipe that signals write to
        self.terminal: Any = None
        # What a container has that others can look at: see control.py, streams.py, refusals.py, cgroup_keeper.py.
        self.control: Control | None = None
        self.refusals: Refusals | None = None
        self.streams: Streams | None = None
        self.group: Group | None = None  # with limits

    def open_to_others(self) -> None:
        """Let other commands find the container running."""
        raise NotImplementedError

    def listen(self, fd: int) -> None:
        """`fd` tells of what the filter refuses to a process of the container."""
        if not self.refusals:
            from sandbox.refusals import Refusals

            self.refusals = Refusals(self.bpf)
        self.refusals.listen(fd)

    def wait(self) -> int:
        """Until the payload ends: pass signals and terminal bytes on, watch the clock and the helpers."""
        gc.freeze()  # what is there stays; looking at it once would make a copy of all memory that we share with the cli (1 ms)
        gc.enable()
        self.woken, self.wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.woken, select.POLLIN)
        poll.register(self.cli, select.POLLIN)
        if self.group:
            self.group.watch(poll)
        if self.terminal:
            self.terminal.start(poll)
        seconds = float(self.annotations.get("dev.sbx.timeout", "0"))
        deadline = time.monotonic() + seconds if seconds else 0.0
        self._reap()  # whoever ended before the handler stood
        # Most throw-away commands that end at once are gone by then, and nobody else ever asks.
        opened = bool(self.control)
        opening = time.monotonic() + _SOON
        while self.status is None or self._shows() or (self.control and self.control.awaited):
            self._watch(poll)
            first = deadline if opened else min(deadline or opening, opening)
            left = max(0, int(min(first - time.monotonic(), _DAY) * 1000) + 1) if first else None
            if self.terminal and self.terminal.away:
                left = _AGAIN if left is None else min(left, _AGAIN)
            events = poll.poll(left)
            if not opened and time.monotonic() >= opening:
                opened = True
                self._reap()
                if self.status is None:
                    self.open_to_others()
            if deadline and time.monotonic() >= deadline:
                if self.status is not None:
                    break
                self.kill(SIGKILL)
                self._reap(block=True)
                self.status = EXIT_TIMEOUT
                break
            for fd, mask in events:
                self._serve(fd, mask, poll)
            if self.terminal:
                self.terminal.copy(events, poll)
                if self.terminal.lost and self.pid:
                    self.kill(SIGHUP)
        self._show_the_rest()
        return self.status

    def _serve(self, fd: int, mask: int, poll: "select.poll") -> None:
        """Something has happened on `fd`."""
        if fd == self.woken:
            try:
                os.read(fd, 4096)
            except BlockingIOError:
                pass
            self._reap()
        elif fd == self.cli:
            self._from_cli(poll)
        elif self.group and fd == self.group.events:
            self.group.notice()
        elif self.refusals and self.refusals.serve(fd, mask, poll):
            pass
        elif self.control and not (self.streams and self.streams.copy(fd)):
            self.control.serve(fd)

    def _show_the_rest(self) -> None:
        if self.terminal:
            self.terminal.finish()
            if self.terminal.lost not in (0, EIO, EPIPE):  # those two: who was to read it has gone
                report(SandboxError("write", "standard output", self.terminal.lost))
        if self.streams:
            self.streams.paused = False
            self.streams.drain()

    def _watch(self, poll: "select.poll") -> None:
        if self.control:
            self.control.watch(poll)
        if self.refusals:
            self.refusals.watch(poll)
        if self.streams:
            self.streams.watch(poll)
        if self.terminal:
            self.terminal.watch(poll)  # `_shows` may have found something to show

    def _shows(self) -> bool:
        """Whether the payload's last output is still to be shown; nobody who ends the container waits for that."""
        return bool(self.terminal and self.patient and self.terminal.unfinished())

    def _reap(self, *, block: bool = False) -> None:
        """Collect children; a helper that ends before the payload takes the container with it, and says so."""
        if self.group and self.pid and not self.reaper:
            self.command = self.group.name_of(self.host_pid)  # of one that has ended too, until it is collected
        while self.status is None:
            try:
                pid, code = os.waitpid(self._next(block) if self.reaper else -1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            status = os.waitstatus_to_exitcode(code)
            if pid == self.pid:
                self.pid = 0
                self.signal = self.signal or max(0, -status)
                self.status = status if status >= 0 else EXIT_SIGNAL - status
            elif pid == self.helper:
                from sandbox import net_slirp

                self.helper = 0
                raise net_slirp.died(status)
            elif self.control and self.control.reaped(pid, status):
                pass
            elif self.annotations["dev.sbx.storage"].startswith("fuse-overlayfs"):
                from sandbox import fuse_overlay

                if pid in fuse_overlay.started:  # else somebody whose parent has ended
                    raise fuse_overlay.died(status)

    def _next(self, block: bool) -> int:
        """The child that has ended, still to be collected: its name is how a reaper says that a signal ended the command."""
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | (0 if block else os.WNOHANG))
        if found and found.si_pid == self.pid:
            try:
                with open(f"/proc/{self.host_pid}/comm", "rb", buffering=0) as file:
                    word, _, number = file.read().strip().partition(b" ")
            except OSError:
                return found.si_pid
            self.signal = int(number) if word == b"signal" and number.isdigit() else 0
        return found.si_pid if found else self.pid

    def _from_cli(self, poll: "select.poll") -> None:
        message = linux.receive(self.cli)
        if not message and self.streams:
            poll.unregister(self.cli)
            if self.control:
                self.control.give_up()
            return
        if not message:
            self.patient = False
            self.kill(SIGKILL)
            self._reap(block=True)
            return
        kind, number = marshal.loads(message)
        if kind == "signal":
            self.patient = self.patient and self.status is None
            self.kill(number)

    def kill(self, number: int) -> None:
        """Send a signal to the payload, with the effect it would have on an ordinary process.

        The kernel drops signals to a pid 1 that has no handler for them, so Ctrl-C on `sbx run IMAGE sleep 100` would
        do nothing: where the default action is to end, we end it, and the status says which signal it was.
        """
        if not self.pid:
            return
        self.sent |= {number, SIGKILL if number in TERMINATING else number}
        if number in TERMINATING and not self._disposed(number):
            os.kill(self.pid, SIGKILL)
            self._reap(block=True)
            self.status = EXIT_SIGNAL + number
            self.patient = False
        else:
            os.kill(self.pid, number)

    def reason(self) -> str:
        """What ended the first process, when that was a signal that neither we nor a terminal sent; else ""."""
        if self.signal in (0, *self.sent, *_OF_TERMINALS):
            return ""
        if self.signal == SIGSYS and self.bpf and filters.kills(self.bpf):
            return "ended by SIGSYS: the profile's filter answers a call with it"
        name = {SIGKILL: "SIGKILL", SIGSYS: "SIGSYS", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
        word = name.get(self.signal, f"signal {self.signal}")
        return f"ended by {word}, not by sbx" + (": no call makes its filter do that" if self.signal == SIGSYS else "")

    def _disposed(self, number: int) -> bool:
        """Whether the payload ignores, blocks or catches the signal itself."""
        try:
            with open(f"/proc/{self.host_pid}/status", "rb", buffering=0) as file:
                lines = file.read().split(b"\n")
        except OSError:
            return True
        bits = 0
        for line in lines:
            if line.startswith((b"SigBlk:", b"SigIgn:", b"SigCgt:")):
                bits |= int(line.split()[1], 16)
        return bool(bits >> (number - 1) & 1)
