"""`--explain`: which files a command could not change because they are read-only.  (launch, hot where the spec asks for it)

The filter tells of each call that makes, changes or removes a file, and of each open for writing (filters.py).  We look at
where its path leads and let it go on as if nobody had asked: what is read from memory goes into the record and nowhere else.
"""

import os

from sandbox import filters, linux, refusals
from sandbox.errors import EROFS
from sandbox.observe_calls import CHANGES, FOLLOWED
from sandbox.observe_tasks import Tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.observe_tasks import Where

_OPENS = {"open": (-1, 0), "openat": (0, 1), "openat2": (0, 1), "creat": (-1, 0)}
_MAKING = ("mkdir", "mkdirat", "symlink", "symlinkat", "mknod", "mknodat", "link", "linkat")
_EITHER_WAY = ("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir")
_NOT_HERE = ("chown", "lchown", "fchownat")  # told of for their ids
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_PLACES = 50  # that are told apart; a payload must not fill our memory


LOOKED_AT = tuple(name for name in (*_OPENS, *CHANGES) if name not in _NOT_HERE)


def parse(text: str) -> "dict[int, str]":
    """The annotation: NUMBER=NAME of each call that is looked at, comma separated."""
    return {int(number): name for number, _, name in (word.partition("=") for word in text.split(","))}


def ahead(text: str) -> bytes:
    """What stands in front of the filter so that it tells of these calls."""
    calls = parse(text)
    opens = {number: _OPENS[name][1] + 1 for number, name in calls.items() if name in ("open", "openat")}
    return filters.watching([number for number in calls if number not in opens], opens)


class Explainer(refusals.Refusals):
    """Refusals, and what is read-only."""

    def __init__(self, program: bytes, spec: "dict[str, Any]") -> None:
        super().__init__(program)
        self._names, self._spec = parse(spec["annotations"]["dev.sbx.explain"]), spec
        self._tasks = Tasks()
        self._started = False  # else what we see is still the init
        self._places: dict[tuple[int, str], list[Any]] = {}  # (call, path) -> [how often, program's name, pid inside]

    def records(self) -> "list[tuple[Any, ...]]":
        """Those of refusals; for what is read-only the arguments are its path and why it is."""
        found = [
            (call, EROFS, name, count, pid, (path, why(self._spec, path)))
            for (call, path), (count, name, pid) in self._places.items()
        ]
        return [*super().records(), *found]

    def _decide(self, fd: int, told: bytes, value: int) -> None:
        pid, number, args, arch = refusals.call(told)
        if value != filters.RET_ALLOW or number not in self._names or arch != linux.AUDIT_ARCH[linux.MACHINE]:
            super()._decide(fd, told, value)
            return
        self._started = self._started or self._tasks.look_around(pid)
        if self._started:
            try:
                self._look(number, pid, args)
            except OSError:
                pass  # something of the task went away while we looked
        self._reply(fd, told, 0, refusals.CONTINUE)

    def _look(self, number: int, pid: int, args: "tuple[int, ...]") -> None:
        name = self._names[number]
        for folder, at in CHANGES.get(name) or (_OPENS[name],):
            follow = name in FOLLOWED
            if name in _OPENS:
                flags = self._flags(name, pid, args)
                follow = not (flags & os.O_NOFOLLOW or (flags & os.O_CREAT and flags & os.O_EXCL))
            where = self._tasks.place(pid, args[folder] if folder >= 0 else -1, args[at], follow)
            if where is None or where.path.startswith("/proc/self/") or not self._is_closed(where):
                continue
            there = where.status is not None
            # As the kernel has it: what is there already is no longer made, and what is not there is removed in vain.
            if name in _OPENS:
                fails = bool(flags & (_WRITES if there else os.O_CREAT))
            else:
                fails = name in _EITHER_WAY or there != (name in _MAKING)
            if fails:
                self._keep(where.path, number, pid)

    def _flags(self, name: str, pid: int, args: "tuple[int, ...]") -> int:
        if name == "openat2":
            return int.from_bytes(self._tasks.read(pid, args[2], 8), "little")
        return os.O_WRONLY | os.O_CREAT | os.O_TRUNC if name == "creat" else args[_OPENS[name][1] + 1]

    def _is_closed(self, where: "Where") -> bool:
        """Whether it is a file or folder of a mount, or the name of one in such a folder, that is read-only."""
        if where.status and where.status.st_mode & 0o170000 not in (0o100000, 0o040000, 0o120000):
            return False  # devices and pipes take what is written all the same
        path = where.path if where.status else os.path.dirname(where.path)
        fd = linux.openat2(self._tasks.root, path, os.O_PATH | os.O_NOFOLLOW)
        try:
            return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
        finally:
            os.close(fd)

    def _keep(self, path: str, number: int, pid: int) -> None:
        known = self._places.get((number, path))
        if known:
            known[0] += 1
        elif len(self._places) < _PLACES:
            self._places[number, path] = [1, *self._caller(pid)]
        else:
            self.more += 1


def why(spec: "dict[str, Any]", path: str) -> str:
    """What of a spec makes a file read-only, in words."""
    linux_part, wrapped = spec["linux"], spec["annotations"].get("dev.sbx.image") == "wrap:"
    found = {entry["destination"]: "is mounted so" for entry in spec["mounts"] if "ro" in entry["options"]}
    writable = [entry["destination"] for entry in spec["mounts"] if "ro" not in entry["options"]]
    found.update(dict.fromkeys(linux_part.get("readonlyPaths", ()), "is among the profile's readonlyPaths"))
    found.update(dict.fromkeys(linux_part.get("maskedPaths", ()), "is covered, as among the profile's maskedPaths"))
    if spec["root"]["readonly"]:
        found["/"] = (
            "is, and --rw PATH makes a path writable" if wrapped else "is (--read-only, or the profile says so)"
        )
    places = [place for place in (*found, *writable) if f"{path}/".startswith(f"{place.rstrip('/')}/")]
    nearest = max(places, key=len, default="")
    return (
        f"read-only: {nearest} {found[nearest]}" if nearest in found else "read-only, not by sbx: so is its file system"
    )
