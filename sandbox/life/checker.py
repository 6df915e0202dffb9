"""Who checks a container's health by the clock: a process of its own beside the keeper, for one start of it.  (cold)

    run, start  --> begin: a child of nobody, only where there is a health check with an interval
                    checks at once, as podman has it, and then after each interval, until the container has ended
                    does what --health-on-failure says once it is unhealthy

The next start begins another one.
"""

import os
import signal
from collections.abc import Callable

from sandbox import linux, state
from sandbox.errors import SandboxError
from sandbox.life import ending, health


def beside(function: Callable[[], None]) -> None:
    """`function()` in a process that has nothing of ours: no parent, terminal, descriptors, signals."""
    if os.fork():
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        linux.close_range(3)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.chdir("/")
        function()
    finally:
        os._exit(0)


def begin(directory: str) -> None:
    """Check the container in `directory` from now on until it ends."""
    beside(lambda: _watch(directory))


def _watch(directory: str) -> None:
    parent, _, id_ = directory.rpartition("/")
    known = state.Known(parent, id_)
    try:
        waiting = ending.Waiting(known)
        while not _over(known):
            try:
                _, record = health.check(known)
            except SandboxError:
                record = {}  # paused, or it ends just now
            if record.get("status") == health.UNHEALTHY and known.about["healthcheck"]["action"] != "none":
                health.act(known)
                return
            if waiting.over(known.about["healthcheck"]["interval"]):
                return
            known = state.Known(parent, id_)
    except (SandboxError, OSError):
        pass  # its folder has gone, or it was killed


def _over(known: state.Known) -> bool:
    return not known.lives or not known.about.get("healthcheck")
