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

How the init starts and ends is in keeper_init.py, the loop in vigil.py, what a container that lives on has more in lasting.py.
Every wait also takes ("error", SandboxError as tuple) and ("warn", text); the keeper passes them on to the cli.
Both channels are SOCK_SEQPACKET pairs: one record is one message, in marshal.
"""

import marshal
import os
import sys

from sandbox import init, linux, mounts, plan as plans, spec as oci, trees, userns, users
from sandbox.errors import EXIT_FAILED, SandboxError
from sandbox.keeper_init import Parent
from sandbox.vigil import SIGKILL, TERMINATING, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any, NoReturn

    from sandbox.containers import Container
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


def run(spec: "dict[str, Any]", bpf: bytes, channel: int, container: "Container") -> "NoReturn":
    """Be the keeper of `container`: `channel` leads to the cli.  Exits with the payload's status."""
    code, reason = EXIT_FAILED, ""
    keeper = _keeper(spec, bpf, channel, container)
    try:
        linux.close_range(3, channel - 1, cloexec=True)
        for number in TERMINATING + (18, 20, 21, 22):
            _signal.signal(number, _signal.SIG_IGN)
        os.umask(0)
        code = keeper.work()
    except SandboxError as error:
        code, reason = error.code, str(error)
        send(channel, "error", error.as_tuple())
    except OSError as error:
        failed = SandboxError.of("keep container", str(error.filename or ""), error)
        reason = str(failed)
        send(channel, "error", failed.as_tuple())
    except BaseException as error:  # a traceback is of no use to a user
        reason = f"{type(error).__name__}: {error}"
        send(channel, "error", SandboxError("keep container", detail=reason).as_tuple())
        if os.environ.get("SBX_DEBUG"):
            sys.excepthook(type(error), error, error.__traceback__)
    if keeper.refusals:
        send(channel, "refused", keeper.refusals.records())
        keeper.refusals.finish()
    if keeper.signal and not keeper.out_of_memory:
        send(channel, "reason", keeper.reason())
    try:
        keeper.finish(code, reason)
    finally:
        os._exit(code)


def _keeper(spec: "dict[str, Any]", bpf: bytes, channel: int, container: "Container") -> "Keeper":
    if "dev.sbx.log" not in spec["annotations"]:
        return Keeper(spec, bpf, channel, container)
    from sandbox.lasting import Lasting

    return Lasting(spec, bpf, channel, container)


class Keeper(Parent):
    """One container's keeper; `work` is its whole life."""

    descriptors = -1  # the caller's soft limit of them, once it is not in force
    terminals: tuple[int, ...] = ()  # those of 0, 1 and 2 that are the caller's terminal, and not handed on
    input = -1  # a file that the caller gave to be read

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
        self._begin()
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

    def _begin(self) -> None:
        """What a container that lives on needs first: see lasting.py."""

    def _make_streams(self, steps: "list[tuple[Any, ...]]") -> None:
        """Its output and input are the cli's, but for a file that is read, and for a terminal: see relay.py."""
        ends = [max(self.input, 0), 1, 2]
        if self.terminals:
            from sandbox import relay

            master, peer = relay.pair(self.spec["process"]["user"]["uid"])
            self.terminal = relay.Relay(master, self.terminals)
            ends = [peer if fd in self.terminals else end for fd, end in enumerate(ends)]
        if ends != [0, 1, 2]:
            steps.insert(0, ("descriptors", *ends))

    def finish(self, code: int, reason: str) -> None:
        """The container has ended with `code`: tell who waits for it."""
        if self.input >= 0:
            os.lseek(0, os.lseek(self.input, 0, os.SEEK_CUR), os.SEEK_SET)  # what was read is read for the caller too
        if self.control:
            self.control.finish(code)

    def _import(self, plan: "plans.Plan") -> None:
        """Load what may be needed, while it can be read: the new ids may not reach it, and mounts may cover it."""
        names = {_ROOMS[verb] for verb, *_ in plan["build"] if verb in _ROOMS}
        names |= {init.ROOMS[verb] for verb, *_ in plan["init"] if verb in init.ROOMS}
        if self.is_open_early():
            names |= {"control", "join"}
        if self.lasting or "dev.sbx.report" in self.annotations:
            names.add("isolation")
        if "dev.sbx.volumes" in self.annotations:
            names.add("fill")
        if "resources" in self.spec["linux"]:
            names.add("cgroup_keeper")
        if self.bpf:
            names.add("refusals")
        if "dev.sbx.landlock" in self.annotations:
            names.add("landlock")
        names |= {name for name in ("observe", "explain") if f"dev.sbx.{name}" in self.annotations}
        if "dev.sbx.spaces" in self.annotations or not self.own_pids:
            names |= {"join", "spaces_keeper"}
        if self.annotations.get("dev.sbx.network") in ("slirp4netns", "pasta"):
            names.add("net_slirp")
            if "dev.sbx.ports" in self.annotations:
                names.add("ports")
        if self.spec["process"]["terminal"] and not self.lasting:
            names.add("console")
        elif not self.lasting and self._replaces_descriptors():
            names.add(init.ROOMS["descriptors"])
        for name in names:
            __import__(f"sandbox.{name}")

    def _replaces_descriptors(self) -> bool:
        """Whether the command could do more with one of the cli's than was meant: see relay.py and mounts.read_only_input."""
        interactive = self.annotations.get("dev.sbx.stdin") != "null"
        if interactive:
            self.input = mounts.read_only_input(0)
        if any(map(os.isatty, (0, 1, 2))):
            from sandbox import relay

            self.terminals = relay.terminals(interactive=interactive)
        return self.input >= 0 or bool(self.terminals)

    def _raise_descriptor_limit(self, needed: int) -> None:
        """A layer takes two descriptors: 500 of them more than the customary soft limit of 1024."""
        soft, hard = linux.prlimit(linux.RLIMIT_NOFILE)
        if soft < needed:
            self.descriptors = soft
            linux.prlimit(linux.RLIMIT_NOFILE, (min(needed, hard), hard))

    def _restored_limit(self, steps: "list[tuple[Any, ...]]") -> "list[tuple[Any, ...]]":
        """The steps of the init with the caller's own limit, where we changed it and the spec names none."""
        if self.descriptors < 0 or any(step[:2] == ("rlimit", linux.RLIMIT_NOFILE) for step in steps):
            return steps
        at = next(number for number, step in enumerate(steps) if step[0] == "umask")
        hard = linux.prlimit(linux.RLIMIT_NOFILE)[1]
        return [*steps[:at], ("rlimit", linux.RLIMIT_NOFILE, self.descriptors, hard), *steps[at:]]

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
            for pid in self.fuse() if not self.own_pids else ():
                os.kill(pid, SIGKILL)
        for name in os.listdir(here):
            if name in self.left:
                continue
            try:
                trees.remove(name, here)
            except OSError:
                pass  # not of this namespace: the cli removes it with the folder, and says what it can not remove
