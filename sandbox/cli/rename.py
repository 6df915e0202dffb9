"""`sbx rename`: another name for a container.  (cold)"""

from typing import Any

from sandbox import events, state
from sandbox.errors import SandboxError
from sandbox.life.chosen import find, write


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Give the container the new name, and take the old one away."""
    known = find(operands[0])
    name = operands[1]
    if name == known.about.get("name"):
        return 0
    state.take_name(known.parent, name, known.id)
    try:
        write(known, "about", {**known.about, "name": name})
    except SandboxError:
        state.release_name(known.parent, name, known.id)
        raise
    if known.about.get("name"):
        state.release_name(known.parent, known.about["name"], known.id)
    events.remember(known.parent, "rename", {**known.about, "name": name})
    return 0
