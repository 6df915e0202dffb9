"""A further process in a running container: the same namespaces, rights and filter as the command's.  (launch, hot)

    keeper                                   child, cloned into the container's pid namespace
      setns(pid), clone, setns(back)  ---->    not dumpable; setns(mnt, net, ipc, uts, cgroup)
                                               session, limits, ids, rights, filter: the init's own steps
      <----------------- ("error", ...)        or end of file: exec succeeded

The keeper is its parent, so it knows the exit status, and who asked may go away.
"""

import fcntl
import marshal
import os

from sandbox import init, linux, plan as plans, spec as oci, users
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.init import Init

    Spec = dict[str, Any]


class Namespaces:
    """Descriptors of the init's own namespaces: what it has `sent`, or opened while its /proc entries can be opened."""

    def __init__(self, pid: int, spec: "Spec", sent: "dict[str, int] | None" = None) -> None:
        self.by_kind = sent or {kind: _open(f"/proc/{pid}/ns/{file}") for kind, file in plans.kinds(spec).items()}
        self.pid = self.by_kind.pop("pid", -1)
        self.others = tuple(self.by_kind.values())

    def shared(self) -> "dict[str, int]":
        """New descriptors of those that another container may have in common with this one, see spaces.py."""
        found = {kind: os.dup(fd) for kind, fd in self.by_kind.items() if kind in ("network", "ipc", "uts", "mount")}
        if self.pid >= 0:
            found["pid"] = os.dup(self.pid)
        return {**found, "user": _open("/proc/self/ns/user")}


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def make_spec(spec: "Spec", wanted: "dict[str, Any]", root: int) -> "Spec":
    """The container's spec with the process of a request: {args, env, cwd, user, tty, stdin, fds, ...}.

    `root` is a descriptor of the container's root, for names of users.
    """
    process = {**spec["process"], "user": dict(spec["process"]["user"]), "env": list(spec["process"]["env"])}
    annotations = {**spec["annotations"], "dev.sbx.init": "", "dev.sbx.user": "", "dev.sbx.home": ""}
    made: Spec = {**spec, "process": process, "annotations": annotations}
    args = wanted.get("args")
    if not isinstance(args, list) or not args or not all(isinstance(arg, str) for arg in args):
        raise SandboxError("execute", "", EINVAL, detail="no command given")
    process["args"] = args
    process["terminal"] = False  # its own terminal is made here, not by the mount steps
    process["cwd"] = wanted.get("cwd") or process["cwd"]
    annotations["dev.sbx.stdin"] = "" if wanted.get("stdin") or wanted.get("tty") else "null"
    annotations["dev.sbx.fds"] = ",".join(str(3 + n) for n in range(int(wanted.get("fds", 0))))
    text = str(wanted.get("user") or "")
    if text:
        oci.unset_environment(made, "HOME")
        annotations["dev.sbx.home"] = "lookup"
        # The sets of root; for another user `complete` takes all but what was added by name away.
        process["capabilities"] = wanted["root_capabilities"]
        users.complete(made, root, text)
    for entry in wanted.get("env", ()):
        oci.set_environment(made, *entry.partition("=")[::2])
    return made


def clone(
    spec: "Spec", bpf: bytes, spaces: Namespaces, stdio: "list[int]", terminal: bool, procs: int = -1
) -> tuple[int, int]:
    """Start it; (its pid here, channel on which it reports: see init.py).  `stdio`: what becomes 0, 1, 2, 3, ...

    With `terminal` the first of them becomes its controlling terminal.  `procs`: the group to go into, when there is one.
    """
    steps: list[tuple[Any, ...]] = [("cgroup", procs, False)] if procs >= 0 else []
    steps += [("undumpable",), ("join", *spaces.others)]
    steps += [("terminal_of", stdio[0])] if terminal else [("descriptors", *stdio)]
    plans.process_steps(spec, bpf, steps)
    ours, theirs = linux.socketpair()
    try:
        pid = clone_in(spaces.pid, 0)
        if pid == 0:
            os.close(ours)
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            init.run(steps, theirs, {})
    except OSError as error:
        os.close(ours)
        raise SandboxError.of("enter container", "", error) from None
    os.close(theirs)
    return pid, ours


def clone_in(space: int, flags: int) -> int:
    """linux.clone, of a child in the pid namespace `space`; -1 for the one that we are in.

    The child is born not dumpable: with the rights for it somebody there could look at the keeper's memory, descriptors and
    root in the instant before it says so itself.
    """
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    if space < 0:
        return linux.clone(flags)
    here = _open("/proc/self/ns/pid")
    pid = -1
    try:
        linux.setns(space, linux.CLONE_NEWPID)
        pid = linux.clone(flags)
        return pid
    finally:
        if pid:  # the child is where it belongs, and can not come back
            linux.setns(here, linux.CLONE_NEWPID)
        os.close(here)


def terminal(root: int, uid: int) -> tuple[int, int]:
    """(master, its other end) of a new terminal of the container's own devpts, for a process of `uid`."""
    try:
        master, peer = init.open_terminal(root)
        os.fchown(peer, uid, -1)
    except OSError as error:
        raise SandboxError.of("make terminal", "/dev/pts/ptmx", error) from None
    return master, peer


# -- steps of such a process, and of an init that hands over its namespaces: see init.py --


def undumpable(_: "Init") -> None:
    """Until exec nobody inside may look at what is still the keeper's memory and program (CVE-2019-5736)."""
    linux.prctl(linux.PR_SET_DUMPABLE, 0)


def join(_: "Init", *spaces: int) -> None:
    for fd in spaces:
        linux.setns(fd, 0)


def descriptors(process: "Init", *fds: int) -> None:
    """`fds` become 0, 1, 2 and so on; -1 is /dev/null."""
    # Out of the way first: a target may be the number of another source, or of the channel.
    least = max(3, len(fds))
    process.channel = fcntl.fcntl(process.channel, fcntl.F_DUPFD_CLOEXEC, least)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least) if fd >= 0 else -1 for fd in fds]
    for number, fd in enumerate(moved):
        os.dup2(fd if fd >= 0 else os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), number)


def terminal_of(process: "Init", peer: int) -> None:
    os.setsid()
    linux.ioctl(peer, linux.TIOCSCTTY, 0)
    descriptors(process, peer, peer, peer)


def own_namespaces(process: "Init", *kinds: tuple[str, str]) -> None:
    """Hand our namespaces to the keeper, who can not open those of a process that is not dumpable."""
    for kind, file in kinds:
        fd = os.open(f"/proc/self/ns/{file}", os.O_RDONLY | os.O_CLOEXEC)
        linux.send_descriptor(process.channel, marshal.dumps(("namespace", kind)), fd)
        os.close(fd)
