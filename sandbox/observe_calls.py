"""What the arguments of a call say: files, programs, addresses, devices; and which capabilities it takes.
(launch, hot where the spec asks for it)
"""

import os

from sandbox import linux
from sandbox.observe_rights import Rights
from sandbox.observe_tasks import Tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Args = tuple[int, ...]
    Facts = list[tuple[Any, ...]]

# MAKE: the name itself was made or removed, so that it is a matter of its folder.
MAKE, READ, WRITE, EXECUTE = 8, 4, 2, 1
_MAKING = (
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
)

# Calls that change what a path leads to: (argument with the folder's descriptor or -1, argument with the path), ...
CHANGES: "dict[str, tuple[tuple[int, int], ...]]" = {
    "mkdir": ((-1, 0),), "mkdirat": ((0, 1),), "rmdir": ((-1, 0),), "unlink": ((-1, 0),), "unlinkat": ((0, 1),),
    "rename": ((-1, 0), (-1, 1)), "renameat": ((0, 1), (2, 3)), "renameat2": ((0, 1), (2, 3)), "link": ((-1, 1),),
    "linkat": ((2, 3),), "symlink": ((-1, 1),), "symlinkat": ((1, 2),), "mknod": ((-1, 0),), "mknodat": ((0, 1),),
    "truncate": ((-1, 0),), "chmod": ((-1, 0),), "fchmodat": ((0, 1),), "fchmodat2": ((0, 1),), "chown": ((-1, 0),),
    "lchown": ((-1, 0),), "fchownat": ((0, 1),), "utime": ((-1, 0),), "utimes": ((-1, 0),), "futimesat": ((0, 1),),
    "utimensat": ((0, 1),), "setxattr": ((-1, 0),), "lsetxattr": ((-1, 0),), "removexattr": ((-1, 0),),
    "lremovexattr": ((-1, 0),),
}  # fmt: skip
FOLLOWED = ("truncate", "chmod", "fchmodat", "chown", "utime", "utimes", "futimesat", "setxattr", "removexattr")
OF_DESCRIPTORS = ("fchmod", "fchown", "ftruncate", "fsetxattr", "fremovexattr")


