"""Further processes in a container, as clients of the keeper ask for them: see control.py.  (launch, hot)"""

import marshal
import os

from sandbox import join, linux, mounts
from sandbox.errors import EINVAL, EXIT_SIGNAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from sandbox.keeper_init import Parent


class Client:
    """One connection; `kind` is what it asked for."""

    def __init__(self, sock: "_socket.socket") -> None:
        self.sock = sock
        self.kind = ""
        self.queue: list[tuple[str, Any, tuple[int, ...]]] = []
        self.queued = 0  # bytes of output in `queue`
        self.pid = 0  # exec: the process, as the keeper numbers it
        self.init = -1  # exec: channel on which a start that fails is told
        self.master = -1
        self.input = (-1, -1)  # exec: the file that was given to be read, and what the process has of it
        self.detached = self.quiet = False

    def give_input_back(self) -> None:
        """What the process has read of the file is read for the caller too."""
        if self.input[0] >= 0:
            os.lseek(self.input[0], os.lseek(self.input[1], 0, os.SEEK_CUR), os.SEEK_SET)
            for fd in self.input:
                os.close(fd)
            self.input = (-1, -1)


class Further:
    """The processes that clients have asked for, from their start to their end; a part of control.py's Control."""

    if TYPE_CHECKING:

        def send(self, client: Client, kind: str, value: "Any", fds: "tuple[int, ...]" = ()) -> None:
            """Control's."""

    def __init__(self, keeper: "Parent") -> None:
        self.keeper = keeper
        self.clients: dict[int, Client] = {}
        self.starting: dict[int, Client] = {}  # by Client.init
        self.orphans: dict[int, Client] = {}  # clients that have gone, by their processes

    def exec(self, client: Client, wanted: "dict[str, Any]", fds: list[int]) -> None:
        keeper = self.keeper
        if keeper.status is not None or not keeper.spaces:
            raise SandboxError("enter container", detail="it has ended")
        if keeper.group and keeper.group.frozen:
            raise SandboxError("enter container", detail="it is paused", hint="`sbx unpause` lets it go on")
        if len(fds) < 3:
            raise SandboxError("read request", "exec", EINVAL, "no descriptors")
        wanted = {**wanted, "root_capabilities": keeper.root_capabilities, "fds": len(fds) - 3}
        spec = join.make_spec(keeper.spec, wanted, keeper.root)
        client.detached, client.quiet = bool(wanted.get("detach")), bool(wanted.get("quiet"))
        opened: tuple[int, ...] = ()
        tty, relayed = bool(wanted.get("tty")), tuple(wanted.get("terminals", ()))
        if tty or relayed:
            try:
                from sandbox import console, relay
            except ImportError:  # we are somebody else by now, and nobody needed them at the start
                detail = "the keeper can not read the code for terminals any more"
                hint = (
                    "it can where the folder of sbx may be read by all, or when the container was started with -d or -t"
                )
                raise SandboxError("make terminal", detail=detail, hint=hint) from None
            opened = join.terminal(keeper.root, spec["process"]["user"]["uid"])
            client.master = opened[0]
            console.copy_size((fds[1], fds[0], fds[2]), client.master)
            if relayed:
                relay.plain(opened[1])
        if wanted.get("stdin") and not tty:
            given = mounts.read_only_input(fds[0])
            if given >= 0:
                client.input, fds = (os.dup(fds[0]), given), [given, *fds[1:]]
        try:
            stdio = [opened[1]] if tty else [opened[1] if n in relayed else fd for n, fd in enumerate(fds)]
            procs = keeper.group.procs if keeper.group else -1
            client.pid, client.init = join.clone(spec, keeper.bpf, keeper.spaces, stdio, tty, procs)
        except BaseException:
            client.give_input_back()
            raise
        finally:
            if opened:
                os.close(opened[1])
        self.starting[client.init] = client

    def started(self, client: Client) -> None:
        """A record of a process on its way, or the end of its channel: it runs, or has failed."""
        message, fd = linux.receive_descriptor(client.init)
        kind, value = marshal.loads(message) if message else ("", None)
        if fd >= 0:
            self.keeper.listen(fd)
        if kind in ("ready", "warn", "listener"):
            self.starting[client.init] = client
            return
        os.close(client.init)
        client.init = -1
        if kind:
            client.quiet = True  # it never ran
            self.send(client, "error", value)
            return
        if not client.quiet:
            self.keeper.note("exec")
        self.send(client, "running", client.pid, (client.master,) if client.master >= 0 else ())

    def kill(self, client: Client, number: int) -> None:
        if client.pid:
            try:
                os.kill(client.pid, number)
            except ProcessLookupError:
                pass

    def reaped(self, pid: int, status: int) -> bool:
        """A child of the keeper has ended; whether it was one of ours.  `status` as of os.waitstatus_to_exitcode."""
        for client in [*self.clients.values(), *self.starting.values()]:
            if client.pid == pid:
                client.pid = 0
                while client.init >= 0:  # it ended before its channel was read: what it said last is there
                    self.starting.pop(client.init, None)
                    self.started(client)
                self._note_end(client, status)
                self.send(client, "exit", status if status >= 0 else EXIT_SIGNAL - status)
                return True
        if pid in self.orphans:
            self._note_end(self.orphans.pop(pid), status)
            return True
        return False

    def _note_end(self, client: Client, status: int) -> None:
        client.give_input_back()
        if not client.quiet:
            self.keeper.note("exec_died", {"exitCode": status if status >= 0 else EXIT_SIGNAL - status})
