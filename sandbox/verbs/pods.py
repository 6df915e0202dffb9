"""Verbs about pods.  (cold)"""

from sandbox.options import FLAG, LIST, VALUE, Option, Verb, group
from sandbox.options_run import RUN
from sandbox.verbs.parts import FORCE, JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_ALL = Option("-a --all", FLAG, "", "All pods that this can be done to.")
_LATEST = Option("-l --latest", FLAG, "", "The pod that was made last.")
_IGNORE = Option("-i --ignore", FLAG, "", "A pod that is not there is no error.")
_LIKE_RUN = (
    "network", "publish", "hostname", "add_host", "dns", "dns_search", "dns_option", "no_hosts", "userns", "uidmap", "gidmap",
    "label", "label_file", "sysctl", "shm_size", "replace",
)  # fmt: skip


def _verb(
    name: str, summary: str, *options: Option, operands: str = "POD...", least: int = 0, most: int = -1, passthrough: bool = False,
    look: bool = False,
) -> Verb:  # fmt: skip
    word = name.replace(" ", "_")
    return Verb(
        f"sandbox.cli.{'pod_look' if look else 'pod'}:{word}", summary, group="Pods", options=options, operands=operands,
        least=least, most=most, passthrough=passthrough,
        examples=((f"sbx pod {name}" + (" web" if operands else ""), ""),),
    )  # fmt: skip


VERBS: "Final[dict[str, Verb]]" = {
    "pod create": Verb(
        "sandbox.cli.pod:create", "Make a pod: containers in it share a network, a host name, memory.", group="Pods",
        options=(
            Option("-n --name", VALUE, "NAME", "Name of the pod; two words that follow from its id if not given."),
            Option("--share", VALUE, "KINDS", "What is shared: of ipc, net, uts, pid; +pid for one more; none."),
            Option("--infra-name", VALUE, "NAME", "Name of the container that holds what is shared; POD-infra if not given."),
            Option("--pod-id-file", VALUE, "FILE", "Write the pod's id to this file."),
            *(option for option in RUN if option.dest in _LIKE_RUN),
        ),
        operands="[NAME]", most=1,
        examples=(("sbx pod create --name web -p 8080:80 --network pasta", "then `sbx run -d --pod web ...`"),),
    ),
    "pod ps": Verb(
        "sandbox.cli.pod:ps", "List pods.", group="Pods",
        options=group(
            "Output", Option("-q --quiet", FLAG, "", "Print ids only."),
            Option("-f --filter", LIST, "KEY=VALUE", "Only those with name=, id=, status=, label=KEY[=VALUE], ctr-names= ..."),
            Option("--ctr-names", FLAG, "", "The names of their containers, not how many there are."),
            Option("--ctr-ids", FLAG, "", "The ids of their containers."),
            Option("--ctr-status", FLAG, "", "The states of their containers."),
            Option("--sort", VALUE, "KEY", "Sort by this.", choices=("created", "id", "name", "number", "status")), _LATEST,
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Name}}."),
            Option("--no-trunc", FLAG, "", "Do not shorten ids."), Option("-n --noheading", FLAG, "", "No line of headings."), JSON,
        ),
        examples=(("sbx pod ps", ""),),
    ),
    "pod start": _verb("start", "Start pods.", _ALL, _LATEST),
    "pod stop": _verb(
        "stop", "Ask the containers of pods to end, and kill them when they do not.",
        Option("-t --time --timeout", VALUE, "SECONDS", "How long to wait."), _ALL, _LATEST, _IGNORE,
    ),
    "pod restart": _verb("restart", "Stop pods and start them again.", _ALL, _LATEST),
    "pod kill": _verb(
        "kill", "Send a signal to the commands of pods.",
        Option("-s --signal", VALUE, "SIGNAL", "A name or a number.", default="KILL"), _ALL, _LATEST,
    ),
    "pod pause": _verb("pause", "Stop all processes of pods until unpause.", _ALL, _LATEST),
    "pod unpause": _verb("unpause", "Let the processes of pods go on.", _ALL, _LATEST),
    "pod rm": _verb(
        "rm", "Remove pods with their containers.", Option("-f --force", FLAG, "", "Those that run too; they are killed."), _ALL, _LATEST, _IGNORE,
    ),
    "pod prune": _verb("prune", "Remove all pods that do not run.", FORCE, operands="", most=0),
    "pod logs": _verb(
        "logs", "Print what the commands of a pod's containers have printed.", *group(
            "Output",
            Option("-c --container", VALUE, "CONTAINER", "Only of this one."),
            Option("-f --follow", FLAG, "", "Go on until all have ended."),
            Option("--tail", VALUE, "LINES", "Only the last lines of each."),
            Option("-t --timestamps", FLAG, "", "Say when, before each line."),
            Option("--since", VALUE, "TIME", "From then on: 10m, or 2026-01-31T12:00:00Z."),
            Option("--until", VALUE, "TIME", "Up to then; 10m is in ten minutes, -10m ten minutes ago."),
            Option("-n --names", FLAG, "", "The container's name before each line, not its id."),
            Option("--color", FLAG, "", "Each container in a colour of its own."),
            _LATEST,
        ),
        operands="[POD]", most=1, look=True,
    ),
    "pod stats": _verb(
        "stats", "Show what the containers of pods use of processor, memory, network and disk.", *group(
            "Output",
            Option("--no-stream", FLAG, "", "Once; always so when the output is no terminal."),
            Option("-a --all", FLAG, "", "Of the pods that do not run too."),
            _LATEST,
            Option("--no-reset", FLAG, "", "Do not clear the screen before each."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Name}}."),
        ),
        operands="[POD...]", look=True,
    ),
    "pod top": _verb(
        "top", "List the processes of a pod's containers.", _LATEST, operands="POD [COLUMN...]", passthrough=True, look=True,
    ),
    "pod exists": _verb(
        "exists", "Exit with 0 when there is such a pod, with 1 when there is none.", operands="POD", least=1, most=1
    ),
    "pod inspect": _verb(
        "inspect", "Print all that is known about pods.",
        Option("-f --format", VALUE, "TEMPLATE", "A template such as {{.State}}.", group="Output"), least=1,
    ),
}  # fmt: skip
