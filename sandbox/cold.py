"""The one door from hot code to cold code: run a function of a cold module in a forked child.  (core, hot)

Reading TOML, compiling a filter or unpacking an image may import what it likes; doing it in a child keeps that out of
the process that waits for the payload (memory) and out of the hot path's imports (time).  Names are strings, so no hot
module imports a cold one.
"""

import gc
import os
import sys
import time

from sandbox.results import receive_result, send_result

_GRACE = 200  # looks, a hundredth of a second apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def site_packages() -> None:
    """Switch site-packages on after a start with -S, which the launcher uses to save 2 ms, and the collector."""
    gc.freeze()  # what is there stays
    gc.enable()
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()


def call(target: str, *args: "Any") -> "Any":
    """`module:function` applied to `args`, in a child; arguments and result are of marshal's types.

    A SandboxError there is raised here again.
    """
    read, write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            send_result(write, lambda: _load(target)(*args))
            code = 0
        finally:
            try:
                sys.stdout.flush()
            finally:
                os._exit(code)
    os.close(write)
    try:
        return receive_result(read)
    except KeyboardInterrupt:
        _end(pid)
        raise
    finally:
        os.close(read)
        os.waitpid(pid, 0)


def here(target: str, *args: "Any") -> "Any":
    """As `call`, in this process: for what leaves a process behind, which would hold the pipe of the result open."""
    return _load(target)(*args)


def _end(pid: int) -> None:
    """Interrupted: the child has mostly been told too, and cleans up; one that goes on is told by us."""
    for _ in range(_GRACE):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.01)
    os.kill(pid, 15)


def _load(target: str) -> "Any":
    import importlib

    site_packages()
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)
