"""Which way to put a root file system together works here; tried once, remembered per store and kernel.  (launch, hot)"""

import os

from sandbox import cache, overlay, paths, trees, userns
from sandbox.errors import SandboxError, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DRIVERS = ("overlay", "fuse-overlayfs", "copy")


def choose(store: str, maps: "dict[str, Any]", forced: str = "") -> str:
    """The driver for containers in `store`: `forced`, or the first of DRIVERS that works."""
    if forced:
        if forced not in DRIVERS:
            raise SandboxError("choose storage driver", forced, detail="no such driver", hint="one of " + ", ".join(DRIVERS))
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
    """(driver, why not the kernel's overlay): a real mount in a folder of the store, written to, and removed."""
    paths.private_directory(store)
    name = f".probe-{os.getpid()}"
    os.mkdir(f"{store}/{name}", 0o700)
    os.chmod(f"{store}/{name}", 0o1777)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The working directory comes along into the namespace, whose root may not be able to walk there.
        os.chdir(f"{store}/{name}")
        userns.call(maps, _try_overlay)
        return "overlay", ""
    except SandboxError as error:
        reason = str(error)
    finally:
        os.fchdir(here)
        os.close(here)
        folder = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        trees.remove(name, folder)
        os.close(folder)
    if userns.find("fuse-overlayfs") and os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "fuse-overlayfs", reason
    return "copy", reason


def _try_overlay() -> None:
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.mkdir("lower", 0o755)
        os.mkdir("root", 0o700)
        with open("lower/file", "w", encoding="ascii") as file:
            file.write("lower")
        lower = os.open("lower", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        merged = overlay.mount([lower], "upper", "work")
        with open(f"/proc/self/fd/{merged}/file", "a", encoding="ascii") as file:
            file.write("copied up")
        os.unlink(f"/proc/self/fd/{merged}/file")  # leaves a whiteout
        os.close(merged)
    finally:
        for name in os.listdir(here):
            trees.remove(name, here)
