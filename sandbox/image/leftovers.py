"""Ended containers: found and removed.  (cold)"""

import fcntl
import os

from sandbox import containers, state
from sandbox.errors import SandboxError, report
from sandbox.image.layout import try_lock


def ended(root: str) -> list[state.Known]:
    """Containers on disk whose cli and keeper are gone."""
    parent = f"{root}/containers"
    try:
        names = [name for name in os.listdir(parent) if name[:1] != "."]
    except FileNotFoundError:
        return []
    return [known for known in (state.Known(parent, name) for name in names) if not known.lives]


def remove(known: state.Known, maps: "dict[str, object]") -> int:
    """Remove an ended container, under its lock; the exit status of that."""
    try:
        fd = os.open(known.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        if not try_lock(fd, fcntl.LOCK_EX):
            return 0  # started meanwhile
        if known.about.get("name"):
            state.release_name(known.parent, known.about["name"], known.id)
        containers.remove_leftover(known.parent, known.id, known.about.get("maps") or maps)
    except SandboxError as error:
        return report(error)
    finally:
        os.close(fd)
    return 0
