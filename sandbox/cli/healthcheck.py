"""`sbx healthcheck run`: the image's health check, in a running container.  (cold)"""

from typing import Any

from sandbox import exec as execute
from sandbox.errors import SandboxError
from sandbox.life.chosen import find
from sandbox.options import find as find_verb

_UNHEALTHY = 1


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """0 when it says that all is well, 1 when not; what it prints is ours."""
    known = find(operands[1])
    test = [str(word) for word in known.about.get("healthcheck", ())]
    if not test or test[0] == "NONE":
        raise SandboxError("check health of", known.name, detail="its image has no HEALTHCHECK")
    shell = ["/bin/sh", "-c"] if test[0] == "CMD-SHELL" else []
    command = [*shell, *(test[1:] if test[0] in ("CMD", "CMD-SHELL") else test)]
    verb = find_verb("exec")
    assert verb is not None
    given = {option.dest: option.blank() for option in verb.options}
    return _UNHEALTHY if execute.main(given, [known.id, *command]) else 0
