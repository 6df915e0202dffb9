"""WWW-Authenticate: what a registry wants to see before it answers.  (cold)

RFC 9110, section 11: a list of challenges, each a scheme with parameters or one token68.  Read in one pass; whatever
is out of grammar ends the challenge it stands in, so that garbage costs linear time and yields nothing.
"""

import re
from typing import NamedTuple

LENGTH = 8 << 10  # characters that are looked at
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|\Z))")
_SPACE = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"[ \t,]*")


class Challenge(NamedTuple):
    """`scheme` in lower case ("basic", "bearer"), `parameters` with names in lower case."""

    scheme: str
    parameters: dict[str, str]


def _parameter(text: str, at: int) -> tuple[str, str, int] | None:
    """(name, value, where it ends) of a `name=value` at `at`."""
    name = _TOKEN.match(text, at)
    if name is None:
        return None
    at = _SPACE.match(text, name.end()).end()  # type: ignore[union-attr]  # matches the empty string too
    if at >= len(text) or text[at] != "=":
        return None
    at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]
    quoted = _QUOTED.match(text, at)
    if quoted is not None:
        return name[0].lower(), re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    plain = _TOKEN.match(text, at)
    return (name[0].lower(), plain[0], plain.end()) if plain else None


def parse(header: str) -> list[Challenge]:
    """The challenges in one or more joined header values; empty when there are none that can be read."""
    text = header[:LENGTH]
    if any(ord(char) < 32 and char != "\t" for char in text):
        return []
    found: list[Challenge] = []
    at = 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        parameter = _parameter(text, at)
        if parameter is not None and found:
            name, value, at = parameter
            found[-1].parameters.setdefault(name, value)
            continue
        scheme = _TOKEN.match(text, at)
        if scheme is None or parameter is not None:
            return found
        found.append(Challenge(scheme[0].lower(), {}))
        at = _SPACE.match(text, scheme.end()).end()  # type: ignore[union-attr]
        blob = _TOKEN68.match(text, at)
        if blob is not None and at > scheme.end() and _parameter(text, at) is None:
            at = blob.end()
