"""`sbx volume import`: the files of a tar archive, put into a volume.  (cold)"""

import os
from typing import Any

from sandbox.errors import SandboxError
from sandbox.life import volumes
from sandbox.life.tarreader import TarReader


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Owners are those of the archive, as containers see them."""
    name, path = operands
    volume = volumes.find(name)
    try:
        fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("open", path, error) from None
    volumes.used(volume)
    volumes.inside(volume, lambda folder: TarReader(folder, ids=True).read(fd))
    return 0
