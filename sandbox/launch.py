"""P0, the cli's side of a launch: keeper, id maps, signals, exit status.  (launch, hot)"""

import marshal
import os
import select

from sandbox import bundle, containers, linux, userns
from sandbox.errors import EXIT_FAILED, EXIT_SIGNAL, SandboxError, tell
from sandbox.results import send

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any, NoReturn
else:
    import _signal

# What a user or a job system sends to a foreground command; the rest keeps its effect on the cli itself.
_FORWARDED = (1, 2, 3, 10, 12, 14, 15)
_SIGINT = 2


def run(spec: "dict[str, Any]", bpf: bytes, container: containers.Container) -> int:
    """Launch `spec` in `container` and wait for its end; returns the exit status.  Removes the container."""
    linux.close_range(3, cloexec=True)
    try:
        ours, theirs = linux.socketpair()
        pid = _clone(spec)
        if pid == 0:
            _keep(ours, theirs, spec, bpf, container)
        os.close(theirs)
        saved = _terminal_settings(spec)
        try:
            attendance = _Attendance(pid, ours, container)
            attendance.map_ids(spec)
            return attendance.follow()
        finally:
            os.close(ours)
            if saved:
                saved()
    finally:
        container.remove()


def start(spec: "dict[str, Any]", bpf: bytes, container: containers.Container) -> int:
    """Launch `spec` in `container`, which lives on; 0 when its command runs, 128+n when a signal ended the start."""
    linux.close_range(3, cloexec=True)
    ours, theirs = linux.socketpair()
    try:
        pid = _clone(spec)
        if pid == 0:
            _keep(ours, theirs, spec, bpf, container)
        os.close(theirs)
        attendance = _Attendance(pid, ours, container)
        attendance.map_ids(spec)
        return attendance.follow()
    finally:
        if "dev.sbx.awaited" not in spec["annotations"]:  # else it stays open, as the sign that we shall attach
            os.close(ours)


def _keep(ours: int, theirs: int, spec: "dict[str, Any]", bpf: bytes, container: containers.Container) -> "NoReturn":
    """In the child: be the keeper.  What only it needs is loaded here, while newuidmap runs on another core."""
    try:
        os.close(ours)
        bundle.load_rest()
        from sandbox import keeper
    except BaseException as error:
        send(theirs, "error", SandboxError("start keeper", detail=f"{type(error).__name__}: {error}").as_tuple())
        os._exit(EXIT_FAILED)
    keeper.run(spec, bpf, theirs, container)


