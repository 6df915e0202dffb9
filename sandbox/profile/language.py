"""The profile language: TOML text -> what one file says, with an error that names file, line, key and the nearest name.  (cold)

`docs/profiles.md` describes it, `schema.py` defines it.  Nothing is guessed: a key, type, call, capability or limit that
is not known is an error, because a typing error in a list of prohibitions would otherwise be a hole that nobody sees.
"""

import difflib
import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sandbox import caps, values
from sandbox.errors import SandboxError
from sandbox.profile import calls, merging, probes
from sandbox.profile.groups import GROUPS
from sandbox.profile.kept import UNLIMITED, Profile
from sandbox.profile.patterns import OPERATORS, in_order
from sandbox.profile.policy import ACTIONS, ALLOW, ERRNO, Answer, Comparison, Policy, Rule
from sandbox.profile.schema import OPTIONS, REQUIRED, TABLES

# A rule that can change something takes an instruction of its own, and the kernel takes 4096 (BPF_MAXINSNS).
_MOST_RULES = 4096
_LAST_PORT = 65535


@dataclass
class Written:
    """What one file says, checked but not yet put over what it extends."""

    settings: dict[str, Any]  # "table.key" -> value; only what stands there
    rules: tuple[Rule, ...]
    default: Answer | None
    fail: Callable[..., NoReturn] = field(repr=False)


def parse(path: str, text: str, extend: "Callable[[str], Profile] | None" = None) -> Profile:
    """Read `text`, the content of the file `path`; SandboxError for anything that is not exactly right.

    `extend`: how the profile that a word of `extends` means is had.
    """
    import tomli

    try:
        document = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 0)
        where = f"{path}:{line}" if line else path
        raise SandboxError("read profile", where, errno.EINVAL, f"not TOML: {error}") from None
    reader = _Reader(path, text)
    written = reader.written(document)
    word = written.settings.get("extends")
    if word is None:
        reader.complete(document)
        return merging.whole(path, written.settings, written.rules, written.default)
    if extend is None:
        reader.fail("", "extends", "`extends` can not be followed here")
    try:
        base = extend(word)
    except SandboxError as error:
        if error.subject != word:
            raise
        reader.fail("", word, f"`extends`: {error.detail}", error.hint)
    return merging.over(path, base, written.settings, written.rules, written.default, reader.fail)


def near(word: str, known: Any) -> str:
    """A hint with the known word that looks most like `word`, else with all of them when they are few."""
    known = [str(k) for k in known]
    best = difflib.get_close_matches(word.lower(), [k.lower() for k in known], 1)
    if best:
        return f"did you mean `{next(k for k in known if k.lower() == best[0])}`?"
    return f"known are {', '.join(known)}" if len(known) <= 45 else ""


