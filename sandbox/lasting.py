"""P1 of a container that lives on without its cli: its log, its record, those who attach, its end.  (launch, hot with --name, -d)"""

import fcntl
import os
import time

from sandbox import events, plan as plans, state
from sandbox.keeper import Keeper
from sandbox.logs import Log
from sandbox.streams import Streams
from sandbox.vigil import send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.containers import Container

# What stays of a container that may be started again
_LEFT = (
    "about", "spec", "state", "ended", "log", "log.1", "upper", "hosts", "hostname", "resolv.conf", "control", "minder", "secrets",
    "halted", "health", "checking", "needed", "empty", "skel",
)  # fmt: skip


class Lasting(Keeper):
    """The monitor, once the command runs."""

    lasting = True

    def __init__(self, spec: "dict[str, Any]", bpf: bytes, channel: int, container: "Container") -> None:
        super().__init__(spec, bpf, channel, container)
        self.noted = -1  # the file of events
        self.left = _LEFT if self.annotations.get("dev.sbx.keep") else ()

    def _begin(self) -> None:
        os.setsid()  # the end of the caller's terminal is not ours
        self.noted = events.open_log("..")

    def _import(self, plan: "plans.Plan") -> None:
        super()._import(plan)
        for name in ("console", "relay"):  # exec and attach may want a terminal
            __import__(f"sandbox.{name}")
        if self.annotations["dev.sbx.log"].startswith("journald:"):
            __import__("sandbox.journal")

    def _make_streams(self, steps: "list[tuple[Any, ...]]") -> None:
        """Standard input and output of a kept container, which the init takes over before its process steps."""
        driver, _, most = self.annotations["dev.sbx.log"].partition(":")
        user, process = self.spec["process"]["user"], self.spec["process"]
        stdin = self.annotations.get("dev.sbx.stdin") != "null"
        log: Any = Log(int(most or "0")) if driver not in ("none", "journald") else None
        if driver == "journald":
            from sandbox.journal import Journal

            log = Journal(self.container.about, self.container.name or state.made_up_name(self.container.id))
        self.streams = Streams(log, self._show, stdin=stdin)
        self.streams.paused = "dev.sbx.awaited" in self.annotations
        if not process["terminal"]:
            ends = self.streams.make_pipes(user["uid"], user["gid"])
            steps.insert(0, ("descriptors", *ends))

    def _show(self, stream: str, chunk: bytes) -> None:
        if self.control:
            self.control.show(stream, chunk)

    def _let_go(self) -> None:
        """The cli may end, and with it its terminal: what happens from now on is for the log and for who attaches."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        self.note("start")
        send(self.cli, "running", self.host_pid)

    def note(self, what: str, more: "dict[str, Any] | None" = None) -> None:
        """Tell who reads `sbx events`."""
        if self.noted >= 0:
            self._read_about()
            events.note(self.noted, what, self.container.about, more)

    def _read_about(self) -> None:
        """Its name may be another one by now."""
        self.container.about = state.read(".", "about") or self.container.about

    def _clean(self) -> None:
        self._read_about()  # as long as it is there
        super()._clean()

    def finish(self, code: int, reason: str) -> None:
        """The container has ended with `code`: record it or remove the container, then tell who waits for it."""
        ran = self.host_pid > 0
        if self.annotations.get("dev.sbx.keep"):
            if ran:
                refused = self.refusals.records() if self.refusals else []
                reason = reason or (self.out_of_memory["words"] if self.out_of_memory else self.reason())
                ended = {"code": code, "finished": time.time(), "reason": reason, "refused": refused}
                state.write("ended", {**ended, "oom": self.out_of_memory} if self.out_of_memory else ended)
        elif self.streams:
            try:
                os.rmdir(self.container.directory)
            except OSError:
                pass  # not ours to remove under this id map: the next command does it
        if self.group and self.streams:
            self.group.leave()
        if ran:
            self.note("died", {"exitCode": code})
            if not self.annotations.get("dev.sbx.keep"):
                self.note("remove")
        if self.streams:
            fcntl.flock(self.container.lock, fcntl.LOCK_UN)
        if self.control:
            self.control.finish(code)
