"""`sbx top`: the processes of a running container.  (cold)"""

import time
from typing import Any

from sandbox.cli.each import the_one
from sandbox.cli.rows import aligned
from sandbox.errors import printable
from sandbox.life.chosen import improper
from sandbox.life.processes import processes


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each process, numbered as inside."""
    known = the_one(operands, latest=opts["latest"])
    if known.status != "running":
        raise improper("list processes of", known, "top can only be used on running containers")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    lines = [["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]]
    for process in processes(known.state["pid"]):
        lived = max(0.01, now - process["started"])
        lines.append(
            [
                str(process["uid"]), str(process["pid"]), str(process["ppid"]), f"{100 * process['cpu'] / lived:.3f}",
                _clock(lived), process["tty"], _clock(process["cpu"]), printable(process["command"]),
            ]
        )  # fmt: skip
    aligned(lines)
    return 0


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.3f}s" if seconds < 10 else f"{whole}s"
    return f"{whole // 3600}h{whole // 60 % 60}m{whole % 60}s" if whole >= 3600 else f"{whole // 60}m{whole % 60}s"
