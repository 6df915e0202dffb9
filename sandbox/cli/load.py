"""`sbx load`: images of an archive into the store.  (cold)"""

import os
from typing import Any

from sandbox import idmap
from sandbox.errors import SandboxError
from sandbox.image.archive import images_of
from sandbox.image.describe import show
from sandbox.image.files import open_archive
from sandbox.image.layers import announce
from sandbox.image.store import Store


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Load every image of --input, FILE or stdin; prints `Loaded image: NAME` for each name."""
    path = opts["input"] or (operands[0] if operands else "")
    if opts["input"] and operands:
        raise SandboxError("load image", operands[0], detail="there is an --input too", hint="give the archive once")
    if not path:
        if os.isatty(0):
            raise SandboxError(
                "load image",
                detail="no archive given, and stdin is a terminal",
                hint="sbx load -i FILE, or sbx load < FILE",
            )
        path = "-"
    store = Store()
    maps = idmap.resolve()
    announce([maps["note"]] if maps["note"] else [], quiet=opts["quiet"])
    with store.taking():
        lines = []
        for image in images_of(open_archive(path, store.root)):
            image_id, warnings = store.take(image, maps, quiet=opts["quiet"])
            announce(warnings, quiet=opts["quiet"])
            lines += [f"Loaded image: {name}" for name in image.names or [f"sha256:{image_id}"]]
    for line in lines:
        print(show(line))
    return 0
