"""[seccomp] of a profile: TOML -> rules, in which nothing is unknown, impossible or without effect.  (cold)"""

import errno
import re
from typing import Any

from sandbox.profile import calls
from sandbox.profile.groups import GROUPS
from sandbox.profile.patterns import OPERATORS, in_order
from sandbox.profile.policy import ACTIONS, ALLOW, ERRNO, Answer, Comparison, Policy, Rule
from sandbox.profile.source import Source, near

# A rule that can change something takes an instruction of its own, and the kernel takes 4096 (BPF_MAXINSNS).
_MOST_RULES = 4096


class Rules(Source):
    """What a file says about system calls."""

    def seccomp(self, table: dict[str, Any]) -> tuple[tuple[Rule, ...], Answer | None]:
        default = None
        if "defaultAction" in table:
            default = self.answer("seccomp", table, "defaultAction", "defaultErrnoRet", 0)
        elif "defaultErrnoRet" in table:
            self.fail("seccomp", "defaultErrnoRet", "`defaultErrnoRet` has no meaning without `defaultAction`")
        for group in table.get("groups", []):
            if group not in GROUPS:
                self.fail("seccomp", group, f"unknown group `{group}`", near(group, GROUPS))
        written = table.get("syscalls", [])
        if len(written) > _MOST_RULES:
            self.fail("", "seccomp", f"{len(written)} rules, and a filter has room for {_MOST_RULES} instructions")
        short = [
            self.plain(key, table[key], answer)
            for key, answer in (("deny", Answer(ERRNO, errno.EPERM)), ("absent", Answer(ERRNO, errno.ENOSYS)), ("allow", Answer(ALLOW)))
            if key in table
        ]  # fmt: skip
        lines = [
            n for n, line in enumerate(self.lines, 1) if re.match(r"\s*\[\[\s*seccomp\s*\.\s*syscalls\s*\]\]", line)
        ]
        rules = tuple(
            self.rule(rule, index, f"{self.path}:{lines[index]}" if index < len(lines) else self.path)
            for index, rule in enumerate(written)
        )
        self.refuse_idle(Policy(default or Answer(ALLOW), tuple(table.get("groups", ())), rules))
        return (*short, *rules), default

    def plain(self, key: str, written: list[str], answer: Answer) -> Rule:
        """The rule that a list of calls and groups stands for."""
        names: list[str] = []
        for name in written:
            if name.startswith("@"):
                if name not in GROUPS:
                    self.fail("seccomp", name, f"unknown group `{name}`", near(name, GROUPS))
                names += GROUPS[name]
            elif self.known(name, False, 0, "seccomp"):
                names.append(name)
        origin = f"{self.path}:{self.line('seccomp', 0, key)}"
        return Rule(tuple(dict.fromkeys(names)), answer, (), tuple(written), "", origin, True)

    def answer(self, table: str, value: dict[str, Any], action_key: str, errno_key: str, index: int) -> Answer:
        action = self.required(table, value, action_key, index)
        if action == "SCMP_ACT_NOTIFY":
            self.fail(table, action, "`SCMP_ACT_NOTIFY` is not supported: nobody would listen", "", index)
        if action not in ACTIONS:
            self.fail(table, action, f"unknown action `{action}`", near(action, ACTIONS), index)
        number = value.get(errno_key)
        if number is None:
            if action == ERRNO:
                self.fail(table, action_key, f"[{table}] with `{ERRNO}` must have the key `{errno_key}`", "", index)
            return Answer(action)
        if action not in (ERRNO, "SCMP_ACT_TRACE"):
            self.fail(table, errno_key, f"`{errno_key}` has no meaning with `{action}`", "", index)
        if isinstance(number, str):
            found = getattr(errno, number, None)
            if not isinstance(found, int) or number not in errno.errorcode.values():
                self.fail(table, number, f"unknown error `{number}`", near(number, errno.errorcode.values()), index)
            return Answer(action, found)
        if not 0 < number < 4096:  # MAX_ERRNO of the kernel; 0 would be "success without doing it"
            self.fail(table, errno_key, f"`{errno_key}` must be between 1 and 4095, not {number}", "", index)
        return Answer(action, number)

    def rule(self, value: Any, index: int, origin: str) -> Rule:
        table = "seccomp.syscalls"
        self.check(table, value, index)
        answer = self.answer(table, value, "action", "errnoRet", index)
        written = self.required(table, value, "names", index)
        if not written:
            self.fail(table, "names", "`names` of a rule must not be empty", "", index)
        names: list[str] = []
        for name in written:
            if name.startswith("@"):
                if name not in GROUPS:
                    self.fail(table, name, f"unknown group `{name}`", near(name, GROUPS), index)
                names += GROUPS[name]
            elif self.known(name, value.get("optional", False), index):
                names.append(name)
        args = tuple(self.argument(arg, index) for arg in value.get("args", []))
        if len({arg.index for arg in args}) != len(args):
            self.fail(table, "args", "an argument may stand in `args` only once", "write a second rule", index)
        return Rule(tuple(dict.fromkeys(names)), answer, args, tuple(written), value.get("comment", ""), origin)

    def known(self, name: str, optional: bool, index: int, table: str = "seccomp.syscalls") -> bool:
        try:
            calls.number(name, "x86_64")
        except KeyError:
            if optional:
                return False
            best = calls.nearest(name)
            hint = f"did you mean `{best}`?" if best else "`optional = true` skips names of newer kernels"
            self.fail(table, name, f"unknown system call `{name}`", hint, index)
        return True

    def argument(self, value: Any, index: int) -> Comparison:
        table = "seccomp.syscalls"
        self.check(f"{table}.args", value, index)
        for key in ("index", "op", "value"):
            if key not in value:
                self.fail(table, "args", f"an argument must have the key `{key}`", "", index)
        op, width = value["op"], value.get("width", 32)
        if op not in OPERATORS:
            self.fail(table, op, f"unknown operator `{op}`", near(op, OPERATORS), index)
        if not 0 <= value["index"] <= 5:
            self.fail(table, "args", f"`index` must be between 0 and 5, not {value['index']}", "", index)
        if width not in (32, 64):
            self.fail(table, "width", f"`width` must be 32 or 64, not {width}", "", index)
        masked = op == "SCMP_CMP_MASKED_EQ"
        if masked != ("valueTwo" in value):
            detail = f"`valueTwo` is the wanted value of SCMP_CMP_MASKED_EQ and of no other operator, here `{op}`"
            self.fail(table, "valueTwo" if not masked else "args", detail, "", index)
        if masked and not isinstance(value["value"], int):
            self.fail(table, "value", "`value` of SCMP_CMP_MASKED_EQ is one mask, not a list", "", index)
        wanted = value["valueTwo"] if masked else value["value"]
        values = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        if len(values) != 1 and not (values and op in ("SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ")):
            self.fail(table, "value", f"`{op}` compares with one value, not with {len(values)}", "", index)
        mask = value["value"] if masked else 0
        for number in (*values, mask):
            if not 0 <= number < 1 << width:
                detail = f"{number} does not fit in {width} bits without a sign"
                self.fail(table, "args", detail, "`width = 64` compares all bits", index)
        comparison = Comparison(value["index"], op, values, mask, width)
        if not comparison.pairs() or any(v & ~mask for v in values if masked):
            self.fail(table, "args", f"this can never be true: {comparison}", "", index)
        return comparison

    def refuse_idle(self, policy: Policy) -> None:
        """A rule that can change nothing is a mistake: an earlier one takes it all, or a group allows the rest anyway."""
        grouped = {name: group for group in policy.groups for name in GROUPS[group]}
        places: dict[str, list[int]] = {}
        for index, rule in enumerate(policy.rules):
            for name in rule.names:
                places.setdefault(name, []).append(index)
        for name, rows in policy.rows.items():
            mine = places.get(name, [])
            for index, left in zip(mine, in_order([row for row, _ in rows]), strict=False):  # a group's row is the last
                if not left:
                    detail = f"`{name}` is never reached here: earlier rules answer all of it"
                    word = next((w for w in policy.rules[index].written if w == name), "names")
                    self.fail(
                        "seccomp.syscalls", word, detail, "rules are read in order, the first that matches wins", index
                    )
            if mine and name in grouped and all(policy.rules[i].answer.action == ALLOW for i in mine):
                detail = f"`{name}` is allowed by {grouped[name]} whatever its arguments are"
                self.fail("seccomp.syscalls", name, detail, "add a last rule for it that refuses the rest", mine[0])
