"""P1 as the parent of the init: cloned, watched until its exec, ended.  (launch, hot)

The protocol is drawn in keeper.py.
"""

import marshal
import os
import time

from sandbox import init, linux, plan as plans, state
from sandbox.errors import EXIT_SIGNAL, SandboxError
from sandbox.sources import Sources
from sandbox.vigil import SIGKILL, Vigil, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.containers import Container
    from sandbox.join import Namespaces


class Parent(Vigil):
    """What the keeper knows of its container, and how its first process starts and ends."""

    lasting = False  # lives on without its cli, with a log and clients that attach
    left: tuple[str, ...] = ()  # what of its folder stays when it has ended

    def __init__(self, spec: "dict[str, Any]", bpf: bytes, channel: int, container: "Container") -> None:
        super().__init__(channel, bpf, spec["annotations"])
        self.spec, self.container = spec, container
        self.sources = Sources()
        self.init = -1
        self.root_capabilities = spec["process"]["capabilities"]  # before the user takes his part
        self.spaces: Namespaces | None = None  # for who joins: see join.py
        self.root = -1
        self.running_since = 0.0
        self.out_of_memory: dict[str, Any] | None = None  # what the kernel ended for want of memory
        self.isolation: dict[str, Any] = {}
        self.own_pids = any(n == {"type": "pid"} for n in spec["linux"]["namespaces"])
        self.host_pids = not any(n["type"] == "pid" for n in spec["linux"]["namespaces"])
        self.mounts = ""  # the init's mount namespace, where no pid namespace ends all its processes
        # Processes of other containers may see us and the init, and have rights in our user namespace: neither is dumpable.
        self.watched = not self.own_pids or "dev.sbx.spaces" in self.annotations
        self.given: dict[str, int] = {}  # the init's namespaces, handed over by it or opened before its exec
        self.score, self.score_before = -1, b""  # our own oom_score_adj, while the init is to inherit its

    def _start_init(self, steps: "list[tuple[Any, ...]]") -> None:
        if "dev.sbx.observe" in self.annotations:
            from sandbox import observe

            self.refusals, steps = observe.begin(self.annotations, self.bpf, steps)
        elif "dev.sbx.explain" in self.annotations and self.bpf:
            from sandbox import explain

            self.refusals = explain.Explainer(self.bpf, self.spec)
        ours, theirs = linux.socketpair()
        self._enter_time_namespace()
        if self.watched:
            steps = self._for_watched(steps)
        if self.group:
            steps.insert(0, ("cgroup", self.group.procs, True))
        try:
            pid = self._clone()
        except OSError as error:
            raise SandboxError.of("create namespaces", "", error) from None
        if self.score >= 0 and pid:
            os.pwrite(self.score, self.score_before, 0)
        if pid == 0:
            os.close(ours)
            os.close(self.cli)
            linux.prctl(linux.PR_SET_PDEATHSIG, SIGKILL)
            init.run(steps, theirs, self.sources.slots)
        os.close(theirs)
        self.root = self.sources.slots.pop(0)
        for fd in self.sources.slots.values():
            os.close(fd)
        self.sources.slots.clear()
        if self.streams:
            self.streams.started()
        self.pid, self.init = pid, ours

    def _clone(self) -> int:
        """The init's clone; in the pid namespace of another container, where that was asked for."""
        flags = plans.clone_flags(self.spec)
        if not self.watched:
            return linux.clone(flags)
        from sandbox import join

        return join.clone_in(int(self.annotations.get("dev.sbx.pid", "-1")), flags)

    def _for_watched(self, steps: "list[tuple[Any, ...]]") -> "list[tuple[Any, ...]]":
        """The steps of an init that is not dumpable: we can not open its /proc entries, and it can not write to them."""
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # until the clone, for this file
        for _, score in (step for step in steps if step[0] == "oom_score_adj"):
            self.score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self.score_before = os.read(self.score, 16)
            os.pwrite(self.score, str(score).encode(), 0)  # which it inherits
        kinds = tuple(plans.kinds(self.spec).items())
        return [("own_namespaces", *kinds), *(step for step in steps if step[0] != "oom_score_adj")]

    def _enter_time_namespace(self) -> None:
        offsets = self.spec["linux"].get("timeOffsets")
        if not offsets:
            return
        try:
            linux.unshare(linux.CLONE_NEWTIME)
            linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else the file is not ours to write
            with open("/proc/self/timens_offsets", "w", encoding="utf-8") as file:
                lines = [f"{clock} {offset['secs']} {offset['nanosecs']}\n" for clock, offset in offsets.items()]
                file.write("".join(lines))
        except OSError as error:
            raise SandboxError.of("create time namespace", "", error) from None

    def _receive(self, kind: str) -> "Any":
        """The next record of the init, None at the end of file; warnings are passed on, errors raised."""
        while True:
            if self.refusals:
                self.refusals.serve_until(self.init)
            message, fd = linux.receive_descriptor(self.init)
            if not message:
                return None
            record = marshal.loads(message)
            if record[0] == "listener":
                self.listen(fd)
            if record[0] == "namespace":
                self.given[record[1]] = fd
            if record[0] == "error":
                raise SandboxError.from_tuple(record[1])
            if record[0] == kind:
                return fd if fd >= 0 else record[1]
            if record[0] == "warn":
                send(self.cli, *record)

    def _await_exec(self) -> None:
        self.host_pid = self._receive("ready")
        if self.host_pid is None:
            raise SandboxError("start init", detail="it died at once")
        while self.watched and "mount" not in self.given:
            if self._receive("namespace") is None:
                raise SandboxError("start init", detail="it died at once")
        if not self.own_pids:
            self.mounts = os.readlink(f"/proc/self/fd/{self.given['mount']}")
        if self.is_open_early():
            self.open_to_others()
        elif not self.given:
            self._hold_namespaces()
        network = self.annotations.get("dev.sbx.network")
        if network in ("slirp4netns", "pasta"):
            from sandbox import net_slirp

            published = self.annotations.get("dev.sbx.ports", "")
            self.helper = net_slirp.start(network, self.host_pid, published, self.given.get("network", -1))
        if self.spec["process"]["terminal"]:
            self._take_terminal()
            send(self.init, "go")
        # Said before it is true: what takes time is done, and a payload that says it is ready gets every signal.
        send(self.cli, "started", self.host_pid)
        send(self.init, "go")
        self._receive("")
        os.close(self.init)
        self.init = -1
        # From now on the end of the cli is seen on its channel, and there is time to clean up.
        linux.prctl(linux.PR_SET_PDEATHSIG, 0)
        if self.lasting or "dev.sbx.report" in self.annotations:
            self._check_isolation()
        self._let_go()

    def _hold_namespaces(self) -> None:
        """Those of the init, for later: its command may be a file whose process nobody looks at, and change its own."""
        try:
            for kind, file in plans.kinds(self.spec).items():
                self.given[kind] = os.open(f"/proc/{self.host_pid}/ns/{file}", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            self._receive("fd")  # it has died, and said why
            raise

    def _check_isolation(self) -> None:
        """Record how the command is isolated, and end it when that is less than what was asked for."""
        from sandbox import isolation

        found = isolation.effective(self.host_pid, reaper=self.annotations.get("dev.sbx.init") == "reaper")
        self.isolation = {"requested": isolation.requested(self.spec), "effective": found}
        send(self.cli, "isolation", self.isolation)
        if self.lasting:
            self.record()
        if found:  # it has not ended yet
            isolation.check(self.isolation["requested"], found)

    def is_open_early(self) -> bool:
        """Whether what others need must be made before the command runs; 1 ms that it would wait for."""
        outside = next((e["hostID"] for e in self.spec["linux"]["uidMappings"] if e["containerID"] == 0), -1)
        return (
            self.lasting
            # Later our code may be out of reach, see `_import`,
            or outside != self.container.caller
            or self.annotations["dev.sbx.storage"].startswith("fuse-overlayfs")
            # and so are the namespaces of an init that stays ours.
            or self.annotations.get("dev.sbx.init") == "reaper"
        )

    def open_to_others(self) -> None:
        """From now on other commands find the container running: see state.py and control.py."""
        from sandbox import control, join

        try:
            self.spaces = join.Namespaces(self.host_pid, self.spec, self.given)
        except OSError:
            if self.init >= 0:
                self._receive("fd")  # it has died, and said why
                raise
            return  # it has ended, as we shall see
        self.control = control.Control(self)
        self.record()

    def freeze(self, frozen: bool) -> None:
        """Stop all processes of the container, or let them go on."""
        if not self.group:
            raise SandboxError(
                "pause container", self.container.name or self.container.id[:12], detail="it has no control group of its own",
                hint="start it with a limit, or with --cgroups=enabled",
            )  # fmt: skip
        self.group.freeze(frozen)
        self.note("pause" if frozen else "unpause")
        self.record()

    def record(self) -> None:
        """Write down that the command runs, for who looks at the container from outside: see state.py."""
        if not self.running_since:
            self.running_since = time.time()
        record: dict[str, Any] = {"pid": self.host_pid, "started": self.running_since}
        if self.group:
            record.update(cgroup=self.group.path, paused=self.group.frozen)
        if self.isolation:
            record["isolation"] = self.isolation
        state.write("state", record)

    def _let_go(self) -> None:
        """The command runs: see lasting.py."""

    def note(self, what: str, more: "dict[str, Any] | None" = None) -> None:
        """Tell who reads `sbx events`; of throw-away containers nobody is told."""

    def _take_terminal(self) -> None:
        master = self._receive("fd")
        if master is None:
            raise SandboxError("start init", detail="it died before it had a terminal")
        if self.streams:
            self.streams.take_terminal(master)
        else:
            from sandbox import console

            self.terminal = console.Console(master, interactive=self.annotations.get("dev.sbx.stdin") != "null")

    def _end_init(self) -> None:
        if self.terminal:
            self.terminal.restore()
        if self.group:
            self.group.kill()
        if self.pid:
            os.kill(self.pid, SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        if self.mounts:
            from sandbox import spaces_keeper

            spaces_keeper.end_all(self.mounts)
            if self.host_pids:
                spaces_keeper.end_children({self.helper, *self.fuse()})
        if self.group:
            killed = self.status == EXIT_SIGNAL + SIGKILL
            self.out_of_memory = self.group.out_of_memory(self.command if killed else "")
            if self.out_of_memory:
                send(self.cli, "warn", self.out_of_memory["words"])
        if self.helper and ("dev.sbx.ports" in self.annotations or not self.own_pids):
            # Its ports are free again before anybody is told that we have ended.
            os.kill(self.helper, SIGKILL)
            os.waitpid(self.helper, 0)
        if self.root >= 0:
            os.close(self.root)

    def fuse(self) -> "list[int]":
        """The processes that serve the root; without a pid namespace of ours they live on until we end them."""
        if not self.annotations["dev.sbx.storage"].startswith("fuse-overlayfs"):
            return []
        from sandbox import fuse_overlay

        return fuse_overlay.started
