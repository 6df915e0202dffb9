"""The typer app, made from the table of options: help, and the words for what is wrong with a command line.  (cold)

Every command's callback only returns what was parsed: entry.py calls the verb, whoever parsed its command line.
"""

import contextlib
import inspect
import os
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.markup import escape

from sandbox.cli.manpages import ENVIRONMENT
from sandbox.cli.spelling import OFF, restored, spelled_out
from sandbox.cli.wrong import NAME, check, in_our_words, perhaps, unknown_verb
from sandbox.errors import EXIT_FAILED, UsageError
from sandbox.options import FLAG, LIST, Option
from sandbox.verbs import ALIASES, VERBS, below

# The exceptions and classes of click that typer builds on; newer typers carry a click of their own.
_ClickUsageError: Any = typer.BadParameter.__mro__[1]
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
            raise UsageError("unknown verb", f"{verb} {argv[0]}", hint=perhaps(argv[0], below(verb), verb))
        with contextlib.redirect_stdout(sys.stdout if argv else sys.stderr):
            overview(verb)
        return 0 if argv else EXIT_FAILED
    if verb not in VERBS:
        unknown_verb(verb)
    result = typer_parse(verb, argv)
    if not isinstance(result, int):
        check(verb, *result)
    return result


def typer_parse(verb: str, argv: list[str]) -> Parsed | int:
    """What typer makes of `argv`, without the checks of operands and choices."""
    command = _command(verb)
    try:
        result = command.main(spelled_out(VERBS[verb], argv), prog_name=f"{NAME} {verb}", standalone_mode=False)
    except _ClickUsageError as error:
        raise in_our_words(verb, argv, error) from None
    if not isinstance(result, dict):
        return int(result or 0)
    operands = [restored(word) for word in result.pop("operands", None) or ()]
    values: dict[str, Any] = {}
    for option in VERBS[verb].options:
        value = result[option.dest]
        if option.kind == LIST:
            values[option.dest] = [restored(word) for word in value or ()]
        else:
            values[option.dest] = value if option.kind == FLAG else restored(value or "")
    return values, operands


def show(verb: str) -> None:
    """Print the help of `verb`."""
    verb = ALIASES.get(verb, verb)
    if verb not in VERBS and below(verb):
        overview(verb)
        return
    if verb not in VERBS:
        unknown_verb(verb)
    _command(verb).main(["--help"], prog_name=f"{NAME} {verb}", standalone_mode=False)


def overview(first: str = "") -> None:
    """Print the help of sbx itself, or of a group of verbs, by its first word."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode="rich",
        help=f"`{NAME} {first}`: {', '.join(below(first))}." if first else _SUMMARY,
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
    typer.main.get_command(app).main(["--help"], prog_name=f"{NAME} {first}".strip(), standalone_mode=False)


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
        more = (
            f"`{NAME} VERB --help` tells more. As in podman, `{NAME} container ls`, `{NAME} image rm` and the like are verbs too.",
            f"Exit status 125 says that {NAME} failed, not the command.",
        )
        _say("", list(more))


def _tidy(parameters: Iterable[Any]) -> None:
    """Show neither a type for flags nor the spellings that only `spelled_out` writes."""
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
        flags[-1] += f"/--{option.dest}{OFF}"
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
