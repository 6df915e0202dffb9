"""`sbx export`: the files of a container as a tar archive.  (cold)"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from sandbox.cli.each import the_one
from sandbox.entry import OutputLostError
from sandbox.errors import EPIPE, SandboxError
from sandbox.life import root
from sandbox.life.tarwriter import TarWriter


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Write what is in its root, without what is mounted there, to --output or standard output."""
    known = the_one(operands, latest=False)
    mounted = root.mounted(known)
    fd = opened(opts["output"], "export container", known.name)

    def write(folder: int) -> None:
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        with TarWriter(fd) as writer:
            for name in sorted(os.listdir(top)):
                writer.tree(top, name, name, skip=lambda inner: f"/{inner}" in mounted)

    with withdrawn(opts["output"], fd):
        root.within(known, write)
    return 0


def opened(path: str, step: str, subject: str) -> int:
    """A descriptor of `path`, made anew, or of standard output; SandboxError of `step` when that is a terminal."""
    if not path and os.isatty(1):
        raise SandboxError(step, subject, detail="standard output is a terminal", hint="-o FILE")
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666) if path else os.dup(1)
    except OSError as error:
        raise SandboxError.of("open", path, error) from None


@contextlib.contextmanager
def withdrawn(path: str, fd: int) -> Iterator[None]:
    """Half an archive is none: the file goes away again when writing it fails."""
    try:
        yield
    except SandboxError as error:
        if path and os.path.isfile(path):
            os.unlink(path)
        if not path and error.errno == EPIPE:
            raise OutputLostError(EPIPE) from None  # who reads has seen enough
        raise
    finally:
        os.close(fd)
