"""P1, the keeper: first process of the user namespace and of an outer pid namespace.  (launch, hot)

It opens what the caller may open, mounts the root file system, starts the init and the network helper, waits, and
removes what the container leaves.  As pid 1 of its pid namespace it is what everything else hangs on: when it dies, by
SIGKILL too, the kernel ends the payload, slirp4netns and fuse-overlayfs with it.

    cli (P0)                         keeper (P1)                            init (P2)
      clone(NEWUSER|NEWNS|NEWPID)->    opens layers and volumes
      newuidmap, newgidmap             (as the caller, ids not mapped yet)
      ("go",) ------------------->     becomes root of the namespace
                                       mounts the root file system
                                       clone(NEWNS|NEWPID|NEWNET|...) ------>  mounts, one step after another
                                       <--------------------------- ("ready", pid seen by the host)
                                       starts slirp4netns or pasta
                                       <--------------------------- ("fd",)      only with a terminal, which comes with it
                                       ("go",) ----------------------------->   only with a terminal
      <--------- ("started", pid)      ("go",) ----------------------------->   pivot_root, rights, filter
                                       <--------------------------- end of file: exec succeeded
                                       waits for the payload, the helpers, the cli
      ("signal", n) ------------->     kill(init, n)
      end of file --------------->     the cli is gone: kill(init, SIGKILL)
      <-------- exit status            removes upper, work; exits

Every wait also takes ("error", SandboxError as tuple) and ("warn", text); the keeper passes them on to the cli.
Both channels are SOCK_SEQPACKET pairs: one record is one message, in marshal.
"""

import fcntl
import marshal
import os
import resource
import sys
import time

from sandbox import init, linux, plan as plans, spec as oci, state, trees, userns, users
from sandbox.errors import EXIT_FAILED, EXIT_SIGNAL, SandboxError
from sandbox.sources import Sources
from sandbox.vigil import SIGKILL, TERMINATING, Vigil

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any, NoReturn

    from sandbox.containers import Container
    from sandbox.join import Namespaces
else:
    import _signal

_SPARE_DESCRIPTORS = 64
# Steps of a plan's `build` -> the module that does it
_ROOMS = {
    "overlay": "overlay",
    "fuse_overlayfs": "fuse_overlay",
    "fuse_overlayfs_squashed": "fuse_overlay",
    "copy": "copy_root",
}
# What stays of a container that may be started again
_LASTING = (
    "about", "spec", "state", "ended", "log", "log.1", "upper", "hosts", "hostname", "resolv.conf", "control", "minder", "secrets",
    "halted", "health", "checking", "needed", "empty", "skel",
)  # fmt: skip


def run(spec: "dict[str, Any]", bpf: bytes, channel: int, container: "Container") -> "NoReturn":
    """Be the keeper of `container`: `channel` leads to the cli.  Exits with the payload's status."""
    code, reason = EXIT_FAILED, ""
    keeper = Keeper(spec, bpf, channel, container)
    try:
        linux.close_range(3, channel - 1, cloexec=True)
        for number in TERMINATING + (18, 20, 21, 22):
            _signal.signal(number, _signal.SIG_IGN)
        os.umask(0)
        code = keeper.work()
    except SandboxError as error:
        code, reason = error.code, str(error)
        _send(channel, "error", error.as_tuple())
    except OSError as error:
        failed = SandboxError.of("keep container", str(error.filename or ""), error)
        reason = str(failed)
        _send(channel, "error", failed.as_tuple())
    except BaseException as error:  # a traceback is of no use to a user
        reason = f"{type(error).__name__}: {error}"
        _send(channel, "error", SandboxError("keep container", detail=reason).as_tuple())
        if os.environ.get("SBX_DEBUG"):
            sys.excepthook(type(error), error, error.__traceback__)
    if keeper.refusals:
        _send(channel, "refused", keeper.refusals.records())
        keeper.refusals.finish()
    if keeper.signal and not keeper.out_of_memory:
        _send(channel, "reason", keeper.reason())
    try:
        keeper.finish(code, reason)
    finally:
        os._exit(code)


def _send(channel: int, *record: "Any") -> None:
    try:
        os.write(channel, marshal.dumps(record))
    except OSError:
        pass  # the cli is gone; the next read finds out


