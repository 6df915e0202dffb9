"""Verbs about registries.  (cold)"""

from sandbox.options import FLAG, VALUE, Option, Verb, group
from sandbox.verbs.parts import CREDS, REGISTRY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERBS: "Final[dict[str, Verb]]" = {
    "login": Verb(
        "sandbox.cli.login:main", "Log in to a registry, and keep the credentials.", group="Registries",
        options=(
            *group(
                "Account",
                Option("-u --username", VALUE, "USER", "User name."),
                Option("-p --password", VALUE, "PASSWORD", "Password; every process of this machine can read it here."),
                Option("--password-stdin", FLAG, "", "Read the password from standard input."),
                Option("--get-login", FLAG, "", "Print the user name that is stored, and do nothing else."),
                Option("-v --verbose", FLAG, "", "Print where the credentials are kept."),
            ),
            *REGISTRY,
        ),
        operands="[REGISTRY]", most=1,
        about="The registry is asked before anything is stored. A namespace such as quay.io/team has a login of its own.",
        examples=(
            ("sbx login quay.io", ""),
            ("sbx login -u ci --password-stdin ghcr.io < token", "in scripts"),
        ),
    ),
    "logout": Verb(
        "sandbox.cli.logout:main", "Forget the credentials of a registry.", group="Registries",
        options=(
            Option("-a --all", FLAG, "", "Forget those of all registries."),
            Option("--authfile", VALUE, "FILE", "Credentials file, instead of podman's."),
        ),
        operands="[REGISTRY]", most=1,
        examples=(("sbx logout quay.io", ""),),
    ),
    "search": Verb(
        "sandbox.cli.search:main", "List a registry's repositories by a part of their name.", group="Registries",
        options=(
            *group(
                "Output",
                Option("--limit", VALUE, "N", "Most rows for one registry.", default="25"),
                Option("--list-tags", FLAG, "", "List the tags of one repository."),
                Option("--no-trunc", FLAG, "", "Do not shorten descriptions."),
                Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Name}}."),
            ),
            *REGISTRY,
            CREDS,
        ),
        operands="[REGISTRY/]TERM", least=1, most=1,
        about="Without a registry: those of unqualified-search-registries, else docker.io. Other registries than docker.io "
        "are asked for their catalogue, which many do not show.",
        examples=(
            ("sbx search localhost:5000/tool", ""),
            ("sbx search --list-tags quay.io/team/app", ""),
        ),
    ),
}  # fmt: skip
