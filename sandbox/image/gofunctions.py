"""The functions of Go's templates, those of its own and docker's, and how Go prints values.  (cold)"""

import json
import re
from collections.abc import Callable
from typing import Any

from sandbox.errors import SandboxError

_VERB = re.compile(r"%([-+ 0#]*)([0-9]*)(?:\.([0-9]*))?([a-zA-Z%])")
_WIDEST = 10_000


class Map(dict[str, Any]):
    """What may have any keys; another than these is <no value>, no mistake."""


class Struct(dict[str, Any]):
    """What has fields that JSON leaves out when they are empty: `zero` is what these are then."""

    zero: dict[str, Any] = {}


class _NoValue:
    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "<no value>"


NO_VALUE = _NoValue()


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


def true(value: Any) -> bool:
    """Go's truth: not zero, not empty."""
    return bool(value)


def _sized(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))  # Go's strings are bytes
    return len(value) if value is not None else 0


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, "")
        elif isinstance(value, list) and type(key) is int and 0 <= key < len(value):
            value = value[key]
        else:
            raise IndexError
    return value


def _slice(value: Any, *ends: int) -> Any:
    low, high = [*ends, *([0, len(value)][len(ends) :])]
    if not 0 <= low <= high <= len(value):
        raise IndexError
    return value[low:high]


def _compared(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, other: Any) -> bool:
        if isinstance(one, str) != isinstance(other, str):
            raise TypeError
        return test(one, other)

    return compare


def _equal(one: Any, *others: Any) -> bool:
    if not others:
        raise TypeError
    return any(one == other and isinstance(one, bool) == isinstance(other, bool) for other in others)


def _printed(*values: Any) -> str:
    """As Go's Sprint: a space between two of which neither is a string."""
    text = ""
    for number, value in enumerate(values):
        apart = number and not isinstance(value, str) and not isinstance(values[number - 1], str)
        text += (" " if apart else "") + plain(value)
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=lambda missing: None)


def _quoted(value: Any) -> str:
    return json.dumps(value if isinstance(value, str) else plain(value), ensure_ascii=False)


def _formatted(template: str, *values: Any) -> str:
    """Go's Sprintf, with the verbs that mean something for what there is."""
    rest = list(values)

    def one(found: re.Match[str]) -> str:
        flags, width, precision, verb = found.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "sv":
            text = plain(value)
            text = text[: int(precision or 0)] if precision is not None else text
        elif verb == "q":
            text = _quoted(value)
        elif verb == "t":
            text = plain(bool(value))
        elif verb in "dxXob" and isinstance(value, int):
            text = format(value, verb) if verb != "d" else f"{value:+d}" if "+" in flags else str(value)
        elif verb in "xX" and isinstance(value, str):
            text = format(int.from_bytes(value.encode(), "big"), f"0{2 * len(value.encode())}{verb}") if value else ""
        elif verb in "feg":
            places = 6 if precision is None else min(int(precision or 0), _WIDEST)
            text = format(float(value), f".{places}{verb}")
        elif verb == "T":
            text = {str: "string", int: "int", bool: "bool", list: "[]interface {}"}.get(type(value), "interface {}")
        else:
            kinds = {str: "string", int: "int", bool: "bool", float: "float64"}
            return f"%!{verb}({kinds.get(type(value), 'interface {}')}={plain(value)})"
        size = min(int(width or 0), _WIDEST)
        if "-" in flags:
            return text.ljust(size)
        return text.zfill(size) if "0" in flags and isinstance(value, int | float) else text.rjust(size)

    made = _VERB.sub(one, template)
    return made + (f"%!(EXTRA {', '.join(map(plain, rest))})" if rest else "")


def _joined(values: Any, between: str) -> str:
    if not isinstance(values, list | None) or not isinstance(between, str):
        raise TypeError
    return between.join(plain(value) for value in values or [])


def _pad(text: str, left: int, right: int) -> str:
    return " " * min(left, _WIDEST) + text + " " * min(right, _WIDEST) if text else text


def _never(*values: Any) -> Any:  # `and` and `or` look at one after the other, see goformat
    raise SandboxError("read template", "and")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _never, "or": _never, "not": lambda value: not true(value), "len": _sized, "index": _index, "slice": _slice,
    "eq": _equal, "ne": lambda one, other: not _equal(one, other), "lt": _compared(lambda a, b: a < b),
    "le": _compared(lambda a, b: a <= b), "gt": _compared(lambda a, b: a > b), "ge": _compared(lambda a, b: a >= b),
    "print": _printed, "println": lambda *values: " ".join(map(plain, values)) + "\n", "printf": _formatted,
    "json": _json, "join": _joined, "split": lambda text, between: text.split(between) if between else list(text),
    "lower": lambda text: text.lower(), "upper": lambda text: text.upper(), "title": lambda text: text.title(),
    "pad": _pad, "truncate": lambda text, count: text[:count],
}  # fmt: skip
