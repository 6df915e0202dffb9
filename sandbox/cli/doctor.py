"""`sbx doctor`: print the table of probes, with a cause and a fix for each that does not work.  (cold)"""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from sandbox.doctor.probe import MISSING, WEAKER, WORKS, Row
from sandbox.doctor.table import NAMES, rows, run_works, stops_run
from sandbox.errors import UsageError, printable

_COLOURS = {WORKS: "\033[32m", WEAKER: "\033[33m", MISSING: "\033[31m"}


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Exit status 0 when `sbx run` would work on this machine, else 1.  Operands: names of probes, none for all.

    With --quiet only the rows that stop `run` are printed: nothing where it works.
    """
    for name in operands:
        if name not in NAMES:
            raise UsageError("find probe", name, detail="no such probe", hint="one of " + ", ".join(NAMES))
    found = rows(operands or NAMES)
    works = run_works(found, root=os.geteuid() == 0)
    if opts.get("json"):
        text = json.dumps([asdict(row) for row in found], indent=2) + "\n"
    elif opts.get("quiet"):
        text = table([row for row in found if stops_run(row, root=os.geteuid() == 0)], colour=coloured())
    else:
        text = table(found, colour=coloured())
        if not operands:
            text += "\n" + ("sbx run works on this machine\n" if works else "sbx run does not work on this machine\n")
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0 if works else 1


def coloured() -> bool:
    """Colour goes to terminals only, and not when NO_COLOR (no-color.org) or TERM=dumb says no."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(found: list[Row], *, colour: bool = False) -> str:
    """Aligned rows: title, status, cause; a fix stands below its row."""
    width = max((len(row.title) for row in found), default=0)
    lines = []
    for row in found:
        status = row.status.ljust(7)
        if colour:
            status = f"{_COLOURS[row.status]}{status}\033[0m"
        lines.append(f"{row.title.ljust(width)}  {status}  {printable(row.cause)}".rstrip())
        if row.fix:
            lines.append(f"{' ' * width}  fix:     {printable(row.fix)}")
    return "".join(line + "\n" for line in lines)
