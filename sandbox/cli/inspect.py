"""`sbx inspect`: all that is known about images.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, report
from sandbox.image.describe import inspect, json_text, show
from sandbox.image.goformat import render
from sandbox.image.store import Store


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print a JSON array, or each image by --format; names that are not there are told and make the status 125."""
    if opts["type"] not in ("", "all", "image"):
        raise SandboxError("inspect", opts["type"], detail="only images can be inspected so far", hint="--type image")
    store = Store()
    found = []
    code = 0
    for name in operands:
        try:
            found.append(inspect(store, store.find(name)[0]))
        except SandboxError as error:
            code = report(error)
    if opts["format"] and opts["format"] != "json":
        for document in found:
            print(show(render(opts["format"], document)))
    else:
        print(json_text(found))
    return code
