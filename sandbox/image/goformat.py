"""Go's text/template with `--format`: fields, pipelines, if, with, range, variables, and the functions that people use.  (cold)

    {{.Id}}  {{.Config.Env}}  {{json .Config}}  {{join .RepoTags ", "}}  {{len .RootFS.Layers}}  {{index .Labels "a"}}
    {{range .Config.Env}}{{println .}}{{end}}  {{if .RepoTags}}...{{else}}...{{end}}  {{.Id | printf "%.12s"}}

Values print as Go prints them: [a b], map[k:v], true.  A field that does not exist is an error that names its
neighbours, never an empty string; but labels and the like are maps, where it is <no value>.
"""

import difflib
import functools
import re
from collections.abc import Iterable
from typing import Any

from sandbox.image.gofunctions import FUNCTIONS, NO_VALUE, Map, Struct, plain, true
from sandbox.image.goparse import Node, Operand, Pipe, parse, pieces, wrong

_parsed = functools.lru_cache(64)(parse)  # a table's rows have one template


Scope = dict[str, Any]


class _Leave(Exception):
    """break or continue."""


class _Run:
    """One template with one value."""

    def __init__(self, root: Any) -> None:
        self.variables: list[Scope] = [{"$": root}]
        self.out: list[str] = []

    def nodes(self, nodes: Iterable[Node], dot: Any) -> None:
        for node in nodes:
            getattr(self, f"_{node.kind}")(node, dot)

    def _text(self, node: Node, dot: Any) -> None:
        self.out.append(node.text)

    def _out(self, node: Node, dot: Any) -> None:
        self.out.append(plain(self.pipe(node.pipe or [], dot)))

    def _set(self, node: Node, dot: Any) -> None:
        value = self.pipe(node.pipe or [], dot)
        if node.text == ":=":
            self.variables[-1][node.names[0]] = value
        else:
            self._scope_of(node.names[0])[node.names[0]] = value

    def _break(self, node: Node, dot: Any) -> None:
        raise _Leave(node.kind)

    _continue = _break

    def _within(self, nodes: Iterable[Node], dot: Any, **variables: Any) -> None:
        self.variables.append(variables)
        try:
            self.nodes(nodes, dot)
        finally:
            self.variables.pop()

    def _if(self, node: Node, dot: Any) -> None:
        value = self.pipe(node.pipe or [], dot)
        self._within(node.body if true(value) else node.other, dot, **dict.fromkeys(node.names, value))

    def _with(self, node: Node, dot: Any) -> None:
        value = self.pipe(node.pipe or [], dot)
        inner = value if true(value) else dot
        self._within(node.body if true(value) else node.other, inner, **dict.fromkeys(node.names, value))

    def _range(self, node: Node, dot: Any) -> None:
        value = self.pipe(node.pipe or [], dot)
        if isinstance(value, dict):
            pairs: list[tuple[Any, Any]] = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list) or value is None:
            pairs = list(enumerate(value or []))
        else:
            raise wrong("{{" + node.text + "}}", "neither a list nor a map")
        if not pairs:
            self._within(node.other, dot)
        for key, one in pairs:
            try:
                self._within(node.body, one, **dict(zip(node.names[::-1], (one, key), strict=False)))
            except _Leave as how:
                if str(how) == "break":
                    break

    # -- values --

    def _scope_of(self, name: str) -> Scope:
        for scope in reversed(self.variables):
            if name in scope:
                return scope
        raise wrong(name, "no such variable")

    def pipe(self, pipe: Pipe, dot: Any) -> Any:
        """The value of the last command; each gets the value of the one before as its last argument."""
        value: list[Any] = []
        for command in pipe:
            value = [self._command(command, value, dot)]
        return value[0]

    def _command(self, command: list[Operand], piped: list[Any], dot: Any) -> Any:
        first, *rest = command
        if first.kind != "call":
            if rest or piped:
                raise wrong(first.text, "it is no function, and can be given nothing")
            return self._value(first, dot)
        if first.name in ("and", "or"):
            return self._lazily(first.name, [*rest, *(Operand("value", "", value=one) for one in piped)], dot)
        function = FUNCTIONS.get(first.name)
        if function is None:
            raise wrong(
                first.name, "there is no function of this name", f"those there are: {', '.join(sorted(FUNCTIONS))}"
            )
        arguments = [*(self._value(one, dot) for one in rest), *piped]
        try:
            return function(*arguments)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError):
            raise wrong(
                f"{first.name} {' '.join(one.text for one in rest)}".strip(), "it can not be called with this"
            ) from None

    def _lazily(self, name: str, operands: list[Operand], dot: Any) -> Any:
        value = None
        for operand in operands:
            value = self._value(operand, dot)
            if true(value) == (name == "or"):
                break
        return value

    def _value(self, operand: Operand, dot: Any) -> Any:
        if operand.kind == "call":
            return self._command([operand], [], dot)
        if operand.kind == "value":
            return operand.value
        if operand.kind == "var":
            dot = self._scope_of(operand.name)[operand.name]
        elif operand.kind == "sub":
            dot = self.pipe(operand.value, dot)
        for name in operand.fields:
            dot = _field(dot, name, operand.text)
        return dot


def _field(value: Any, name: str, path: str) -> Any:
    if isinstance(value, dict) and name in value:
        return value[name]
    if isinstance(value, Map):
        return NO_VALUE
    if isinstance(value, Struct) and name in value.zero:
        return value.zero[name]
    known = sorted(value) if isinstance(value, dict) else []
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"fields: {', '.join(known)}" if known else ""
    raise wrong(path, f"there is no field {name}", hint)


def render(template: str, value: Any) -> str:
    """`template` filled from `value` (dicts, lists, strings, numbers); SandboxError "read template"."""
    run = _Run(value)
    try:
        run.nodes(_parsed(template), value)
    except _Leave as how:
        raise wrong(template, f"{{{{{how}}}}} outside of a range") from None
    except RecursionError:
        raise wrong(template[:100], "nested too deep") from None
    return "".join(run.out)


def headings(template: str, titles: dict[str, str]) -> str:
    """`template` with the title of its field in each action's place; `CreatedAt` is CREATED AT where `titles` has none."""

    def title(body: str) -> str:
        field = re.search(r"\.([A-Za-z][A-Za-z0-9_.]*)", body)
        if not field or re.match(r"(?:if|with|range|else|end|/\*|\$\w+\s*:?=)", body):
            return ""
        last = field[1].rpartition(".")[2]
        return titles.get(field[1]) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", last).upper()

    return "".join(title(text) if action else text for action, text in pieces(template))
