"""`--filter KEY=VALUE`: what the filters of all lists have in common.  (cold)"""

import re

from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar

    T = TypeVar("T")


def parse(
    texts: "Iterable[str]", keys: "Iterable[str]", test: "Callable[[str, str], Callable[[T], bool]]"
) -> "Callable[[T], bool]":
    """One test for all of `texts`: different keys must all hold, of the values of one key any (labels: all).

    `test(key, value)` is that of one; SandboxError "read filter" for a key that is not one of `keys`.
    """
    found: dict[str, list[Callable[[T], bool]]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in keys:
            raise SandboxError(
                "read filter", text, detail="no such filter" if equals else "not of the form KEY=VALUE",
                hint=f"one of {', '.join(keys)}",
            )  # fmt: skip
        found.setdefault(key, []).append(test(key, value))
    return lambda row: all(
        (all if key.startswith("label") else any)(passes(row) for passes in tests) for key, tests in found.items()
    )


def expression(key: str, value: str) -> "re.Pattern[str]":
    """The regular expression of a filter, which is to be searched for: podman's names are such."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what may mean something else in a later Python
            return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise SandboxError("read filter", f"{key}={value}", EINVAL, f"no regular expression: {error}") from None


def has_label(labels: "Mapping[str, str]", text: str) -> bool:
    """Whether `text`, NAME or NAME=VALUE, is one of the labels."""
    name, equals, value = text.partition("=")
    return name in labels and (not equals or labels[name] == value)
