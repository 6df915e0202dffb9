"""The completion script for bash.  (cold)"""

from sandbox.cli.completion_kinds import ASKED, behind, flags_of, is_value, operands_of, shown, values_of
from sandbox.verbs import groups


def bash() -> str:
    """The script for bash; needs nothing of the package bash-completion, uses its file completion when it is there."""
    takes_value, of_value, of_verb, of_operand, flags = [], [], [], [], []
    for name, verb in groups().items():
        options = shown(verb)
        if values := [option for option in verb.options if is_value(option)]:
            takes_value.append(f"        {name}) values=' {' '.join(flags_of(values))} ' ;;")
        for option in values:
            pattern = "|".join(f"{name}:{flag}" for flag in option.flags)
            if found := _BASH_VALUES[values_of(option)].format(words=" ".join(option.choices)):
                of_value.append(f"        {pattern}) {found} ;;")
        flags.append(f"        {name}) words='{' '.join([*flags_of(options), '--help'])}' ;;")
        found = _BASH_VALUES[operands_of(name, verb)].format(words=" ".join(verb.words))
        if found and (more := _BASH_VALUES[behind(name)].format()):
            of_operand.append(f"        {name}) if ((operands)); then {more}; else {found}; fi ;;")
        elif found:
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
    )


_BASH_VALUES = {
    "": "",
    "words": "_sbx_words '{words}'",
    "files": "_sbx_files -f",
    "folders": "_sbx_files -d",
    "commands": "_sbx_files -c",
    "verbs": '_sbx_words "$_sbx_verbs"',
    **{kind: f'_sbx_words "$({command.replace("{", "{{").replace("}", "}}")})"' for kind, command in ASKED.items()},
}

_BASH = """\
# Completion of sbx for bash; made by `sbx completion bash`.

_sbx_verbs='{verbs}'

_sbx_words() {{
    # $1: words, taken as they are: compgen -W would run what a name has in $(...).
    # A colon splits words on readline's side (image:tag), so what stands before it is cut off again.
    local IFS=$' \\t\\n' before word words
    read -r -d '' -a words <<<"$1"
    for word in "${{words[@]}}"; do
        if [[ $word == "$cur"* ]]; then
            COMPREPLY+=("$word")
        fi
    done
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
