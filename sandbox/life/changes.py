"""What a container has changed: added, changed and deleted paths, from its upper layer or by comparing.  (cold)

Both run as root of a user namespace with the container's ids.
"""

import os
import stat
from typing import Any

from sandbox import state
from sandbox.life import root
from sandbox.life.tarwriter import TarWriter, reopened

ADDED, CHANGED, DELETED = "A", "C", "D"
Change = tuple[str, str]
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque")
_OPAQUE_FILE, _WHITEOUT = ".wh..wh..opq", ".wh."
# Made as mount points, wherever an image lacks them.
_MOUNTED = ("/dev", "/proc", "/sys", "/run/.containerenv", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


def of(known: state.Known) -> list[Change]:
    """(A, C or D, path) of everything that is not as in the image, a folder before what is in it."""
    spec, _ = root.spec_of(known)
    whole = spec["annotations"]["dev.sbx.storage"] == "copy"
    hidden = _hidden(spec)
    found = root.beneath(known, lambda lower, upper: _found(lower, upper, hidden, whole=whole))
    return [(kind, path) for kind, path in found]


def write_layer(known: state.Known, out: int) -> None:
    """The changes as a tar of a layer, with whiteouts, to the descriptor `out`."""
    spec, _ = root.spec_of(known)
    whole = spec["annotations"]["dev.sbx.storage"] == "copy"
    hidden = _hidden(spec)

    def write(lower: int, upper: int) -> None:
        with TarWriter(out) as writer:
            for kind, path in _found(lower, upper, hidden, whole=whole):
                folder, _, name = path.strip("/").rpartition("/")
                if kind == DELETED:
                    writer.whiteout(path)
                    continue
                inner = reopened(upper, folder)
                try:
                    writer.one(inner, name, path.strip("/"))
                finally:
                    os.close(inner)

    root.beneath(known, write)


def write_whole(known: state.Known, out: int) -> None:
    """All files as a tar of a single layer; folders on which something is mounted are empty, and such files left out."""
    mounted = root.mounted(known)

    class Writer(TarWriter):
        def one(self, folder: int, name: str, path: str) -> bool:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return (f"/{path}" not in mounted or stat.S_ISDIR(status.st_mode)) and super().one(folder, name, path)

    def write(folder: int) -> None:
        top = os.open(".", _FOLDER, dir_fd=folder)
        with Writer(out) as writer:
            for name in sorted(os.listdir(top)):
                writer.tree(top, name, name, skip=lambda inner: f"/{inner}" in mounted)

    root.within(known, write)


def _hidden(spec: dict[str, Any]) -> frozenset[str]:
    return frozenset([*_MOUNTED, *(entry["destination"].rstrip("/") for entry in spec["mounts"])])


def _found(lower: int, upper: int, hidden: frozenset[str], *, whole: bool) -> list[Change]:
    found: list[Change] = []
    (_compare if whole else _walk)(lower, os.dup(upper), "", found, hidden)
    return found


def _opened(folder: int, name: str) -> int:
    """A folder in `folder` (-1: there is none); -1 when it is none."""
    if folder < 0:
        return -1
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        return -1


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder)) if folder >= 0 else []


def _walk(lower: int, upper: int, path: str, found: list[Change], hidden: frozenset[str]) -> None:
    """An upper layer: what is in it, is added or changed; whiteouts and opaque folders say what is gone."""
    before, names = set(_names(lower)), _names(upper)
    opaque = _OPAQUE_FILE in names or any(_is_set(upper, attribute) for attribute in _OPAQUE)
    for name in names:
        inner = f"{path}/{name}"
        if name == _OPAQUE_FILE or inner in hidden:
            continue
        status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        gone = name.removeprefix(_WHITEOUT) if name.startswith(_WHITEOUT) else ""
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            gone = name
        if gone:
            if gone in before:
                found.append((DELETED, f"{path}/{gone}"))
            continue
        position = len(found)
        if stat.S_ISDIR(status.st_mode):
            _into(_walk, lower, upper, name, path, found, hidden)
            if name in before and len(found) == position and _same(lower, upper, name):
                continue  # it is there for a mount point in it
        found.insert(position, (CHANGED if name in before else ADDED, inner))
    if opaque:
        found += [(DELETED, f"{path}/{name}") for name in sorted(before - set(names)) if f"{path}/{name}" not in hidden]


def _is_set(folder: int, attribute: str) -> bool:
    try:
        return os.getxattr(folder, attribute) == b"y"
    except OSError:
        return False


def _compare(lower: int, upper: int, path: str, found: list[Change], hidden: frozenset[str]) -> None:
    """Two whole trees."""
    before, names = set(_names(lower)), _names(upper)
    for name in names:
        inner = f"{path}/{name}"
        if inner in hidden:
            continue
        status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        position = len(found)
        if stat.S_ISDIR(status.st_mode):
            _into(_compare, lower, upper, name, path, found, hidden)
        if name not in before:
            found.insert(position, (ADDED, inner))
        elif len(found) > position or not _same(lower, upper, name):
            found.insert(position, (CHANGED, inner))
    found += [(DELETED, f"{path}/{name}") for name in sorted(before - set(names)) if f"{path}/{name}" not in hidden]


def _same(lower: int, upper: int, name: str) -> bool:
    """Whether both have the same there, as far as can be told without reading files."""

    def facts(folder: int) -> tuple[object, ...]:
        s = os.stat(name, dir_fd=folder, follow_symlinks=False)
        about: tuple[object, ...] = (s.st_mode, s.st_uid, s.st_gid, s.st_rdev)
        if stat.S_ISLNK(s.st_mode):
            return (*about, os.readlink(name, dir_fd=folder))
        return about if stat.S_ISDIR(s.st_mode) else (*about, s.st_size, s.st_mtime_ns)

    return facts(lower) == facts(upper)


def _into(walk: Any, lower: int, upper: int, name: str, path: str, found: list[Change], hidden: frozenset[str]) -> None:
    one, other = _opened(lower, name), os.open(name, _FOLDER, dir_fd=upper)
    try:
        walk(one, other, f"{path}/{name}", found, hidden)
    finally:
        for fd in (one, other):
            if fd >= 0:
                os.close(fd)
