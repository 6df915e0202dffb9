"""The profile language: TOML text -> Profile, with an error that names file, line, key and the nearest name.  (cold)

`docs/profiles.md` describes it.  Nothing is guessed: a key, type, call, capability or limit that is not known is an
error, because a typing error in a list of prohibitions would otherwise be a hole that nobody sees.
"""

import difflib
import errno
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from sandbox import caps
from sandbox.errors import SandboxError
from sandbox.profile import calls
from sandbox.profile.groups import GROUPS
from sandbox.profile.patterns import OPERATORS, in_order
from sandbox.profile.policy import ACTIONS, ALLOW, ERRNO, Answer, Comparison, Policy, Rule

# getrlimit(2); "unlimited" is RLIM_INFINITY
RLIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip
UNLIMITED = (1 << 64) - 1

# table -> key -> what its value is, in words (None: another table).  `docs/profiles.md` lists the same; a test compares.
KEYS: dict[str, dict[str, str | None]] = {
    "": {"description": "string", "capabilities": None, "process": None, "rlimits": None, "filesystem": None,
         "seccomp": None},
    "capabilities": {"keep": "list of strings"},
    "process": {"no_new_privileges": "true or false"},
    "rlimits": dict.fromkeys(RLIMITS, "limit"),
    "rlimits.*": {"soft": "plain limit", "hard": "plain limit"},
    "filesystem": {"masked_paths": "list of strings", "readonly_paths": "list of strings"},
    "seccomp": {"default_action": "string", "default_errno_ret": "error number", "groups": "list of strings",
                "rules": "list of tables"},
    "seccomp.rules": {"names": "list of strings", "action": "string", "errno_ret": "error number",
                      "args": "list of tables", "comment": "string", "optional": "true or false"},
    "seccomp.rules.args": {"index": "integer", "op": "string", "value": "integer or list of integers",
                           "value_two": "integer or list of integers", "width": "integer"},
}  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """A profile as its file says it."""

    path: str
    description: str
    capabilities: tuple[str, ...]  # CAP_X
    no_new_privileges: bool
    rlimits: tuple[tuple[str, int, int], ...]  # (RLIMIT_X, soft, hard)
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    policy: Policy

    def fragment(self) -> dict[str, Any]:
        """The parts of an OCI config.json that a profile decides, without seccomp."""
        return {
            "process": {
                "capabilities": list(self.capabilities),
                "rlimits": [{"type": kind, "soft": soft, "hard": hard} for kind, soft, hard in self.rlimits],
                "noNewPrivileges": self.no_new_privileges,
            },
            "linux": {"maskedPaths": list(self.masked_paths), "readonlyPaths": list(self.readonly_paths)},
        }


def parse(path: str, text: str) -> Profile:
    """Read `text`, the content of the file `path`; SandboxError for anything that is not exactly right."""
    import tomli

    try:
        document = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 0)
        where = f"{path}:{line}" if line else path
        raise SandboxError("read profile", where, errno.EINVAL, f"not TOML: {error}") from None
    return _Reader(path, text).profile(document)


def near(word: str, known: Any) -> str:
    """A hint with the known word that looks most like `word`, else with all of them when they are few."""
    known = [str(k) for k in known]
    best = difflib.get_close_matches(word.lower(), [k.lower() for k in known], 1)
    if best:
        return f"did you mean `{next(k for k in known if k.lower() == best[0])}`?"
    return f"known are {', '.join(known)}" if len(known) <= 45 else ""


