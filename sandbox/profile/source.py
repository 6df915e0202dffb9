"""One file of a profile as it is written: which words there are, of which types, and on which line.  (cold)"""

import difflib
import errno
import re
from typing import Any, NoReturn

from sandbox.errors import SandboxError
from sandbox.profile.schema import TABLES

_LAST_PORT = 65535
_LONGEST = 500  # characters of an error that are worth reading


def near(word: str, known: Any) -> str:
    """A hint with the known word that looks most like `word`, else with all of them when they are few."""
    known = [str(k) for k in known]
    best = difflib.get_close_matches(word[:_LONGEST].lower(), [k.lower() for k in known], 1)
    if best:
        return f"did you mean `{next(k for k in known if k.lower() == best[0])}`?"
    return f"known are {', '.join(known)}" if len(known) <= 45 else ""


class Source:
    """Keeps the text, to find the line that an error is about."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def line(self, table: str, index: int, word: str) -> int:
        """Where `word` stands: in the `index`-th [table] or [[table]], else anywhere, else 0."""
        pattern = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])")
        header = re.compile(r"\[\[?([^\[\]]+)\]\]?\s*(#|$)")  # each blank has one way to fit, however many there are
        current, seen = "", -1 if table else 0
        anywhere = 0
        for number, line in enumerate(self.lines, 1):
            match = header.match(line.lstrip())
            if match:
                current = match[1].strip()
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
        detail = detail if len(detail) <= _LONGEST else f"{detail[:_LONGEST]}..."
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


def _is(wanted: str, value: Any) -> bool:
    whole = _is_whole(value)
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
        "integer or list of integers": whole or (isinstance(value, list) and all(_is_whole(v) for v in value)),
    }[wanted]


def _is_whole(value: Any) -> bool:
    """A number that something in the kernel could have; TOML's may have any length."""
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 64


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
    if isinstance(value, int):
        return f"the number {value}" if _is_whole(value) else "a number of more than 64 bits"
    names = {str: "a string", float: "a fraction", dict: "a table"}
    return names.get(type(value), "a date or time")
