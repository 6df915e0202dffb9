"""`sbx volume create`: a new volume.  (cold)"""

import os
from typing import Any

from sandbox.life import volumes
from sandbox.volumes import check_name


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Make it, and print its name: 64 digits when none was given."""
    name = operands[0] if operands else os.urandom(32).hex()
    check_name(name)
    volumes.create(name, dict(label.partition("=")[::2] for label in opts["label"]), ignore=opts["ignore"])
    print(name)
    return 0
