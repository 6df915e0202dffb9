"""A container's root file system, running or not, for commands that read or change its files.  (cold)

    running    /proc/PID/root of its command, opened here: what is mounted in it shows, as podman has it
    stopped    its layers and its upper layer put together once more, in a mount namespace of our own

Either way the work is done as root of a user namespace with the container's id map, on descriptors: no name is looked up
outside of them.
"""

import fcntl
import os
from collections.abc import Callable
from typing import Any

from sandbox import copy_root, linux, overlay, paths, state, userns
from sandbox.errors import EINVAL, SandboxError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def spec_of(known: state.Known) -> tuple[dict[str, Any], bytes]:
    """(spec, filter) that the container was made with; SandboxError when it was not kept."""
    record = state.read(known.directory, "spec")
    if not isinstance(record, tuple) or len(record) != 2:
        raise SandboxError(
            "read container", known.name, EINVAL, detail="a container without a name that is removed at its end has no spec",
            hint="give it a --name",
        )  # fmt: skip
    return record


def layers_of(spec: dict[str, Any]) -> list[str]:
    """Folders of its layers, bottom first."""
    return [path for path in spec["annotations"].get("dev.sbx.layers", "").split("\n") if path]


def within(known: state.Known, function: Callable[[int], Any], *, change: bool) -> Any:
    """`function(root)` with a descriptor of the container's root, in a child; its result is of marshal's types.

    `change`: the function writes.  A stopped container is locked meanwhile, so that nobody starts or removes it.
    """
    if known.status in ("running", "paused"):
        return _in_running(known, function)
    return _in_stopped(known, function, change=change)


def _in_running(known: state.Known, function: Callable[[int], Any]) -> Any:
    pid = known.state["pid"]
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("open root of container", known.name, error) from None
    try:
        # The number may have become another process's: our container still lives, so it has not.
        if not state.Known(known.parent, known.id).lives:
            raise SandboxError("open root of container", known.name, detail="it has just ended")
        return userns.call(known.about["maps"], lambda: function(root))
    finally:
        os.close(root)


def _in_stopped(known: state.Known, function: Callable[[int], Any], *, change: bool) -> Any:
    spec, _ = spec_of(known)
    driver = spec["annotations"].get("dev.sbx.storage", "")
    lock = os.open(known.directory, _FOLDER | os.O_NOFOLLOW)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened: list[int] = []
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SandboxError("open root of container", known.name, detail="it is being started or removed") from None
        for path in layers_of(spec):
            folder = os.open(path, _FOLDER)
            if path.startswith(paths.store() + "/layers/"):
                fcntl.flock(folder, fcntl.LOCK_SH)
            opened.append(folder)
        # The folder comes along into the namespace, whose root may not be able to walk there.
        os.chdir(known.directory)
        return userns.call(known.about["maps"], lambda: function(_merged(driver, opened, change=change)))
    except OSError as error:
        raise SandboxError.of("open root of container", known.name, error) from None
    finally:
        os.fchdir(here)
        for fd in (here, lock, *opened):
            os.close(fd)


def _merged(driver: str, layers: list[int], *, change: bool) -> int:
    """In the child: the layers under the container's own upper layer, which is the working directory's `upper`."""
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    if driver == "copy":
        return copy_root.mount(layers, "upper")
    if driver not in ("overlay", "fuse-overlayfs"):
        raise SandboxError("open root of container", driver, detail="its root is the host's own")
    if not os.path.isdir("upper") and not change:
        os.mkdir("upper", 0o755)
    for name in ("work", "root"):
        if not os.path.isdir(name):
            os.mkdir(name, 0o700)
    os.rmdir("work")
    return overlay.mount(layers, "upper", "work", volatile=False)
