"""Which way to put a root file system together works here; tried once, remembered per store and kernel.  (launch, hot)"""

import os

from sandbox import cache, paths, trees, userns
from sandbox.errors import EDQUOT, ENOSPC, SandboxError, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DRIVERS = ("overlay", "fuse-overlayfs", "copy")


def choose(store: str, maps: "dict[str, Any]", forced: str = "") -> str:
    """The driver for containers in `store`: `forced`, or the first of DRIVERS that works."""
    if forced:
        if forced not in DRIVERS:
            raise SandboxError(
                "choose storage driver", forced, detail="no such driver", hint="one of " + ", ".join(DRIVERS)
            )
        return forced
    release = os.uname().release
    key = f"storage|{release}|{store}"
    known = cache.get(paths.cache() + "/host", key)
    if isinstance(known, str):
        return known
    driver, reason = _probe(store, maps)
    if reason:
        tell(f"kernel overlay does not work in `{store}` ({reason}): using {driver}")
    cache.put(paths.cache() + "/host", key, driver)
    return driver


def _probe(store: str, maps: "dict[str, Any]") -> tuple[str, str]:
    """(driver, why not the kernel's overlay): a real mount in a folder of the store, written to, and removed.

    Only the overlay's own failure is an answer; that the namespace or its id map can not be had is an error.
    """
    from sandbox import overlay  # noqa: F401 - see _try_overlay

    paths.private_directory(store)
    name = f".probe-{os.getpid()}"
    try:
        os.mkdir(f"{store}/{name}", 0o700)
        os.chmod(f"{store}/{name}", 0o1777)
    except OSError as error:
        raise SandboxError.of(
            "make directory", f"{store}/{name}", error, "set SBX_STORE to a directory that you can write"
        ) from None
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The working directory comes along into the namespace, whose root may not be able to walk there.
        os.chdir(f"{store}/{name}")
        reason = str(userns.call(maps, _try_overlay))
    finally:
        os.fchdir(here)
        os.close(here)
        folder = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        trees.remove(name, folder)
        os.close(folder)
    if not reason:
        return "overlay", ""
    if userns.find("fuse-overlayfs") and os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "fuse-overlayfs", reason
    return "copy", reason


def _try_overlay() -> str:
    """Why an overlay can not be mounted and written to; "" when it can."""
    from sandbox import overlay  # which `_probe` has loaded, while it could be read

    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.mkdir("lower", 0o755)
        os.mkdir("root", 0o700)
        with open("lower/file", "w", encoding="utf-8") as file:
            file.write("lower")
        lower = os.open("lower", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        merged = overlay.mount([lower], "upper", "work")
        with open(f"/proc/self/fd/{merged}/file", "a", encoding="utf-8") as file:
            file.write("copied up")
        os.unlink(f"/proc/self/fd/{merged}/file")  # leaves a whiteout
        os.close(merged)
        return ""
    except (SandboxError, OSError) as error:
        if error.errno in (ENOSPC, EDQUOT):  # no answer: it would be remembered when there is room again
            raise SandboxError("try overlay in the store", "", error.errno, hint="free some space") from None
        return str(error)
    finally:
        for name in os.listdir(here):
            trees.remove(name, here)
