"""Verbs about sbx itself.  (cold)"""

from sandbox.options import VALUE, Option, Verb
from sandbox.verbs.parts import JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERBS: "Final[dict[str, Verb]]" = {
    "version": Verb(
        "sandbox.cli.version:main", "Print the version.", group="Help",
        options=(JSON, Option("-f --format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Version}}.", group="Output")), examples=(("sbx version --json", ""),),
    ),
    "completion": Verb(
        "sandbox.cli.completion:main", "Print a completion script for a shell.", group="Help",
        operands="bash|zsh|fish", least=1, most=1, words=("bash", "zsh", "fish"),
        examples=(
            ("sbx completion bash > ~/.local/share/bash-completion/completions/sbx", "for the next shell; the folder must be there"),
            ("sbx completion zsh > ~/.zfunc/_sbx", "with `fpath+=~/.zfunc` before compinit in ~/.zshrc"),
            ("sbx completion fish > ~/.config/fish/completions/sbx.fish", ""),
        ),
    ),
    "help": Verb(
        "sandbox.cli.help:main", "Show help about sbx, or about a verb.", group="Help",
        operands="[VERB]", most=2, examples=(("sbx help run", ""), ("sbx help system df", "")),
    ),
}  # fmt: skip
