"""`sbx exec CONTAINER CMD`: a further process in a running container.  (front, hot)

The container's keeper starts it, with our own descriptors 0, 1 and 2, or with a terminal whose master end comes back to
us; we wait, and pass signals on.  When we end, so does it, unless it was detached.
"""

import os
import select

from sandbox import channel, paths, state, values
from sandbox.errors import EXIT_FAILED, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any

    from sandbox.attach import Console
    from sandbox.relay import Relay
else:
    import _signal

_FORWARDED = (1, 2, 3, 10, 12, 14, 15)
_IMPROPER = 255  # exit status for a container that does not run: podman's


def main(opts: "dict[str, Any]", operands: "list[str]") -> int:
    """Run a command in a running container; returns its exit status."""
    parent = f"{paths.store()}/containers"
    if opts["latest"]:
        operands = [next((known.id for known in reversed(state.containers(parent))), "--latest"), *operands]
    known = state.find(parent, operands[0])
    if known.status != "running":
        raise SandboxError(
            "execute in container", operands[0],
            detail=f"it is {known.status}; can only create exec sessions on running containers: container state improper",
            hint=f"`sbx start {operands[0]}` starts it" if known.status in ("created", "exited") else "",
            code=_IMPROPER,
        )  # fmt: skip
    if len(operands) < 2:
        raise SandboxError(
            "execute in container", operands[0], detail="no command given", hint="sbx exec NAME COMMAND..."
        )
    made: dict[str, Any] = {"process": {"env": []}}
    values.environment(made, opts["env"], opts["env_file"])
    wanted = {
        "args": operands[1:], "env": made["process"]["env"], "user": opts["user"], "tty": opts["tty"],
        "cwd": values.absolute(opts["workdir"], "--workdir") if opts["workdir"] else "",
        "stdin": opts["interactive"], "detach": opts["detach"],
    }  # fmt: skip
    sock = channel.connect(known.directory)
    fds = [0, 1, 2, *values.descriptors(opts["preserve_fds"], ())]
    if opts["detach"]:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        fds[:3] = [null, null, null]
    if not opts["tty"] and any(map(os.isatty, fds[:3])):
        from sandbox import relay

        wanted["terminals"] = relay.terminals(interactive=opts["interactive"])
    channel.ask(sock, "exec", wanted, fds)
    _pass_signals_on(sock)
    kind, value, more = channel.receive(sock)
    if kind == "error":
        raise SandboxError.from_tuple(value)
    if kind != "running":
        raise SandboxError("execute in container", operands[0], detail="it has ended")
    if opts["detach"]:
        return 0
    if not more:
        return _wait(sock)
    from sandbox import attach, relay

    if opts["tty"]:
        return _with_terminal(sock, attach.Console(more[0], interactive=opts["interactive"], keys=opts["detach_keys"]))
    return _with_terminal(sock, relay.Relay(more[0], wanted["terminals"]))


def _pass_signals_on(sock: "Any") -> None:
    """From the request on: the process may say that it is ready before we know that it runs."""

    def pass_on(number: int, _: object) -> None:
        try:
            channel.send(sock, "signal", number)
        except OSError:
            pass  # it has ended

    for number in _FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, pass_on)


def _wait(sock: "Any") -> int:
    kind, value, _ = channel.receive(sock)
    if kind == "exit":
        return int(value)
    raise SandboxError("execute in container", detail="the container has ended", code=EXIT_FAILED)


def _with_terminal(sock: "Any", terminal: "Console | Relay") -> int:
    """Be the terminal of the process until it ends, or the detach keys are typed."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    terminal.start(poll)
    try:
        while True:
            events = poll.poll()
            terminal.copy(events, poll)
            if any(fd == sock.fileno() for fd, _ in events):
                status = _wait(sock)
                terminal.finish()
                return status
            if terminal.detached:
                _stay_behind(sock, terminal.master)
                return 0
    finally:
        terminal.restore()


def _stay_behind(sock: "Any", master: int) -> None:
    """In a child, out of sight: be the terminal's other end for as long as the process lives, and throw away what it prints."""
    if os.fork():
        return
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for fd in range(3, max(sock.fileno(), master) + 32):
            if fd not in (sock.fileno(), master):
                try:
                    os.close(fd)  # the user's terminal, opened once more, among them
                except OSError:
                    pass
        for number in _FORWARDED:
            _signal.signal(number, _signal.SIG_IGN if number == 1 else _signal.SIG_DFL)
        os.chdir("/")
        os.set_blocking(master, False)
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        poll.register(master, select.POLLIN)
        while True:
            for fd, mask in poll.poll():
                if fd == sock.fileno():
                    return
                try:
                    left = bool(os.read(master, 1 << 16))
                except BlockingIOError:
                    left = True
                except OSError:  # EIO: nobody has it open at the moment
                    left = False
                if not left or mask == select.POLLHUP:
                    poll.unregister(master)
    finally:
        os._exit(0)
