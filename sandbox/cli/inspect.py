"""`sbx inspect`: all that is known about containers and images.  (cold)"""

from typing import Any

from sandbox import state
from sandbox.cli.each import the_one
from sandbox.cli.rows import documents
from sandbox.errors import ENOENT, SandboxError, UsageError, report
from sandbox.image.describe import inspect
from sandbox.image.store import Store
from sandbox.life import chosen
from sandbox.life.document import document
from sandbox.life.rows import written
from sandbox.registry.local import find

_KINDS = ("", "all", "container", "image")


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print a JSON array, or each by --format; names that are not there are told and make the status 125."""
    if opts["type"] not in _KINDS:
        raise SandboxError("inspect", opts["type"], detail="no such kind", hint="--type container or image")
    if bool(operands) == opts["latest"]:
        raise UsageError("read command line", "NAME", detail="name containers or images, or give --latest")
    found = []
    code = 0
    for name in operands or [the_one([], latest=True).id]:
        try:
            found.append(_document(name, opts["type"], size=opts["size"]))
        except SandboxError as error:
            code = report(error)
    documents(found, opts["format"])
    return code


def container(opts: dict[str, Any], operands: list[str]) -> int:
    """`sbx container inspect`: of containers only."""
    return main({**opts, "type": "container"}, operands)


def image(opts: dict[str, Any], operands: list[str]) -> int:
    """`sbx image inspect`: of images only."""
    return main({**opts, "type": "image", "size": False, "latest": False}, operands)


def _document(name: str, kind: str, *, size: bool) -> dict[str, Any]:
    """Of the container of that name, else of the image."""
    if kind != "image":
        try:
            known = chosen.find(name)
            return {**document(known), **({"SizeRw": written(known), "SizeRootFs": _whole(known)} if size else {})}
        except SandboxError as error:
            if kind == "container" or error.step != "find container":
                raise
    store = Store()
    try:
        return inspect(store, find(store, name)[0])
    except SandboxError as error:
        if kind == "image" or not error.detail.startswith("no such image"):
            raise
        hint = "`sbx ps -a` lists all containers, `sbx images` all images"
        raise SandboxError("inspect", name, ENOENT, f'no such object: "{name}"', hint) from None


def _whole(known: state.Known) -> int:
    """Bytes of its image's files, as `images` has them, and of its own."""
    if not known.about.get("image_id"):
        return written(known)
    store = Store()
    try:
        size: int = inspect(store, find(store, known.about["image_id"])[0])["Size"]
    except SandboxError:
        size = 0  # removed by force
    return size + written(known)
