"""P0, the cli's side of a launch: container folder, keeper, id maps, signals, exit status.  (launch, hot)"""

import fcntl
import marshal
import os
import select

from sandbox import keeper, linux, paths, trees, userns
from sandbox.errors import EXIT_SIGNAL, SandboxError, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any
else:
    import _signal

# What a user or a job system sends to a foreground command; the rest keeps its effect on the cli itself.
_FORWARDED = (1, 2, 3, 10, 12, 14, 15)


class Container:
    """The folder of one container: `containers/<id>`, locked for as long as one of its processes lives.

    Made under another name and renamed once it is locked, so who finds an unlocked `<id>` knows that its owner is dead.
    """

    def __init__(self, store: str, maps: "dict[str, Any]") -> None:
        self.id = os.urandom(32).hex()
        self.parent = f"{store}/containers"
        self.directory = f"{self.parent}/{self.id}"
        self.maps = maps
        try:
            while not self._made(f"{self.parent}/.new-{self.id}"):
                pass
        except OSError as error:
            raise SandboxError.of(
                "make container directory", self.directory, error, "set SBX_STORE to a directory that you can write"
            ) from None

    def _made(self, fresh: str) -> bool:
        """Make the folder, lock it, give it its name.  False when a `sweep` took it for a dead one's before the lock."""
        try:
            os.mkdir(fresh, 0o700)
        except FileNotFoundError:
            paths.private_directory(os.path.dirname(self.parent))
            paths.private_directory(self.parent)
            os.mkdir(fresh, 0o700)
        lock = -1
        try:
            if not _keeper_is_caller(self.maps):
                # The keeper is somebody else's uid on disk; nobody but us can enter the parent.
                os.chmod(fresh, 0o1777)
            lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(fresh, self.directory)
        except FileNotFoundError:
            if lock >= 0:
                os.close(lock)
            return False
        self.lock = lock
        return True

    def write(self, name: str, text: str) -> str:
        """A file of the container that is mounted into it (/etc/hosts and the like); returns its path."""
        path = f"{self.directory}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                os.fchmod(fd, 0o644)
                data = text.encode("utf-8", "surrogateescape")
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
        except OSError as error:
            raise SandboxError.of("write", path, error) from None
        return path

    def remove(self) -> None:
        """Remove the folder; with the help of the user namespace when files of subordinate ids are left in it."""
        try:
            os.rmdir(self.directory)
        except FileNotFoundError:
            pass
        except OSError:
            remove_leftover(self.parent, self.id, self.maps)


class Draft(Container):
    """What stands for the container in a spec that is only shown: a folder of the cache, by the hash of what was asked.

    The spec binds its files, so they stay; the same question gets the same host name and the same paths again.
    """

    def __init__(self, question: str, maps: "dict[str, Any]") -> None:
        import hashlib  # nobody waits for a spec that is shown

        self.id = hashlib.sha256(question.encode("utf-8", "surrogateescape")).hexdigest()
        self.parent = f"{paths.cache()}/etc"
        self.directory = f"{self.parent}/{self.id[:16]}"
        self.maps = maps
        for path in (paths.cache(), self.parent, self.directory):
            paths.private_directory(path)

    def write(self, name: str, text: str) -> str:
        """As of a container, but a file that is there is replaced as a whole: somebody may be running from it."""
        path = f"{self.directory}/{name}"
        fresh = super().write(f".new-{os.getpid()}", text)
        try:
            os.rename(fresh, path)
        except OSError as error:
            raise SandboxError.of("write", path, error) from None
        return path

    def remove(self) -> None:
        """Nothing: the files are what the spec binds."""


def _keeper_is_caller(maps: "dict[str, Any]") -> bool:
    """Whether the keeper, root of the namespace where there is one, has the caller's uid on disk."""
    return all(outside == os.getuid() for inside, outside, _ in maps["uid"] if inside == 0)


def remove_leftover(parent: str, name: str, maps: "dict[str, Any]") -> None:
    """Remove `parent/name`, whoever its files belong to, as far as `maps` reaches."""
    folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            trees.remove(name, folder)
        except OSError:
            # Opened here: the namespace's root may not be able to enter our folders.
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                userns.call(maps, lambda: _empty(inner))
            finally:
                os.close(inner)
            trees.remove(name, folder)
    except OSError as error:
        raise SandboxError.of("remove", f"{parent}/{name}", error) from None
    finally:
        os.close(folder)


def _empty(folder: int) -> None:
    """Remove what is in `folder` as far as the namespace's root may; the rest is the caller's own."""
    for child in os.listdir(folder):
        try:
            trees.remove(child, folder)
        except OSError:
            pass


