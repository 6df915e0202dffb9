"""`sbx completion SHELL`: completion scripts made from the option table.  (cold)

The scripts are static: pressing TAB starts no Python, except where a name has to be asked for (images, profiles).
"""

from collections.abc import Callable, Iterable
from typing import Any

from sandbox.options import FLAG, Option, Verb
from sandbox.verbs import groups

# What a value or an operand is, by the name it has in the usage text.
_FILES = {"FILE", "PATH", "SRC:DST[:OPTIONS]"}
_FOLDERS = {"DIR"}
IMAGES = "sbx images --noheading --format '{{.Repository}}:{{.Tag}}' 2>/dev/null"
PROFILES = "sbx profile list 2>/dev/null"


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the script of the shell named by the only operand."""
    print(SCRIPTS[operands[0]](), end="")
    return 0


def _is_value(option: Option) -> bool:
    return option.kind != FLAG


def _shown(verb: Verb) -> list[Option]:
    return [option for option in verb.options if not option.hidden]


def _flags(options: Iterable[Option]) -> list[str]:
    return [flag for option in options for flag in option.flags]


def _values_of(option: Option) -> str:
    """What completes the value of `option`: files, folders, profiles, a list of words, or nothing."""
    if option.choices:
        return "words"
    if option.metavar in _FILES:
        return "files"
    if option.metavar in _FOLDERS:
        return "folders"
    return "profiles" if option.metavar == "PROFILE" else ""


def _operands_of(name: str, verb: Verb) -> str:
    """What completes the operands of a verb."""
    if name == "help":
        return "verbs"
    if verb.words:
        return "words"
    if verb.operands.startswith(("IMAGE", "[IMAGE", "NAME", "[NAME")):
        return "images"
    if "COMMAND" in verb.operands:
        return "commands"
    return "files" if "FILE" in verb.operands else ""


def bash() -> str:
    """The script for bash; needs nothing of the package bash-completion, uses its file completion when it is there."""
    takes_value, of_value, of_verb, of_operand, flags = [], [], [], [], []
    for name, verb in groups().items():
        options = _shown(verb)
        if values := [option for option in verb.options if _is_value(option)]:
            takes_value.append(f"        {name}) values=' {' '.join(_flags(values))} ' ;;")
        for option in values:
            pattern = "|".join(f"{name}:{flag}" for flag in option.flags)
            if found := _BASH_VALUES[_values_of(option)].format(words=" ".join(option.choices)):
                of_value.append(f"        {pattern}) {found} ;;")
        flags.append(f"        {name}) words='{' '.join([*_flags(options), '--help'])}' ;;")
        if found := _BASH_VALUES[_operands_of(name, verb)].format(words=" ".join(verb.words)):
            of_operand.append(f"        {name}) {found} ;;")
        if verb.passthrough:
            of_verb.append(name)
    return _BASH.format(
        verbs=" ".join(groups()),
        takes_value="\n".join(takes_value),
        of_value="\n".join(of_value),
        flags="\n".join(flags),
        of_operand="\n".join(of_operand),
        passthrough="|".join(of_verb),
        images=IMAGES,
        profiles=PROFILES,
    )


_BASH_VALUES = {
    "": "",
    "words": "_sbx_words '{words}'",
    "files": "_sbx_files -f",
    "folders": "_sbx_files -d",
    "profiles": '_sbx_words "$(' + PROFILES + " | awk '{{print $1}}')\"",
    "images": '_sbx_words "$(' + IMAGES.replace("{", "{{").replace("}", "}}") + ')"',
    "commands": "_sbx_files -c",
    "verbs": '_sbx_words "$_sbx_verbs"',
}

_BASH = """\
# Completion of sbx for bash; made by `sbx completion bash`.

_sbx_verbs='{verbs}'

_sbx_words() {{
    # $1: words. A colon splits words on readline's side (image:tag), so what stands before it is cut off again.
    local IFS=$' \\t\\n' before
    COMPREPLY=($(compgen -W "$1" -- "$cur"))
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        before=${{cur%"${{cur##*:}}"}}
        COMPREPLY=("${{COMPREPLY[@]#"$before"}}")
    fi
}}

_sbx_files() {{
    # $1: what compgen completes (-f files, -d folders, -c commands)
    local IFS=$'\\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen "$1" -- "$cur"))
}}

