"""Manual pages made from the option table: sbx.1 and one sbx-VERB.1 per verb, man(7) markup.  (cold)

Called when the wheel is built (setup.py) and by its test; not a verb.
"""

import os
import time

from sandbox import __version__
from sandbox.errors import EXIT_FAILED, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_TIMEOUT
from sandbox.options import COMMON, FLAG, LIST, Option, Verb
from sandbox.verbs import VERBS

_EXIT_CODES = (
    (str(EXIT_FAILED), "sbx itself failed: a wrong option, an image that is not there, a protection it can not give."),
    (str(EXIT_NOT_EXECUTABLE), "The command was found and can not be executed."),
    (str(EXIT_NOT_FOUND), "The command was not found."),
    (str(EXIT_TIMEOUT), "The time of --timeout is over."),
    ("128+n", "The command was killed by signal n."),
    ("any other", "The exit status of the command."),
)
ENVIRONMENT = (  # shown by --help, too
    ("SBX_STORE", "Where images and containers are kept; $XDG_DATA_HOME/sbx if not set."),
    ("SBX_ADDITIONAL_STORES", "More stores, only read, separated by colons."),
    ("SBX_NETWORK", "What --network is if not given."),
    ("SBX_CGROUP", "A folder of cgroup v2 that is delegated to you."),
    ("SBX_LIMITS", "What images may ask for: NAME=VALUE,...; layer-bytes=512G"),
    ("SBX_REGISTRIES_CONF", "The only registries.conf to read."),
    ("SBX_TOKEN_HOSTS", "Whom passwords go to as well: REGISTRY=TOKENSERVER,..."),
    ("SBX_DOCTOR_SECONDS", "How long sbx doctor waits for what it tries; 2.5 if not set."),
    ("SBX_DEBUG", "If set and not 0, the same as --debug."),
    ("XDG_DATA_HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME", "Base directories, by the XDG specification."),
    ("NO_COLOR", "If set, help is printed without colours."),
)
_FILES = (
    ("~/.local/share/sbx", "The store: an OCI image layout, unpacked layers, containers."),
    ("~/.cache/sbx", "What can be computed again; may be deleted at any time."),
    ("~/.config/sbx/profiles/NAME.toml, /etc/sbx/profiles/NAME.toml", "Security profiles."),
    ("/etc/subuid, /etc/subgid", "The ranges of subordinate ids that the user may map."),
)


def pages() -> dict[str, str]:
    """File name -> text of every manual page."""
    found = {"sbx.1": _overview()}
    for name, verb in VERBS.items():
        found[f"sbx-{name.replace(' ', '-')}.1"] = _page(name, verb)
    return found


def escaped(text: str) -> str:
    """`text` for the roff formatter: nothing in it is a request or an escape, hyphens stay hyphens to copy."""
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    )
    text = text.replace("~", "\\(ti")
    # A dot at the start of a line is a request; an apostrophe there is one too, and is escaped already.
    return "\n".join("\\&" + line if line[:1] == "." else line for line in text.split("\n"))


def _prose(text: str) -> str:
    """`text` with its parts in backquotes set bold."""
    parts = text.split("`")
    return "".join(f"\\fB{escaped(part)}\\fP" if index % 2 else escaped(part) for index, part in enumerate(parts))


def _head(title: str, what: str) -> list[str]:
    # A date only from the one who builds (reproducible-builds.org): the same source must give the same bytes.
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    date = time.strftime("%Y-%m-%d", time.gmtime(int(epoch))) if epoch.isdigit() else ""
    return [
        f'.TH {title.upper()} 1 "{date}" "sbx {__version__}" "User Commands"',
        ".SH NAME",
        f"{escaped(title)} \\- {_prose(what[:1].lower() + what[1:].rstrip('.'))}",
    ]


