"""The profile language: TOML text -> what one file says, with an error that names file, line, key and the nearest name.  (cold)

`docs/profiles.md` describes it, `schema.py` defines it.  Nothing is guessed: a key, type, call, capability or limit that
is not known is an error, because a typing error in a list of prohibitions would otherwise be a hole that nobody sees.
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sandbox import caps, values
from sandbox.errors import SandboxError
from sandbox.profile import merging, probes
from sandbox.profile.kept import UNLIMITED, Profile
from sandbox.profile.policy import Answer, Rule
from sandbox.profile.rules import Rules
from sandbox.profile.schema import OPTIONS, REQUIRED, TABLES
from sandbox.profile.source import Source, near


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
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; a number of 5000 digits is one too
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


def line_of(path: str, text: str, table: str, word: str) -> int:
    """The line of [table] that `word` stands in, 0 when it is not there."""
    reader = Source(path, text)
    number = reader.line(table, 0, word)
    header = reader.line(table, 0, table)
    return number if number and number > header and header else 0


class _Reader(Rules):
    """One whole file."""

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
            if not path.startswith(("/", "~/")) or "/../" in f"{path}/" or set(path) & set("\0\n,"):
                detail = f"`{path}` must be an absolute path without `..`, commas and line breaks"
                self.fail(table, key, detail, "", index)
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
            if not absolute or "/../" in f"{path}/" or set(path) & set("\0\n"):  # which would be a line of its own
                self.fail(table, path, f"`{path}` in `{key}` must be an absolute path without `..` and line breaks")
        return tuple(paths)
