"""Credential helpers: docker-credential-NAME programs that keep secrets in a key ring.  (cold)

Protocol: github.com/docker/docker-credential-helpers; what is given goes to stdin, so it shows in no process list.
"""

import re

from sandbox.errors import EINVAL, SandboxError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
SECONDS = 60
_STEP = "run credential helper"


def ask(name: str, verb: str, given: str) -> str | None:
    """Ask docker-credential-NAME; its answer, None when it does not know the server.  SandboxError when it fails."""
    if not _NAME.match(name):
        raise SandboxError(_STEP, name, EINVAL, detail="not the name of a helper")
    import subprocess  # rarely wanted, and slow to import

    program = f"docker-credential-{name}"
    try:
        done = subprocess.run([program, verb], input=given.encode(), capture_output=True, timeout=SECONDS)
    except OSError as error:
        raise SandboxError.of(
            _STEP, program, error, "install it, or remove it from credHelpers and credsStore"
        ) from None
    except subprocess.TimeoutExpired:
        raise SandboxError(_STEP, program, detail=f"no answer in {SECONDS} s") from None
    out = done.stdout[: 1 << 20].decode("utf-8", "replace").strip()
    if done.returncode == 0:
        return out
    if "credentials not found" in out or (not out and verb == "erase"):
        return None
    # What it says of a failure is for people; when it was asked for a secret, its output could still be one.
    said = out.splitlines()[0][:200] if out and "Secret" not in out else f"exit status {done.returncode}"
    raise SandboxError(_STEP, program, detail=said)
