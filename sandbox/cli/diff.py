"""`sbx diff`: what a container has changed of its image's files.  (cold)"""

from typing import Any

from sandbox.cli.each import the_one
from sandbox.errors import printable
from sandbox.life import changes

_WORDS = {changes.ADDED: "added", changes.CHANGED: "changed", changes.DELETED: "deleted"}


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each path: A, C or D, and the path."""
    found = changes.of(the_one(operands, latest=opts["latest"]))
    if opts["format"] == "json":
        from sandbox.image.describe import json_text

        print(json_text({word: [path for kind, path in found if kind == key] for key, word in _WORDS.items()}))
        return 0
    for kind, path in found:
        print(f"{kind} {printable(path)}")
    return 0
