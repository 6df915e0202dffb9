"""`sbx system check`: is the store whole.  (cold)"""

from typing import Any

from sandbox import idmap
from sandbox.errors import printable, tell
from sandbox.image.check import Check, Finding, repair
from sandbox.image.describe import json_text
from sandbox.image.store import Store
from sandbox.life import volumes

_WRONG = 1


def _print(found: list[Finding], *, as_json: bool, word: str = "") -> None:
    if as_json:
        print(json_text([one._asdict() for one in found]))
        return
    for one in found:
        print(printable(f"{word}{one.kind} {one.what} {one.name}: {one.detail}"))


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each thing that is wrong; status 1 when something is, or stays so after --repair."""
    store = Store()
    check = Check(store, idmap.resolve(), quick=opts["quick"])
    found = check.run()
    _print(found, as_json=opts["json"])
    if check.unknown:
        tell(f"{check.unknown} layers were unpacked under other id maps, and are not compared")
    if not found or not opts["repair"]:
        return _WRONG if found else 0
    left = repair(check, volumes.sweep)
    for one in left:
        tell(f"not repaired: {one.kind} {one.what} {one.name}: {one.detail}")
    return _WRONG if left else 0
