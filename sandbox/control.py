"""What other commands ask of a running container: the keeper's side of its socket.  (launch, hot)

A client sends one request, (kind, dict) with descriptors, and gets records until it or the container ends:

    exec    {args, env, cwd, user, tty, terminals, stdin, detach, quiet} 0 1 2 ...
                     -> ("error", SandboxError as tuple)
                     -> ("running", pid) [the terminal's master], ("exit", status)
    attach  {stdin}  -> ("attached", has a terminal), ("stdout", bytes) ("stderr", bytes) ..., ("exit", status)
    signal  {number} -> ("done", None)
    pause, resume    -> ("done", None)
    wait    {}       -> ("exit", status)
    spaces  {}       -> ("spaces", kinds) the namespaces of these kinds
  and then may send ("signal", number), ("size", (rows, columns)), ("input", bytes), ("end", None).

Requests are small and answered at once; nothing in here waits.
"""

import _socket
import os
import select

from sandbox import channel, linux
from sandbox.control_exec import Client, Further
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.keeper_init import Parent

_POLLIN, _POLLOUT = select.POLLIN, select.POLLOUT
# Bytes of output that a client may leave unread before the command has to wait for it.
_BACKLOG = 1 << 20
_LATE = 0.2  # seconds that the request of one who has just connected may take
_PATIENCE = 10.0  # seconds that the last words wait for one client