def line_of(path: str, text: str, table: str, word: str) -> int:
    """The line of [table] that `word` stands in, 0 when it is not there."""
    reader = _Reader(path, text)
    number = reader.line(table, 0, word)
    header = reader.line(table, 0, table)
    return number if number and number > header and header else 0


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
        known = TABLES[schema or table]
        if not isinstance(value, dict):
            self.fail("", table.rsplit(".", 1)[-1], f"`{table}` must be a table, not {_kind(value)}")
        for key, item in value.items():
            place = f"[{table}]" if table else "the top of the file"
            if key not in known:
                self.fail(header, key, f"unknown key `{key}` in {place}", near(key, known), index)
            wanted = known[key].kind
            if wanted == "action":
                wanted = "string"
            if wanted != "table" and not _is(wanted, item):
                self.fail(header, key, f"`{key}` in {place} must be {_article(wanted)}, not {_kind(item)}", "", index)
        return value

    def words(self, table: str, key: str, items: Any) -> None:
        """`items`, a word or a list, are among those that the schema names."""
        known = TABLES[table][key].words
        if not known:
            return
        for item in items if isinstance(items, list) else [items]:
            base = item.partition(":")[0] if table == "namespaces" else item
            if base not in known:
                self.fail(table, item, f"unknown word `{item}` for `{key}` in [{table}]", near(item, known))

    def required(self, table: str, value: dict[str, Any], key: str, index: int = 0) -> Any:
        if key not in value:
            self.fail(table, table or key, f"[{table}] must have the key `{key}`", "nothing is assumed", index)
        return value[key]

    def complete(self, document: dict[str, Any]) -> None:
        """A profile that extends none says everything itself."""
        for table, keys in REQUIRED.items():
            if table not in document:
                detail = "a profile must say it, or extend one that does; see docs/profiles.md"
                self.fail("", table, f"the table [{table}] is missing", detail)
            for key in keys:
                self.required(table, document[table], key)

    def written(self, document: dict[str, Any]) -> Written:
        """Everything in the file, checked; keys of tables as "table.key"."""
        self.check("", document)
        found: dict[str, Any] = {}
        for table, value in document.items():
            kind = TABLES[""][table].kind
            if kind != "table":
                found[table] = value
                continue
            self.check(table, value)
            for key, item in value.items():
                if TABLES[table][key].kind == "table":
                    self.check(f"{table}.{key}", item)
                    found.update({f"{table}.{key}.{name}": one for name, one in item.items()})
                else:
                    self.words(table, key, item)
                    found[f"{table}.{key}"] = item
        self.values(found)
        table = document.get("seccomp", {})
        rules, default = self.seccomp(table)
        for key in ("defaultAction", "defaultErrnoRet", "syscalls", "deny", "absent", "allow"):
            found.pop(f"seccomp.{key}", None)
        return Written(found, rules, default, self.fail)

    def values(self, found: dict[str, Any]) -> None:
        """Words -> what they mean, in place."""
        for key in ("capabilities.keep", "capabilities.drop"):
            if key in found:
                found[key] = self.capabilities(found[key])
        rlimits = {key: found.pop(key) for key in list(found) if key.startswith("rlimits.")}
        if rlimits:
            found["rlimits"] = self.rlimits({key.partition(".")[2]: value for key, value in rlimits.items()})
        for key in ("maskedPaths", "readonlyPaths", "hidden", "protected", "uncovered"):
            if f"filesystem.{key}" in found:
                found[f"filesystem.{key}"] = self.paths(key, found[f"filesystem.{key}"])
        for key in ("read", "write", "execute"):
            self.paths(key, found.get(f"landlock.{key}", []), "landlock")
        for index, mount in enumerate(found.get("filesystem.mounts", ())):
            self.mount(mount, index)
        for text in found.get("filesystem.tmpfs", ()):
            self.paths("tmpfs", [text.partition(":")[0]])
        self.numbers(found)
        for word in found.get("lock", ()):
            known = {*OPTIONS, *(key.partition(".")[0] for key in OPTIONS)}
            if word not in known:
                self.fail("", word, f"`{word}` can not be locked", near(word, sorted(known)))
        for word in found.get("require", ()):
            if not re.fullmatch(r"seccomp|cgroups|user_namespaces|landlock(>=[0-9]{1,3})?", word):
                self.fail("", word, f"unknown requirement `{word}`", "seccomp, cgroups, user_namespaces, landlock>=N")
        for index, test in enumerate(found.get("test", ())):
            self.check("test", test, index)
            if len(test) != 1:
                self.fail("test", "test", "[[test]] has one key, `deny` or `allow`", "", index)
            word = next(iter(test.values()))
            cause = probes.wrong(word)
            if cause:
                self.fail("test", word.partition(" ")[0], f"`{word}`: {cause}", probes.FORMS, index)

    def numbers(self, found: dict[str, Any]) -> None:
        """Sizes, durations, ids and modes, as the options of the same meaning read them."""
        try:
            if "process.timeout" in found:
                found["process.timeout"] = values.seconds(str(found["process.timeout"]), "timeout")
                if found["process.timeout"] <= 0:
                    raise SandboxError("read timeout", "", errno.EINVAL, "it must be above 0")
            for key in ("limit", "swap", "reservation"):
                if f"limits.memory.{key}" in found:
                    found[f"limits.memory.{key}"] = values.size(str(found[f"limits.memory.{key}"]), key)
        except SandboxError as error:
            key = "timeout" if "timeout" in error.step else error.step.rpartition(" ")[2]
            self.fail(
                "process" if key == "timeout" else "limits.memory",
                key,
                f"`{key}` {error.subject}: {error.detail or error.hint}",
            )
        if "process.umask" in found:
            text = found["process.umask"]
            if not re.fullmatch("0?[0-7]{1,3}", text):
                self.fail("process", "umask", f"`umask` must be octal digits, not `{text}`", 'like "022"')
            found["process.umask"] = int(text, 8)
        if "process.user" in found:
            text = str(found["process.user"])
            if not re.fullmatch("[0-9]{1,9}(:[0-9]{1,9})?", text):
                self.fail("process", "user", f"`user` must be UID or UID:GID, not `{text}`")
            found["process.user"] = text
        for table in ("set", "pass", "unset"):
            for name in found.get(f"environment.{table}", ()):
                if not name or "=" in name or "\0" in name:
                    self.fail("environment", name, f"`{name}` is no name of a variable")

    def mount(self, value: Any, index: int) -> None:
        table = "filesystem.mounts"
        self.check(table, value, index)
        for key in ("destination", "source"):
            path = self.required(table, value, key, index)
            if not path.startswith(("/", "~/")) or "/../" in f"{path}/" or set(path) & set("\0,"):
                self.fail(table, key, f"`{path}` must be an absolute path without `..` and commas", "", index)
        for option in value.get("options", ()):
            if option not in ("ro", "rw", "noexec", "nosuid", "nodev"):
                self.fail(table, option, f"unknown option `{option}`", "ro, rw, noexec, nosuid, nodev", index)

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

    def paths(self, key: str, paths: list[str], table: str = "filesystem") -> tuple[str, ...]:
        for path in paths:
            absolute = path.startswith("/") or (key in ("hidden", "protected", "uncovered") and path.startswith("~/"))
            if not absolute or "/../" in f"{path}/" or "\0" in path:
                self.fail(table, path, f"`{path}` in `{key}` must be an absolute path without `..`")
        return tuple(paths)

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


