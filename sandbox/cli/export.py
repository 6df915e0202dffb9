"""`sbx export`: the files of a container as a tar archive.  (cold)"""

import os
from typing import Any

from sandbox.cli.each import the_one
from sandbox.errors import SandboxError
from sandbox.life import root
from sandbox.life.tarwriter import TarWriter


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Write what is in its root, without what is mounted there, to --output or standard output."""
    known = the_one(operands, latest=False)
    path = opts["output"]
    if not path and os.isatty(1):
        raise SandboxError("export container", known.name, detail="standard output is a terminal", hint="-o FILE")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666) if path else os.dup(1)
    except OSError as error:
        raise SandboxError.of("open", path, error) from None
    mounted = root.mounted(known)

    def write(folder: int) -> None:
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        with TarWriter(fd) as writer:
            for name in sorted(os.listdir(opened)):
                writer.tree(opened, name, name, skip=lambda inner: f"/{inner}" in mounted)

    try:
        root.within(known, write)
    except SandboxError:
        _remove(path)
        raise
    finally:
        os.close(fd)
    return 0


def _remove(path: str) -> None:
    """Half an archive is none."""
    if path and os.path.isfile(path):
        os.unlink(path)
