"""`sbx volume export`: the files of a volume as a tar archive.  (cold)"""

import os
from typing import Any

from sandbox.cli.export import opened, withdrawn
from sandbox.life import volumes
from sandbox.life.tarwriter import TarWriter


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Write it to --output or standard output."""
    volume = volumes.find(operands[0])
    fd = opened(opts["output"], "export volume", volume.name)

    def write(folder: int) -> None:
        with TarWriter(fd) as writer:
            for name in sorted(os.listdir(folder)):
                writer.tree(folder, name, name)

    with withdrawn(opts["output"], fd):
        volumes.inside(volume, write)
    return 0
