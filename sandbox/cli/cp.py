"""`sbx cp`: files from a container, and into one.  (cold)"""

from typing import Any

from sandbox.entry import OutputLostError
from sandbox.errors import EPIPE, SandboxError
from sandbox.life import copying


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Copy SOURCE to DESTINATION."""
    source, target = (copying.parsed(text) for text in operands)
    try:
        copying.copy(source, target, archive=opts["archive"], overwrite=opts["overwrite"])
    except SandboxError as error:
        if target == copying.End(None, "-") and error.errno == EPIPE:
            raise OutputLostError(EPIPE) from None  # who reads has seen enough
        raise
    return 0
