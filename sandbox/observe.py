"""What a container does, written down for `sbx profile learn`: each call is recorded, then answered as without us.
  (launch, hot where the spec asks for it)

The filter asks about every call but the quiet ones (filters.py), and its plain form is read on paper, as it is for
refusals: what it refuses gets its errno, what it allows is answered SECCOMP_USER_NOTIF_FLAG_CONTINUE.  As a way to decide
anything that flag is unsafe, because memory can change after it was looked at (seccomp_unotify(2)).  Here memory decides
nothing: the filter looks at registers alone, and those the kernel has kept since it asked.  What is read from memory, paths
and addresses, goes into the record and nowhere else: a payload can write nonsense there, and gains nothing by it.

A filter of the payload's own that answers SECCOMP_RET_TRACE is passed over while we observe: ours is asked first.
"""

import marshal
import os
import select

from sandbox import filters, linux, refusals
from sandbox.errors import EPERM, SandboxError
from sandbox.observe_calls import Calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Step = tuple[Any, ...]

# SECCOMP_IOCTL_NOTIF_SET_FLAGS (Linux 6.6), SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: the caller runs where we ran
_SET_FLAGS, _SYNC_WAKE_UP = 0x40082104, 1
_AT_ONCE = 64  # calls that are answered before the keeper looks after something else
_KINDS = 20000  # paths that are told apart; a payload must not fill our memory


def begin(annotations: "dict[str, str]", program: bytes, steps: "list[Step]") -> "tuple[Observer, list[Step]]":
    """(who records, the init's steps with a filter that asks).  The annotation is the descriptor of a file in memory:
    {"names": {number: call}, "quiet": numbers} is read from it, and the record written to it in the end."""
    file = int(annotations["dev.sbx.observe"])
    known = marshal.loads(os.pread(file, 1 << 20, 0))
    quiet = tuple(number for number in known["quiet"] if filters.answer_by_number(program, number) == filters.RET_ALLOW)
    if linux.NR["sendmsg"] not in quiet:
        raise SandboxError("observe command", detail="its profile does not let the listener be handed over by sendmsg")
    asking = filters.observing(program, quiet)
    made = [(*step[:2], asking, *step[3:]) if step[0] == "seccomp" else step for step in steps]
    return Observer(program, known["names"], file), made


class Observer(refusals.Refusals):
    """Answers as the plain filter does, and knows in the end what was called, opened, run and reached."""

    def __init__(self, program: bytes, names: "dict[int, str]", file: int) -> None:
        super().__init__(program)
        self._names, self._file = names, file
        self._answers: dict[int, int] = {}  # of calls whose arguments make no difference
        self._calls: dict[int, int] = {}
        self._paths: dict[str, int] = {}  # real path -> READ | WRITE | EXECUTE
        self._facts: dict[tuple[Any, ...], int] = {}  # ("connect", "inet", address, port) and the like, how often
        self._polls: dict[int, select.poll] = {}
        self._started = False  # else what we see is still the init
        self._reader = Calls()

    def listen(self, fd: int) -> None:
        super().listen(fd)
        self._polls[fd] = select.poll()
        self._polls[fd].register(fd, select.POLLIN)
        try:
            linux.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass  # an older kernel: it is slower, and no more

    def finish(self) -> None:
        """Write the record, for who has asked for it."""
        record = {
            "calls": {self._names.get(number, f"call {number}"): count for number, count in self._calls.items()},
            "paths": self._paths, "facts": list(self._facts), "capabilities": self._reader.rights.used,
            "peak": self._reader.tasks.peak, "top": self._reader.tasks.top, "refused": self.records(), "full": len(self._paths) >= _KINDS,
        }  # fmt: skip
        record["uid"] = self._reader.tasks.uid
        payload = marshal.dumps(record)
        os.ftruncate(self._file, 0)
        while payload:
            payload = payload[os.pwrite(self._file, payload, os.fstat(self._file).st_size) :]

    # -- answers --

    def _answer(self, fd: int) -> None:
        for _ in range(_AT_ONCE):
            told = self._told(fd)
            if told:
                self._one(fd, told)
            if not any(events & select.POLLIN for _, events in self._polls[fd].poll(0)):
                return

    def _one(self, fd: int, told: bytes) -> None:
        pid, number, args, arch = refusals.call(told)
        if number not in self._answers:
            self._answers[number] = filters.answer_by_number(self._program, number)
        value = self._answers[number] if arch == linux.AUDIT_ARCH[linux.MACHINE] else -1
        if value == -1:
            value = filters.answer(self._program, number, args, arch)
        if value != filters.RET_ALLOW:
            errno = value & 0xFFFF if value & 0xFFFF0000 == filters.RET_ERRNO else EPERM
            self._count(number, errno, pid, args)
            self._reply(fd, told, errno)
            return
        if not self._started:
            self._started = self._reader.tasks.look_around(pid)
        name = self._names.get(number, "")
        found: list[tuple[Any, ...]] = []
        if self._started:
            try:
                found = self._reader.facts(name, pid, args)
            except OSError:
                pass  # something of the task went away while we looked
        elif name == "execve":
            self._reader.asked_to_execute(pid)
        if not self._reply(fd, told, 0, refusals.CONTINUE) or not self._started:
            return  # it was killed meanwhile, and its number may be another's; or it was the init's own
        self._calls[number] = self._calls.get(number, 0) + 1
        for fact in found:
            self._keep(fact)

    def _keep(self, fact: "tuple[Any, ...]") -> None:
        if fact[0] == "path":
            _, path, rights = fact
            if path in self._paths or len(self._paths) < _KINDS:
                self._paths[path] = self._paths.get(path, 0) | rights
        elif fact in self._facts or len(self._facts) < _KINDS:
            self._facts[fact] = self._facts.get(fact, 0) + 1
