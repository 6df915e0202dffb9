"""The typer app, made from the table of options: help, and the words for what is wrong with a command line.  (cold)

Every command's callback only returns what was parsed: entry.py calls the verb, whoever parsed its command line.
"""

import contextlib
import difflib
import inspect
import os
import sys
from collections.abc import Iterable
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from sandbox.cli.manpages import ENVIRONMENT
from sandbox.errors import EXIT_FAILED, UsageError
from sandbox.options import FLAG, LIST, Option, Verb
from sandbox.verbs import ALIASES, VERBS, below

# The exceptions and classes of click that typer builds on; newer typers carry a click of their own.
_ClickUsageError: Any = typer.BadParameter.__mro__[1]
_OFF = ":off"  # `--rm=false` is spelled `--rm:off` for typer, which has no flags with a value
_NAME = "sbx"
_SUMMARY = "Run images and wrap commands in a sandbox: no daemon, no root."
Parsed = tuple[dict[str, Any], list[str]]


def parse(verb: str, argv: list[str]) -> Parsed | int:
    """Parse `argv` of `verb` with typer; an exit status instead when help was shown.  Raises UsageError."""
    if not verb:
        with contextlib.redirect_stdout(sys.stderr):
            overview()
        return EXIT_FAILED
    if verb not in VERBS and below(verb):
        if argv and argv[0] not in ("-h", "--help"):
            raise UsageError("unknown verb", f"{verb} {argv[0]}", hint=_perhaps(argv[0], below(verb), verb))
        with contextlib.redirect_stdout(sys.stdout if argv else sys.stderr):
            overview(verb)
        return 0 if argv else EXIT_FAILED
    if verb not in VERBS:
        _unknown_verb(verb)
    result = typer_parse(verb, argv)
    if not isinstance(result, int):
        _check(verb, *result)
    return result


def typer_parse(verb: str, argv: list[str]) -> Parsed | int:
    """What typer makes of `argv`, without the checks of operands and choices."""
    command = _command(verb)
    try:
        result = command.main(_spelled_out(VERBS[verb], argv), prog_name=f"{_NAME} {verb}", standalone_mode=False)
    except _ClickUsageError as error:
        raise _in_our_words(verb, argv, error) from None
    if not isinstance(result, dict):
        return int(result or 0)
    operands = [_restored(word) for word in result.pop("operands", None) or ()]
    values: dict[str, Any] = {}
    for option in VERBS[verb].options:
        value = result[option.dest]
        if option.kind == LIST:
            values[option.dest] = [_restored(word) for word in value or ()]
        else:
            values[option.dest] = value if option.kind == FLAG else _restored(value or "")
    return values, operands


def show(verb: str) -> None:
    """Print the help of `verb`."""
    verb = ALIASES.get(verb, verb)
    if verb not in VERBS and below(verb):
        overview(verb)
        return
    if verb not in VERBS:
        _unknown_verb(verb)
    _command(verb).main(["--help"], prog_name=f"{_NAME} {verb}", standalone_mode=False)


def overview(first: str = "") -> None:
    """Print the help of sbx itself, or of a group of verbs, by its first word."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode="rich",
        help=f"`{_NAME} {first}`: {', '.join(below(first))}." if first else _SUMMARY,
        cls=_Group,
        context_settings={"help_option_names": ["-h", "--help"]},
        subcommand_metavar="VERB [ARGS]...",
    )

    def options(
        debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        pass

    app.callback()(options)
    shown = (
        {word: VERBS[ALIASES.get(f"{first} {word}", f"{first} {word}")] for word in below(first)} if first else VERBS
    )
    for name, verb in shown.items():
        app.command(name, help=escape(verb.summary), rich_help_panel=verb.group)(lambda: None)
    typer.main.get_command(app).main(["--help"], prog_name=f"{_NAME} {first}".strip(), standalone_mode=False)


def _command(verb: str) -> Any:
    """The typer command of `verb`, with one parameter per option of the table."""
    entry = VERBS[verb]

    def callback(**values: Any) -> dict[str, Any]:
        return values

    parameters = [_parameter(option) for option in entry.options]
    parameters.append(_keyword("operands", list[str], typer.Argument(hidden=True, show_default=False), None))
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {}
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    taken = any("-h" in option.flags for option in entry.options)
    app.command(
        verb,
        cls=type("_VerbCommand", (_Command,), {"verb": verb}),
        help=escape(f"{entry.summary}\n\n{entry.about}".strip()),
        context_settings={
            "help_option_names": ["--help"] if taken else ["-h", "--help"],
            "allow_interspersed_args": not entry.passthrough,
        },
    )(callback)
    return typer.main.get_command(app)


class _Command(typer.core.TyperCommand):
    """A command of one verb: its usage line and examples come from the table."""

    verb = ""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece for piece in ("[OPTIONS]", VERBS[self.verb].operands) if piece]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _tidy(self.get_params(ctx))
        super().format_help(ctx, formatter)
        _say("Examples", [_example(example) for example in VERBS[self.verb].examples])


class _Group(typer.core.TyperGroup):
    """All of sbx, for its help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _tidy(self.get_params(ctx))
        super().format_help(ctx, formatter)
        _say("Examples", [_example(VERBS[verb].examples[0]) for verb in ("run", "wrap", "doctor")])
        width = max(len(name) for name, _ in ENVIRONMENT if "," not in name) + 2
        _say("Environment", [f"{name:<{width}}{words}" for name, words in ENVIRONMENT if "," not in name])
        _say("", [f"`{_NAME} VERB --help` tells more. Exit status 125 says that {_NAME} failed, not the command."])


