"""What happens to containers, images and volumes, noted in one file beside them by who does it; `sbx events` reads it.  (launch, hot)

    containers/.events      one line for each: nanoseconds, what, id, name, image, then KEY=VALUE, labels as @KEY=VALUE;
                            separated by tabs; of others `image:pull`, `volume:create`, with their id or name
    containers/.events.1    the older ones, once there are too many

A keeper may have other ids than the caller, so it opens the file early and keeps it: room is made in place, by a copy.
Who writes holds a shared lock for that long, who makes room an exclusive one.  A note that a full disk does not take is
dropped; nothing fails for want of it.  Throw-away containers leave none.
"""

import fcntl
import os
import time

from sandbox import paths, state
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

PATH: "Final" = ".events"
OLDER: "Final" = ".events.1"
MOST: "Final" = 4 << 20  # bytes


def open_log(parent: str) -> int:
    """A descriptor of the file in the folder of all containers; -1 when it can not be had."""
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(f"{parent}/{PATH}", flags, 0o600)
    except OSError:
        return -1


def note(fd: int, what: str, about: "dict[str, Any]", more: "dict[str, Any] | None" = None) -> None:
    """Note that `what` (create, start, died ...) has happened to the container that `about` describes."""
    if fd < 0 or not about.get("id") or not about.get("log"):
        return
    fields = [
        time.time_ns(),
        what,
        about["id"],
        about.get("name") or state.made_up_name(about["id"]),
        about.get("image", ""),
    ]
    fields += [f"{key}={value}" for key, value in (more or {}).items()]
    fields += [f"@{key}={value}" for key, value in about.get("labels", {}).items()]
    _append(fd, fields)


def _append(fd: int, fields: "list[Any]") -> None:
    line = "\t".join(_plain(str(field)) for field in fields)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        # The newline in front ends what a full disk has cut off.
        os.write(fd, f"\n{line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def remember(parent: str, what: str, about: "dict[str, Any]", more: "dict[str, Any] | None" = None) -> None:
    """As `note`, by a command that comes and goes; makes room when there are too many."""
    if not about.get("log"):
        return
    fd = open_log(parent)
    if fd >= 0:
        note(fd, what, about, more)
        if os.fstat(fd).st_size > MOST:
            _make_room(fd, parent)
        os.close(fd)


def remember_other(kind: str, what: str, id_: str, name: str) -> None:
    """Note that `what` has happened to an image or a volume: by a command, as `remember`."""
    parent = f"{paths.store()}/containers"
    try:
        paths.private_directory(parent)
    except SandboxError:
        return
    fd = open_log(parent)
    if fd >= 0:
        _append(fd, [time.time_ns(), f"{kind}:{what}", id_.removeprefix("sha256:"), name, ""])
        os.close(fd)


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _make_room(fd: int, parent: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # somebody else does, or the next one will
    try:
        size = os.fstat(fd).st_size
        if size <= MOST:
            return
        fresh = f"{parent}/{OLDER}.{os.getpid()}"
        with open(fresh, "wb") as file:
            file.write(os.pread(fd, size, 0))
        os.rename(fresh, f"{parent}/{OLDER}")
        os.ftruncate(fd, 0)
    except OSError:
        pass
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)