class _Reader:
    """One file being read: keeps the text, to find the line that an error is about."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def line(self, table: str, index: int, word: str) -> int:
        """Where `word` stands: in the `index`-th [table] or [[table]], else anywhere, else 0."""
        pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
        header = re.compile(r"\s*\[\[?\s*([\w.\-\"' ]+?)\s*\]\]?\s*(#.*)?$")
        current, seen = "", -1 if table else 0
        anywhere = 0
        for number, line in enumerate(self.lines, 1):
            match = header.match(line)
            if match:
                current = match[1]
                seen += current == table
            code = line.split("#", 1)[0] if '"' not in line else line
            if pattern.search(code):
                if current == table and seen == index:
                    return number
                anywhere = anywhere or number
        return anywhere

    def fail(self, table: str, word: str, detail: str, hint: str = "", index: int = 0) -> NoReturn:
        line = self.line(table, index, word)
        where = f"{self.path}:{line}" if line else self.path
        raise SandboxError("read profile", where, errno.EINVAL, detail, hint)

    def check(self, table: str, value: Any, index: int = 0, schema: str = "") -> dict[str, Any]:
        """`value` is a table with known keys of the right types."""
        header = table.split(".args", maxsplit=1)[0]
        known = KEYS[schema or table]
        if not isinstance(value, dict):
            self.fail("", table.rsplit(".", 1)[-1], f"`{table}` must be a table, not {_kind(value)}")
        for key, item in value.items():
            place = f"[{table}]" if table else "the top of the file"
            if key not in known:
                self.fail(header, key, f"unknown key `{key}` in {place}", near(key, known), index)
            wanted = known[key]
            if wanted is not None and not _is(wanted, item):
                self.fail(header, key, f"`{key}` in {place} must be {_article(wanted)}, not {_kind(item)}", "", index)
        return value

    def required(self, table: str, value: dict[str, Any], key: str, index: int = 0) -> Any:
        if key not in value:
            self.fail(table, table or key, f"[{table}] must have the key `{key}`", "nothing is assumed", index)
        return value[key]

    def profile(self, document: dict[str, Any]) -> Profile:
        self.check("", document)
        for table in ("capabilities", "filesystem", "seccomp"):
            if table not in document:
                self.fail("", table, f"the table [{table}] is missing", "a profile must say it; see docs/profiles.md")
        capabilities = self.check("capabilities", document["capabilities"])
        process = self.check("process", document.get("process", {}))
        filesystem = self.check("filesystem", document["filesystem"])
        return Profile(
            path=self.path,
            description=document.get("description", ""),
            capabilities=self.capabilities(self.required("capabilities", capabilities, "keep")),
            no_new_privileges=process.get("no_new_privileges", True),
            rlimits=self.rlimits(self.check("rlimits", document.get("rlimits", {}))),
            masked_paths=self.paths("masked_paths", filesystem),
            readonly_paths=self.paths("readonly_paths", filesystem),
            policy=self.seccomp(self.check("seccomp", document["seccomp"])),
        )

    def capabilities(self, names: list[str]) -> tuple[str, ...]:
        for name in names:
            if name.removeprefix("CAP_") not in caps.NAMES:
                hint = near(name.removeprefix("CAP_"), caps.NAMES)
                self.fail("capabilities", name, f"unknown capability `{name}`", hint)
        chosen = {name.removeprefix("CAP_") for name in names}
        return tuple(f"CAP_{name}" for name in caps.NAMES if name in chosen)

    def rlimits(self, table: dict[str, Any]) -> tuple[tuple[str, int, int], ...]:
        result = []
        for key, value in table.items():
            pair = value
            if isinstance(value, dict):
                self.check(f"rlimits.{key}", value, schema="rlimits.*")
                if "soft" not in value or "hard" not in value:
                    self.fail("rlimits", key, f"`{key}` in [rlimits] must have both `soft` and `hard`")
            else:
                pair = {"soft": value, "hard": value}
            soft, hard = (UNLIMITED if pair[end] == "unlimited" else pair[end] for end in ("soft", "hard"))
            if soft > hard:
                self.fail("rlimits", key, f"`{key}` in [rlimits]: soft {soft} is above hard {hard}")
            result.append((f"RLIMIT_{key.upper()}", soft, hard))
        return tuple(result)

    def paths(self, key: str, table: dict[str, Any]) -> tuple[str, ...]:
        for path in self.required("filesystem", table, key):
            if not path.startswith("/") or "/../" in f"{path}/" or "\0" in path:
                self.fail("filesystem", path, f"`{path}` in `{key}` must be an absolute path without `..`")
        return tuple(table[key])

    def seccomp(self, table: dict[str, Any]) -> Policy:
        default = self.answer("seccomp", table, "default_action", "default_errno_ret", 0)
        for group in table.get("groups", []):
            if group not in GROUPS:
                self.fail("seccomp", group, f"unknown group `{group}`", near(group, GROUPS))
        rules = tuple(self.rule(rule, index) for index, rule in enumerate(table.get("rules", [])))
        policy = Policy(default, tuple(table.get("groups", ())), rules)
        self.refuse_idle(policy)
        return policy

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

    def rule(self, value: Any, index: int) -> Rule:
        table = "seccomp.rules"
        self.check(table, value, index)
        answer = self.answer(table, value, "action", "errno_ret", index)
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
        return Rule(tuple(dict.fromkeys(names)), answer, args, tuple(written), value.get("comment", ""))

    def known(self, name: str, optional: bool, index: int) -> bool:
        try:
            calls.number(name, "x86_64")
        except KeyError:
            if optional:
                return False
            best = calls.nearest(name)
            hint = f"did you mean `{best}`?" if best else "`optional = true` skips names of newer kernels"
            self.fail("seccomp.rules", name, f"unknown system call `{name}`", hint, index)
        return True

    def argument(self, value: Any, index: int) -> Comparison:
        table = "seccomp.rules"
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
        if masked != ("value_two" in value):
            detail = f"`value_two` is the wanted value of SCMP_CMP_MASKED_EQ and of no other operator, here `{op}`"
            self.fail(table, "value_two" if not masked else "args", detail, "", index)
        if masked and not isinstance(value["value"], int):
            self.fail(table, "value", "`value` of SCMP_CMP_MASKED_EQ is one mask, not a list", "", index)
        wanted = value["value_two"] if masked else value["value"]
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
        for name, rows in policy.rows.items():
            mine = [index for index, rule in enumerate(policy.rules) if name in rule.names]
            for index, left in zip(mine, in_order([row for row, _ in rows]), strict=False):  # a group's row is the last
                if not left:
                    detail = f"`{name}` is never reached here: earlier rules answer all of it"
                    word = next((w for w in policy.rules[index].written if w == name), "names")
                    self.fail(
                        "seccomp.rules", word, detail, "rules are read in order, the first that matches wins", index
                    )
            if mine and name in grouped and all(policy.rules[i].answer.action == ALLOW for i in mine):
                detail = f"`{name}` is allowed by {grouped[name]} whatever its arguments are"
                self.fail("seccomp.rules", name, detail, "add a last rule for it that refuses the rest", mine[0])


def _is(wanted: str, value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if "limit" in wanted:
        plain = (whole and 0 <= value < 1 << 63) or value == "unlimited"
        return plain or (wanted == "limit" and isinstance(value, dict))
    return {
        "string": isinstance(value, str),
        "integer": whole,
        "true or false": isinstance(value, bool),
        "error number": whole or isinstance(value, str),
        "list of strings": isinstance(value, list) and all(isinstance(v, str) for v in value),
        "list of tables": isinstance(value, list),
        "integer or list of integers": whole
        or (isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)),
    }[wanted]


def _article(wanted: str) -> str:
    if wanted == "limit":
        return 'a number of 0 or more, "unlimited", or {soft = ..., hard = ...}'
    if wanted == "plain limit":
        return 'a number of 0 or more, or "unlimited"'
    return wanted if wanted == "true or false" else f"an {wanted}" if wanted[0] in "aeiou" else f"a {wanted}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, list):
        return "a list of mixed values" if len({type(v) for v in value}) > 1 else "a list"
    names = {str: "a string", int: f"the number {value}", float: "a fraction", dict: "a table"}
    return names.get(type(value), "a date or time")
