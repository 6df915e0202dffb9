"""What is left of containers and volumes: found, and ended containers removed.  (cold)"""

import fcntl
import os

from sandbox import containers, state
from sandbox.errors import SandboxError, report
from sandbox.image.layout import idle, try_lock


def ended(root: str) -> list[state.Known]:
    """Containers on disk whose cli and keeper are gone."""
    parent = f"{root}/containers"
    try:
        names = [name for name in os.listdir(parent) if name[:1] != "."]
    except FileNotFoundError:
        return []
    return [known for known in (state.Known(parent, name) for name in names) if not known.lives]


def volumes(root: str) -> list[tuple[str, str, str]]:
    """(kind, name, why) of what `system check` has to say about volumes, kinds as there.

    Removing what is left is for `life/volumes.py`; what is broken may be somebody's only copy, and is never removed.
    """
    parent = f"{root}/volumes"
    found = []
    try:
        names = sorted(os.listdir(parent))
    except FileNotFoundError:
        return []
    for name in names:
        path = f"{parent}/{name}"
        if name.startswith("."):
            if ownerless(path):
                found.append(("left", name, "its maker or remover was killed"))
            continue
        about = state.read(path, "about")
        if not about:
            found.append(("broken", name, f"it has no record; its files, if any, are in {path}"))
        elif not os.path.isdir(f"{path}/data"):
            found.append(("broken", name, "its folder `data` is missing"))
        elif about.get("anonymous") and about.get("auto") and ownerless(path):
            container = str(about.get("container", ""))
            if not os.path.isdir(f"{root}/containers/{container}"):
                found.append(("left", name, f"container {container[:12]} is gone, and it was for that one only"))
    return found


def ownerless(path: str) -> bool:
    """Whether nobody holds a lock on a file or folder."""
    with idle(path) as alone:
        return alone


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
