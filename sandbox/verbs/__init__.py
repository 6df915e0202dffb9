"""The table of all verbs, one file per group of them, in the order of the help.  (cold)"""

from sandbox import options_exec, options_run, options_wrap
from sandbox.options import Option, Verb
from sandbox.verbs import containers, files, images, limits, machine, pods, registries, store, volumes, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERBS: "Final[dict[str, Verb]]" = {
    "run": options_run.VERB, "wrap": options_wrap.VERB, "exec": options_exec.VERB,
    **containers.VERBS, **limits.VERBS, **files.VERBS, **pods.VERBS, **volumes.VERBS, **images.VERBS, **store.VERBS, **registries.VERBS,
    **machine.VERBS, **words.VERBS,
}  # fmt: skip

# Other spellings, as podman has them.
ALIASES: "Final[dict[str, str]]" = {
    "image ls": "images", "image list": "images", "image rm": "rmi", "system info": "info", "volume list": "volume ls", "unmount": "umount",
    "pod ls": "pod ps", "pod list": "pod ps", "container ls": "ps", "container list": "ps",
    **{
        f"container {verb}": verb
        for verb in (
            "attach", "commit", "cp", "create", "diff", "exec", "export", "init", "kill", "logs", "mount", "pause", "port", "ps",
            "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "umount", "unpause", "update", "wait",
        )
    },
    **{f"image {verb}": verb for verb in ("history", "import", "load", "search", "tag", "untag")},
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
        members = [VERBS[resolve(first, word)] for word in below(first)]
        if not space and not members:
            found[first] = verb
        elif not space or first not in found:
            plain = None if space else verb  # `profile`, which has `profile learn` beside it
            options: dict[str, Option] = {}
            for option in (option for member in (*([plain] if plain else []), *members) for option in member.options):
                if option.dest != "debug" and not any(
                    f in other.flags for other in options.values() for f in option.flags
                ):
                    options[option.dest] = option
            found[first] = Verb(
                "", (plain or members[0]).summary if plain or len(members) == 1 else f"Verbs about the {'store' if first == 'system' else first + 's'}.",
                group=verb.group, options=tuple(options.values()), operands=plain.operands if plain else "VERB", least=1, most=-1,
                words=plain.words if plain else tuple(below(first)),
            )  # fmt: skip
    return found
