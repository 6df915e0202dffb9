"""Read JSON of strangers: one meaning or an error.  (cold)

Two parsers that differ on duplicate keys or NaN see two documents behind one digest; deep nesting ends in a
RecursionError.  All refused here, before any key is looked at.
"""

import json
from typing import Any, NoReturn

from sandbox.errors import SandboxError
from sandbox.image import limits


class _Refused(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(f"key `{key}` appears twice")
        found[key] = value
    return found


def _constant(word: str) -> NoReturn:
    raise _Refused(f"{word} is not JSON")


def _number(text: str) -> int:
    if len(text) > 20:
        raise _Refused("a number of more than 20 digits")
    return int(text)


def depth(text: str) -> int:
    """How deep arrays and objects nest, without parsing: brackets outside strings."""
    level = deepest = 0
    inside = escaped = False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            level += 1
            deepest = max(deepest, level)
        elif char in "]}":
            level -= 1
    return deepest


def loads(raw: bytes, what: str) -> Any:
    """The value of `raw`, UTF-8 JSON of at most `limits.JSON_BYTES`; `what` names it in the SandboxError."""
    try:
        if len(raw) > limits.JSON_BYTES:
            raise _Refused(f"longer than {limits.JSON_BYTES >> 20} MiB")
        text = raw.decode("utf-8")
        if depth(text) > limits.JSON_DEPTH:
            raise _Refused(f"nested more than {limits.JSON_DEPTH} deep")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_number)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair can be neither printed nor written
        return value
    except UnicodeError:
        raise SandboxError("read json", what, detail="not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise SandboxError("read json", what, detail=str(error)) from None


def dumps(value: Any) -> bytes:
    """Compact, sorted, the same bytes for the same value: digests are made of it."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode("utf-8")


def expect(value: Any, kind: type, what: str, key: str) -> Any:
    """`value` when it is of exactly this type, else a SandboxError that names `key`; True is no int."""
    if type(value) is not kind:
        words = {dict: "an object", list: "an array", str: "a string", int: "a whole number", bool: "true or false"}
        raise SandboxError("read json", what, detail=f"`{key}` is not {words.get(kind, kind.__name__)}")
    return value


def strings(value: Any, what: str, key: str) -> list[str]:
    """A list of strings; null and absent mean empty, as Go writes them."""
    if value is None:
        return []
    for item in expect(value, list, what, key):
        expect(item, str, what, key)
    return list(value)
