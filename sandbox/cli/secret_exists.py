"""`sbx secret exists`: whether there is such a secret.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError
from sandbox.life import secrets


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """0 or 1; prints nothing."""
    try:
        secrets.find(operands[0])
    except SandboxError:
        return 1
    return 0
