"""Namespaces that a container has in common with another one, or that a file stands for: --network container:NAME.  (launch, hot)

A namespace can be entered with the rights of the user namespace that owns it, so who shares one shares that too: the
keeper is cloned there, by a child of the cli that went there first, and no id map is written.

    cli                      child                                   keeper
      opens the namespaces
      clone           --->     setns(user), setns(net, ipc, uts)
                               setns(pid): the one above the shared one
                               clone(PARENT|NEWNS|...)        --->     a child of the cli, as ever
      <--- its pid             exits

With --pid the keeper has no pid namespace of its own to end all processes with: it ends those in its container's mount
namespace (spaces_keeper.py), and when it is killed itself, the kernel ends the command by its parent-death signal.
"""

import marshal
import os

from sandbox import channel, linux, paths, state
from sandbox.errors import EINVAL, EPERM, SandboxError
from sandbox.results import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entries = list[tuple[int, int, int]]

# OCI's name of a namespace -> its file below /proc/PID/ns and its type, as ioctl_ns(2) tells it
KINDS = {
    "user": ("user", linux.CLONE_NEWUSER),
    "network": ("net", linux.CLONE_NEWNET),
    "ipc": ("ipc", linux.CLONE_NEWIPC),
    "uts": ("uts", linux.CLONE_NEWUTS),
    "pid": ("pid", linux.CLONE_NEWPID),
}
NEEDED = "needed"  # in the folder of a container: others share its namespaces
_OWNER, _PARENT, _TYPE = 0xB701, 0xB702, 0xB703  # ioctl_ns(2): NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE


def wanted(mode: str) -> bool:
    """Whether an option's value names the namespace of somebody else."""
    return mode.startswith(("container:", "ns:"))


def source(mode: str) -> str:
    """`mode` with the whole id of its container, or the absolute path."""
    word, _, name = mode.partition(":")
    if word == "ns":
        return f"ns:{os.path.abspath(name)}"
    return f"container:{state.find(f'{paths.store()}/containers', name).id}"


def peer(where: str) -> state.Known:
    """The running container of `container:ID`; SandboxError "share namespace" when it does not run."""
    known = state.find(f"{paths.store()}/containers", where.partition(":")[2])
    if not known.lives or not known.state:
        raise SandboxError(
            "share namespace", known.name, detail=f"that container is {known.status}",
            hint=f"`sbx start {known.name}` first",
        )  # fmt: skip
    return known


def of_container(known: state.Known) -> "dict[str, int]":
    """Descriptors of a running container's namespaces by kind, from its keeper; of what it has in common with us, ours."""
    sock = channel.connect(known.directory)
    try:
        channel.send(sock, "spaces", {})
        answer, value, fds = channel.receive(sock)
    finally:
        sock.close()
    if answer == "error":
        raise SandboxError.from_tuple(value)
    if answer != "spaces":
        raise SandboxError("share namespace", known.name, detail="that container has just ended")
    found = dict(zip(value, fds, strict=True))
    ours = {kind: _open(f"/proc/self/ns/{file}") for kind, (file, _) in KINDS.items() if kind not in found}
    return {**ours, **found}


def of_file(kind: str, path: str) -> int:
    """A descriptor of the namespace of `kind` that a file stands for."""
    file, flag = KINDS[kind]
    fd = _open(path)
    try:
        if linux.file_system_magic(fd) != linux.STATFS_MAGIC_NSFS or linux.ioctl(fd, _TYPE) != flag:
            raise SandboxError("open namespace", path, EINVAL, detail=f"it is no {file} namespace")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("open namespace", path, error) from None


def is_own(fd: int, kind: str) -> bool:
    """Whether it is the namespace that the caller is in."""
    status, own = os.stat(fd), os.stat(f"/proc/self/ns/{KINDS[kind][0]}")
    return (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino)


def owner(fd: int) -> int:
    """A descriptor of the user namespace that owns the namespace `fd`; -1 when that is the caller's own or above it."""
    try:
        found = linux.ioctl(fd, _OWNER)
    except OSError as error:
        if error.errno == EPERM:
            return -1
        raise
    if is_own(found, "user"):
        os.close(found)
        return -1
    return found


