"""A command line in the spellings that typer understands.  (cold)"""

from collections.abc import Iterable

from sandbox.options import FLAG, Option, Verb

OFF = ":off"  # `--rm=false` is spelled `--rm:off` for typer, which has no flags with a value


def spelled_out(entry: Verb, argv: list[str]) -> list[str]:
    """`argv` as typer understands it: `--flag=true`, `--flag=false` and `-v=VALUE` are pflag's (podman's) spellings.

    Surrogates, which stand for bytes that are no UTF-8, become private characters: pydantic refuses them.
    """
    by_flag = {flag: option for option in entry.options for flag in option.flags}
    words: list[str] = []
    rest = iter(_hidden(word) for word in argv)
    for word in rest:
        if word == "--" or (entry.passthrough and (word == "-" or word[:1] != "-")):
            words += [word, *rest]
        elif word[:2] == "--":
            flag, given, value = word.partition("=")
            option = by_flag.get(flag)
            if option and option.kind == FLAG and given and value in ("true", "false"):
                words.append(flag if value == "true" else f"--{option.dest}{OFF}")
            else:
                words.append(word)
                if option and option.kind != FLAG and not given:
                    words += _one(rest)
        elif word[:1] == "-" and word != "-":
            words += _cluster(by_flag, word, rest)
        else:
            words.append(word)
    return words


def _cluster(by_flag: dict[str, Option], word: str, rest: Iterable[str]) -> list[str]:
    """`word`, short options in one, with the value of the last one as a word of its own."""
    for index, letter in enumerate(word[1:], 1):
        option = by_flag.get(f"-{letter}")
        if option is None:
            break
        if option.kind != FLAG:
            value = word[index + 1 :]
            return [word[: index + 1], value.removeprefix("=")] if value else [word, *_one(rest)]
    return [word]


def _one(rest: Iterable[str]) -> list[str]:
    """The next word of an iterator, as a list of one, or of none at its end."""
    return [word for _, word in zip((None,), rest)]  # in this order, or zip takes one word more


def _hidden(word: str) -> str:
    return "".join(chr(ord(c) + 0xF0000 - 0xD800) if 0xD800 <= ord(c) < 0xE000 else c for c in word)


def restored(word: str) -> str:
    """A word of typer's as it was typed, see `spelled_out`."""
    return "".join(chr(ord(c) - 0xF0000 + 0xD800) if 0xF0000 <= ord(c) < 0xF0800 else c for c in word)
