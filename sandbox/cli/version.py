"""`sbx version`.  (cold)"""

import json
import platform
from typing import Any

from sandbox import __version__


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the version, with --json also that of what runs it."""
    if opts["json"]:
        facts = {"name": "sbx", "version": __version__, "python": platform.python_version()}
        print(json.dumps(facts, indent=2))
    else:
        print(f"sbx {__version__}")
    return 0
