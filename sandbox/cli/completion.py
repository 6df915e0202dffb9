"""`sbx completion SHELL`: completion scripts made from the option table.  (cold)

The scripts are static: pressing TAB starts no Python, except where a name has to be asked for (images, containers, ...).
"""

from typing import Any

from sandbox.cli.completion_bash import bash
from sandbox.cli.completion_fish import fish
from sandbox.cli.completion_zsh import zsh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

SCRIPTS: "Final[dict[str, Callable[[], str]]]" = {"bash": bash, "zsh": zsh, "fish": fish}


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the script of the shell named by the only operand."""
    print(SCRIPTS[operands[0]](), end="")
    return 0
