"""`sbx top`: the processes of a running container.  (cold)"""

from typing import Any

from sandbox import options_exec, state
from sandbox.cli.each import the_one
from sandbox.cli.rows import aligned
from sandbox.errors import printable
from sandbox.life import columns
from sandbox.verbs.parts import COLUMNS


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each process, numbered as inside; words that are no columns are for the container's own ps."""
    known = the_one([] if opts["latest"] else operands[:1], latest=opts["latest"])
    return show([known], operands if opts["latest"] else operands[1:])


def show(chosen: list[state.Known], words: list[str]) -> int:
    """The processes of all of them, by the columns that are asked for."""
    wanted = tuple(word.lower() for text in words if text[:1] != "-" for word in text.split(","))
    if not set(wanted) <= set(COLUMNS) or any(text[:1] == "-" for text in words):
        return _by_ps(chosen, words)
    wanted = wanted or columns.DEFAULT
    found = [line for known in chosen for line in columns.lines(known, wanted)]
    aligned([[columns.heading(word) for word in wanted], *([printable(cell) for cell in line] for line in found)])
    return 0


def _by_ps(chosen: list[state.Known], words: list[str]) -> int:
    from sandbox import exec as further

    blank = {option.dest: option.blank() for option in options_exec.EXEC}
    return max(further.main(blank, [known.id, "ps", *words]) for known in chosen)
