"""The part of Go's text/template that people use with `--format`: fields, json, join, len, index.  (cold)

    {{.Id}}  {{.Config.Env}}  {{json .Config}}  {{join .RepoTags ", "}}  {{len .RootFS.Layers}}  {{index .Labels "a"}}

Values print as Go prints them: [a b], map[k:v], true.  A field that does not exist is an error that names its
neighbours, never an empty string.
"""

import difflib
import json
import re
from typing import Any

from sandbox.errors import SandboxError

_ACTION = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_WORDS = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|[^\s"`]+')
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


def plain(value: Any) -> str:
    """`value` as Go's %v prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + " ".join(plain(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{plain(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _wrong(text: str, why: str, hint: str = "") -> SandboxError:
    return SandboxError(
        "read template", text, detail=why, hint=hint or "fields look like {{.Id}}; also json, join, len and index"
    )


def _field(path: str, value: Any) -> Any:
    """`.A.B` of `value`; `.` is all of it."""
    if not path.startswith("."):
        if path.startswith('"'):
            return json.loads(path)
        if path.startswith("`"):
            return path[1:-1]
        if path.isdecimal():
            return int(path)
        raise _wrong(path, "not a field (they start with a dot)")
    for name in path[1:].split("."):
        if not name:
            if path == ".":
                return value
            raise _wrong(path, "an empty field name")
        if not isinstance(value, dict) or name not in value:
            known = sorted(value) if isinstance(value, dict) else []
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"fields: {', '.join(known)}" if known else ""
            raise _wrong(path, f"there is no field {name}", hint)
        value = value[name]
    return value


def _call(text: str, value: Any) -> str:
    words = _WORDS.findall(text.strip())
    if not words:
        raise _wrong("{{" + text + "}}", "nothing between the braces")
    name, arguments = words[0], words[1:]
    if name.startswith((".", '"', "`")) and not arguments:
        return plain(_field(name, value))
    found = [_field(word, value) for word in arguments]
    if name == "json" and len(found) == 1:
        return json.dumps(found[0], ensure_ascii=False)
    if name == "len" and len(found) == 1 and hasattr(found[0], "__len__"):
        return str(len(found[0]))
    if name == "join" and len(found) == 2 and isinstance(found[0], list) and isinstance(found[1], str):
        return found[1].join(plain(item) for item in found[0])
    if name == "index" and len(found) == 2:
        if isinstance(found[0], dict):
            return plain(found[0].get(found[1], ""))
        if isinstance(found[0], list) and isinstance(found[1], int) and found[1] < len(found[0]):
            return plain(found[0][found[1]])
    raise _wrong("{{" + text + "}}", "not understood")


def render(template: str, value: Any) -> str:
    """`template` filled from `value` (dicts, lists, strings, numbers); SandboxError "read template"."""
    template = _unescaped(template)
    if template.count("{{") != len(_ACTION.findall(template)):
        raise _wrong(template, "braces do not match")
    return _ACTION.sub(lambda m: _call(m[1], value), template)


def headings(template: str, titles: dict[str, str]) -> str:
    """`template` with the title of its field in each action's place; `CreatedAt` is CREATED AT where `titles` has none."""

    def title(found: re.Match[str]) -> str:
        field = re.search(r"\.([A-Za-z][A-Za-z0-9_.]*)", found[1])
        if not field:
            return ""
        last = field[1].rpartition(".")[2]
        return titles.get(field[1]) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", last).upper()

    return _ACTION.sub(title, _unescaped(template))


def _unescaped(template: str) -> str:
    return re.sub(r"\\[nt\\]", lambda m: _ESCAPES[m[0]], template)
