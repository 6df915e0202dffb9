"""`sbx volume rm`: volumes that are not needed any more.  (cold)"""

from typing import Any

from sandbox.errors import ENOENT, SandboxError, UsageError, report
from sandbox.life import ending, volumes

_ABSENT = 1  # exit status when one was not there, and nothing else was wrong: podman's


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each; with --force the containers that have it first."""
    if bool(operands) == opts["all"]:
        raise UsageError("read command line", "VOLUME", detail="name volumes, or give --all")
    code = 0
    absent = False
    for name in operands or [volume.name for volume in volumes.everything()]:
        try:
            volume = volumes.find(name)
            if opts["force"]:
                for known in volume.users():
                    ending.remove(known, force=True)
            volumes.remove(volume)
            print(name)
        except SandboxError as error:
            missing = error.step == "find volume" and error.errno == ENOENT
            if missing and opts["force"]:
                continue
            status = report(error)
            absent, code = absent or missing, code if missing else status
    return code or (_ABSENT if absent else 0)