def _clone(spec: "dict[str, Any]") -> int:
    """Clone the keeper, in a user namespace of its own or in another's; 0 in it."""
    own_pid = any(namespace == {"type": "pid"} for namespace in spec["linux"]["namespaces"])
    shared = None
    if "dev.sbx.spaces" in spec["annotations"]:
        from sandbox import spaces

        shared = spaces.Spaces(spec["annotations"]["dev.sbx.spaces"])
    pid = -1
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (_SIGINT,))
    try:
        if shared:
            pid = shared.clone(spec, own_pid=own_pid)
        else:
            pid = userns.clone(linux.CLONE_NEWNS | (linux.CLONE_NEWPID if own_pid else 0))
        return pid
    finally:
        if pid == 0:
            # Ctrl-C goes to the cli too, which knows what to do; an exception here would do it here as well.
            _signal.signal(_SIGINT, _signal.SIG_IGN)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_SIGINT,))


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

    def __init__(self, pid: int, channel: int, container: containers.Container) -> None:
        self.pid, self.channel, self.container = pid, channel, container
        self.started = self.running = False
        self.interrupted = 0
        self.taking = False  # a record is in hand
        self.late: list[int] = []  # signals that came meanwhile
        self.group = ""
        self.failed: SandboxError | None = None
        for number in _FORWARDED:
            if _signal.getsignal(number) != _signal.SIG_IGN:  # nohup stays nohup
                _signal.signal(number, self.take_signal)

    def take_signal(self, number: int, _: object) -> None:
        """To the payload once it runs; before, it ends the start, however long a helper would make it wait."""
        if not self.pid:
            return  # it has ended just now
        if self.taking:
            self.late.append(number)  # the record in hand may be the one that says `started`
            return
        self._take_records(block=False)  # `started` may have come, and the payload may have told the sender
        if self.started:
            send(self.channel, "signal", number)
        else:
            self.interrupted = number
            os.kill(self.pid, 9)

    def map_ids(self, spec: "dict[str, Any]") -> None:
        """Write the id maps, make the group of the limits, let the keeper go on; a failure ends it."""
        try:
            if not any(n["type"] == "user" and "path" in n for n in spec["linux"]["namespaces"]):
                userns.write_maps(self.pid, self.container.maps, self.container.note)
            self.container.note()
            _map_volumes(_mapped_volumes(spec), self.pid)
            if "resources" in spec["linux"]:
                self.make_group(spec["linux"])
            send(self.channel, "go")
        except SandboxError as error:
            self.failed = error
            os.kill(self.pid, 9)

    def make_group(self, config: "dict[str, Any]") -> None:
        """A control group for the keeper and its container; the keeper gets what it needs of it: see cgroup.py."""
        from sandbox import cgroup

        self.group = cgroup.make(config["resources"], self.container.id, self.pid, config.get("cgroupsPath", ""))
        cgroup.fill(self.group, config["resources"], self.pid)
        for fd in cgroup.open_handed(self.group):
            try:
                linux.send_descriptor(self.channel, marshal.dumps(("group", self.group)), fd)
            except OSError:
                pass  # the keeper is gone; its last record says why
            finally:
                os.close(fd)

    def follow(self) -> int:
        """Take the keeper's records until its end; returns the exit status or raises what went wrong first."""
        swept = False
        while not self.running and self._take_records(block=True):
            if self.started and not swept:
                swept = True
                containers.sweep(self.container)
        if self.running:
            return 0
        pid, self.pid = self.pid, 0  # a signal from now on has nobody to go to, and the number may be another's soon
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if self.group:
            from sandbox import cgroup

            cgroup.remove(self.group)
        if self.interrupted:  # what failed then is a helper that had the signal too, as Ctrl-C goes to all
            return EXIT_SIGNAL + self.interrupted
        if self.failed:
            raise self.failed
        if status < 0:
            words = f"its keeper was killed by signal {-status}"
            raise SandboxError("wait for container", self.container.id[:12], detail=words)
        return status

    def _take_records(self, *, block: bool) -> bool:
        """One record of the keeper, or without `block` those that are there; False at the end of file."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        while True:
            if block:
                poll.poll()  # a signal that comes now may take the record itself
            self.taking = True
            message = linux.receive(self.channel) if poll.poll(0) else None
            if message:
                self._take(marshal.loads(message))
            self.taking = False
            while self.late:
                self.take_signal(self.late.pop(), None)
            if message is None and block:
                continue
            if block or not message:
                return message != b""

    def _take(self, record: "Any") -> None:
        if record[0] == "error":
            self.failed = self.failed or SandboxError.from_tuple(record[1])
        elif record[0] == "warn":
            tell(record[1])
        elif record[0] == "started":
            self.started = True
            if self.container.pidfile:
                _write_pid(self.container.pidfile, record[1])
        elif record[0] == "refused":
            self.container.refused = record[1]
        elif record[0] == "reason":
            self.container.reason = record[1]
        elif record[0] == "isolation":
            self.container.isolation = record[1]
        elif record[0] == "running":  # by itself from now on
            self.running = True


def _write_pid(path: str, pid: int) -> None:
    try:
        # Not through a link: the command, or another one before, may have planted it in a folder that it was given.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, f"{pid}\n".encode())
        finally:
            os.close(fd)
    except OSError as error:
        tell(str(SandboxError.of("write pid to", path, error)))


def _terminal_settings(spec: "dict[str, Any]") -> "Any":
    """With -t: a function that gives the user's terminal back as it was, should the keeper die in raw mode."""
    if not spec["process"]["terminal"] or not os.isatty(0):
        return None
    import termios

    saved = termios.tcgetattr(0)

    def restore() -> None:
        try:
            termios.tcsetattr(0, termios.TCSANOW, saved)
        except termios.error:
            pass  # it has hung up

    return restore
