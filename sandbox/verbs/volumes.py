"""Verbs about volumes and secrets.  (cold)"""

from sandbox.options import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERBS: "Final[dict[str, Verb]]" = {}  # fmt: skip
