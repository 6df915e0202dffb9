"""`sbx volume prune`: volumes that no container has.  (cold)"""

from typing import Any

from sandbox.cli.confirm import sure
from sandbox.cli.volume_ls import chosen
from sandbox.errors import SandboxError, report
from sandbox.life import volumes


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each, and print its name."""
    warning = "WARNING! This will remove all volumes not used by at least one container."
    if not sure(warning, "volume prune", force=opts["force"]):
        return 0
    code = 0
    for volume in chosen(opts["filter"]):
        if volume.users():
            continue
        try:
            volumes.remove(volume)
            print(volume.name)
        except SandboxError as error:
            if error.code != 2:  # somebody has begun to use it
                code = report(error)
    return code
