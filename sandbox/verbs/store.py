"""Verbs about the store as a whole.  (cold)"""

from sandbox.options import FLAG, LIST, VALUE, Option, Verb, group
from sandbox.verbs.parts import FORCE, JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERBS: "Final[dict[str, Verb]]" = {
    "system df": Verb(
        "sandbox.cli.system_df:main", "Show how much disk space the store takes, by kind.", group="Store",
        options=group(
            "Output",
            Option("-v --verbose", FLAG, "", "One line for each image, container and volume."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Type}}."),
        ),
        about="Blocks on disk, as du counts them: all rows together are what `sbx unshare du -s` says of the store.",
        examples=(("sbx system df", ""),),
    ),
    "system prune": Verb(
        "sandbox.cli.system_prune:main", "Remove ended containers, nameless images, and what killed commands left.", group="Store",
        options=(
            Option("-a --all", FLAG, "", "All images that no container uses, not only nameless ones."),
            FORCE,
            Option("--filter", LIST, "KEY=VALUE", "Only images and volumes with until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]."),
            Option("--volumes", FLAG, "", "Volumes that no container has, too."),
        ),
        examples=(("sbx system prune -f", ""),),
    ),
    "system check": Verb(
        "sandbox.cli.system_check:main", "Verify every blob and every unpacked layer; find what belongs to nothing.", group="Store",
        options=(
            Option("-q --quick", FLAG, "", "Sizes and names only: no blob is read."),
            Option("-r --repair", FLAG, "", "Remove what is broken or left over, and unpack broken layers again."),
            JSON,
        ),
        about="Exit status 1 says that something is wrong.",
        examples=(("sbx system check --repair", ""),),
    ),
    "system reset": Verb(
        "sandbox.cli.system_reset:main", "Remove all images and containers: the whole store.", group="Store",
        options=(FORCE,), examples=(("sbx system reset", ""),),
    ),
}  # fmt: skip