class Control(Further):
    """The listening socket and its clients."""

    def __init__(self, keeper: "Parent") -> None:
        super().__init__(keeper)
        self.listener = channel.listen()
        self._watched: dict[int, int] = {}
        self.awaited = "dev.sbx.awaited" in keeper.annotations  # nobody who waits for output has come yet

    # -- the loop --

    def watch(self, poll: "select.poll") -> None:
        """Tell `poll` what we wait for now."""
        wanted = {self.listener.fileno(): _POLLIN, **dict.fromkeys(self.starting, _POLLIN)}
        for fd, client in self.clients.items():
            full = client.kind == "attach" and self.keeper.streams and len(self.keeper.streams.typed) > _BACKLOG
            wanted[fd] = (0 if full else _POLLIN) | (_POLLOUT if client.queue else 0)
        if wanted == self._watched:
            return
        for fd in self._watched.keys() - wanted.keys():
            poll.unregister(fd)
        for fd, events in wanted.items():
            if self._watched.get(fd) != events:
                poll.register(fd, events)
        self._watched = wanted

    def serve(self, fd: int) -> None:
        """Something is there on `fd`; numbers that are not ours are passed over."""
        if fd == self.listener.fileno():
            self._accept()
        elif fd in self.starting:
            self.started(self.starting.pop(fd))
        elif fd in self.clients:
            client = self.clients[fd]
            self._flush(client)
            if fd in self.clients:
                self._receive(client)

    def _accept(self) -> bool:
        """Take the next connection; False when there is none."""
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # what socket.accept calls; `socket` costs 5 ms
        except OSError:
            return False
        sock = _socket.socket(fileno=fd)
        sock.setblocking(False)
        if self._is_inside(channel.peer(sock)):
            sock.close()
        else:
            self.clients[fd] = Client(sock)
        return True

    def _is_inside(self, pid: int) -> bool:
        """Whether process `pid` is of the container, or a helper: it may have the store mounted, and gives no commands.

        Who is not in our pid namespace has the number 0.  With the host's pid namespace all are in ours.
        """
        if pid == 0 or not self.keeper.host_pids:
            return pid != 0
        from sandbox import spaces_keeper

        return spaces_keeper.same_users(pid)

    def _forget(self, client: Client) -> None:
        fd = client.sock.fileno()
        self.clients.pop(fd, None)
        client.sock.close()
        self._flow()
        if client.pid:
            self.orphans[client.pid] = client
            if not client.detached:
                self.kill(client, 9)

    # -- requests --

    def _receive(self, client: Client) -> None:
        try:
            kind, value, fds = channel.receive(client.sock)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            kind, value, fds = "", None, []
        try:
            if not kind:
                self._forget(client)
            elif not client.kind:
                client.kind = kind
                self._request(client, kind, value, fds)
            else:
                self._message(client, kind, value)
        except SandboxError as error:
            self.send(client, "error", error.as_tuple())
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            self.send(client, "error", SandboxError("read request", kind, EINVAL, str(error)).as_tuple())
        finally:
            for fd in fds:
                os.close(fd)

    def _request(self, client: Client, kind: str, value: "dict[str, Any]", fds: list[int]) -> None:
        keeper = self.keeper
        if kind == "exec":
            self.exec(client, value, fds)
        elif kind == "signal":
            keeper.kill(int(value["number"]))
            self.send(client, "done", None)
        elif kind in ("pause", "resume"):
            keeper.freeze(kind == "pause")
            self.send(client, "done", None)
        elif kind == "spaces":
            if not keeper.spaces:
                raise SandboxError("share namespace", detail="the container has ended")
            # Who has our user namespace in common with us, and the machine's processes in sight, is not to look at us.
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
            found = keeper.spaces.shared()
            self.send(client, "spaces", list(found), tuple(found.values()))
        elif kind == "attach":
            self.send(client, "attached", keeper.spec["process"]["terminal"])
            if not self.awaited:  # else it is `run` itself
                self.keeper.note("attach")
            self.awaited = False
            self._flow()
        elif kind != "wait":
            raise SandboxError("read request", kind, EINVAL, "no such request")

    def _message(self, client: Client, kind: str, value: "Any") -> None:
        streams = self.keeper.streams
        if kind == "signal":
            if client.kind == "exec":
                self.kill(client, int(value))
            else:
                self.keeper.kill(int(value))
        elif kind == "input" and client.kind == "attach" and streams:
            streams.type(value)
        elif kind == "end" and client.kind == "attach" and streams:
            streams.type(b"")
        elif kind == "size" and client.kind == "attach" and streams:
            streams.resize(int(value[0]), int(value[1]))

    # -- what is sent --

    def show(self, stream: str, chunk: bytes) -> None:
        """Pass on what the command printed."""
        for client in list(self.clients.values()):
            if client.kind == "attach":
                client.queued += len(chunk)
                self.send(client, stream, chunk)
        self._flow()

    def _flow(self) -> None:
        if self.keeper.streams:
            self.keeper.streams.paused = self.awaited or any(
                client.queued > _BACKLOG for client in self.clients.values()
            )

    def send(self, client: Client, kind: str, value: "Any", fds: tuple[int, ...] = ()) -> None:
        """Have a record sent as soon as the client takes it."""
        client.queue.append((kind, value, fds))
        self._flush(client)

    def _flush(self, client: Client) -> None:
        while client.queue:
            kind, value, fds = client.queue[0]
            try:
                channel.send(client.sock, kind, value, fds)
            except BlockingIOError:
                return
            except OSError:  # gone, or (at the end) not listening
                self._forget(client)
                return
            client.queue.pop(0)
            for fd in fds:
                os.close(fd)
            if kind in ("stdout", "stderr"):
                client.queued -= len(value)
                self._flow()

    def give_up(self) -> None:
        """Who was to attach will not come."""
        self.awaited = False
        self._flow()

    def _take_late(self) -> None:
        """Who has connected since we looked last: what they ask for is on its way."""
        while self._accept():
            pass
        for client in [client for client in self.clients.values() if not client.kind]:
            client.sock.settimeout(_LATE)
            self._receive(client)

    def finish(self, status: int) -> None:
        """The container has ended: tell all; who does not listen for a while misses it."""
        self._take_late()
        for client in list(self.clients.values()):
            if client.kind in ("attach", "wait"):
                client.sock.settimeout(_PATIENCE)
                self.send(client, "exit", status)
