"""The table of all verbs, one file per group of them, in the order of the help.  (cold)"""

from sandbox.options import HOT, Option, Verb
from sandbox.verbs import containers, files, images, limits, machine, registries, store, volumes, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERBS: "Final[dict[str, Verb]]" = {
    **HOT, **containers.VERBS, **limits.VERBS, **files.VERBS, **volumes.VERBS, **images.VERBS, **store.VERBS, **registries.VERBS,
    **machine.VERBS, **words.VERBS,
}  # fmt: skip

# Other spellings, as podman has them.
ALIASES: "Final[dict[str, str]]" = {
    "image ls": "images", "image list": "images", "image rm": "rmi", "system info": "info", "volume list": "volume ls", "unmount": "umount",
    "container ls": "ps", "container list": "ps",
    **{
        f"container {verb}": verb
        for verb in (
            "attach", "commit", "cp", "create", "diff", "exec", "export", "init", "inspect", "kill", "logs", "mount", "pause", "port", "ps",
            "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "umount", "unpause", "update", "wait",
        )
    },
    **{f"image {verb}": verb for verb in ("history", "import", "inspect", "load", "search", "tag", "untag")},
}  # fmt: skip


def resolve(first: str, second: str) -> str:
    """The verb of two words, or the one that it is another spelling of; "" when there is none."""
    name = f"{first} {second}"
    return name if name in VERBS else ALIASES.get(name, "")


def below(first: str) -> list[str]:
    """The second words that `first` may have; [] when it is no group of verbs."""
    return [name.partition(" ")[2] for name in (*VERBS, *ALIASES) if name.startswith(f"{first} ")]


def groups() -> "dict[str, Verb]":
    """VERBS by their first word, for completion: a group is a verb whose first operand is the second word."""
    found: dict[str, Verb] = {}
    for name, verb in VERBS.items():
        first, space, _ = name.partition(" ")
        if not space:
            found[first] = verb
        elif first not in found:
            members = [VERBS[resolve(first, word)] for word in below(first)]
            options: dict[str, Option] = {}
            for option in (option for member in members for option in member.options if option.dest != "debug"):
                if not any(flag in other.flags for other in options.values() for flag in option.flags):
                    options[option.dest] = option
            found[first] = Verb(
                "", f"Verbs about the {'store' if first == 'system' else first + 's'}.", group=verb.group,
                options=tuple(options.values()), operands="VERB", least=1, most=-1,
                words=tuple(below(first)),
            )  # fmt: skip
    return found
