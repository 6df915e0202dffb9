"""`sbx ps`: the containers there are.  (cold)"""

import sys
import time
from typing import Any

from sandbox import state, values
from sandbox.errors import UsageError
from sandbox.life import rows
from sandbox.life.chosen import all_known

_COLUMNS = (
    ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("CREATED", "CreatedHuman"), ("STATUS", "Status"),
    ("PORTS", "Ports"), ("NAMES", "Names"),
)  # fmt: skip
_NAMESPACES = (
    ("CONTAINER ID", "ID"), ("NAMES", "Names"), ("PID", "Pid"), ("CGROUPNS", "CGROUPNS"), ("IPC", "IPC"), ("MNT", "MNT"),
    ("NET", "NET"), ("PIDNS", "PIDNS"), ("USERNS", "USERNS"), ("UTS", "UTS"),
)  # fmt: skip
_KEYS = {
    "command": "Command", "created": "", "id": "Id", "image": "Image", "names": "Names", "runningfor": "", "size": "Size",
    "status": "Status",
}  # fmt: skip
_CLEAR = "\x1b[2J\x1b[H"


def _chosen(opts: dict[str, Any]) -> list[state.Known]:
    """Newest first, as docker has it."""
    everyone = all_known()
    everything = opts["all"] or opts["latest"] or opts["last"] or opts["filter"]
    test = rows.parse(opts["filter"], everyone) if opts["filter"] else None
    found = [known for known in everyone if test(known)] if test else everyone
    status_asked = any(text.startswith(("status=", "exited=")) for text in opts["filter"])
    if not everything or (opts["filter"] and not status_asked and not opts["all"]):
        found = [known for known in found if known.lives]
    found.reverse()
    if opts["latest"]:
        return found[:1]
    if opts["last"]:
        if not opts["last"].isdecimal() or len(opts["last"]) > 9:
            raise UsageError("read command line", f"--last {opts['last']}", detail="a number is missing")
        return found[: int(opts["last"])]
    return found


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """List containers that run, or with --all every one; with --watch until it is interrupted."""
    if not opts["watch"]:
        return _list(opts)
    seconds = values.seconds(opts["watch"], "--watch")
    while True:
        if sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        _list(opts)
        sys.stdout.flush()
        time.sleep(max(0.1, seconds))


def _list(opts: dict[str, Any]) -> int:
    found = _chosen(opts)
    if opts["quiet"]:
        for known in found:
            print(known.id if opts["no_trunc"] else known.id[:12])
        return 0
    if opts["json"] or opts["format"] == "json":
        from sandbox.image.describe import json_text

        print(json_text([rows.document(known) for known in found]))
        return 0
    size, mounts = opts["size"] or "Size" in opts["format"], "Mounts" in opts["format"]
    cells = [rows.cells(known, full=opts["no_trunc"], size=size, mounts=mounts) for known in found]
    if opts["ns"]:
        cells = [{**cell, **rows.namespaces(int(cell["Pid"]))} for cell in cells]
    key = _KEYS.get(opts["sort"], "")
    if key:
        cells.sort(key=lambda cell: str(cell[key]))
    elif opts["sort"]:
        cells.reverse()  # oldest first
    if opts["format"]:
        from sandbox.cli.rows import templated

        templated(opts["format"], cells)
        return 0
    from sandbox.cli.rows import table

    columns: tuple[tuple[str, str], ...] = _NAMESPACES if opts["ns"] else _COLUMNS
    columns += (("POD ID", "Pod"), ("PODNAME", "PodName")) if opts["pod"] else ()
    columns += (("SIZE", "Size"),) if opts["size"] else ()
    table(columns, cells, heading=not opts["noheading"])
    return 0
