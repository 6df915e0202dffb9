"""What a profile answers to each system call, and the OCI seccomp object that says the same.  (cold)

In a profile rules stand in order and the first one that matches wins; calls of the allowed groups come last, then the
default.  An OCI object is a set without order, so each call's rules are made disjoint first (`patterns`).
"""

import errno
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sandbox.profile import calls, patterns
from sandbox.profile.groups import GROUPS
from sandbox.profile.patterns import ANYTHING, OPERATORS, Pattern

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"
# Actions of the OCI runtime specification; NOTIFY needs somebody who listens, which there is not yet.
ACTIONS = (
    ALLOW, ERRNO, "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
)  # fmt: skip
# Whether the call is made: LOG makes it and writes a line, TRACE leaves it to a tracer.
PERMISSIVE = (ALLOW, "SCMP_ACT_LOG", "SCMP_ACT_TRACE")


@dataclass(frozen=True)
class Answer:
    """What the kernel does with a call: an OCI action, and the error number of ERRNO (or message of TRACE)."""

    action: str
    errno: int = 0

    def __str__(self) -> str:
        if self.action == ERRNO:
            return errno.errorcode.get(self.errno, str(self.errno))
        return self.action.removeprefix("SCMP_ACT_").lower().replace("_", " ")


@dataclass(frozen=True)
class Comparison:
    """One argument of a rule: `args` of OCI, but on the low `width` bits, and with several values to choose from."""

    index: int
    op: str
    values: tuple[int, ...]
    mask: int = 0  # SCMP_CMP_MASKED_EQ only
    width: int = 32

    def pairs(self) -> list[tuple[int, int]]:
        if self.op == "SCMP_CMP_MASKED_EQ":
            return [p for v in self.values for p in patterns.comparison(self.op, self.mask, v, self.width)]
        return [p for v in self.values for p in patterns.comparison(self.op, v, 0, self.width)]

    def __str__(self) -> str:
        what = " or ".join(f"{v:#x}" if v > 9 else str(v) for v in self.values)
        argument = f"argument {self.index}"
        if self.op == "SCMP_CMP_MASKED_EQ":
            return f"{argument} & {self.mask:#x} == {what}"
        return f"{argument} {OPERATORS[self.op]} {what}"


@dataclass(frozen=True)
class Rule:
    """One [[seccomp.rules]] table, group names already replaced by their calls."""

    names: tuple[str, ...]
    answer: Answer
    args: tuple[Comparison, ...] = ()
    written: tuple[str, ...] = ()  # the names as the file has them, groups included
    comment: str = ""
    origin: str = field(default="", compare=False)  # FILE:LINE
    plain: bool = False  # from a list such as `allow`, not from a table of its own

    @property
    def condition(self) -> str:
        return " and ".join(str(arg) for arg in self.args)

    def patterns(self) -> list[Pattern]:
        return patterns.combine([(c.index, c.pairs()) for c in self.args])


@dataclass(frozen=True)
class Policy:
    """The [seccomp] table of a profile."""

    default: Answer
    groups: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = field(default=())

    @property
    def confined(self) -> bool:
        return self.default.action != ALLOW or any(rule.answer.action != ALLOW for rule in self.rules)

    @cached_property
    def rows(self) -> dict[str, list[tuple[list[Pattern], Answer]]]:
        """Per call: what is asked first, second, ...; a call that is not in here gets the default."""
        result: dict[str, list[tuple[list[Pattern], Answer]]] = {}
        for rule in self.rules:
            for name in rule.names:
                result.setdefault(name, []).append((rule.patterns(), rule.answer))
        for group in self.groups:
            for name in GROUPS[group]:
                result.setdefault(name, []).append(([ANYTHING], Answer(ALLOW)))
        return result

    def answer(self, name: str, args: tuple[int, ...] = (0,) * 6) -> Answer:
        """What a call of `name` with these six arguments gets: the plain reading of the rules, for tests and `why`."""
        for conditions, answer in self.rows.get(name, []):
            if any(patterns.matches(pattern, args) for pattern in conditions):
                return answer
        return self.default

    def oci(self, machine: str) -> dict[str, Any]:
        """The `linux.seccomp` object of the OCI runtime specification, for the machine's own architecture only."""
        entries: dict[tuple[Answer, Pattern], list[str]] = {}
        for name, rows in sorted(self.rows.items()):
            for left, (_, answer) in zip(patterns.in_order([row for row, _ in rows]), rows, strict=True):
                for pattern in left:
                    if answer != self.default:  # libseccomp refuses rules that repeat the default
                        entries.setdefault((answer, pattern), []).append(name)
        shared: dict[tuple[int, int, int], dict[str, Any]] = {}
        return {
            "defaultAction": self.default.action,
            **_errno_ret("defaultErrnoRet", self.default),
            "architectures": [calls.MACHINES[machine][1]],
            "syscalls": [
                {"names": names, "action": answer.action, **_errno_ret("errnoRet", answer), **_args(pattern, shared)}
                for (answer, pattern), names in entries.items()
            ],
        }


def _errno_ret(key: str, answer: Answer) -> dict[str, int]:
    return {key: answer.errno} if answer.action in (ERRNO, "SCMP_ACT_TRACE") else {}


def _args(pattern: Pattern, shared: dict[tuple[int, int, int], dict[str, Any]]) -> dict[str, Any]:
    """`args` of one entry.  Equal ones are one object: marshal then reads the cached result in half the time."""
    args = []
    for index, (mask, value) in enumerate(pattern):
        if mask:
            arg = {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
            args.append(shared.setdefault((index, mask, value), arg))
    return {"args": args} if args else {}