class Spaces:
    """The namespaces of a spec's `dev.sbx.spaces`, opened, but for those that are `ours` anyway; `close` lets go of them."""

    def __init__(self, text: str) -> None:
        self.fds: dict[str, int] = {}
        self.foreign: list[int] = []  # of the machine itself: only root may enter them, and does so first
        self.mounts = -1  # the mount namespace of whose queues and memory are shared
        containers: dict[str, dict[str, int]] = {}
        for line in text.split("\n"):
            kind, _, where = line.partition("=")
            if where.startswith("container:"):
                if where not in containers:
                    containers[where] = of_container(peer(where))
                self.fds[kind] = containers[where].pop(kind)
                if kind == "ipc":
                    self.mounts = containers[where].pop("mount")
            elif where:
                self.fds[kind] = of_file(kind, where[3:])
        for left in containers.values():
            for fd in left.values():
                os.close(fd)
        self.ours = [kind for kind, fd in self.fds.items() if is_own(fd, kind)]
        for kind in self.ours:
            os.close(self.fds.pop(kind))
        for kind, fd in [*self.fds.items()]:
            if kind == "user":
                continue
            above = owner(fd)
            if above < 0:
                self._foreign(kind, fd)
            elif "user" not in self.fds:
                self.fds["user"] = above
            else:
                same = os.stat(above).st_ino == os.stat(self.fds["user"]).st_ino
                os.close(above)
                if not same:
                    detail = "they belong to different user namespaces"
                    raise SandboxError("share namespace", kind, EINVAL, detail)

    def _foreign(self, kind: str, fd: int) -> None:
        if os.geteuid():
            raise SandboxError("share namespace", kind, EPERM, "it belongs to the machine: only root may enter it")
        self.foreign.append(fd)

    @property
    def user(self) -> int:
        """The user namespace to be in; -1 when a new one can be made."""
        return self.fds.get("user", -1)

    def id_maps(self) -> "tuple[Entries, Entries]":
        """uid_map and gid_map of the user namespace to be in, as idmap.py has them."""

        def read() -> "list[Entries]":
            linux.setns(self.user, linux.CLONE_NEWUSER)
            found: list[Entries] = []
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/self/{name}", encoding="ascii") as file:
                    lines = [line.split() for line in file]
                found.append([(int(inside), int(outside), int(count)) for inside, outside, count in lines])
            return found

        uid, gid = in_child(read)
        return uid, gid

    def clone(self, spec: "dict[str, Any]", *, own_pid: bool) -> int:
        """Clone the keeper there: 0 in it, its pid here.  SandboxError "enter namespace".

        Notes in `spec` which descriptor is the pid namespace that its init belongs into.
        """
        if "pid" in self.fds:
            spec["annotations"]["dev.sbx.pid"] = str(self.fds["pid"])
        flags = linux.CLONE_NEWNS | (linux.CLONE_NEWPID if own_pid else 0)
        flags |= 0 if self.user >= 0 else linux.CLONE_NEWUSER
        read, write = os.pipe2(os.O_CLOEXEC)
        child = linux.clone(0)
        if child == 0:
            found = self._go(flags, spec)
            if found != 0:
                os.write(write, marshal.dumps(found))
                os._exit(0)
            os.close(read)
            os.close(write)
            return 0
        os.close(write)
        with open(read, "rb") as file:
            message = file.read()
        os.waitpid(child, 0)
        self.close()
        answer = marshal.loads(message) if message else SandboxError("enter namespace").as_tuple()
        if isinstance(answer, tuple):
            raise SandboxError.from_tuple(answer)
        return int(answer)

    def _go(self, flags: int, spec: "dict[str, Any]") -> "Any":
        """In the child: 0 in the keeper; otherwise what there is to tell, its pid or a SandboxError as tuple."""
        kind = ""
        try:
            rest = [
                (kind, fd) for kind, fd in self.fds.items() if kind not in ("user", "pid") and fd not in self.foreign
            ]
            foreign = [(kind, fd) for kind, fd in self.fds.items() if kind != "pid" and fd in self.foreign]
            users = [("user", self.user)] if self.user >= 0 else []
            for kind, fd in [*foreign, *users, *rest]:
                linux.setns(fd, KINDS[kind][1])
            if self.mounts >= 0 and "ipc" in self.fds:
                kind = "memory"
                spec["annotations"]["dev.sbx.handed"] = f"/dev/shm={_shared_memory(self.mounts)}\n"
            if "pid" in self.fds:
                kind = "pid"
                # The keeper belongs above the processes that it starts in the shared one.
                linux.setns(linux.ioctl(self.fds["pid"], _PARENT), linux.CLONE_NEWPID)
            return linux.clone(flags | linux.CLONE_PARENT)
        except OSError as error:
            return SandboxError.of("enter namespace", kind, error).as_tuple()
        except BaseException as error:  # the cli's code above us must never run in here
            return SandboxError("enter namespace", kind, detail=f"{type(error).__name__}: {error}").as_tuple()

    def close(self) -> None:
        """All but the pid namespace, which the keeper needs; in the cli there is no need to close that."""
        for fd in (self.mounts, *(fd for kind, fd in self.fds.items() if kind != "pid")):
            if fd >= 0:
                os.close(fd)


def _shared_memory(space: int) -> int:
    """A detached mount of /dev/shm of the container whose mount namespace `space` is; a child goes there to fetch it."""
    ours, theirs = linux.socketpair()
    child = linux.clone(0)
    if child == 0:
        try:
            os.close(ours)
            linux.setns(space, linux.CLONE_NEWNS)
            fd = linux.open_tree(linux.AT_FDCWD, "/dev/shm", linux.OPEN_TREE_CLONE | linux.AT_SYMLINK_NOFOLLOW)
            linux.send_descriptor(theirs, b"memory", fd)
        finally:
            os._exit(0)
    os.close(theirs)
    message, fd = linux.receive_descriptor(ours)
    os.close(ours)
    os.waitpid(child, 0)
    if not message:
        raise SandboxError("share memory", "/dev/shm", detail="that container has none")
    return fd
