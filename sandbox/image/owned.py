"""Folders whose files belong to subordinate ids: given to their root, and emptied by it.  (cold)"""

import errno
import os
from collections.abc import Callable
from typing import Any

from sandbox import idmap, trees, userns
from sandbox.errors import SandboxError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _host_id(entries: list[tuple[int, int, int]], inside: int) -> int:
    for first, outside, count in entries:
        if first <= inside < first + count:
            return outside + inside - first
    raise SandboxError(
        "map ids", str(inside), detail="this id is not mapped", hint="map id 0 with --uidmap and --gidmap"
    )


def _inside_id(entries: list[tuple[int, int, int]], host: int) -> int:
    for first, outside, count in entries:
        if outside <= host < outside + count:
            return first + host - outside
    raise SandboxError(
        "map ids", str(host), detail="this id is not one of yours", hint="see /etc/subuid and /etc/subgid"
    )


def give_to_root_of(fs: int, maps: dict[str, Any]) -> None:
    """Make the map's root the owner of the empty folder: only then has it any right there."""
    uid, gid = _host_id(maps["uid"], 0), _host_id(maps["gid"], 0)
    now = os.fstat(fs)
    if (uid, gid) == (now.st_uid, now.st_gid):
        return
    if os.geteuid() == 0:
        os.fchown(fs, uid, gid)
        return
    ordinary = idmap.resolve()
    inside = _inside_id(ordinary["uid"], uid), _inside_id(ordinary["gid"], gid)
    userns.call(ordinary, lambda: os.fchown(fs, *inside))


def _as_owner(function: Callable[[], None]) -> None:
    """Run `function` where files of all the caller's subordinate ids can be removed."""
    if os.geteuid() == 0:
        function()
    else:
        userns.call(idmap.resolve(), function)


def _clear(fd: int) -> None:
    for name in os.listdir(fd):
        trees.remove(name, fd)


def empty(fd: int) -> None:
    """Empty a layer's outer folder, by descriptor.  Its `fs` may belong to a subordinate id, as may all in it."""
    for name in os.listdir(fd):
        clear_folder(fd, name)


def clear_folder(fd: int, name: str) -> None:
    """Remove `name` of the caller's own folder `fd`; it may belong to a subordinate id, as may all in it."""
    try:
        inner = os.open(name, FOLDER, dir_fd=fd)
    except OSError as found:
        if found.errno in (errno.ENOTDIR, errno.ELOOP):
            os.unlink(name, dir_fd=fd)
        else:
            # Mode 0 and not ours: its owner's root can.
            _as_owner(lambda: trees.remove(name, fd))
        return
    try:
        _as_owner(lambda: _clear(inner))
    finally:
        os.close(inner)
    # The outer folder is the caller's, so the caller may remove what is in it.
    os.rmdir(name, dir_fd=fd)
