"""`sbx pull`: images of registries into the store.  (cold)

Imports nothing for what is there already; see `glance`.
"""

from sandbox import events
from sandbox.errors import tell
from sandbox.registry import glance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# With one of these, what was found out without it says nothing.
_OTHERWISE = ("creds", "all_tags")
_ORDINARY_RETRIES = "4"


def main(opts: "dict[str, Any]", operands: list[str]) -> int:
    """Pull each image; prints its id."""
    plain = not any(opts[name] for name in _OTHERWISE) and opts["retry"] == _ORDINARY_RETRIES
    ask = opts["policy"] != "missing"
    if plain and opts["policy"] != "never":
        way = opts["platform"], opts["tls_verify"], opts["cert_dir"], opts["authfile"]
        while operands and (same := glance.same(operands[0], *way, ask=ask)):
            image_id, name = same
            long = name != operands[0].removeprefix("docker://")
            if ask and long and not opts["quiet"] and opts["progress"] != "none":
                tell(f"pull {name}")
            print(image_id)
            events.remember_other("image", "pull", image_id, name)
            operands = operands[1:]
    if operands:
        from sandbox.transfer.fetching import fetch

        for image_id, name in fetch(opts, operands, remember=plain):
            print(image_id)
            events.remember_other("image", "pull", image_id, name)
    return 0
