"""`sbx save`: images of the store in one archive.  (cold)"""

import os
from typing import Any

from sandbox.errors import SandboxError
from sandbox.transfer import progress
from sandbox.transfer.ends import refuse_terminal, save
from sandbox.transfer.signals import ending
from sandbox.transfer.transports import Place

_TRANSPORTS = {"oci-archive": "oci-archive", "docker-archive": "docker-archive", "oci-dir": "oci", "docker-dir": "dir"}


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Save each image; to stdout when it is no terminal."""
    form = opts["format"] or "oci-archive"
    path = opts["output"] or "-"
    if path == "-":
        if form.endswith("-dir"):
            raise SandboxError("save images", form, detail="it is a directory", hint="name it with -o")
        refuse_terminal("save images")
    # Standard error may be watched by nobody: what goes to a pipe is not talked about.
    quiet = opts["quiet"] or (path == "-" and not os.isatty(2))
    shown = progress.choose(opts["progress"], quiet=quiet)
    with ending():
        save(operands, Place(_TRANSPORTS[form], path), "docker" if form == "docker-dir" else "", shown)
    return 0