def _tidy(parameters: Iterable[Any]) -> None:
    """Show neither a type for flags nor the spellings that only `_spelled_out` writes."""
    for parameter in parameters:
        parameter.secondary_opts = []
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        if parameter.name == "help":
            parameter.rich_help_panel = "Common"
            parameter.help = "Show this help."


def _say(title: str, lines: list[str]) -> None:
    """Print a part of the help that typer has no place for: `lines` as they are, so that they can be copied."""
    if title and lines:
        plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
        print(f" {title}" if plain else typer.style(f" {title}", bold=True))
    for line in lines:
        print(f"   {line}" if title else f" {line}")
    print()


def _parameter(option: Option) -> inspect.Parameter:
    flags = list(option.flags)
    if option.kind == FLAG:
        flags[-1] += f"/--{option.dest}{_OFF}"
    info = typer.Option(
        *flags,
        help=escape(_help(option)),
        metavar=option.metavar or None,
        hidden=option.hidden,
        show_default=False,
        rich_help_panel=option.group or "Options",
    )
    kind = {FLAG: bool, LIST: list[str]}.get(option.kind, str)
    return _keyword(option.dest, kind, info, option.blank())


def _keyword(name: str, kind: Any, info: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _help(option: Option) -> str:
    words = option.help
    if option.choices:
        words += f" One of {', '.join(option.choices)}"
        words += f"; {option.default} if not given." if option.default else "."
    if option.kind == LIST:
        words += " Repeatable."
    return words


def _example(example: tuple[str, str]) -> str:
    command, words = example
    return f"{command}  # {words}" if words else command


def _spelled_out(entry: Verb, argv: list[str]) -> list[str]:
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
                words.append(flag if value == "true" else f"--{option.dest}{_OFF}")
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


def _restored(word: str) -> str:
    return "".join(chr(ord(c) - 0xF0000 + 0xD800) if 0xF0000 <= ord(c) < 0xF0800 else c for c in word)


def _check(verb: str, values: dict[str, Any], operands: list[str]) -> None:
    """Closed lists of words, and the number of operands: the quick parser only says no, here are the words for it."""
    entry = VERBS[verb]
    for option in entry.options:
        given = values[option.dest]
        if option.later and given != option.blank():
            raise UsageError(f"{verb}: {_long(option)}", detail=f"{_NAME} {verb} can not do that yet", hint=_see(verb))
        for value in given if isinstance(given, list) else (given,):
            if option.choices and value != option.blank() and not option.takes(value):
                raise UsageError(
                    f"{verb}: {_long(option)}", value,
                    detail=f"not one of {', '.join(option.choices)}", hint=_perhaps(value, option.choices, verb),
                )  # fmt: skip
    if entry.words and operands and operands[0] not in entry.words:
        raise UsageError(
            verb,
            operands[0],
            detail=f"not one of {', '.join(entry.words)}",
            hint=_perhaps(operands[0], entry.words, verb),
        )
    if len(operands) < entry.least:
        raise UsageError(f"{verb}: missing operand", entry.operands, hint=_see(verb))
    if 0 <= entry.most < len(operands):
        raise UsageError(f"{verb}: unexpected operand", operands[entry.most], hint=_see(verb))


def _long(option: Option) -> str:
    return next(flag for flag in option.flags if flag[:2] == "--")


def _see(verb: str) -> str:
    return f"`{_NAME} {verb} --help` shows how it is used"


def _perhaps(word: str, known: Iterable[str], verb: str = "") -> str:
    """A hint that names the nearest of `known`."""
    near = difflib.get_close_matches(word, list(known), 1)
    see = _see(verb) if verb else f"`{_NAME} --help` lists the verbs"
    return f"did you mean `{near[0]}`? {see}" if near else see


def _unknown_verb(verb: str) -> NoReturn:
    if verb[:1] == "-":
        raise UsageError("unknown option", verb, hint=_perhaps(verb, ("--help", "--version", "--debug")))
    raise UsageError("unknown verb", verb, hint=_perhaps(verb, VERBS))


def _in_our_words(verb: str, argv: list[str], error: Any) -> UsageError:
    """Typer's complaint in the form of all our messages.  Recognized by attributes: the classes move between versions."""
    entry = VERBS[verb]
    kind = type(error).__name__
    flag = _restored(str(getattr(error, "option_name", "")))
    if kind == "NoSuchOption":
        flags = [flag for option in entry.options if not option.hidden for flag in option.flags] + ["--help"]
        # `-rm` is read as -r -m; who typed it meant the long option.
        whole = next((word for word in argv if word[:2] == flag and f"-{word.split('=')[0]}" in flags), "")
        hint = f"did you mean `-{whole}`? {_see(verb)}" if whole else _perhaps(flag, flags, verb)
        return UsageError(f"{verb}: unknown option", flag, hint=hint)
    if kind == "BadOptionUsage":
        option = next((option for option in entry.options if flag in option.flags), None)
        if option and option.kind == FLAG:
            return UsageError(f"{verb}: option", flag, detail="takes no value but true or false", hint=_see(verb))
        metavar = option.metavar if option else "a value"
        return UsageError(f"{verb}: option", flag, detail=f"{metavar} is missing after it", hint=_see(verb))
    words = error.format_message()
    return UsageError(verb, detail=_restored(words[:1].lower() + words[1:].rstrip(".")), hint=_see(verb))