def _overview() -> str:
    lines = _head("sbx", "rootless, daemonless sandbox and container tool")
    lines += [".SH SYNOPSIS", "\\fBsbx\\fP [\\fB\\-\\-debug\\fP] \\fIVERB\\fP [\\fIOPTIONS\\fP] [\\fIARGS\\fP]"]
    lines += [
        ".SH DESCRIPTION",
        _prose(
            "Runs OCI images and wraps commands of this machine in a sandbox made of Linux namespaces, a seccomp filter "
            "and dropped capabilities, as an ordinary user, without a daemon and without a set-uid program of its own. "
            "`sbx doctor` tells whether this machine can do that, and what to change if not."
        ),
    ]
    group = ""
    for name, verb in VERBS.items():
        if verb.group != group:
            group = verb.group
            lines += [".SS " + escaped(group)] if name != "run" else [".SH VERBS", ".SS " + escaped(group)]
        lines += [".TP", f"\\fBsbx\\-{escaped(name.replace(' ', '-'))}\\fP(1)", _prose(verb.summary)]
    lines += [".SH OPTIONS", *_options(COMMON)]
    lines += [
        ".TP",
        "\\fB\\-\\-help\\fP, \\fB\\-h\\fP",
        "Show help.",
        ".TP",
        "\\fB\\-\\-version\\fP",
        "Print the version.",
    ]
    lines += [".SH EXIT STATUS", *_list(_EXIT_CODES), ".SH ENVIRONMENT", *_list(ENVIRONMENT)]
    lines += [".SH FILES", *_list(_FILES)]
    lines += _examples(tuple(verb.examples[0] for verb in VERBS.values() if verb.examples and verb.examples[0][1]))
    lines += [
        ".SH SEE ALSO",
        ",\n".join(f".BR sbx\\-{escaped(name.replace(' ', '-'))} (1)" for name in VERBS).replace(",\n", " ,\n"),
    ]
    return "\n".join(lines) + "\n"


def _page(name: str, verb: Verb) -> str:
    lines = _head(f"sbx-{name.replace(' ', '-')}", verb.summary)
    lines += [
        ".SH SYNOPSIS",
        f"\\fBsbx {escaped(name)}\\fP [\\fIOPTIONS\\fP]" + (f" {escaped(verb.operands)}" if verb.operands else ""),
        ".SH DESCRIPTION",
        _prose(verb.summary),
    ]
    if verb.about:
        lines += [".PP", _prose(verb.about)]
    lines.append(".SH OPTIONS")
    if verb.passthrough:
        lines += ["Options stand before the first operand; what follows belongs to the command.", ".PP"]
    shown = [option for option in verb.options if not option.hidden]
    for group in dict.fromkeys(option.group for option in shown):
        members = [option for option in shown if option.group == group]
        if group:
            lines.append(".SS " + escaped(group))
        lines += _options(tuple(members))
    if verb.hot:
        lines += [".SH EXIT STATUS", *_list(_EXIT_CODES)]
    lines += _examples(verb.examples)
    lines += [".SH SEE ALSO", ".BR sbx (1)"]
    return "\n".join(lines) + "\n"


def _options(options: tuple[Option, ...]) -> list[str]:
    lines = []
    for option in options:
        flags = []
        for flag in option.flags:
            value = (
                "" if option.kind == FLAG else ("=" if flag[:2] == "--" else " ") + f"\\fI{escaped(option.metavar)}\\fP"
            )
            flags.append(f"\\fB{escaped(flag)}\\fP{value}")
        words = option.help
        if option.choices:
            words += f" One of {', '.join(f'`{choice}`' for choice in option.choices)}"
            words += f"; `{option.default}` if not given." if option.default else "."
        if option.kind == LIST:
            words += " Can be given more than once."
        lines += [".TP", ", ".join(flags), _prose(words)]
    return lines


def _list(rows: tuple[tuple[str, str], ...]) -> list[str]:
    return [line for term, words in rows for line in (".TP", f"\\fB{escaped(term)}\\fP", _prose(words))]


def _examples(examples: tuple[tuple[str, str], ...]) -> list[str]:
    lines = [".SH EXAMPLES"] if examples else []
    for command, words in examples:
        if words:
            lines += [".PP", escaped(words[:1].upper() + words[1:]) + ":"]
        lines += [".PP" if not words else ".sp", ".RS 4", ".nf", escaped(command), ".fi", ".RE"]
    return lines
