"""A further process in a running container: the same namespaces, rights and filter as the command's.  (launch, hot)

    keeper                                   child, cloned into the container's pid namespace
      setns(pid), clone, setns(back)  ---->    not dumpable; setns(mnt, net, ipc, uts, cgroup)
                                               session, limits, ids, rights, filter: the init's own steps
      <----------------- ("error", ...)        or end of file: exec succeeded

The keeper is its parent, so it knows the exit status, and who asked may go away.
"""

import os

from sandbox import init, linux, plan as plans, spec as oci, users
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Spec = dict[str, Any]

# OCI's name of a namespace -> its file; in the order in which they are entered, the mounts last.
_FILES = {"network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time", "mount": "mnt"}


def kinds(spec: "Spec") -> "dict[str, str]":
    """OCI's name -> file below /proc/PID/ns of the namespaces that an exec enters."""
    listed = {namespace["type"] for namespace in spec["linux"]["namespaces"]}
    return {kind: file for kind, file in (("pid", "pid"), *_FILES.items()) if kind in listed}


class Namespaces:
    """Descriptors of the init's own namespaces: what it has `sent`, or opened while its /proc entries can be opened."""

    def __init__(self, pid: int, spec: "Spec", sent: "dict[str, int] | None" = None) -> None:
        self.by_kind = sent or {kind: _open(f"/proc/{pid}/ns/{file}") for kind, file in kinds(spec).items()}
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
        master = linux.openat2(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        linux.ioctl(master, linux.TIOCSPTLCK, bytes(4))
        peer = linux.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        os.fchown(peer, uid, -1)
    except OSError as error:
        raise SandboxError.of("make terminal", "/dev/pts/ptmx", error) from None
    return master, peer
