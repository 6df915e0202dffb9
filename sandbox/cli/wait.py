"""`sbx wait`: until containers have ended, or are in another state.  (cold)"""

import time
from typing import Any

from sandbox import state, values
from sandbox.errors import EINVAL, SandboxError, UsageError, report
from sandbox.life import ending, health
from sandbox.life.chosen import all_known, find

_ENDED = ("stopped", "exited")
_CONDITIONS = {"configured": "created"}
_WORDS = (
    "configured", "created", "initialized", "running", "paused", "stopping", *_ENDED, "removing", health.HEALTHY,
    health.UNHEALTHY,
)  # fmt: skip
_NO_STATUS = -1  # of a container that has not ended: podman's


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the exit status of each."""
    if bool(operands) == opts["latest"]:
        raise UsageError("read command line", "CONTAINER", detail="name containers, or give --latest")
    wanted = [word for text in opts["condition"] for word in text.split(",")] or [_ENDED[0]]
    for word in wanted:
        if word not in _WORDS:
            raise SandboxError("read --condition", word, EINVAL, hint=f"one of {', '.join(_WORDS)}")
    pause = _interval(opts["interval"])
    code = 0
    for word in operands or [known.id for known in all_known()[-1:]]:
        try:
            known = find(word)
            print(ending.wait(known) if set(wanted) <= set(_ENDED) else _until(known, wanted, pause), flush=True)
        except SandboxError as error:
            if opts["ignore"] and error.step == "find container":
                print(-1)
                continue
            code = report(error)
    return code


def _interval(text: str) -> float:
    """Seconds; a bare number is milliseconds, as podman has it."""
    seconds = int(text) / 1000 if text.isdecimal() and len(text) < 16 else values.seconds(text, "--interval")
    if seconds <= 0:
        raise SandboxError("read --interval", text, EINVAL, detail="it is not positive")
    return seconds


def _until(known: state.Known, wanted: list[str], pause: float) -> int:
    """Until it is in one of the states; its exit status when it has ended, else -1."""
    while True:
        if not known.about:  # removed
            if "removing" in wanted:
                return _NO_STATUS
            raise SandboxError("wait for container", known.id[:12], detail="it has been removed meanwhile")
        for word in wanted:
            if known.status == _CONDITIONS.get(word, word) or (word == "stopped" and known.status == "exited"):
                return int(known.ended.get("code", 0)) if known.status == "exited" else _NO_STATUS
            if word in (health.HEALTHY, health.UNHEALTHY) and known.lives and health.word(known) == word:
                return _NO_STATUS
        time.sleep(pause)
        known = state.Known(known.parent, known.id)
