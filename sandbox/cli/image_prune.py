"""`sbx image prune`: images that nobody needs.  (cold)"""

from typing import Any

from sandbox.cli.confirm import sure
from sandbox.image.prune import prune
from sandbox.image.store import Store


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove dangling images, with --all those that no container is made from; prints their ids."""
    which = "all images without at least one container" if opts["all"] else "all dangling images"
    if not sure(f"WARNING! This command removes {which}.", "image prune", force=opts["force"]):
        return 0
    removed, code = prune(Store(), opts["filter"], everything=opts["all"])
    for image_id in removed:
        print(image_id)
    return code
