"""`sbx healthcheck run`: the health check of a container, once, in it.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError
from sandbox.life import health
from sandbox.life.chosen import find

_UNHEALTHY = 1


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """0 when it says that all is well, 1 when not; noted as a check by the clock is."""
    known = find(operands[0])
    if not known.about.get("healthcheck"):
        raise SandboxError("check health of", known.name, detail="it has no health check",
                           hint="run --health-cmd COMMAND, or HEALTHCHECK of an image")  # fmt: skip
    if known.status != "running":
        raise SandboxError("check health of", known.name, detail=f"it is {known.status}")
    said, record = health.check(known)
    if said == health.HEALTHY:
        return 0
    print(said)
    if record["status"] == health.UNHEALTHY:
        health.act(known)
    return _UNHEALTHY