class Keeper(Vigil):
    """One container's keeper; `work` is its whole life."""

    def __init__(self, spec: "dict[str, Any]", bpf: bytes, channel: int, container: "Container") -> None:
        super().__init__(channel, bpf, spec["annotations"])
        self.spec, self.container = spec, container
        self.sources = Sources()
        self.descriptors = -1  # the caller's soft limit of them, once it is not in force
        self.init = -1
        self.root_capabilities = spec["process"]["capabilities"]  # before the user takes his part
        self.spaces: Namespaces | None = None  # for who joins: see join.py
        self.root = -1
        self.running_since = 0.0
        self.out_of_memory: dict[str, Any] | None = None  # what the kernel ended for want of memory
        self.caller = os.getuid()
        self.noted = -1  # the file of events
        self.isolation: dict[str, Any] = {}
        self.own_pids = any(n == {"type": "pid"} for n in spec["linux"]["namespaces"])
        self.host_pids = not any(n["type"] == "pid" for n in spec["linux"]["namespaces"])
        self.mounts = ""  # the init's mount namespace, where no pid namespace ends all its processes
        # Processes of other containers may see us and the init, and have rights in our user namespace: neither is dumpable.
        self.watched = not self.own_pids or "dev.sbx.spaces" in self.annotations
        self.given: dict[str, int] = {}  # the init's namespaces, when it hands them over
        self.score, self.score_before = -1, b""  # our own oom_score_adj, while the init is to inherit its

    def work(self) -> int:
        """Checklist, in the order of the picture above; returns the exit status."""
        # Until the payload runs: whatever the start may wait for, the end of the cli ends it.
        linux.prctl(linux.PR_SET_PDEATHSIG, SIGKILL)
        try:
            linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        except OSError as error:  # AppArmor lets the namespace be made, and takes its rights
            raise SandboxError.of("use user namespace", "", error) from None
        os.chdir(self.container.directory)
        if not self.own_pids:
            # Who loses its parent is ours, as it would be if we were pid 1.
            linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        if self._is_kept():
            os.setsid()  # the end of the caller's terminal is not ours
            from sandbox import events

            self.noted = events.open_log("..")
        plan = plans.make(self.spec, self.bpf)
        self._raise_descriptor_limit(2 * len(plan["open"]) + _SPARE_DESCRIPTORS)
        for verb, *arguments in plan["open"]:
            getattr(self.sources, verb)(*arguments)
        self._import(plan)
        if not self._await_go():
            return EXIT_FAILED
        if oci.maps_id(self.spec["linux"]["uidMappings"], 0):
            userns.become_root(groups=len(self.spec["linux"]["uidMappings"]) > 1)
            if not self.watched:
                # The change of ids hid our /proc entries from ourselves; the namespace files of the init are needed.
                linux.prctl(linux.PR_SET_DUMPABLE, 1)
            linux.prctl(linux.PR_SET_PDEATHSIG, SIGKILL)
        try:
            self._make_root()
            for verb, *arguments in plan["build"]:
                getattr(self.sources, verb)(*arguments)
            if self._look_up_user():
                plan = plans.with_user(plan, self.spec, self.bpf)
            user = self.spec["process"]["user"]
            for verb, *arguments in plan["give"]:
                getattr(self.sources, verb)(*arguments, user["uid"], user["gid"])
            self._make_streams(plan["init"])
            self._start_init(self._restored_limit(plan["init"]))
            try:
                self._await_exec()
                return self.wait()
            finally:
                self._end_init()
        finally:
            self._clean()

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
            self._note("died", {"exitCode": code})
            if not self.annotations.get("dev.sbx.keep"):
                self._note("remove")
        if self.streams:
            fcntl.flock(self.container.lock, fcntl.LOCK_UN)
        if self.control:
            self.control.finish(code)

    def _note(self, what: str, more: "dict[str, Any] | None" = None) -> None:
        """Tell who reads `sbx events`."""
        if self.noted >= 0:
            from sandbox import events

            events.note(self.noted, what, self.container.about, more)

    def freeze(self, frozen: bool) -> None:
        """Stop all processes of the container, or let them go on."""
        if not self.group:
            raise SandboxError(
                "pause container", self.container.id[:12], detail="it has no control group of its own",
                hint="start it with a limit, or with --cgroups=enabled",
            )  # fmt: skip
        self.group.freeze(frozen)
        self._note("pause" if frozen else "unpause")
        self._record()

    def _record(self) -> None:
        """Write down that the command runs, for who looks at the container from outside: see state.py."""
        if not self.running_since:
            self.running_since = time.time()
        record: dict[str, Any] = {"pid": self.host_pid, "started": self.running_since}
        if self.group:
            record.update(cgroup=self.group.path, paused=self.group.frozen)
        if self.isolation:
            record["isolation"] = self.isolation
        state.write("state", record)

    def _import(self, plan: "plans.Plan") -> None:
        """Load what may be needed, while it can be read: the new ids may not reach it, and mounts may cover it."""
        names = {_ROOMS[verb] for verb, *_ in plan["build"] if verb in _ROOMS}
        names |= {init.ROOMS[verb] for verb, *_ in plan["init"] if verb in init.ROOMS}
        if self._is_open_early():
            names |= {"control", "join"}
        if self._is_kept():
            names |= {"logs", "streams"}
            if self.annotations["dev.sbx.log"].startswith("journald:"):
                names.add("journal")
        if self._is_kept() or "dev.sbx.report" in self.annotations:
            names.add("isolation")
        if "dev.sbx.volumes" in self.annotations:
            names.add("fill")
        if "resources" in self.spec["linux"]:
            names.add("cgroup_keeper")
        if self.bpf:
            names.add("refusals")
        if "dev.sbx.landlock" in self.annotations:
            names.add("landlock")
        if "dev.sbx.observe" in self.annotations:
            names.add("observe")
        if "dev.sbx.spaces" in self.annotations or not self.own_pids:
            names |= {"join", "spaces"}
        if self.annotations.get("dev.sbx.network") in ("slirp4netns", "pasta"):
            names.add("net_slirp")
            if "dev.sbx.ports" in self.annotations:
                names.add("ports")
        if self.spec["process"]["terminal"] and not self._is_kept():
            names.add("console")
        for name in names:
            __import__(f"sandbox.{name}")

    def _raise_descriptor_limit(self, needed: int) -> None:
        """A layer takes two descriptors: 500 of them more than the customary soft limit of 1024."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < needed:
            self.descriptors = soft
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))

    def _restored_limit(self, steps: "list[tuple[Any, ...]]") -> "list[tuple[Any, ...]]":
        """The steps of the init with the caller's own limit, where we changed it and the spec names none."""
        if self.descriptors < 0 or any(step[:2] == ("rlimit", resource.RLIMIT_NOFILE) for step in steps):
            return steps
        at = next(number for number, step in enumerate(steps) if step[0] == "umask")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return [*steps[:at], ("rlimit", resource.RLIMIT_NOFILE, self.descriptors, hard), *steps[at:]]

    @staticmethod
    def _make_root() -> None:
        """Where the root file system is mounted; a container that is started again may have one."""
        try:
            os.mkdir("root", 0o700)
        except FileExistsError:
            pass

    def _is_kept(self) -> bool:
        """Whether the container lives on without its cli, with a log and clients that attach."""
        return "dev.sbx.log" in self.annotations

    def _make_streams(self, steps: "list[tuple[Any, ...]]") -> None:
        """Standard input and output of a kept container, which the init takes over before its process steps."""
        if not self._is_kept():
            return
        from sandbox.logs import Log
        from sandbox.streams import Streams

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

    def _await_go(self) -> bool:
        """False when the cli could not map the ids, or died.  With limits the descriptors of the group come before."""
        if "resources" not in self.spec["linux"]:
            message = linux.receive(self.cli)
            return bool(message) and marshal.loads(message)[0] == "go"
        from sandbox import cgroup_keeper

        fds: list[int] = []
        while True:
            message, fd = linux.receive_descriptor(self.cli)
            kind, *rest = marshal.loads(message) if message else ("",)
            if kind != "group":
                return kind == "go"
            fds.append(fd)
            if len(fds) == len(cgroup_keeper.HANDED):
                self.group = cgroup_keeper.Group(rest[0], fds)

    def _look_up_user(self) -> bool:
        """Complete `process.user` and HOME from the mounted image; True when the plan must follow."""
        text = self.annotations.get("dev.sbx.user", "")
        lookup = self.annotations.get("dev.sbx.home") == "lookup"
        if not text and not lookup:
            return False
        changed = users.complete(self.spec, self.sources.slots[0], text)
        if "dev.sbx.passwd" in self.annotations:
            users.enlist(self.spec, self.sources.slots[0])
        return changed

    # -- the init --

    def _start_init(self, steps: "list[tuple[Any, ...]]") -> None:
        if "dev.sbx.observe" in self.annotations:
            from sandbox import observe

            self.refusals, steps = observe.begin(self.annotations, self.bpf, steps)
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
        from sandbox import join

        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # until the clone, for this file
        for _, score in (step for step in steps if step[0] == "oom_score_adj"):
            self.score = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self.score_before = os.read(self.score, 16)
            os.pwrite(self.score, str(score).encode(), 0)  # which it inherits
        kinds = tuple(join.kinds(self.spec).items())
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
                _send(self.cli, *record)

    def _await_exec(self) -> None:
        self.host_pid = self._receive("ready")
        if self.host_pid is None:
            raise SandboxError("start init", detail="it died at once")
        while self.watched and "mount" not in self.given:
            if self._receive("namespace") is None:
                raise SandboxError("start init", detail="it died at once")
        if not self.own_pids:
            self.mounts = os.readlink(f"/proc/self/fd/{self.given['mount']}")
        if self._is_open_early():
            self.open_to_others()
        network = self.annotations.get("dev.sbx.network")
        if network in ("slirp4netns", "pasta"):
            from sandbox import net_slirp

            published = self.annotations.get("dev.sbx.ports", "")
            self.helper = net_slirp.start(network, self.host_pid, published, self.given.get("network", -1))
        if self.spec["process"]["terminal"]:
            self._take_terminal()
            _send(self.init, "go")
        # Said before it is true: what takes time is done, and a payload that says it is ready gets every signal.
        _send(self.cli, "started", self.host_pid)
        _send(self.init, "go")
        self._receive("")
        os.close(self.init)
        self.init = -1
        # From now on the end of the cli is seen on its channel, and there is time to clean up.
        linux.prctl(linux.PR_SET_PDEATHSIG, 0)
        if self._is_kept() or "dev.sbx.report" in self.annotations:
            self._check_isolation()
        if self.streams:
            self._let_go()

    def _check_isolation(self) -> None:
        """Record how the command is isolated, and end it when that is less than what was asked for."""
        from sandbox import isolation

        found = isolation.effective(self.host_pid, reaper=self.annotations.get("dev.sbx.init") == "reaper")
        self.isolation = {"requested": isolation.requested(self.spec), "effective": found}
        _send(self.cli, "isolation", self.isolation)
        if self._is_kept():
            self._record()
        if found:  # it has not ended yet
            isolation.check(self.isolation["requested"], found)

    def _is_open_early(self) -> bool:
        """Whether what others need must be made before the command runs; 1 ms that it would wait for."""
        outside = next((e["hostID"] for e in self.spec["linux"]["uidMappings"] if e["containerID"] == 0), -1)
        return (
            self._is_kept()
            # Later our code may be out of reach, see `_import`,
            or outside != self.caller
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
        self._record()

    def _let_go(self) -> None:
        """The cli may end, and with it its terminal: what happens from now on is for the log and for who attaches."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        self._note("start")
        _send(self.cli, "running", self.host_pid)

    def _take_terminal(self) -> None:
        master = self._receive("fd")
        if master is None:
            raise SandboxError("start init", detail="it died before it had a terminal")
        if self.streams:
            self.streams.take_terminal(master)
        else:
            from sandbox import console

            self.terminal = console.Console(master, interactive=self.annotations.get("dev.sbx.stdin") != "null")

    # -- the end --

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
            from sandbox import spaces

            spaces.end_all(self.mounts)
            if self.host_pids:
                spaces.end_children({self.helper, *self._fuse()})
        if self.group:
            killed = self.status == EXIT_SIGNAL + SIGKILL
            self.out_of_memory = self.group.out_of_memory(self.command if killed else "")
            if self.out_of_memory:
                _send(self.cli, "warn", self.out_of_memory["words"])
        if self.helper and ("dev.sbx.ports" in self.annotations or not self.own_pids):
            # Its ports are free again before anybody is told that we have ended.
            os.kill(self.helper, SIGKILL)
            os.waitpid(self.helper, 0)
        if self.root >= 0:
            os.close(self.root)

    def _fuse(self) -> "list[int]":
        """The processes that serve the root; without a pid namespace of ours they live on until we end them."""
        if not self.annotations["dev.sbx.storage"].startswith("fuse-overlayfs"):
            return []
        from sandbox import fuse_overlay

        return fuse_overlay.started

    def _clean(self) -> None:
        """Remove what belongs to subordinate ids; the cli removes the folder itself."""
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for fd in self.sources.slots.values():
            os.close(fd)
        if self.annotations["dev.sbx.storage"].startswith("fuse-overlayfs"):
            try:
                linux.umount2("root", linux.MNT_DETACH)
            except OSError:
                pass
            for pid in self._fuse() if not self.own_pids else ():
                os.kill(pid, SIGKILL)
        left = _LASTING if self.annotations.get("dev.sbx.keep") else ()
        for name in os.listdir(here):
            if name in left:
                continue
            try:
                trees.remove(name, here)
            except OSError:
                pass  # not of this namespace: the cli removes it with the folder, and says what it can not remove
