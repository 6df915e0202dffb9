"""`sbx mount`: roots of stopped containers as folders, inside `sbx unshare`.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, report
from sandbox.life import chosen, mounting


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Mount each and print where; without operands, list those that are."""
    everyone = chosen.all_known()
    if not operands and not opts["all"]:
        for known in everyone:
            if mounting.mounted(known):
                print(f"{known.id[:12]}  {known.directory}/merged")
        return 0
    code = 0
    for known in everyone if opts["all"] else [chosen.find(word) for word in operands]:
        try:
            print(mounting.mount(known))
        except SandboxError as error:
            code = report(error)
    return code
