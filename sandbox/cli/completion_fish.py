"""The completion script for fish.  (cold)"""

from sandbox.cli.completion_kinds import ASKED, behind, is_value, operands_of, shown, values_of
from sandbox.verbs import groups


def fish() -> str:
    """The script for fish."""
    asked = "\n".join(f"function __sbx_{kind}\n    {command}\nend\n" for kind, command in ASKED.items())
    lines = [_FISH.format(asked=asked, passthrough=" ".join(_passthrough()))]
    for name, verb in groups().items():
        lines.append(f"complete -c sbx -n __sbx_no_verb -a {name} -d {_fish_quoted(verb.summary.rstrip('.'))}")
    lines.append("complete -c sbx -n __sbx_no_verb -l version -d 'Print the version'")
    for name, verb in groups().items():
        condition = f"-n '__sbx_at {name}'"
        for option in shown(verb):
            words = [f"complete -c sbx {condition}"]
            words += [f"-l {flag[2:]}" if flag[:2] == "--" else f"-s {flag[1:]}" for flag in option.flags]
            if is_value(option):
                words.append(_FISH_VALUES[values_of(option)].format(words=" ".join(option.choices)) or "-x")
            words.append(f"-d {_fish_quoted(option.help.rstrip('.'))}")
            lines.append(" ".join(words))
        operand = _FISH_VALUES[operands_of(name, verb)].format(words=" ".join(verb.words))
        more = behind(name)
        first = "; and not __sbx_behind" if more else ""
        if operand:
            lines.append(f"complete -c sbx -n '__sbx_at {name} operands{first}' {operand.replace('-r', '', 1).strip()}")
        if more:
            lines.append(
                f"complete -c sbx -n '__sbx_at {name} operands; and __sbx_behind' {_FISH_VALUES[more].replace('-r', '', 1).strip()}"
            )
    lines.append("complete -c sbx -n __sbx_no_verb -l help -d 'Show help'")
    lines.append(f"complete -c sbx -n '__sbx_at {' '.join(groups())}' -l help -d 'Show help'")
    return "\n".join(lines) + "\n"


_FISH_VALUES = {
    "": "",
    "words": "-x -a '{words}'",
    "files": "-r -F",
    "folders": "-x -a '(__fish_complete_directories)'",
    "profiles": "-r -F -a '(__sbx_profiles)'",
    "images": "-F -a '(__sbx_images)'",
    **{kind: f"-x -a '(__sbx_{kind})'" for kind in ASKED if kind not in ("profiles", "images")},
    "commands": "-x -a '(__fish_complete_subcommand --fcs-skip=2)'",
    "verbs": "-x -a '" + " ".join(groups()) + "'",
}

_FISH = """\
# Completion of sbx for fish; made by `sbx completion fish`.

{asked}
function __sbx_no_verb
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; or return 1
    end
end

# Whether the verb is one of the arguments, and the cursor is not yet in the words of a command that is passed through.
function __sbx_at
    set -l words (commandline -opc)[2..]
    while set -q words[1]; and string match -q -- '-*' $words[1]
        set -e words[1]
    end
    set -q words[1]; and contains -- $words[1] $argv; or return 1
    contains -- $words[1] {passthrough}; or return 0
    not contains -- -- $words; or contains operands $argv
end

# Whether the second word of a verb of two words is there already.
function __sbx_behind
    test (count (string match -v -- '-*' (commandline -opc)[2..])) -gt 1
end

complete -c sbx -f
complete -c sbx -l debug -d 'Show a traceback when something fails'
"""


def _passthrough() -> list[str]:
    return [name for name, verb in groups().items() if verb.passthrough]


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
