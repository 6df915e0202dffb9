"""`sbx stats`: what running containers use.  (cold)"""

import time
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
    import sys

    everyone = [] if operands else all_known()
    chosen = [find(word) for word in operands] or [known for known in everyone if known.lives or opts["all"]]
    if opts["latest"]:
        chosen = everyone[-1:]
    interval = values.seconds(opts["interval"], "--interval")
    once = opts["no_stream"] or not sys.stdout.isatty()
    before = {known.id: look(known) for known in chosen}
    while True:
        began = time.monotonic()
        time.sleep(min(interval, 0.5) if once else interval)
        cells = []
        for known in chosen:
            now = look(known)
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


def _cell(known: state.Known, before: Used, now: Used, seconds: float, *, full: bool) -> dict[str, Any]:
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
