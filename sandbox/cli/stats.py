"""`sbx stats`: what running containers use.  (cold)"""

import time
from typing import Any

from sandbox import state, values
from sandbox.cli.rows import table, templated
from sandbox.cli.top import processes
from sandbox.image.describe import human_size
from sandbox.life.chosen import all_known, find

_COLUMNS = (
    ("ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE", "MemUsage"),
    ("PIDS", "PIDs"),
    ("TIME", "CPUTime"),
)
_CLEAR = "\x1b[2J\x1b[H"


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each container, again and again on a terminal; once with --no-stream or in a pipe."""
    import sys

    everyone = [] if operands else all_known()
    chosen = [find(word) for word in operands] or [known for known in everyone if known.lives or opts["all"]]
    if opts["latest"]:
        chosen = everyone[-1:]
    interval = values.seconds(opts["interval"], "--interval")
    once = opts["no_stream"] or not sys.stdout.isatty()
    before = {known.id: _used(known) for known in chosen}
    while True:
        began = time.monotonic()
        time.sleep(min(interval, 0.5) if once else interval)
        cells = []
        for known in chosen:
            now = _used(known)
            cells.append(_cell(known, before[known.id], now, time.monotonic() - began, full=opts["no_trunc"]))
            before[known.id] = now
        if not once and not opts["no_reset"]:
            sys.stdout.write(_CLEAR)
        if opts["format"] == "json":
            from sandbox.image.describe import json_text

            print(json_text(cells))
        elif opts["format"]:
            templated(opts["format"], cells)
        else:
            table(_COLUMNS, cells)
        if once:
            return 0
        sys.stdout.flush()


def _used(known: state.Known) -> tuple[float, int, int]:
    """(processor seconds, bytes resident, processes) of all processes there are; nothing of a stopped one."""
    if not known.lives or "pid" not in known.state:
        return 0.0, 0, 0
    found = processes(known.state["pid"])
    return sum(one["cpu"] for one in found), sum(one["memory"] for one in found), len(found)


def _cell(
    known: state.Known, before: tuple[float, int, int], now: tuple[float, int, int], seconds: float, *, full: bool
) -> dict[str, Any]:
    percent = max(0.0, 100 * (now[0] - before[0]) / seconds)
    return {
        "ID": known.id if full else known.id[:12], "Id": known.id, "Name": known.name, "Container": known.id[:12],
        "CPUPerc": f"{percent:.2f}%", "CPU": percent, "CPUTime": f"{now[0]:.2f}s",
        "MemUsage": human_size(now[1]), "MemUsageBytes": now[1], "PIDs": now[2], "PIDS": now[2],
    }  # fmt: skip
