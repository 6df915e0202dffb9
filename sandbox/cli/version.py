"""`sbx version`.  (cold)"""

import json
import platform
from typing import Any

from sandbox import __version__
from sandbox.image.describe import show
from sandbox.image.goformat import render


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the version, with --json also that of what runs it."""
    facts = {"name": "sbx", "version": __version__, "python": platform.python_version()}
    if opts["format"] not in ("", "json"):
        # podman's names for the same: scripts ask for {{.Client.Version}} or {{.Version}}
        client = {"Version": __version__, "OsArch": f"linux/{platform.machine()}", "Os": "linux"}
        print(show(render(opts["format"], {**facts, **client, "Client": client})))
    elif opts["json"] or opts["format"]:
        print(json.dumps(facts, indent=2))
    else:
        print(f"sbx {__version__}")
    return 0
