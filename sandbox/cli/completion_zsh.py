"""The completion script for zsh.  (cold)"""

from sandbox.cli.completion_kinds import ASKED, behind, is_value, operands_of, quoted, shown, values_of
from sandbox.options import Option
from sandbox.verbs import groups


def zsh() -> str:
    """The script for zsh, for a folder of $fpath as _sbx, or to be sourced."""
    verbs = "\n".join(f"        {quoted(f'{name}:{verb.summary}')}" for name, verb in groups().items())
    functions, cases = [], []
    for name, verb in groups().items():
        lines = [f"        {_zsh_option(option)}" for option in shown(verb)]
        lines.append("        '--help[show help]'")
        kind = operands_of(name, verb)
        operand = _ZSH_VALUES[kind].format(words=" ".join(verb.words))
        if verb.passthrough:
            named = kind in ASKED  # the command's own words come after an image or a container
            if named:
                lines.append(f"        {quoted(f'1:{kind}:{operand}')}")
            lines.append("        '*:::command:_normal -P'" if named else "        '*:::command:_normal'")
        elif more := behind(name):
            lines.append(f"        {quoted(f'1:verb:{operand}')}")
            lines.append(f"        {quoted(f'*:{more}:{_ZSH_VALUES[more]}')}")
        elif verb.operands:
            lines.append(f"        {quoted(f'*:operand:{operand}')}")
        arguments = " \\\n".join(lines)
        stop = " -A '-*'" if verb.passthrough else ""
        functions.append(f"_sbx-{name}() {{\n    _arguments -s -S{stop} : \\\n{arguments}\n}}\n")
        cases.append(f"        {name}) _sbx-{name} ;;")
    asked = "\n".join(
        _ZSH_ASKED.format(kind=kind, command=command, more=_ZSH_MORE.get(kind, "")) for kind, command in ASKED.items()
    )
    return _ZSH.format(asked=asked, verbs=verbs, functions="\n".join(functions), cases="\n".join(cases))


_ZSH_VALUES = {
    "": " ",
    "words": "({words})",
    "files": "_files",
    "folders": "_files -/",
    "commands": "_command_names -e",
    "verbs": "_sbx_verbs",
    **{kind: f"_sbx_{kind}" for kind in ASKED},
}

# What else may stand there
_ZSH_MORE = {"images": "    _files\n", "profiles": "    _files -g '*.toml'\n"}
_ZSH_ASKED = """\
_sbx_{kind}() {{
    local -a names
    names=(${{(f)"$({command})"}})
    compadd -a names
{more}}}
"""

_ZSH = """\
#compdef sbx
# Completion of sbx for zsh; made by `sbx completion zsh`.

_sbx_verbs() {{
    local -a verbs
    verbs=(
{verbs}
    )
    _describe -t verbs verb verbs
}}

{asked}
{functions}
_sbx() {{
    local curcontext=$curcontext state line
    local -A opt_args
    _arguments -S -A '-*' : \\
        '--debug[show a traceback when something fails]' \\
        '(- *)--help[show help]' \\
        '(- *)--version[print the version]' \\
        '1:verb:_sbx_verbs' \\
        '*::arguments:->verb'
    if [[ $state == verb ]]; then
        curcontext=${{curcontext%:*:*}}:sbx-$line[1]:
        case $line[1] in
{cases}
        esac
    fi
}}

if [[ $funcstack[1] == _sbx ]]; then
    _sbx "$@"
else
    compdef _sbx sbx
fi
"""


def _zsh_option(option: Option) -> str:
    words = option.help.rstrip(".").replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    value = ""
    if is_value(option):
        metavar = option.metavar.replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
        value = f":{metavar}:" + _ZSH_VALUES[values_of(option)].format(words=" ".join(option.choices))
    specs = [flag + (("=" if flag[:2] == "--" else "+") if value else "") for flag in option.flags]
    star = "*" if option.kind == "list" else ""
    exclusive = "" if star or len(option.flags) == 1 else f"({' '.join(option.flags)})"
    if len(specs) == 1:
        return quoted(f"{star}{specs[0]}[{words}]{value}")
    return f"{quoted(exclusive + star)}{{{','.join(specs)}}}{quoted(f'[{words}]{value}')}"