_sbx() {{
    local line=() word i verb= values= words= flag= operands=0 ended=
    COMPREPLY=()
    # Words of the line up to the cursor, joined again where readline split them at : or =.
    i=0
    while ((i <= COMP_CWORD)); do
        word=${{COMP_WORDS[i]}}
        if ((i > 0)) && [[ $word == [:=]* || ${{COMP_WORDS[i - 1]}} == *[:=] ]] && _sbx_glued "$i"; then
            line[${{#line[@]}} - 1]+=$word
        else
            line+=("$word")
        fi
        i=$((i + 1))
    done
    local last=$((${{#line[@]}} - 1))
    local cur=${{line[last]}}

    i=1
    while ((i < last)); do
        word=${{line[i]}}
        i=$((i + 1))
        if [[ -z $verb ]]; then
            if [[ $word != -* ]]; then
                verb=$word
                case $verb in
{takes_value}
                esac
            fi
        elif [[ -n $ended ]]; then
            operands=$((operands + 1))
        elif [[ $word == -- ]]; then
            ended=1
        elif [[ $word == --*=* ]]; then
            :
        elif [[ $word == --?* || $word == -? ]]; then
            if [[ $values == *" $word "* ]]; then
                if ((i == last)); then
                    flag=$word
                fi
                i=$((i + 1))
            fi
        elif [[ $word == -?* ]]; then
            :
        else
            operands=$((operands + 1))
            case $verb in
            {passthrough}) ended=1 ;;
            esac
        fi
    done

    if [[ -z $verb ]]; then
        _sbx_words "$_sbx_verbs --help --version --debug"
        return
    fi
    if [[ -z $flag && -z $ended && $cur == --*=* ]]; then
        flag=${{cur%%=*}}
        cur=${{cur#*=}}
    fi
    if [[ -n $flag ]]; then
        case $verb:$flag in
{of_value}
        esac
        return
    fi
    if [[ -z $ended && $cur == -* ]]; then
        case $verb in
{flags}
        esac
        _sbx_words "$words"
        return
    fi
    if ((operands > 0)); then
        case $verb in
        {passthrough})
            # What follows belongs to the command.
            _sbx_files -f
            return
            ;;
        esac
    fi
    case $verb in
{of_operand}
    esac
}}

_sbx_glued() {{
    # Whether word $1 followed the word before it without a space. Only the line itself tells.
    local i text=$COMP_LINE
    for ((i = 0; i < $1; i++)); do
        text=${{text#*"${{COMP_WORDS[i]}}"}}
    done
    [[ $text != [[:space:]]* ]]
}}

complete -F _sbx sbx
"""


def zsh() -> str:
    """The script for zsh, for a folder of $fpath as _sbx, or to be sourced."""
    verbs = "\n".join(f"        {_quoted(f'{name}:{verb.summary}')}" for name, verb in groups().items())
    functions, cases = [], []
    for name, verb in groups().items():
        lines = [f"        {_zsh_option(option)}" for option in _shown(verb)]
        lines.append("        '--help[show help]'")
        operand = _ZSH_VALUES[_operands_of(name, verb)].format(words=" ".join(verb.words))
        if verb.passthrough:
            if name == "run":
                lines.append(f"        {_quoted(f'1:image:{operand}')}")
            lines.append("        '*:::command:_normal -P'" if name == "run" else "        '*:::command:_normal'")
        elif verb.operands:
            lines.append(f"        {_quoted(f'*:operand:{operand}')}")
        arguments = " \\\n".join(lines)
        stop = " -A '-*'" if verb.passthrough else ""
        functions.append(f"_sbx-{name}() {{\n    _arguments -s -S{stop} : \\\n{arguments}\n}}\n")
        cases.append(f"        {name}) _sbx-{name} ;;")
    return _ZSH.format(verbs=verbs, functions="\n".join(functions), cases="\n".join(cases))


_ZSH_VALUES = {
    "": " ",
    "words": "({words})",
    "files": "_files",
    "folders": "_files -/",
    "profiles": "_sbx_profiles",
    "images": "_sbx_images",
    "commands": "_command_names -e",
    "verbs": "_sbx_verbs",
}

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

_sbx_images() {{
    local -a images
    images=(${{(f)"$(sbx images --noheading --format '{{{{.Repository}}}}:{{{{.Tag}}}}' 2>/dev/null)"}})
    compadd -a images
    _files
}}

_sbx_profiles() {{
    local -a profiles
    profiles=(${{${{(f)"$(sbx profile list 2>/dev/null)"}}%% *}})
    compadd -a profiles
    _files -g '*.toml'
}}

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
    if _is_value(option):
        metavar = option.metavar.replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
        value = f":{metavar}:" + _ZSH_VALUES[_values_of(option)].format(words=" ".join(option.choices))
    specs = [flag + (("=" if flag[:2] == "--" else "+") if value else "") for flag in option.flags]
    star = "*" if option.kind == "list" else ""
    exclusive = "" if star or len(option.flags) == 1 else f"({' '.join(option.flags)})"
    if len(specs) == 1:
        return _quoted(f"{star}{specs[0]}[{words}]{value}")
    return f"{_quoted(exclusive + star)}{{{','.join(specs)}}}{_quoted(f'[{words}]{value}')}"


def fish() -> str:
    """The script for fish."""
    lines = [_FISH.format(images=IMAGES, profiles=PROFILES, passthrough=" ".join(_passthrough()))]
    for name, verb in groups().items():
        lines.append(f"complete -c sbx -n __sbx_no_verb -a {name} -d {_fish_quoted(verb.summary.rstrip('.'))}")
    lines.append("complete -c sbx -n __sbx_no_verb -l version -d 'Print the version'")
    for name, verb in groups().items():
        condition = f"-n '__sbx_at {name}'"
        for option in _shown(verb):
            words = [f"complete -c sbx {condition}"]
            words += [f"-l {flag[2:]}" if flag[:2] == "--" else f"-s {flag[1:]}" for flag in option.flags]
            if _is_value(option):
                words.append(_FISH_VALUES[_values_of(option)].format(words=" ".join(option.choices)) or "-x")
            words.append(f"-d {_fish_quoted(option.help.rstrip('.'))}")
            lines.append(" ".join(words))
        operand = _FISH_VALUES[_operands_of(name, verb)].format(words=" ".join(verb.words))
        if operand:
            lines.append(f"complete -c sbx -n '__sbx_at {name} operands' {operand.replace('-r', '', 1).strip()}")
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
    "commands": "-x -a '(__fish_complete_subcommand --fcs-skip=2)'",
    "verbs": "-x -a '" + " ".join(groups()) + "'",
}

_FISH = """\
# Completion of sbx for fish; made by `sbx completion fish`.

function __sbx_images
    {images}
end

function __sbx_profiles
    {profiles} | string replace -r ' .*' ''
end

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

complete -c sbx -f
complete -c sbx -l debug -d 'Show a traceback when something fails'
"""


def _passthrough() -> list[str]:
    return [name for name, verb in groups().items() if verb.passthrough]


def _quoted(text: str) -> str:
    """`text` as one word of a POSIX shell or zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
