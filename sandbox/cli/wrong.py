"""What is wrong with a command line, in our words.  (cold)"""

import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

from sandbox.cli.spelling import restored
from sandbox.errors import UsageError
from sandbox.options import FLAG, Option
from sandbox.verbs import VERBS

NAME = "sbx"
_PODS = f"`{NAME} pod create` and `{NAME} run --pod` are for containers that belong together"
# Verbs of podman and docker that are not there -> what is there in their place
_INSTEAD = {
    "build": f"`buildah build -t APP` and `buildah push APP oci-archive:FILE:APP` make what `{NAME} load -i FILE` takes",
    "network": f"containers share a network by `--network container:NAME` or a pod, see `{NAME} pod create --help`; -p publishes ports",
    "compose": _PODS,
    "kube": _PODS,
    "play": _PODS,
    "auto-update": f"`{NAME} pull`, then `{NAME} run --replace`",
}


def check(verb: str, values: dict[str, Any], operands: list[str]) -> None:
    """Closed lists of words, and the number of operands: the quick parser only says no, here are the words for it."""
    entry = VERBS[verb]
    for option in entry.options:
        given = values[option.dest]
        if option.later and given != option.blank():
            raise UsageError(f"{verb}: {_long(option)}", detail=f"{NAME} {verb} can not do that yet", hint=_see(verb))
        for value in given if isinstance(given, list) else (given,):
            if option.choices and value != option.blank() and not option.takes(value):
                raise UsageError(
                    f"{verb}: {_long(option)}", value,
                    detail=f"not one of {', '.join(option.choices)}", hint=perhaps(value, option.choices, verb),
                )  # fmt: skip
    if entry.words and operands and operands[0] not in entry.words:
        raise UsageError(
            verb,
            operands[0],
            detail=f"not one of {', '.join(entry.words)}",
            hint=perhaps(operands[0], entry.words, verb),
        )
    if len(operands) < entry.least:
        raise UsageError(f"{verb}: missing operand", entry.operands, hint=_see(verb))
    if 0 <= entry.most < len(operands):
        raise UsageError(f"{verb}: unexpected operand", operands[entry.most], hint=_see(verb))


def _long(option: Option) -> str:
    return next(flag for flag in option.flags if flag[:2] == "--")


def _see(verb: str) -> str:
    return f"`{NAME} {verb} --help` shows how it is used"


def perhaps(word: str, known: Iterable[str], verb: str = "") -> str:
    """A hint that names the nearest of `known`."""
    near = difflib.get_close_matches(word, list(known), 1)
    usage = _see(verb) if verb else f"`{NAME} --help` lists the verbs"
    return f"did you mean `{near[0]}`? {usage}" if near else usage


def unknown_verb(verb: str) -> NoReturn:
    """Raise UsageError for a verb that there is not."""
    if verb[:1] == "-":
        raise UsageError("unknown option", verb, hint=perhaps(verb, ("--help", "--version", "--debug")))
    raise UsageError("unknown verb", verb, hint=_INSTEAD.get(verb) or perhaps(verb, VERBS))


def in_our_words(verb: str, argv: list[str], error: Any) -> UsageError:
    """Typer's complaint in the form of all our messages.  Recognized by attributes: the classes move between versions."""
    entry = VERBS[verb]
    kind = type(error).__name__
    flag = restored(str(getattr(error, "option_name", "")))
    if kind == "NoSuchOption":
        flags = [flag for option in entry.options if not option.hidden for flag in option.flags] + ["--help"]
        # `-rm` is read as -r -m; who typed it meant the long option.
        whole = next((word for word in argv if word[:2] == flag and f"-{word.split('=')[0]}" in flags), "")
        hint = f"did you mean `-{whole}`? {_see(verb)}" if whole else perhaps(flag, flags, verb)
        return UsageError(f"{verb}: unknown option", flag, hint=hint)
    if kind == "BadOptionUsage":
        option = next((option for option in entry.options if flag in option.flags), None)
        if option and option.kind == FLAG:
            return UsageError(f"{verb}: option", flag, detail="takes no value but true or false", hint=_see(verb))
        metavar = option.metavar if option else "a value"
        return UsageError(f"{verb}: option", flag, detail=f"{metavar} is missing after it", hint=_see(verb))
    words = error.format_message()
    return UsageError(verb, detail=restored(words[:1].lower() + words[1:].rstrip(".")), hint=_see(verb))
