"""`sbx events`: what has happened to containers, and what happens.  (cold)"""

import datetime
import sys
from typing import Any

from sandbox.errors import printable
from sandbox.life import happened, times
from sandbox.life.chosen import parent


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each, on and on unless --stream=false or --until is over."""
    began = datetime.datetime.now(datetime.UTC)
    first = times.since(opts["since"], began).timestamp() * 1e9 if opts["since"] else None
    final = times.until(opts["until"], began).timestamp() * 1e9 if opts["until"] else None
    streams = opts["stream"] != "false"
    if first is None and streams and final is None:
        first = began.timestamp() * 1e9  # as podman has it: what comes from now on
    wanted = happened.test(opts["filter"])

    def follow() -> bool:
        sys.stdout.flush()
        return streams and (final is None or datetime.datetime.now(datetime.UTC).timestamp() * 1e9 < final)

    for event in happened.every(parent(), follow=follow):
        if final is not None and event.when > final:
            if streams:
                break
            continue
        if (first is None or event.when >= first) and wanted(event):
            _print(event, opts)
    return 0


def _print(event: happened.Event, opts: dict[str, Any]) -> None:
    if opts["format"] == "json":
        print(happened.json_line(event))
    elif opts["format"]:
        from sandbox.cli.rows import templated

        templated(opts["format"], [happened.cell(event)])
    else:
        print(printable(happened.line(event, full=opts["no_trunc"])))
