"""Containers that are signalled, stopped, waited for and removed.  (cold)"""

import fcntl
import os
import select
import time

from sandbox import channel, containers, events, spaces, state, values
from sandbox.errors import EINVAL, SandboxError
from sandbox.life.chosen import all_known, find, improper

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
    from typing import Any
else:
    import _signal

SIGKILL = 9
_SIGTERM = 15
_LAST_SIGNAL = 64
IMPROPER = 2  # exit status of `rm` and `pod rm` when something runs, or is needed: podman's
HALTED = "halted"  # a file that says: it was ended by a command, and is not to be started again
MINDER = "minder"  # a file that who starts it again by --restart has locked
# How long a keeper may take to clean up behind a payload that has ended, and a lock to be let go of.
_PATIENCE = 20.0
_TRIES = 3  # how often one that was started again meanwhile is ended


def signal_number(text: str) -> int:
    """`TERM`, `SIGTERM`, `15`, `RTMIN+3` as a number; SandboxError "read signal"."""
    name = text.upper().removeprefix("SIG")
    if name.isdecimal() and len(name) < 4 and 0 < int(name) <= _LAST_SIGNAL:
        return int(name)
    base, plus, more = name.partition("+")
    found = getattr(_signal, f"SIG{base}", None) if base.isalnum() else None
    further = base == "RTMIN" and more.isdecimal() and len(more) < 4 and int(found or 0) + int(more) <= _LAST_SIGNAL
    if isinstance(found, int) and (not plus or further):
        return int(found) + (int(more) if plus else 0)
    raise SandboxError("read signal", text, EINVAL, detail="no such signal", hint="a name such as TERM, or a number")


def patience(text: str, option: str) -> float:
    """The value of --time and its like, in seconds; SandboxError when it is none."""
    seconds = values.seconds(text, option)
    if seconds < 0:
        raise SandboxError(f"read {option}", text, EINVAL, detail="it is negative")
    return seconds


def _stop_signal(known: state.Known) -> int:
    """What it is asked by to end; an image may name a signal that is none."""
    try:
        return signal_number(str(known.about.get("stop_signal") or "TERM"))
    except SandboxError:
        return _SIGTERM


def send(known: state.Known, number: int) -> None:
    """Send a signal to the command of a running container."""
    if not known.lives:
        raise improper("send signal to container", known, "can only kill running containers")
    if not _sent(known, number):
        raise SandboxError("send signal to container", known.name, detail="it has ended meanwhile")


def _sent(known: state.Known, number: int) -> bool:
    """Whether its keeper has sent the signal; else it has ended meanwhile."""
    sock = _connected(known)
    if not sock:
        return False
    try:
        channel.ask(sock, "signal", {"number": number})
        kind, value, _ = channel.receive(sock)
    finally:
        sock.close()
    if kind == "error":
        raise SandboxError.from_tuple(value)
    if kind == "done":
        events.remember(known.parent, "kill", known.about, {"signal": number})
    return kind == "done"


def _connected(known: state.Known) -> "Any":
    """A connection to the keeper, waited for while it starts; None when it has ended meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return channel.connect(known.directory)
        except SandboxError:
            if not state.Known(known.parent, known.id).lives:
                return None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Waiting:
    """A connection that tells of a container's end; opened before it is asked to end, so that nothing is missed."""

    def __init__(self, known: state.Known) -> None:
        self.known = known
        self.code: int | None = None
        self.sock = _connected(known)
        if self.sock is not None:
            channel.ask(self.sock, "wait", {})

    def over(self, seconds: float | None) -> bool:
        """Whether it has ended within `seconds` (None: for ever); `code` has its exit status then."""
        if self.code is not None:
            return True
        if self.sock is not None:
            ready, _, _ = select.select([self.sock], [], [], seconds)
            if not ready:
                return False
            kind, value, _ = channel.receive(self.sock)
            self.sock.close()
            self.sock = None
            if kind == "exit":
                self.code = int(value)
                return True
        self.code = int(state.Known(self.known.parent, self.known.id).ended.get("code", 137))
        return True


def wait(known: state.Known) -> int:
    """The exit status of a container, when it has ended; 0 of one that was never started, as podman and docker have it."""
    if not known.lives:
        return int(known.ended.get("code", 0))
    waiting = Waiting(known)
    waiting.over(None)
    return int(waiting.code or 0)


