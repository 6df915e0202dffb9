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

from sandbox import copy_root, fuse_overlay, linux, overlay, state, trees, userns
from sandbox.errors import EINVAL, SandboxError
from sandbox.life import ending
from sandbox.results import in_child

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


def mounted(known: state.Known) -> frozenset[str]:
    """Where something is mounted in the root of a running container, as its init sees it; empty when it is stopped."""
    if known.status not in ("running", "paused"):
        return frozenset()
    try:
        with open(f"/proc/{known.state['pid']}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = [line.split(" ")[4] for line in file]
    except OSError as error:
        raise SandboxError.of("read mounts of container", known.name, error) from None
    decoded = (point.encode("utf-8", "surrogateescape").decode("unicode_escape") for point in points)
    return frozenset(point for point in decoded if point != "/")


def within(known: state.Known, function: Callable[[int], Any]) -> Any:
    """`function(root)` with a descriptor of the container's root, in a child; its result is of marshal's types.

    A stopped container is locked meanwhile, so that nobody starts or removes it.
    """
    if known.status in ("running", "paused"):
        return _in_running(known, function)
    return _in_stopped(known, function)


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
        return _joined(known, lambda: function(root))
    finally:
        os.close(root)


def _joined(known: state.Known, function: Callable[[], Any]) -> Any:
    """`function()` in a child that is root of the container's own user namespace; of the others it enters none.

    Its processes do not see it: they have a pid namespace of their own.
    """
    try:
        namespace = os.open(f"/proc/{known.state['pid']}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("open root of container", known.name, error) from None

    def join() -> Any:
        try:
            linux.setns(namespace, linux.CLONE_NEWUSER)
        except OSError as error:
            raise SandboxError.of("enter user namespace of container", known.name, error) from None
        userns.become_root(groups=known.about["maps"]["mode"] != "single")
        linux.prctl(linux.PR_SET_PDEATHSIG, 9)
        return function()

    try:
        return in_child(join)
    finally:
        os.close(namespace)


def _in_stopped(known: state.Known, function: Callable[[int], Any]) -> Any:
    lock = ending.locked(known, "open root of container")
    if lock < 0:
        raise SandboxError("open root of container", known.name, detail="it has been removed meanwhile")
    try:
        return _beside(known, lambda driver, layers: function(_merged(driver, layers)))
    finally:
        os.close(lock)


def beneath(known: state.Known, function: Callable[[int, int], Any]) -> Any:
    """`function(what the image has, what the container has made of it)`, folders, in a child, whether it runs or not.

    The second is the upper layer in the form of an overlay, or with the driver `copy` the whole root.
    """

    def look(driver: str, layers: list[int]) -> Any:
        scratch = f".look-{os.getpid()}"
        if not os.path.isdir("upper"):
            os.mkdir("upper", 0o755)  # it was never started
        upper = os.open("upper", _FOLDER | os.O_NOFOLLOW)
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        if len(layers) == 1:
            return function(layers[0], upper)
        os.mkdir(scratch, 0o700)
        try:
            merged = overlay.mount(layers, f"{scratch}/upper", f"{scratch}/work")
            return function(os.open(".", _FOLDER, dir_fd=merged), upper)
        finally:
            trees.remove(scratch, os.open(".", _FOLDER))

    return _beside(known, look)


def _beside(known: state.Known, function: Callable[[str, list[int]], Any]) -> Any:
    """`function(storage driver, open layers)` in a child with the container's ids, whose working directory is its folder."""
    spec, _ = spec_of(known)
    driver = spec["annotations"].get("dev.sbx.storage", "")
    if driver not in ("overlay", "fuse-overlayfs", "copy"):
        raise SandboxError("open root of container", known.name, detail="its root is the host's own")
    opened: list[int] = []

    def open_all() -> None:
        # As the caller, whom the folders let in, and in the namespace of the mounts that are made of them.
        try:
            os.chdir(known.directory)
            for path in layers_of(spec):
                if path.endswith("/fs"):  # a layer of a store: its folder is locked, so that it is not removed
                    lock = os.open(path.removesuffix("/fs"), _FOLDER)
                    fcntl.flock(lock, fcntl.LOCK_SH)
                opened.append(os.open(path, _FOLDER))
        except OSError as error:
            raise SandboxError.of("open root of container", known.name, error) from None

    return userns.call(known.about["maps"], lambda: function(driver, opened), open_all)


def _merged(driver: str, layers: list[int]) -> int:
    """In the child: the layers under the container's own upper layer, which is the working directory's `upper`."""
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    if driver == "copy":
        return copy_root.mount(layers, "upper")
    if not os.path.isdir("root"):
        os.mkdir("root", 0o700)
    if driver == "fuse-overlayfs":
        return fuse_overlay.mount(layers, "upper", "work")  # its process ends with the mount, when we do
    return overlay.mount(layers, "upper", "work", volatile=False)
