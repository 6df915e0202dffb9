"""Which capabilities a container uses, concluded from its calls, its ids, and the owners of files.
  (launch, hot where the spec asks for it)

Nothing tells what the kernel has asked for: CAP_CHOWN is used when a file is given to somebody it does not belong to,
CAP_DAC_OVERRIDE when the mode of a file alone would not let its user in, and so on, as capabilities(7) has it.  Access
control lists and other security modules are not looked at.  It is a proposal, which a second run has to prove.
"""

import os

from sandbox import caps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.observe_tasks import Where

    Args = tuple[int, ...]

_READ, _WRITE, _EXECUTE = 4, 2, 1
_NOBODY = 0xFFFFFFFF  # -1: leave as it is
_MAKING = ("mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "mknod", "mknodat")
_REMOVING = ("rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2")
_OWNING = {"chown": (1, 2), "lchown": (1, 2), "fchown": (1, 2), "fchownat": (2, 3)}
_MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
_TIMES = {"utime": 1, "utimes": 1, "futimesat": 2, "utimensat": 2}
# Capabilities that are looked for: of all others nothing is known, and who has them keeps them.
KNOWN = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_RAW", "SYS_CHROOT", "MKNOD", "SETFCAP",
)  # fmt: skip


class Credentials:
    """Ids and effective capabilities of a task."""

    def __init__(self, lines: "dict[bytes, bytes]") -> None:
        self.uids = [int(word) for word in lines.get(b"Uid", b"").split()] or [
            0,
            0,
            0,
            0,
        ]  # real, effective, saved, file
        self.gids = [int(word) for word in lines.get(b"Gid", b"").split()] or [0, 0, 0, 0]
        self.groups = {int(word) for word in lines.get(b"Groups", b"").split()} | {self.gids[3]}
        self.held = int(lines.get(b"CapEff", b"0") or b"0", 16)

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """Whether the mode bits alone let it."""
        if status.st_uid == self.uids[3]:
            bits = status.st_mode >> 6
        else:
            bits = status.st_mode >> 3 if status.st_gid in self.groups else status.st_mode
        return not wanted & ~bits & 7


