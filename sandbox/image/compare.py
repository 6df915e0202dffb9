"""Whether two folders hold the same: names, kinds, owners, modes, times, extended attributes, links, bytes.  (cold)"""

import os
import stat

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 18


def difference(one: int, other: int) -> str:
    """The first thing in which the open folder `one` is not as `other` is, as "PATH: WHAT"; "" when there is none.

    Run as root of the user namespace whose ids the files have.
    """
    links: dict[tuple[int, int], tuple[int, int]] = {}
    waiting = ["."]  # no recursion and no descriptor for each level: trees may be deep
    while waiting:
        path = waiting.pop()
        fds = [os.open(path, _FOLDER, dir_fd=one)]
        try:
            fds.append(os.open(path, _FOLDER, dir_fd=other))
            found, below = _folders(fds[0], fds[1], path, links)
        finally:
            for fd in fds:
                os.close(fd)
        if found:
            return found
        waiting += below
    return ""


def _folders(one: int, other: int, path: str, links: dict[tuple[int, int], tuple[int, int]]) -> tuple[str, list[str]]:
    """(the first difference in what lies in two folders, paths of the folders in both)."""
    if found := _attributes(f"/proc/self/fd/{one}/.", f"/proc/self/fd/{other}/.", path, links):
        return found, []
    names, wanted = set(os.listdir(one)), set(os.listdir(other))
    if names != wanted:
        name = min(names ^ wanted)
        return f"{path}/{name}: {'is missing' if name in wanted else 'does not belong there'}", []
    below = []
    for name in sorted(names):
        inner = f"{path}/{name}"
        both = (os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode for fd in (one, other))
        if all(map(stat.S_ISDIR, both)):
            below.append(inner)
        elif found := _attributes(f"/proc/self/fd/{one}/{name}", f"/proc/self/fd/{other}/{name}", inner, links):
            return found, []
    return "", below[::-1]


def _attributes(one: str, other: str, path: str, links: dict[tuple[int, int], tuple[int, int]]) -> str:
    a, b = os.stat(one, follow_symlinks=False), os.stat(other, follow_symlinks=False)
    if a.st_mode != b.st_mode:
        return f"{path}: mode {a.st_mode:o}, not {b.st_mode:o}"
    if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
        return f"{path}: belongs to {a.st_uid}:{a.st_gid}, not {b.st_uid}:{b.st_gid}"
    whiteout = stat.S_ISCHR(a.st_mode) and a.st_rdev == 0  # nothing but its name counts
    if path != "." and not whiteout and a.st_mtime_ns != b.st_mtime_ns:
        return f"{path}: another time"
    if a.st_rdev != b.st_rdev:
        return f"{path}: another device"
    if not stat.S_ISDIR(a.st_mode):
        if a.st_size != b.st_size:
            return f"{path}: {a.st_size} bytes, not {b.st_size}"
        if links.setdefault((a.st_dev, a.st_ino), (b.st_dev, b.st_ino)) != (b.st_dev, b.st_ino):
            return f"{path}: linked to another file"
    if stat.S_ISLNK(a.st_mode):
        return "" if os.readlink(one) == os.readlink(other) else f"{path}: another link"
    if _extended(one) != _extended(other):
        return f"{path}: other extended attributes"
    if stat.S_ISREG(a.st_mode) and not _same_bytes(one, other):
        return f"{path}: other content"
    return ""


def _extended(path: str) -> dict[str, bytes]:
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


def _same_bytes(one: str, other: str) -> bool:
    with open(one, "rb") as a, open(other, "rb") as b:
        while True:
            piece = a.read(_PIECE)
            if piece != b.read(_PIECE):
                return False
            if not piece:
                return True
