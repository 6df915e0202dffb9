"""The question before something is removed that was not named.  (cold)"""

import os
import sys

from sandbox.errors import SandboxError


def sure(warning: str, verb: str, *, force: bool) -> bool:
    """Whether to go on: --force, or `y` typed on a terminal; SandboxError where nobody can be asked."""
    if force:
        return True
    if not os.isatty(0):
        raise SandboxError(
            verb, detail="standard input is no terminal, so nobody can be asked", hint=f"sbx {verb} --force"
        )
    sys.stderr.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