def sweep(container: Container) -> None:
    """Remove what containers left whose keeper and cli were killed: their folders are not locked any more."""
    try:
        names = os.listdir(container.parent)
    except OSError:
        return
    for name in names:
        if name == container.id:
            continue
        try:
            fd = os.open(f"{container.parent}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_leftover(container.parent, name, container.maps)
        except (OSError, SandboxError):
            pass  # in use, or gone already, or it stays for a run that can
        finally:
            os.close(fd)


def run(spec: "dict[str, Any]", bpf: bytes, container: Container) -> int:
    """Launch `spec` in `container` and wait for its end; returns the exit status.  Removes the container."""
    linux.close_range(3, cloexec=True)
    try:
        ours, theirs = linux.socketpair()
        pid = userns.clone(linux.CLONE_NEWNS | linux.CLONE_NEWPID)
        if pid == 0:
            os.close(ours)
            keeper.run(spec, bpf, theirs, container.directory)
        os.close(theirs)
        saved = _terminal_settings(spec)
        try:
            attendance = _Attendance(pid, ours)
            attendance.map_ids(container, _mapped_volumes(spec))
            return attendance.follow(container)
        finally:
            os.close(ours)
            if saved:
                saved()
    finally:
        container.remove()


def _mapped_volumes(spec: "dict[str, Any]") -> list[int]:
    """Descriptors of the volumes that get the namespace's id map laid over; only root of the host has such."""
    lines = spec["annotations"].get("dev.sbx.idmap", "").split("\n")
    return [int(line.rpartition("=")[2]) for line in lines if line]


def _map_volumes(fds: list[int], pid: int) -> None:
    """Lay the id map of the user namespace of `pid` over detached mounts: id 0 on disk is id 0 inside, and so on."""
    if not fds:
        return
    try:
        userns_fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        for fd in fds:
            flags = linux.AT_EMPTY_PATH | linux.AT_RECURSIVE
            linux.mount_setattr(fd, "", flags, linux.MOUNT_ATTR_IDMAP, userns=userns_fd)
        os.close(userns_fd)
    except OSError as error:
        raise SandboxError.of("map ids of volume", "", error, "its file system must support idmapped mounts") from None


class _Attendance:
    """The cli while a keeper lives: signals to pass on, records to take, the end to report."""

    def __init__(self, pid: int, channel: int) -> None:
        self.pid, self.channel = pid, channel
        self.started = False
        self.interrupted = 0
        self.failed: SandboxError | None = None
        for number in _FORWARDED:
            if _signal.getsignal(number) != _signal.SIG_IGN:  # nohup stays nohup
                _signal.signal(number, self.take_signal)

    def take_signal(self, number: int, _: object) -> None:
        """To the payload once it runs; before, it ends the start, however long a helper would make it wait."""
        self._take_records(block=False)  # `started` may have come, and the payload may have told the sender
        if self.started:
            _send(self.channel, "signal", number)
        else:
            self.interrupted = number
            os.kill(self.pid, 9)

    def map_ids(self, container: Container, volumes: list[int]) -> None:
        """Write the id maps and let the keeper go on; a failure ends it."""
        try:
            userns.write_maps(self.pid, container.maps)
            _map_volumes(volumes, self.pid)
            _send(self.channel, "go")
        except SandboxError as error:
            self.failed = error
            os.kill(self.pid, 9)

    def follow(self, container: Container) -> int:
        """Take the keeper's records until its end; returns the exit status or raises what went wrong first."""
        swept = False
        while self._take_records(block=True):
            if self.started and not swept:
                swept = True
                sweep(container)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self.failed:
            raise self.failed
        if self.interrupted:
            return EXIT_SIGNAL + self.interrupted
        if status < 0:
            words = f"its keeper was killed by signal {-status}"
            raise SandboxError("wait for container", container.id[:12], detail=words)
        return status

    def _take_records(self, *, block: bool) -> bool:
        """One record of the keeper, or without `block` those that are there; False at the end of file."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        while block or poll.poll(0):
            message = linux.receive(self.channel)
            if not message:
                return False
            record = marshal.loads(message)
            if record[0] == "error":
                self.failed = self.failed or SandboxError.from_tuple(record[1])
            elif record[0] == "warn":
                tell(record[1])
            elif record[0] == "started":
                self.started = True
            if block:
                break
        return True


def _send(channel: int, *record: "Any") -> None:
    try:
        os.write(channel, marshal.dumps(record))
    except OSError:
        pass  # the keeper is gone; its last record says why


def _terminal_settings(spec: "dict[str, Any]") -> "Any":
    """With -t: a function that gives the user's terminal back as it was, should the keeper die in raw mode."""
    if not spec["process"]["terminal"] or not os.isatty(0):
        return None
    import termios

    saved = termios.tcgetattr(0)
    return lambda: termios.tcsetattr(0, termios.TCSADRAIN, saved)
