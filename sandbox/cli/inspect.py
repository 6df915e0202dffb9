"""`sbx inspect`: all that is known about containers and images.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, report
from sandbox.image.describe import inspect, json_text, show
from sandbox.image.goformat import render
from sandbox.image.store import Store
from sandbox.life import chosen
from sandbox.life.document import document
from sandbox.registry.local import find

_KINDS = ("", "all", "container", "image")


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print a JSON array, or each by --format; names that are not there are told and make the status 125."""
    if opts["type"] not in _KINDS:
        raise SandboxError("inspect", opts["type"], detail="no such kind", hint="--type container or image")
    found = []
    code = 0
    for name in operands:
        try:
            found.append(_document(name, opts["type"]))
        except SandboxError as error:
            code = report(error)
    if opts["format"] and opts["format"] != "json":
        for one in found:
            print(show(render(opts["format"], one)))
    else:
        print(json_text(found))
    return code


def _document(name: str, kind: str) -> dict[str, Any]:
    """Of the container of that name, else of the image."""
    if kind != "image":
        try:
            return document(chosen.find(name))
        except SandboxError as error:
            if kind == "container" or error.step != "find container":
                raise
    store = Store()
    return inspect(store, find(store, name)[0])
