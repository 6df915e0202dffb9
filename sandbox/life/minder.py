"""Who starts a container again by its --restart policy: a process of its own beside the keeper, which ends with it.  (cold)

    run, start  --> begin: a child of nobody, one for each container (it has the lock of `minder`)
                    waits for the end; starts it again, later and later while it ends at once
                    ends when the container was stopped or killed by a command (`halted`), removed, or is done

A reboot starts nothing again: `sbx generate systemd` makes a unit for that.
"""

import contextlib
import fcntl
import os
import signal
import time

from sandbox import state
from sandbox.errors import SandboxError
from sandbox.life import ending, starting
from sandbox.life.checker import beside
from sandbox.life.chosen import write

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 60.0  # seconds
_LONG_ENOUGH = 10.0  # a command that ran so long is not one that fails at once


def begin(directory: str) -> None:
    """Mind the container in `directory` from this start of it on."""
    beside(lambda: _mind(directory))


def _mind(directory: str) -> None:
    parent, _, id_ = directory.rpartition("/")
    begun = state.Known(parent, id_).state.get("started")
    lock = os.open(f"{directory}/{ending.MINDER}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # the one of an earlier start may not have seen yet that it is done
    if state.Known(parent, id_).state.get("started") != begun:
        return
    restarts, pause = 0, _FIRST_PAUSE
    while True:
        known = state.Known(parent, id_)
        code = ending.wait(known)
        _collect()
        known = state.Known(parent, id_)
        policy, most = known.about.get("restart", ("no", 0))
        if _is_over(known, policy, most, code, restarts):
            return
        if time.time() - known.state.get("started", 0.0) > _LONG_ENOUGH:
            pause = _FIRST_PAUSE
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        known = state.Known(parent, id_)
        if _is_over(known, policy, most, code, restarts) or known.lives:
            return
        restarts += 1
        _count(known, restarts)
        try:
            starting.start(known, attached=False, stdin=False, mind=False)
        except SandboxError:
            return  # it is in its record
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # they are of this process again


def _is_over(known: state.Known, policy: str, most: int, code: int, restarts: int) -> bool:
    if not known.about or policy == "no" or os.path.exists(f"{known.directory}/{ending.HALTED}"):
        return True
    return policy == "on-failure" and (code == 0 or 0 <= most <= restarts)


def _count(known: state.Known, restarts: int) -> None:
    with contextlib.suppress(SandboxError):  # a full disk is no reason not to start it
        write(known, "about", {**known.about, "restarts": restarts})


def _collect() -> None:
    """Keepers that we have started are our children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
