"""`sbx cp`: files from a container, and into one.  (cold)"""

from typing import Any

from sandbox.life import copying


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Copy SOURCE to DESTINATION."""
    source, target = (copying.parsed(text) for text in operands)
    copying.copy(source, target, archive=opts["archive"], overwrite=opts["overwrite"])
    return 0
