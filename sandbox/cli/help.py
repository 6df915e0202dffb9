"""`sbx help [VERB]`.  (cold)"""

from typing import Any

from sandbox.cli import app


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print help about the verb that is the only operand, or about sbx."""
    if operands:
        app.show(" ".join(operands))
    else:
        app.overview()
    return 0