class Calls:
    """Call -> facts: ("path", real path, rights), ("program", path), ("device", path), ("socket", family, type),
    ("connect" or "bind", family, address, port)."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.rights = Rights(self.tasks.lines, self.tasks.status)
        self.tasks.forgotten = self.rights.forget
        self.readers = self._make_readers()
        self._fresh: set[int] = set()  # tasks whose exec has been asked for

    def facts(self, name: str, pid: int, args: "Args") -> "Facts":
        """What the call `name` of the task `pid` says, and what the task has become since its last one."""
        found = self._running(pid) if pid in self._fresh else []
        reader = self.readers.get(name)
        return [*found, *reader(name, pid, args)] if reader else found

    def asked_to_execute(self, pid: int) -> None:
        self._fresh.add(pid)

    def _make_readers(self) -> "dict[str, Callable[[str, int, Args], Facts]]":
        """Call -> what reads its arguments."""
        found: dict[str, Callable[[str, int, Args], Facts]] = {
            **dict.fromkeys(("open", "openat", "openat2", "creat"), self._open),
            **dict.fromkeys(CHANGES, self._change), **dict.fromkeys(OF_DESCRIPTORS, self._change_open),
            **dict.fromkeys(("execve", "execveat"), self._execute),
            **dict.fromkeys(("connect", "bind", "sendto"), self._address),
            **dict.fromkeys(("clone", "clone3", "fork", "vfork", "exit", "exit_group"), self._measure),
            "socket": self._socket, "chroot": self._chroot,
        }  # fmt: skip
        for name in self.rights.BY_IDS:
            found[name] = self._by_ids
        return found

    def _open(self, name: str, pid: int, args: "Args") -> "Facts":
        at = 0 if name in ("open", "creat") else 1
        flags = args[at + 1]
        if name == "openat2":
            flags = int.from_bytes(self.tasks.read(pid, args[2], 8), "little")
        elif name == "creat":
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        makes = bool(flags & os.O_CREAT)
        follow = not (flags & os.O_NOFOLLOW or (makes and flags & os.O_EXCL))
        where = self.tasks.place(pid, args[0] if at else -1, args[at], follow)
        if where is None or flags & os.O_PATH or (where.status is None and not makes):
            return []
        rights = (READ, WRITE, READ | WRITE, READ | WRITE)[flags & 3]
        if where.status is None or flags & os.O_TRUNC or flags & os.O_TMPFILE == os.O_TMPFILE:
            rights |= WRITE
        if where.status is None:
            rights |= MAKE
        self.rights.opened(pid, where, rights, flags)
        if where.status and where.status.st_mode & 0o170000 in (0o020000, 0o060000):
            return [("device", where.path)]
        return [("path", where.path, rights)]

    def _change(self, name: str, pid: int, args: "Args") -> "Facts":
        found: Facts = []
        for folder, path in CHANGES[name]:
            follow = name in FOLLOWED
            if name in ("fchownat", "utimensat"):
                follow = not args[4 if name == "fchownat" else 3] & linux.AT_SYMLINK_NOFOLLOW
            where = self.tasks.place(pid, args[folder] if folder >= 0 else -1, args[path], follow)
            if where:
                self.rights.changed(name, pid, where, args, lambda at: self.tasks.string(pid, args[at]))
                found.append(("path", where.path, WRITE | (MAKE if name in _MAKING else 0)))
        return found

    def _change_open(self, name: str, pid: int, args: "Args") -> "Facts":
        where = self.tasks.behind(pid, args[0])
        if not where:
            return []
        self.rights.changed(name, pid, where, args, lambda at: self.tasks.string(pid, args[at]))
        return [("path", where.path, WRITE)]

    def _execute(self, name: str, pid: int, args: "Args") -> "Facts":
        folder, path = (-1, 0) if name == "execve" else (args[0], 1)
        where = self.tasks.place(pid, folder, args[path], True)
        self.tasks.measure("", pid)
        self.tasks.forget(pid)
        if not where or not where.status or where.status.st_mode & 0o170000 != 0o100000:
            return []
        self._fresh.add(pid)
        self.rights.opened(pid, where, EXECUTE, 0)
        return [("path", where.path, EXECUTE), ("program", where.path)]

    def _running(self, pid: int) -> "Facts":
        """What the task has become: of a script the interpreter, of the first one of all what we could not read; and the
        loader, which the kernel maps by itself."""
        self._fresh.discard(pid)
        path = self.tasks.link(pid, "exe")
        if not path.startswith("/"):
            return []
        return [("program", path), *(("path", mapped, EXECUTE) for mapped in {path, *self.tasks.mapped(pid)})]

    def _socket(self, name: str, pid: int, args: "Args") -> "Facts":
        self.rights.socket(pid, args[0] & 0xFFFFFFFF, args[1] & 0xF)
        return [("socket", args[0] & 0xFFFFFFFF, args[1] & 0xF)]

    def _address(self, name: str, pid: int, args: "Args") -> "Facts":
        pointer, length = (args[4], args[5]) if name == "sendto" else (args[1], args[2])
        raw = self.tasks.read(pid, pointer, min(length & 0xFFFFFFFF, 128)) if pointer else b""
        family = int.from_bytes(raw[:2], "little")
        word = "connect" if name == "sendto" else name
        if family == 1 and len(raw) > 2:
            path = raw[2:].split(b"\0")[0] if raw[2] else b"@" + raw[3:]
            found: Facts = [(word, "unix", os.fsdecode(path), 0)]
            if word == "bind" and raw[2]:
                where = self.tasks.named(pid, -1, os.fsdecode(path), False)
                found += [("path", where.path, WRITE | MAKE)] if where else []
            return found
        port = int.from_bytes(raw[2:4], "big")
        if family == 2 and len(raw) >= 8:
            return [(word, "inet", ".".join(map(str, raw[4:8])), port)]
        if family == 10 and len(raw) >= 24:
            return [(word, "inet6", raw[8:24].hex(), port)]
        return []

    def _chroot(self, name: str, pid: int, args: "Args") -> "Facts":
        self.tasks.changed_root = True
        self.rights.use(pid, "SYS_CHROOT", "chroot")
        return []

    def _measure(self, name: str, pid: int, args: "Args") -> "Facts":
        self.tasks.measure(name, pid)
        return []

    def _by_ids(self, name: str, pid: int, args: "Args") -> "Facts":
        self.rights.by_ids(name, pid, args, self.tasks.root)
        return []
