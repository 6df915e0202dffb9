"""`sbx mount`: roots of stopped containers as folders, inside `sbx unshare`.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, report
from sandbox.image.describe import json_text
from sandbox.life import chosen, mounting


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Mount each and print where; without operands, list those that are."""
    everyone = chosen.all_known()
    if not operands and not opts["all"] and not opts["latest"]:
        there = [known for known in everyone if mounting.mounted(known)]
        if opts["format"]:
            rows = [
                {"id": known.id, "Names": [known.name], "mountpoint": f"{known.directory}/merged"} for known in there
            ]
            print(json_text(rows))
            return 0
        for known in there:
            print(f"{known.id if opts['no_trunc'] else known.id[:12]}  {known.directory}/merged")
        return 0
    code = 0
    several = everyone if opts["all"] else everyone[-1:]
    for known in [chosen.find(word) for word in operands] or several:
        try:
            print(mounting.mount(known))
        except SandboxError as error:
            code = report(error)
    return code
