"""`sbx unshare CMD`: a command in a user namespace like the containers', on the host's own files.  (cold)

For looking at and repairing files of subordinate ids: inside, the caller is root and owns them all.
"""

import os
import signal
from typing import Any

from sandbox import idmap, linux, userns
from sandbox.errors import EACCES, ENOENT, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_SIGNAL, SandboxError, tell


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Run `operands` (or $SHELL) as root of a new user and mount namespace; returns its exit status."""
    command = operands or [os.environ.get("SHELL") or "/bin/sh"]
    maps = idmap.resolve(opts.get("userns", ""))
    if maps["note"]:
        tell(maps["note"])
    go_read, go_write = os.pipe()
    fail_read, fail_write = os.pipe()
    pid = userns.clone(linux.CLONE_NEWNS)
    if pid == 0:
        _child(command, maps, go_read, go_write, fail_write)
    os.close(go_read)
    os.close(fail_write)
    # A terminal sends these to both of us: what they mean is the command's business.  The others come to us alone.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda n, _: _pass_on(pid, n))
    try:
        userns.write_maps(pid, maps)
        os.write(go_write, b"1")
    finally:
        os.close(go_write)
    errno = os.read(fail_read, 16)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if errno:
        code = {ENOENT: EXIT_NOT_FOUND, EACCES: EXIT_NOT_EXECUTABLE}.get(int(errno), EXIT_NOT_EXECUTABLE)
        raise SandboxError(
            "execute", command[0], int(errno), hint="the command is looked up on the host, in PATH", code=code
        )
    return status if status >= 0 else EXIT_SIGNAL - status


def _pass_on(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended, and so do we


def _child(command: list[str], maps: dict[str, Any], go_read: int, go_write: int, fail_write: int) -> None:
    """Wait for the id map, become root, exec; an errno on `fail_write` says that exec failed."""
    try:
        os.close(go_write)
        if os.read(go_read, 1):
            userns.become_root(groups=maps["mode"] != "single")
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            environment = {**os.environ, "_SBX_UNSHARE": "1"}
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and an exec would inherit that
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(command[0], command, environment)
    except OSError as error:
        os.write(fail_write, str(error.errno or 0).encode())
    finally:
        os._exit(125)
