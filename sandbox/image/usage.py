"""How much disk the store takes, in blocks as du counts them: hard links once, folders too.  (cold)"""

import os
from typing import Any

from sandbox import idmap, userns
from sandbox.errors import SandboxError
from sandbox.image.store import Store

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512  # of st_blocks, whatever the file system's own


def _walk(top: int, seen: set[tuple[int, int]]) -> int:
    """Bytes on disk of the open folder and all in it; folders that can not be entered count themselves.

    However deep they are, there is no recursion and one descriptor: the way up is `..`, when it leads where we came from.
    """
    total = os.fstat(top).st_blocks * _BLOCK
    fd = os.dup(top)
    try:
        bytes_, below = _listed(fd, seen)
        total += bytes_
        levels = [(_identity(fd), below)]
        while levels:
            if levels[-1][1]:
                name = levels[-1][1].pop()
                try:
                    inner = os.open(name, _FOLDER, dir_fd=fd)
                except PermissionError:
                    total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * _BLOCK
                    continue
                except OSError:
                    continue  # removed or replaced meanwhile
                os.close(fd)
                fd = inner
                bytes_, below = _listed(fd, seen)
                total += os.fstat(fd).st_blocks * _BLOCK + bytes_
                levels.append((_identity(fd), below))
                continue
            levels.pop()
            if levels:
                above = os.open("..", _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = above
                if _identity(fd) != levels[-1][0]:
                    break  # a container has moved it: what is left is counted the next time
    finally:
        os.close(fd)
    return total


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _listed(fd: int, seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
    """(bytes of the files in a folder, hard links once; names of the folders in it)."""
    total = 0
    below = []
    with os.scandir(fd) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        if is_folder:
            below.append(name)
            continue
        try:
            s = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue  # removed meanwhile
        if s.st_nlink > 1 and (s.st_dev, s.st_ino) in seen:
            continue
        seen.add((s.st_dev, s.st_ino))
        total += s.st_blocks * _BLOCK
    return total, below


def sizes(paths: list[str]) -> dict[str, int]:
    """Bytes on disk of each path that is there; as root of the caller's ids, to whom all folders are open."""
    opened: dict[str, int] = {}
    for path in paths:
        try:
            opened[path] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue

    def count() -> dict[str, int]:
        seen: set[tuple[int, int]] = set()
        return {
            path: _walk(fd, seen) if os.path.isdir(f"/proc/self/fd/{fd}") else os.fstat(fd).st_blocks * _BLOCK
            for path, fd in opened.items()
        }

    try:
        if os.geteuid() == 0:
            return count()
        found: dict[str, int] = userns.call(idmap.resolve(), count)
        return found
    finally:
        for fd in opened.values():
            os.close(fd)


def whole(store: Store) -> tuple[dict[str, int], int]:
    """(bytes of each blob, layer, container and volume by path below the store, bytes of all the rest)."""
    root = store.root
    things = [f"{root}/blobs/{d.replace(':', '/')}" for d in store.layout.blobs()]
    things += [f"{root}/layers/{name}" for name in store.layers.names()]
    for folder in ("containers", "volumes"):
        try:
            things += [f"{root}/{folder}/{name}" for name in os.listdir(f"{root}/{folder}") if name[:1] != "."]
        except FileNotFoundError:
            continue
    parts = {path[len(root) + 1 :]: size for path, size in sizes(things).items()}
    return parts, sizes([root])[root] - sum(parts.values())


def per_image(store: Store, parts: dict[str, int]) -> list[dict[str, Any]]:
    """{"digest", "names", "stored", "parts"} of each image; `parts` are keys of `parts` that it needs."""
    found = []
    for stored in store.images():
        entries = [entry for entry in store.layout.raw_entries() if entry.get("digest") == stored.entry.digest][:1]
        try:
            blobs, layers = store.reachable(entries)
        except SandboxError:
            continue  # broken: `sbx system check` says so
        mine = {f"blobs/{digest.replace(':', '/')}" for digest in blobs}
        mine |= {path for path in parts if path.startswith("layers/") and path[7:].partition(".")[0] in layers}
        about = {"digest": stored.entry.digest, "names": stored.names, "stored": stored}
        found.append({**about, "parts": mine & parts.keys()})
    return found