def halt(known: state.Known) -> None:
    """What ends now was meant to end: see minder.py."""
    if known.about.get("restart", ("no", 0))[0] != "no":
        try:
            os.close(os.open(f"{known.directory}/{HALTED}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except FileNotFoundError:
            pass  # it has been removed
        except OSError as error:
            raise SandboxError.of("note that it is to stay ended", known.name, error) from None


def stop(known: state.Known, seconds: float | None) -> None:
    """Ask the command to end by its stop signal, and kill it after `seconds` (None: what it was created with, else 10)."""
    halt(known)  # one that is just to be started again does not live at the moment
    known = state.Known(known.parent, known.id)  # or it does by now, and who started it had not seen that
    if not known.lives:
        return
    if seconds is None:
        seconds = float(known.about.get("stop_timeout", 10))
    waiting = Waiting(known)
    asked = ((_stop_signal(known), seconds),) if seconds else ()
    for one, patience in (*asked, (SIGKILL, _PATIENCE)):
        _sent(known, one)
        if waiting.over(patience):
            events.remember(known.parent, "stop", known.about)
            return
    raise SandboxError("stop container", known.name, detail="it does not end")


def needing(known: state.Known) -> list[state.Known]:
    """The containers that share a namespace of this one."""
    if not os.path.exists(f"{known.directory}/{spaces.NEEDED}"):
        return []
    return [other for other in all_known() if known.id in other.about.get("needs", ())]


def unneeded() -> list[state.Known]:
    """Ended containers that a prune may take, newest first, so that each goes before those that it needs.

    Not those of a pod of which something runs, nor what one that stays needs, nor one that --restart is about to start.
    """
    everyone = all_known()
    running = {str(known.about.get("pod") or known.id) for known in everyone if known.lives}
    found: list[state.Known] = []
    needed: set[str] = set()
    for known in reversed(everyone):
        pod = known.about.get("pod") or known.id
        if known.lives or known.id in needed or pod in running or _minded(known):
            needed.update(known.about.get("needs", ()))
        else:
            found.append(known)
    return found


def _minded(known: state.Known) -> bool:
    """Whether it is ended for a moment only: who is to start it again waits, see minder.py."""
    if known.about.get("restart", ("no", 0))[0] == "no" or os.path.exists(f"{known.directory}/{HALTED}"):
        return False
    return state.locked(f"{known.directory}/{MINDER}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def remove(
    known: state.Known, *, force: bool, seconds: float | None = 0.0, volumes: bool = False, depend: bool = False
) -> None:
    """Remove an ended container; with `force` one that runs is stopped first, killed at once unless `seconds` are given."""
    for other in needing(known):
        if not depend:
            raise SandboxError(
                "remove container", known.name, code=IMPROPER,
                detail=f"containers that depend on it must be removed before it: {other.name}",
                hint=f"`sbx rm --depend {known.name}` removes them too",
            )  # fmt: skip
        remove(other, force=force, seconds=seconds, volumes=volumes, depend=True)
    lock = _ended(known, force=force, seconds=seconds)
    if lock < 0:
        return  # it removed itself: --rm
    try:
        if known.about.get("name"):
            state.release_name(known.parent, known.about["name"], known.id)
        containers.remove_leftover(known.parent, known.id, known.about["maps"])
        events.remember(known.parent, "remove", known.about)
    finally:
        os.close(lock)
    if volumes and known.about.get("volumes"):
        from sandbox.life.volumes import remove_anonymous

        remove_anonymous(known.about["volumes"])


def _ended(known: state.Known, *, force: bool, seconds: float | None) -> int:
    """The locked folder of a container that is to be removed, -1 when it is gone; somebody may start it meanwhile."""
    for left in reversed(range(_TRIES)):
        if force:
            halt(known)
        elif known.status in ("running", "paused"):
            raise improper(
                "remove container", known, "running or paused containers cannot be removed without force",
                f"`sbx stop {known.name}` first, or --force", IMPROPER,
            )  # fmt: skip
        if known.lives and force:
            if seconds:
                stop(known, seconds)
            else:
                _kill(known)
        try:
            return locked(known, "remove container")
        except SandboxError:
            known = state.Known(known.parent, known.id)
            if not left or not known.about:
                raise
    return -1


def replace(name: str) -> None:
    """Remove the container that has `name`, if there is one."""
    try:
        known = find(name)
    except SandboxError:
        return
    if known.about.get("name") == name:
        remove(known, force=True)


def _kill(known: state.Known) -> None:
    halt(known)
    waiting = Waiting(known)
    _sent(known, SIGKILL)
    waiting.over(_PATIENCE)


def locked(known: state.Known, step: str) -> int:
    """The locked folder of a container that has ended; -1 when it is gone.  Others hold the lock for instants only."""
    deadline = time.monotonic() + _PATIENCE
    try:
        fd = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            now = state.Known(known.parent, known.id)
            if now.status in ("running", "paused") or time.monotonic() > deadline:
                os.close(fd)
                raise SandboxError(step, known.name, detail=f"it is {now.status}, or another command has it") from None
            time.sleep(0.005)
            continue
        if os.path.isdir(known.directory):
            return fd
        os.close(fd)
        return -1
