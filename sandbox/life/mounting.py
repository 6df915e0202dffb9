"""The root of a stopped container mounted for the caller, inside `sbx unshare`, until that ends.  (cold)"""

import os

from sandbox import copy_root, fuse_overlay, linux, overlay, state
from sandbox.errors import EBUSY, SandboxError
from sandbox.life import ending
from sandbox.life.root import layers_of, spec_of

_POINT = "merged"


def _inside(step: str, name: str) -> None:
    if os.environ.get("_SBX_UNSHARE") != "1":
        raise SandboxError(
            step, name, detail="it takes a user namespace with a mount namespace", hint="sbx unshare, and there again"
        )


def mounted(known: state.Known) -> bool:
    """Whether we see its root mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split(" ")[4] == f"{known.directory}/{_POINT}" for line in file)


def mount(known: state.Known) -> str:
    """Mount it, and return where; a second time it is where it was."""
    _inside("mount container", known.name)
    path = f"{known.directory}/{_POINT}"
    if mounted(known):
        return path
    spec, _ = spec_of(known)
    driver = spec["annotations"].get("dev.sbx.storage", "")
    lock = ending.locked(known, "mount container")  # says so when it runs
    try:
        layers = [os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for layer in layers_of(spec)]
        os.chdir(known.directory)
        for name in (_POINT, "root"):
            if not os.path.isdir(name):
                os.mkdir(name, 0o700)
        if driver == "copy":
            fd = copy_root.mount(layers, "upper")
        elif driver == "fuse-overlayfs":
            fd = fuse_overlay.mount(layers, "upper", "work")
        else:
            fd = overlay.mount(layers, "upper", "work", volatile=False)
        point = os.open(_POINT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        linux.move_mount(fd, point, path)
    except OSError as error:
        raise SandboxError.of("mount container", known.name, error) from None
    finally:
        os.close(lock)
    return path


def umount(known: state.Known) -> None:
    """Take it away again; SandboxError when it is not mounted, or in use."""
    _inside("unmount container", known.name)
    if not mounted(known):
        raise SandboxError("unmount container", known.name, detail="it is not mounted here")
    try:
        linux.umount2(f"{known.directory}/{_POINT}", 0)
        os.rmdir(f"{known.directory}/{_POINT}")
    except OSError as error:
        hint = "a process has its working directory or an open file there" if error.errno == EBUSY else ""
        raise SandboxError.of("unmount container", known.name, error, hint) from None
