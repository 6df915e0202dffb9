"""`sbx volume rm`: volumes that are not needed any more.  (cold)"""

from typing import Any

from sandbox.errors import ENOENT, SandboxError, UsageError, report
from sandbox.life import ending, volumes


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each; with --force the containers that have it first."""
    if bool(operands) == opts["all"]:
        raise UsageError("read command line", "VOLUME", detail="name volumes, or give --all")
    code = 0
    for name in operands or [volume.name for volume in volumes.everything()]:
        try:
            volume = volumes.find(name)
            if opts["force"]:
                for known in volume.users():
                    ending.remove(known, force=True)
            volumes.remove(volume)
            print(name)
        except SandboxError as error:
            if not (opts["force"] and error.errno == ENOENT):
                code = report(error)
    return code
