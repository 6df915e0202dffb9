"""`sbx secret create`: a text that is kept for containers.  (cold)"""

import os
import sys
from typing import Any

from sandbox.errors import ENOENT, SandboxError
from sandbox.life import secrets


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """From a file, standard input, or with --env a variable; prints its id."""
    name, source = operands
    labels = dict(label.partition("=")[::2] for label in opts["label"])
    print(secrets.create(name, _read(source, variable=opts["env"]), labels, replace=opts["replace"]))
    return 0


def _read(source: str, *, variable: bool) -> bytes:
    if variable:
        if source not in os.environ:
            raise SandboxError("read variable", source, ENOENT, "it is not set")
        return os.environb[os.fsencode(source)]
    try:
        if source == "-":
            return sys.stdin.buffer.read(secrets.MOST + 1)
        with open(source, "rb") as file:
            return file.read(secrets.MOST + 1)
    except OSError as error:
        raise SandboxError.of("read secret", source, error) from None
