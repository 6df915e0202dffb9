"""Stamped cache: results that are slow to compute, kept with what they were computed from.  (core, hot)

A cached value is a marshal file next to the stamps (path, mtime, size, inode, ctime) of everything it depends on; it is
used only while each stamp still matches.  marshal, not json: importing json costs 7 ms (its `re`), marshal is built in.
The directory is the caller's own (0700), so its content is as trusted as sbx's own code there; files of others are not
read.  Deleting any file of it, at any time, only costs time.
"""

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# marshal's format and our own may change between versions: both are part of the file's name.
_LONGEST = 200
_FORMAT = f"{sys.implementation.cache_tag}-1"


def file_name(key: str) -> str:
    """A file name for `key`: readable where it can be, a hash where it would be too long (255 bytes)."""
    name = "".join(c if (c.isalnum() and c.isascii()) or c in "-_.:@" else f"%{ord(c):x}," for c in key)
    return name if len(name) <= _LONGEST else f"{name[:100]}-{short_hash(key)}"


def short_hash(text: str) -> str:
    """64-bit FNV-1a of `text`, in hex: for names, not for secrets (importing hashlib costs 3 ms)."""
    value = 0xCBF29CE484222325
    for byte in text.encode("utf-8", "surrogateescape"):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def stamp(path: str) -> tuple[str, int, int, int, int]:
    """(path, mtime ns, size, inode, ctime ns); zeros for a file that is not there, so its appearance is a change."""
    try:
        s = os.stat(path)
    except OSError:
        return (path, 0, 0, 0, 0)
    return (path, s.st_mtime_ns, s.st_size, s.st_ino, s.st_ctime_ns)


def get(directory: str, key: str) -> "Any":
    """The value stored under `key`, or None when there is none or when something it depends on has changed."""
    try:
        with open(f"{directory}/{file_name(key)}.{_FORMAT}", "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                return None  # somebody else's folder: what lies there may be anything
            stored_key, stamps, value = marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        return None
    if stored_key != key or any(stamp(s[0]) != s for s in stamps):
        return None
    return value


def put(directory: str, key: str, value: "Any", depends: "Iterable[str]" = ()) -> None:
    """Store `value` (marshal's types only) under `key`, valid while the files `depends` do not change.

    Best effort: a cache that can not be written is no error, the value is only computed again.
    """
    path = f"{directory}/{file_name(key)}.{_FORMAT}"
    temporary = f"{path}.{os.getpid()}"
    try:
        # Of both, whatever the umask: who may write to the upper one could put another in the place of the lower.
        for folder in (directory.rpartition("/")[0], directory):
            os.makedirs(folder, 0o700, exist_ok=True)
        data = marshal.dumps((key, [stamp(d) for d in depends], value))
        with open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb", buffering=0
        ) as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
