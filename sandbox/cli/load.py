"""`sbx load`: images of an archive into the store.  (cold)"""

import os
from typing import Any

from sandbox import events, idmap
from sandbox.errors import SandboxError
from sandbox.image.archive import Image, images_of
from sandbox.image.describe import show
from sandbox.image.files import open_archive
from sandbox.image.store import Store
from sandbox.transfer import progress
from sandbox.transfer.pulling import take_in
from sandbox.transfer.signals import ending
from sandbox.transfer.sources import FolderSource
from sandbox.transfer.transports import image_of


def _images(path: str, store: Store) -> list[Image]:
    """What an archive or folder of any form holds."""
    if os.path.exists(f"{path}/version") and not os.path.exists(f"{path}/index.json"):
        return [image_of(FolderSource(path))]  # `save --format docker-dir`
    return images_of(open_archive(path, store.root))


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
    shown = progress.choose(opts["progress"], quiet=opts["quiet"])
    store = Store()
    with ending():
        images = _images(path, store)
        ids = take_in(store, images, idmap.resolve(), shown, "load")
    for image, image_id in zip(images, ids, strict=True):
        for name in image.names or [f"sha256:{image_id}"]:
            print(show(f"Loaded image: {name}"))
        events.remember_other("image", "loadfromarchive", image_id, path)
    return 0
