"""What completes what, for all shells: the kind of each option's value and of each operand.  (cold)"""

from collections.abc import Iterable

from sandbox.options import FLAG, Option, Verb
from sandbox.verbs import below

# What a value or an operand is, by the name it has in the usage text.
_FILES = {"FILE", "PATH", "SRC:DST[:OPTIONS]"}
_FOLDERS = {"DIR"}
_VALUES = {
    "PROFILE": "profiles", "CONTAINER": "containers", "CONTAINER[:ro]": "containers", "POD": "pods", "NAME[,OPTION...]": "secrets",
}  # fmt: skip
# kind -> the command that prints the names, a line each
ASKED = {
    "images": "sbx images --noheading --format '{{.Repository}}:{{.Tag}}' 2>/dev/null",
    "containers": "sbx ps --all --format '{{.Names}}' 2>/dev/null",
    "pods": "sbx pod ps --format '{{.Name}}' 2>/dev/null",
    "volumes": "sbx volume ls --quiet 2>/dev/null",
    "secrets": "sbx secret ls --format '{{.Name}}' 2>/dev/null",
    "profiles": "sbx profile list 2>/dev/null | cut -f 1",
}
# first word of a verb of two words -> what stands behind both
_BEHIND = {
    "container": "containers", "image": "images", "pod": "pods", "volume": "volumes", "secret": "secrets", "profile": "profiles",
    "healthcheck": "containers", "generate": "containers", "manifest": "images",
}  # fmt: skip


def is_value(option: Option) -> bool:
    """Whether something follows it."""
    return option.kind != FLAG


def shown(verb: Verb) -> list[Option]:
    """The options that are offered."""
    return [option for option in verb.options if not option.hidden]


def flags_of(options: Iterable[Option]) -> list[str]:
    """All their spellings."""
    return [flag for option in options for flag in option.flags]


def values_of(option: Option) -> str:
    """The kind of the value of `option`: files, folders, words (its choices), one of ASKED, or "" for nothing."""
    if option.choices:
        return "words"
    if option.metavar in _FILES:
        return "files"
    if option.metavar in _FOLDERS:
        return "folders"
    return _VALUES.get(option.metavar, "")


def operands_of(name: str, verb: Verb) -> str:
    """The kind of the operands of a verb; of the first one, where others are of another kind."""
    if name == "help":
        return "verbs"
    if verb.words:
        return "words"
    if verb.operands.startswith(("IMAGE", "[IMAGE", "NAME", "[NAME")):
        return "images"
    if verb.operands.startswith(("CONTAINER", "[CONTAINER")):
        return "containers"
    if "COMMAND" in verb.operands:
        return "commands"
    return "files" if "FILE" in verb.operands or "SOURCE" in verb.operands else ""


def behind(name: str) -> str:
    """The kind of the operands after the first one, for a verb of two words; "" when they are of the same kind."""
    return _BEHIND.get(name, "") if below(name) else ""


def quoted(text: str) -> str:
    """`text` as one word of a POSIX shell or zsh."""
    return "'" + text.replace("'", "'\\''") + "'"
