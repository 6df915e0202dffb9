"""Go's text/template read into nodes: text, pipelines, if, with, range, variables.  (cold)

Source: pkg.go.dev/text/template.  Not there: define, template, block, and calls of methods.
"""

import json
import re
from typing import Any, NamedTuple, NoReturn

from sandbox.errors import SandboxError

# Quotes begin strings, so that braces in these end nothing.  What begins a comment is nothing else, nor are two braces: with
# two ways to read one text, the time to find that none fits would double with each.
ACTION = re.compile(
    r"""\{\{(?P<left>-(?=\s))?(?P<body>(?:/\*(?:(?!\*/).)*\*/|"(?:[^"\\]|\\.)*"|`[^`]*`|'(?:[^'\\]|\\.)*'|(?!/\*|\{\{)[^"`'}]|\}(?!\}))*?)(?P<right>(?<=\s)-)?\}\}""",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<raw>`[^`]*`)|(?P<char>'(?:[^'\\]|\\.)+')
    |(?P<number>-?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?))|(?P<field>(?:\.[A-Za-z_]\w*)+)
    |(?P<var>\$\w*(?:\.[A-Za-z_]\w*)*)|(?P<dot>\.)|(?P<word>[A-Za-z_]\w*)|(?P<mark>:=|[=|(),]))""",
    re.VERBOSE,
)
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}
_DIGITS = 100  # more than numbers of 64 bits need; Python reads and prints no number of thousands of them
_BLOCKS = ("if", "with", "range")
_WORDS = {"true": True, "false": False, "nil": None}


def wrong(text: str, why: str, hint: str = "") -> SandboxError:
    """The error of every template."""
    return SandboxError(
        "read template", text, detail=why, hint=hint or "fields look like {{.Id}}; {{json .}} shows all"
    )


class Operand(NamedTuple):
    """`kind`: field, var (`name`), value, call (`name`), sub (a pipeline in parentheses as `value`); then `fields` of it."""

    kind: str
    text: str
    name: str = ""
    value: Any = None
    fields: tuple[str, ...] = ()


Pipe = list[list[Operand]]


class Node(NamedTuple):
    """`kind`: text, out, set, if, with, range, break, continue; `names` are variables."""

    kind: str
    text: str = ""
    pipe: "Pipe | None" = None
    names: tuple[str, ...] = ()
    body: "tuple[Node, ...]" = ()
    other: "tuple[Node, ...]" = ()


def unescaped(text: str) -> str:
    """Shells do not make a tab of \\t in single quotes; podman and docker do."""
    return re.sub(r"\\[nt\\]", lambda m: _ESCAPES[m[0]], text)


def pieces(template: str) -> list[tuple[bool, str]]:
    """(whether it is an action, text or what is between the braces), white space trimmed where {{- and -}} say so."""
    found: list[tuple[bool, str]] = []
    at, trim = 0, False
    for match in ACTION.finditer(template):
        text = template[at : match.start()]
        text = text.lstrip() if trim else text
        found.append((False, text.rstrip() if match["left"] else text))
        found.append((True, match["body"].strip()))
        at, trim = match.end(), match["right"] is not None
    rest = template[at:]
    found.append((False, rest.lstrip() if trim else rest))
    if any("{{" in text for action, text in found if not action):
        raise wrong(template, "braces do not match")
    return [(action, text if action else unescaped(text)) for action, text in found]


class _Words:
    """The words of one action, one after the other."""

    def __init__(self, body: str) -> None:
        self.body = body
        self._all: list[tuple[str, str, bool]] = []  # kind, text, whether a space is in front
        at = 0
        while body[at:].strip():
            match = _TOKEN.match(body, at)
            if match is None:
                raise wrong("{{" + body + "}}", "not understood")
            self._all.append((str(match.lastgroup), match[str(match.lastgroup)], match[0][:1].isspace()))
            at = match.end()
        self._at = 0

    def peek(self, ahead: int = 0) -> tuple[str, str, bool]:
        at = self._at + ahead
        return self._all[at] if at < len(self._all) else ("", "", True)

    def take(self) -> tuple[str, str, bool]:
        found = self.peek()
        self._at += 1
        return found

    def fail(self, why: str = "not understood") -> NoReturn:
        raise wrong("{{" + self.body + "}}", why)


def _text(quoted: str, words: _Words) -> str:
    try:
        found = json.loads(quoted if quoted[0] == '"' else f'"{quoted[1:-1]}"', strict=False)
    except ValueError:
        words.fail("a string that is none")
    return str(found)


def _literal(kind: str, text: str, words: _Words) -> Any:
    if kind == "text":
        return _text(text, words)
    if kind == "raw":
        return text[1:-1]
    if kind == "char":
        return ord(_text(text, words)[:1] or "\0")
    if len(text) > _DIGITS:
        words.fail("a number that is too long")
    return float(text) if "." in text else int(text, 0 if "x" in text.lower() else 10)


def _operand(words: _Words) -> Operand:
    kind, text, _ = words.take()
    if kind == "field":
        return Operand("field", text, fields=tuple(text[1:].split(".")))
    if kind == "dot":
        return Operand("field", ".")
    if kind == "var":
        name, *below = text.split(".")
        return Operand("var", text, name, fields=tuple(below))
    if kind in ("text", "raw", "char", "number"):
        return Operand("value", text, value=_literal(kind, text, words))
    if kind == "word":
        return Operand("value", text, value=_WORDS[text]) if text in _WORDS else Operand("call", text, text)
    if text != "(":
        words.fail("nothing between the braces" if not words.body else "not understood")
    inner = _pipe(words)
    if words.take()[1] != ")":
        words.fail("a parenthesis is not closed")
    fields: tuple[str, ...] = ()
    if words.peek()[0] == "field" and not words.peek()[2]:
        fields = tuple(words.take()[1][1:].split("."))
    return Operand("sub", words.body, value=inner, fields=fields)


def _pipe(words: _Words) -> Pipe:
    """Commands between bars, up to the end or a closing parenthesis."""
    found: Pipe = [[_operand(words)]]
    while words.peek()[0] and words.peek()[:2] != ("mark", ")"):
        if words.peek()[:2] == ("mark", "|"):
            words.take()
            found.append([_operand(words)])
        else:
            found[-1].append(_operand(words))
    return found


def _assigned(words: _Words) -> tuple[tuple[str, ...], str]:
    """(variables, := or =) in front of a pipeline; none when it assigns nothing."""
    names: list[str] = []
    ahead = 0
    while words.peek(ahead)[0] == "var" and "." not in words.peek(ahead)[1]:
        names.append(words.peek(ahead)[1])
        mark = words.peek(ahead + 1)[1]
        if mark in (":=", "="):
            for _ in range(ahead + 2):
                words.take()
            return tuple(names), mark
        if mark != ",":
            break
        ahead += 2
    return (), ""


def _whole(words: _Words) -> Pipe:
    found = _pipe(words)
    if words.peek()[0]:
        words.fail()
    return found


def parse(template: str) -> tuple[Node, ...]:
    """The nodes of a template; SandboxError "read template"."""
    queue = pieces(template)[::-1]
    nodes, end = _nodes(queue)
    if end:
        raise wrong("{{" + end + "}}", "nothing that it would belong to")
    return nodes


def _nodes(queue: list[tuple[bool, str]]) -> tuple[tuple[Node, ...], str]:
    """(nodes up to an `end` or `else` that is not theirs, that action's text; "" at the end of all)."""
    found: list[Node] = []
    while queue:
        action, text = queue.pop()
        if not action:
            if text:
                found.append(Node("text", text))
            continue
        if text.startswith("/*"):
            continue
        head = text.split(None, 1)[0] if text else ""
        if head in ("end", "else"):
            return tuple(found), text
        found.append(_node(head, text, queue))
    return tuple(found), ""


def _node(head: str, text: str, queue: list[tuple[bool, str]]) -> Node:
    if head in ("define", "template", "block"):
        raise wrong("{{" + text + "}}", f"sbx has no `{head}`")
    if text in ("break", "continue"):
        return Node(text)
    words = _Words(text)
    if head in _BLOCKS:
        words.take()
        names, _ = _assigned(words)
        pipe = _whole(words)
        body, end = _nodes(queue)
        other: tuple[Node, ...] = ()
        if end.split()[:1] == ["else"] and end.split()[1:2] and end.split()[1] in _BLOCKS:
            # else if ...: one more in its place, with the same end
            other, end = (_node(end.split()[1], end.split(None, 1)[1], queue),), "end"
        elif end == "else":
            other, end = _nodes(queue)
        if end != "end":
            words.fail("its {{end}} is missing")
        return Node(head, text, pipe, names, body, other)
    names, mark = _assigned(words)
    return Node("set" if names else "out", mark or text, _whole(words), names)
