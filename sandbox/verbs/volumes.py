"""Verbs about volumes and secrets.  (cold)"""

from sandbox.options import FLAG, LIST, VALUE, Option, Verb, group
from sandbox.verbs.parts import FORCE, JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_FILTER = Option("--filter", LIST, "KEY=VALUE", "Only those with name=, label=KEY[=VALUE], dangling=true|false.")
_LABEL = Option("-l --label", LIST, "KEY=VALUE", "Label it.")
_FORMAT = Option("-f --format", VALUE, "TEMPLATE", "A template such as {{.Name}}.", group="Output")

VERBS: "Final[dict[str, Verb]]" = {
    "volume create": Verb(
        "sandbox.cli.volume_create:main", "Make a volume: a folder that outlives containers.", group="Volumes",
        options=(_LABEL, Option("--ignore", FLAG, "", "One that is there already is no error.")),
        operands="[NAME]", most=1, about="`-v NAME:/path` makes it too.", examples=(("sbx volume create data", ""),),
    ),
    "volume ls": Verb(
        "sandbox.cli.volume_ls:main", "List volumes.", group="Volumes",
        options=group(
            "Output", Option("-q --quiet", FLAG, "", "Print names only."), _FILTER,
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Name}}."),
            Option("-n --noheading", FLAG, "", "No line of headings."), JSON,
        ),
        examples=(("sbx volume ls --filter dangling=true", "those that no container has"),),
    ),
    "volume inspect": Verb(
        "sandbox.cli.volume_inspect:main", "Print all that is known about volumes.", group="Volumes",
        options=(_FORMAT, Option("-a --all", FLAG, "", "All volumes.")), operands="VOLUME...", most=-1,
        examples=(("sbx volume inspect -f '{{.Mountpoint}}' data", ""),),
    ),
    "volume exists": Verb(
        "sandbox.cli.volume_exists:main", "Exit with 0 when there is such a volume, with 1 when there is none.",
        group="Volumes", operands="VOLUME", least=1, most=1, examples=(("sbx volume exists data", ""),),
    ),
    "volume rm": Verb(
        "sandbox.cli.volume_rm:main", "Remove volumes.", group="Volumes",
        options=(
            Option("-f --force", FLAG, "", "With the containers that have them."), Option("-a --all", FLAG, "", "All volumes."),
        ),
        operands="VOLUME...", most=-1, examples=(("sbx volume rm data", ""),),
    ),
    "volume prune": Verb(
        "sandbox.cli.volume_prune:main", "Remove all volumes that no container has.", group="Volumes",
        options=(FORCE, Option("--filter", LIST, "KEY=VALUE", "Only those with label=KEY[=VALUE].")),
        examples=(("sbx volume prune -f", ""),),
    ),
    "volume export": Verb(
        "sandbox.cli.volume_export:main", "Write the files of a volume to a tar archive.", group="Volumes",
        options=(Option("-o --output", VALUE, "FILE", "File to write; standard output if not given."),),
        operands="VOLUME", least=1, most=1, examples=(("sbx volume export data -o data.tar", ""),),
    ),
    "volume import": Verb(
        "sandbox.cli.volume_import:main", "Put the files of a tar archive into a volume.", group="Volumes",
        operands="VOLUME FILE|-", least=2, most=2, examples=(("sbx volume import data data.tar", ""),),
    ),
    "secret create": Verb(
        "sandbox.cli.secret_create:main", "Keep a secret for containers.", group="Volumes",
        options=(
            Option("--env", FLAG, "", "SOURCE is the name of a variable."), _LABEL,
            Option("--replace", FLAG, "", "Replace one of that name."),
        ),
        operands="NAME SOURCE", least=2, most=2,
        about="SOURCE is a file, or `-` for standard input. It is kept in the store, readable for you alone, and not encrypted.",
        examples=(("sbx secret create token token.txt", ""), ("sbx run --secret token IMAGE cat /run/secrets/token", "")),
    ),
    "secret ls": Verb(
        "sandbox.cli.secret_ls:main", "List secrets.", group="Volumes",
        options=group(
            "Output", Option("-q --quiet", FLAG, "", "Print ids only."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Name}}."),
            Option("-n --noheading", FLAG, "", "No line of headings."),
        ),
        examples=(("sbx secret ls", ""),),
    ),
    "secret inspect": Verb(
        "sandbox.cli.secret_inspect:main", "Print what is known about secrets.", group="Volumes",
        options=(_FORMAT, Option("--showsecret", FLAG, "", "What it says, too.")), operands="SECRET...", least=1, most=-1,
        examples=(("sbx secret inspect token", ""),),
    ),
    "secret exists": Verb(
        "sandbox.cli.secret_exists:main", "Exit with 0 when there is such a secret, with 1 when there is none.",
        group="Volumes", operands="SECRET", least=1, most=1, examples=(("sbx secret exists token", ""),),
    ),
    "secret rm": Verb(
        "sandbox.cli.secret_rm:main", "Forget secrets.", group="Volumes",
        options=(Option("-a --all", FLAG, "", "All secrets."), Option("-i --ignore", FLAG, "", "One that is not there is no error.")),
        operands="SECRET...", most=-1, examples=(("sbx secret rm token", ""),),
    ),
}  # fmt: skip
