"""How much of anything an image may ask for; one table, so that documentation and tests can read it.  (cold)

Real images stay far below each of these.  A number that is reached is an error that names it, and what was written
until then is removed.  SBX_LIMITS changes those that are about size, for images that are meant so and for machines that
can bear less: `SBX_LIMITS=ratio=1000,layer-bytes=20G` (K, M, G and T are powers of 1024).
"""

import os
import re

from sandbox.errors import EINVAL, SandboxError

JSON_BYTES = 4 << 20  # a manifest, an index, a config (the distribution spec asks registries for 4 MiB)
JSON_DEPTH = 64
INDEX_DEPTH = 4  # an index may point to an index

LAYERS = 1000
LAYER_ENTRIES = 2_000_000
LAYER_BYTES = 256 << 30  # of one unpacked layer, holes counted
RATIO = 200  # plain bytes per stored byte ...
RATIO_FREE = 1 << 30  # ... checked from this many plain bytes on: small layers of zeros are harmless

NAME_BYTES = 4096  # PATH_MAX
NAME_DEPTH = 512
PART_BYTES = 255  # NAME_MAX
TAR_EXTRA_BYTES = 1 << 20  # one PAX header or GNU long name
TAR_EXTRA_HEADERS = 16  # for one entry
SPARSE_PARTS = 1 << 16
XATTRS = 64

ARCHIVE_MEMBERS = 100_000  # of an oci-archive or docker-archive
ID_MAX = 0xFFFFFFFE  # (uid_t)-1 is no id

CHANGEABLE = ("LAYERS", "LAYER_ENTRIES", "LAYER_BYTES", "RATIO", "RATIO_FREE", "ARCHIVE_MEMBERS")
_NUMBER = re.compile(r"([0-9]{1,12})([KMGT]?)\Z")


def changed(text: str) -> dict[str, int]:
    """What `text`, the value of SBX_LIMITS, sets: names as above.  SandboxError "read SBX_LIMITS"."""
    found = {}
    for word in filter(None, text.split(",")):
        name, _, value = word.strip().partition("=")
        key = name.upper().replace("-", "_")
        number = _NUMBER.match(value)
        if key not in CHANGEABLE or not number or not int(number[1]):
            known = ", ".join(limit.lower().replace("_", "-") for limit in CHANGEABLE)
            raise SandboxError(
                "read SBX_LIMITS", word.strip()[:100], EINVAL, detail="not a limit with a number",
                hint=f"NAME=NUMBER, separated by commas; K, M, G and T may follow the number; names: {known}",
            )  # fmt: skip
        found[key] = int(number[1]) << 10 * " KMGT".index(number[2] or " ")
    return found


def raised(name: str) -> str:
    """The hint for who means it so: how the limit `name` (one of CHANGEABLE) is made twice as large."""
    value: int = 2 * globals()[name]
    unit = max((n for n in range(1, 5) if not value % (1 << 10 * n)), default=0) if value >= 1 << 20 else 0
    number = f"{value >> 10 * unit}{' KMGT'[unit].strip()}"
    return f"an image that is meant so comes in with SBX_LIMITS={name.lower().replace('_', '-')}={number} in the environment"


globals().update(changed(os.environ.get("SBX_LIMITS", "")))
