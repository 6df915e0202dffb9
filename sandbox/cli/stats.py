"""`sbx stats`: what running containers use.  (cold)"""

import sys
import time
from collections.abc import Callable
from typing import Any

from sandbox import state, values
from sandbox.cli.rows import table, templated
from sandbox.image.describe import human_size
from sandbox.life.chosen import all_known, find
from sandbox.life.used import Used, look

_COLUMNS = (
    ("ID", "ID"), ("NAME", "Name"), ("CPU %", "CPUPerc"), ("MEM USAGE / LIMIT", "MemUsage"), ("MEM %", "MemPerc"),
    ("NET IO", "NetIO"), ("BLOCK IO", "BlockIO"), ("PIDS", "PIDs"), ("CPU TIME", "CPUTime"), ("AVG CPU %", "AvgCPU"),
)  # fmt: skip
_CLEAR = "\x1b[2J\x1b[H"


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each container, again and again on a terminal; once with --no-stream, or when nobody looks."""
    named = [find(word) for word in operands]

    def chosen() -> list[state.Known]:
        if named:
            return [state.Known(known.parent, known.id) for known in named]
        return all_known()[-1:] if opts["latest"] else [known for known in all_known() if known.lives or opts["all"]]

    def row(known: state.Known, before: Used, now: Used, seconds: float) -> dict[str, Any]:
        return cell(known, before, now, seconds, full=opts["no_trunc"])

    return show(chosen, row, _COLUMNS, opts, values.seconds(opts["interval"], "--interval"))


def show(
    chosen: Callable[[], list[state.Known]], row: Callable[[state.Known, Used, Used, float], dict[str, Any]],
    columns: tuple[tuple[str, str], ...], opts: dict[str, Any], interval: float,
) -> int:  # fmt: skip
    """A table of what those that `chosen` names at each look use, `row` by row; again and again on a terminal."""
    once = opts["no_stream"] or not sys.stdout.isatty()
    before = {known.id: look(known) for known in chosen()}
    began = time.monotonic()
    while True:
        time.sleep(min(interval, 0.5) if once else interval)
        now = {known.id: (known, look(known)) for known in chosen()}
        seconds, began = time.monotonic() - began, time.monotonic()
        cells = [row(known, before.get(known.id, used), used, seconds) for known, used in now.values()]
        before = {id_: used for id_, (_, used) in now.items()}
        if not once and not opts["no_reset"]:
            sys.stdout.write(_CLEAR)
        if opts["format"] == "json":
            from sandbox.image.describe import json_text

            print(json_text(cells))
        elif opts["format"]:
            templated(opts["format"], cells)
        else:
            table(columns, cells)
        if once:
            return 0
        sys.stdout.flush()


def cell(known: state.Known, before: Used, now: Used, seconds: float, *, full: bool) -> dict[str, Any]:
    """Podman's fields: those of its templates, and in small letters those of its JSON."""
    percent = max(0.0, 100 * (now.cpu - before.cpu) / seconds)
    lived = time.time() - known.state.get("started", 0.0) if now.processes else 0.0
    average = 100 * now.cpu / lived if lived > 0 else 0.0
    share = 100 * now.memory / now.limit if now.limit else 0.0
    memory = _pair(now.memory, now.limit)
    net, block = _pair(now.received, now.sent), _pair(now.read, now.written)
    id_ = known.id if full else known.id[:12]
    return {
        "ID": id_, "Id": known.id, "ContainerID": known.id, "Name": known.name, "Container": known.id[:12],
        "CPUPerc": f"{percent:.2f}%", "CPU": percent, "CPUTime": f"{now.cpu:.2f}s", "CPUNano": int(now.cpu * 1e9),
        "AvgCPU": f"{average:.2f}%",
        "MemUsage": memory, "MemUsageBytes": now.memory, "MemLimit": now.limit, "MemPerc": f"{share:.2f}%",
        "NetIO": net, "NetInput": max(0, now.received), "NetOutput": max(0, now.sent),
        "BlockIO": block, "BlockInput": max(0, now.read), "BlockOutput": max(0, now.written),
        "PIDs": now.processes, "PIDS": now.processes,
        "id": known.id[:12], "name": known.name, "cpu_time": f"{now.cpu:.6f}s", "cpu_percent": f"{percent:.2f}%",
        "avg_cpu": f"{average:.2f}%", "mem_usage": memory, "mem_percent": f"{share:.2f}%", "net_io": net, "block_io": block,
        "pids": str(now.processes),
    }  # fmt: skip


def _pair(first: int, second: int) -> str:
    return (
        "-- / --" if first < 0 else f"{human_size(first)} / {human_size(second)}".replace(" ", "").replace("/", " / ")
    )