def _is(wanted: str, value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if "limit" in wanted:
        plain = (whole and 0 <= value < 1 << 63) or value == "unlimited"
        return plain or (wanted == "limit" and isinstance(value, dict))
    return {
        "string": isinstance(value, str),
        "word": isinstance(value, str),
        "octal string": isinstance(value, str),
        "duration": isinstance(value, str) or whole,
        "user": isinstance(value, str) or whole,
        "size": isinstance(value, str) or (whole and value >= 0),
        "count": whole and value >= 0,
        "table of strings": isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
        "integer": whole,
        "true or false": isinstance(value, bool),
        "error number": whole or isinstance(value, str),
        "list of strings": isinstance(value, list) and all(isinstance(v, str) for v in value),
        "list of ports": isinstance(value, list) and all(_is("count", v) and v <= _LAST_PORT for v in value),
        "list of tables": isinstance(value, list),
        "integer or list of integers": whole
        or (isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)),
    }[wanted]


def _article(wanted: str) -> str:
    if wanted == "limit":
        return 'a number of 0 or more, "unlimited", or {soft = ..., hard = ...}'
    if wanted == "plain limit":
        return 'a number of 0 or more, or "unlimited"'
    wanted = {"word": "string", "duration": "time", "count": "number of 0 or more"}.get(wanted, wanted)
    return wanted if wanted == "true or false" else f"an {wanted}" if wanted[0] in "aeiou" else f"a {wanted}"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, list):
        return "a list of mixed values" if len({type(v) for v in value}) > 1 else "a list"
    names = {str: "a string", int: f"the number {value}", float: "a fraction", dict: "a table"}
    return names.get(type(value), "a date or time")
