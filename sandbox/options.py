"""What the one table of verbs and options is made of, and the quick parser that reads argv by it.  (core, hot)

The table is in options_run.py, options_wrap.py, options_exec.py, and in verbs/ for the rest.  It feeds the quick parser here, typer's signatures, ``--help``, completion scripts and manual pages (cli/).
The quick parser accepts only what it fully understands; for everything else it returns None, and typer, fed from the
same table, parses again and finds the words for what is wrong.  A property test holds the two against each other.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

FLAG: "Final" = "flag"
VALUE: "Final" = "value"
LIST: "Final" = "list"


class Option:
    """One option: ``flags`` as typed (the first long one names the dest), ``kind`` flag, value or list (repeatable).

    ``hidden``: accepted, not shown.  ``later``: not shown, and refused in so many words, because nothing reads it yet: an
    option that is accepted and ignored would be a promise, of isolation most of all.
    """

    __slots__ = ("choices", "default", "dest", "flags", "group", "help", "hidden", "kind", "later", "metavar")

    def __init__(
        self,
        flags: str,
        kind: str,
        metavar: str,
        help: str,
        *,
        group: str = "",
        choices: tuple[str, ...] = (),
        default: str = "",
        hidden: bool = False,
        later: bool = False,
    ) -> None:
        self.flags = tuple(flags.split())
        self.kind = kind
        self.metavar = metavar
        self.help = help
        self.group = group
        self.choices = choices
        self.default = default
        self.hidden = hidden or later
        self.later = later
        self.dest = flags[flags.index("--") + 2 :].partition(" ")[0].replace("-", "_")

    def postponed(self) -> "Option":
        """This option for a verb that does not read it yet."""
        return Option(" ".join(self.flags), self.kind, self.metavar, self.help, group=self.group, later=True)

    def takes(self, value: str) -> bool:
        """Whether `value` is one of the choices, or begins with one that ends with a colon."""
        begin = f"{value.partition(':')[0]}:"
        return value in self.choices or (begin in self.choices and len(value) > len(begin))

    def blank(self) -> "Any":
        """The value of this option when it is not given; a new list each time."""
        return False if self.kind == FLAG else [] if self.kind == LIST else self.default


class Verb:
    """One verb: where it lives (``module:function``), what it takes, and the words that describe it.

    ``operands`` is the usage text, between ``least`` and ``most`` of them are accepted (-1: any number).
    ``passthrough``: from the first operand on, nothing is an option of ours.  ``examples``: (command, what it does).
    """

    __slots__ = (
        "about", "examples", "group", "hot", "least", "most", "operands", "options", "passthrough", "summary", "target",
        "words",
    )  # fmt: skip

    def __init__(
        self,
        target: str,
        summary: str,
        *,
        options: tuple[Option, ...] = (),
        operands: str = "",
        least: int = 0,
        most: int = 0,
        words: tuple[str, ...] = (),
        about: str = "",
        examples: tuple[tuple[str, str], ...] = (),
        hot: bool = False,
        passthrough: bool = False,
        group: str = "",
    ) -> None:
        self.target = target
        self.summary = summary
        self.group = group
        self.options = options + COMMON
        self.operands = operands
        self.least = least
        self.most = most
        self.words = words  # what the first operand may be, when that is a closed list
        self.about = about
        self.examples = examples
        self.hot = hot
        self.passthrough = passthrough


class Switch(Option):
    """A flag that need not be given: True for `--flag` and `--flag=true`, False for `--flag=false`, else None."""

    __slots__ = ()

    def blank(self) -> "Any":
        return None


def group(name: str, *options: Option) -> tuple[Option, ...]:
    """These options under one heading of the help."""
    for option in options:
        option.group = name
    return options


DETACH_KEYS: "Final" = "ctrl-p,ctrl-q"  # podman's and docker's

COMMON = group("Common", Option("--debug", FLAG, "", "Show a traceback when something fails; the same as SBX_DEBUG=1."))

# The verbs that are started most: the entry of each is `VERB` of options_<verb>.py; those of the rest are in verbs/.
HOT: "Final" = ("run", "wrap", "exec")


def find(verb: str) -> "Verb | None":
    """The table's entry of `verb`."""
    if verb in HOT:
        found: Verb = getattr(__import__(f"sandbox.options_{verb}"), f"options_{verb}").VERB
        return found
    from sandbox import verbs

    return verbs.VERBS.get(verb)


def parse(verb: str, argv: list[str]) -> "tuple[dict[str, Any], list[str]] | None":
    """(every option's value by dest, operands) of ``argv`` after the verb; None for what typer has to look at."""
    entry = find(verb)
    if entry is None:
        return None
    by_flag = {flag: option for option in entry.options for flag in option.flags}
    found: dict[str, Any] = {option.dest: option.blank() for option in entry.options}
    operands: list[str] = []
    position, count = 0, len(argv)
    while position < count:
        word = argv[position]
        position += 1
        if word[:1] != "-" or word == "-":
            operands.append(word)
            if not entry.passthrough:
                continue
            operands += argv[position:]
            break
        if word == "--":
            operands += argv[position:]
            break
        if word[1] == "-":
            flag, given, value = word.partition("=")
            option = by_flag.get(flag)
            if option is None or option.later:
                return None
            if option.kind == FLAG:
                if given and value not in ("true", "false"):
                    return None
                found[option.dest] = value != "false"
                continue
        else:
            cluster = _cluster(word, by_flag, found)
            if cluster is None:
                return None
            option, given = cluster
            if option is None:
                continue
            value = given.removeprefix("=")
        if not given:
            if position == count:
                return None
            value = argv[position]
            position += 1
        if option.choices and not option.takes(value):
            return None
        if option.kind == LIST:
            found[option.dest].append(value)
        else:
            found[option.dest] = value
    if len(operands) < entry.least or (entry.most >= 0 and len(operands) > entry.most):
        return None
    if entry.words and operands and operands[0] not in entry.words:
        return None
    return found, operands


def _cluster(word: str, by_flag: "dict[str, Option]", found: "dict[str, Any]") -> "tuple[Option | None, str] | None":
    """Flags, the last of which may be an option with its value attached (-it, -v/a:/b, -w=/src): that option, what is attached."""
    for index in range(1, len(word)):
        option = by_flag.get("-" + word[index])
        if option is None or option.later:
            return None
        if option.kind != FLAG:
            return option, word[index + 1 :]
        found[option.dest] = True
    return None, ""