class Rights:
    """Collects the capabilities that were used, with the first call that needed each."""

    BY_IDS = (
        "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "kill", "tkill",
        "tgkill", "prctl", "capset",
    )  # fmt: skip

    def __init__(
        self, lines: "Callable[..., dict[bytes, bytes]]", status: "Callable[[str], os.stat_result | None]"
    ) -> None:
        self._lines, self._status = lines, status
        self._known: dict[int, Credentials] = {}
        self._entered: set[tuple[str, int, frozenset[int]]] = set()
        self.used: dict[str, str] = {}

    def forget(self, pid: int) -> None:
        """The task becomes another program, has ended, or changes its ids."""
        self._known.pop(pid, None)

    def of(self, pid: int) -> Credentials:
        found = self._known.get(pid)
        if found is None:
            if len(self._known) > 256:
                self._known.clear()
            found = self._known[pid] = Credentials(self._lines(pid))
        return found

    def use(self, pid: int, name: str, why: str) -> None:
        """It takes this capability; whoever does not have it is refused, and nothing is to be learned from that."""
        if name not in self.used and self.of(pid).held >> caps.NAMES.index(name) & 1:
            self.used[name] = why

    def opened(self, pid: int, where: "Where", rights: int, flags: int) -> None:
        """A file is opened, made or executed."""
        task = self.of(pid)
        if not task.held:
            return
        self._enter(pid, task, where.path)
        if where.status is None:
            lets_in = where.above is None or task.may(where.above, _WRITE | _EXECUTE)
        elif rights == _EXECUTE:
            lets_in = task.may(where.status, _EXECUTE)
        else:
            lets_in = task.may(where.status, rights & 6)
        if not lets_in:
            self.use(pid, "DAC_OVERRIDE", f"open {where.path}")
        if where.status and flags & os.O_NOATIME and where.status.st_uid != task.uids[3]:
            self.use(pid, "FOWNER", f"open without access time {where.path}")

    def changed(self, name: str, pid: int, where: "Where", args: "Args", text: "Callable[[int], bytes | None]") -> None:
        """Something about a file, or its name, is changed."""
        task = self.of(pid)
        if not task.held:
            return
        self._enter(pid, task, where.path)
        status, why = where.status, f"{name} {where.path}"
        if name in _MAKING or name in _REMOVING:
            self._in_folder(pid, task, where, why, removed=name in _REMOVING)
        if name in ("mknod", "mknodat") and args[1 if name == "mknod" else 2] & 0o170000 in (0o020000, 0o060000):
            self.use(pid, "MKNOD", why)
        if status is None:
            return
        if name in _OWNING:
            uid, gid = (args[at] & 0xFFFFFFFF for at in _OWNING[name])
            mine = status.st_uid == task.uids[3]
            same_owner = uid == _NOBODY or (mine and uid == status.st_uid)
            same_group = gid == _NOBODY or (mine and (gid == status.st_gid or gid in task.groups))
            if not (same_owner and same_group):
                self.use(pid, "CHOWN", why)
            if status.st_mode & 0o6000 and status.st_mode & 0o170000 == 0o100000:
                self.use(pid, "FSETID", why)
        elif name in _MODES:
            if status.st_uid != task.uids[3]:
                self.use(pid, "FOWNER", why)
            if args[_MODES[name]] & 0o2000 and status.st_gid not in task.groups:
                self.use(pid, "FSETID", why)
        elif name in _TIMES and status.st_uid != task.uids[3]:
            self.use(pid, "FOWNER" if args[_TIMES[name]] or not task.may(status, _WRITE) else "DAC_OVERRIDE", why)
        elif name.endswith("xattr") and (text(1) or b"") == b"security.capability":
            self.use(pid, "SETFCAP", why)
        elif name == "truncate" and not task.may(status, _WRITE):
            self.use(pid, "DAC_OVERRIDE", why)

    def _enter(self, pid: int, task: Credentials, path: str) -> None:
        """All folders above must let it through; each is looked at once for the same ids."""
        while path != "/" and "DAC_OVERRIDE" not in self.used:
            path = os.path.dirname(path)
            key = (path, task.uids[3], frozenset(task.groups))
            if key in self._entered:
                return
            self._entered.add(key)
            status = self._status(path)
            if status and not task.may(status, _EXECUTE):
                self.use(pid, "DAC_OVERRIDE", f"enter {path}")

    def _in_folder(self, pid: int, task: Credentials, where: "Where", why: str, *, removed: bool) -> None:
        above = where.above
        if above is None or not task.may(above, _WRITE | _EXECUTE):
            self.use(pid, "DAC_OVERRIDE", why)
        sticky = above is not None and above.st_mode & 0o1000 and above.st_uid != task.uids[3]
        if removed and sticky and where.status and where.status.st_uid != task.uids[3]:
            self.use(pid, "FOWNER", why)

    def socket(self, pid: int, family: int, kind: int) -> None:
        if kind == 3 and family in (2, 10, 17):  # SOCK_RAW of inet, inet6, packet
            self.use(pid, "NET_RAW", f"socket of family {family}")

    def by_ids(self, name: str, pid: int, args: "Args", root: int) -> None:
        """Calls whose arguments are ids, signals and rights."""
        task = self.of(pid)
        if name in ("kill", "tkill", "tgkill"):
            self._signalled(name, pid, task, args, root)
        elif name == "prctl":
            if args[0] == 24 or (args[0] == 28 and args[1]):  # PR_CAPBSET_DROP, PR_SET_SECUREBITS
                self.use(pid, "SETPCAP", "prctl")
        elif name == "setgroups":
            self.use(pid, "SETGID", name)
        elif name != "capset":
            ids, count = (task.uids, "SETUID") if name.endswith("uid") else (task.gids, "SETGID")
            wanted = {args[at] & 0xFFFFFFFF for at in range({"re": 2, "res": 3}.get(name[3:-3], 1))} - {_NOBODY}
            # setuid and setgid with the capability change all three ids, without it one.
            if not wanted <= set(ids[:3]) or (name in ("setuid", "setgid") and len(set(ids[:3]) | wanted) > 1):
                self.use(pid, count, name)
        if name not in ("kill", "tkill", "tgkill", "prctl"):
            self.forget(pid)

    def _signalled(self, name: str, pid: int, task: Credentials, args: "Args", root: int) -> None:
        target = args[0] & 0xFFFFFFFF
        if not 0 < target < 1 << 31:
            return  # a group: those whom it may signal are signalled, without an error for the others
        lines = self._lines(target, root)
        uids = lines.get(b"Uid", b"").split()
        if uids and not {task.uids[0], task.uids[1]} & {int(uids[0]), int(uids[2])}:
            self.use(pid, "KILL", name)
