"""The verbs about limits: pause, unpause, update.  (cold)"""

from sandbox.options import FLAG, LIST, Option, Verb
from sandbox.options_run import LIMITS

_ALL = Option("-a --all", FLAG, "", "All that there are.")
_LATEST = Option("-l --latest", FLAG, "", "The container that was made last.")
_CIDFILE = Option("--cidfile", LIST, "FILE", "The container whose id is in this file, as --cidfile of run writes it.")
_FILTER = Option("-f --filter", LIST, "KEY=VALUE", "All that this holds for, as ps has it.")
_CHANGED = tuple(option for option in LIMITS if option.dest not in ("oom_score_adj", "cgroups", "cgroup_parent"))

VERBS: dict[str, Verb] = {
    "pause": Verb(
        "sandbox.cli.pause:main", "Stop all processes of containers until unpause.", group="Containers",
        options=(_ALL, _LATEST, _CIDFILE, _FILTER), operands="CONTAINER...", most=-1, examples=(("sbx pause build", ""),),
        about="The container must have a control group: it was started with a limit, or with --cgroups=enabled.",
    ),
    "unpause": Verb(
        "sandbox.cli.pause:unpause", "Let paused containers go on.", group="Containers",
        options=(_ALL, _LATEST, _CIDFILE, _FILTER), operands="CONTAINER...", most=-1, examples=(("sbx unpause build", ""),),
    ),
    "update": Verb(
        "sandbox.cli.update:main", "Change the limits of a container.", group="Containers",
        options=(*_CHANGED, _LATEST), operands="CONTAINER", most=1, examples=(("sbx update -m 1g --cpus 2 build", ""),),
        about="They are in force at once, and at each start from now on; those that are not given stay as they are.",
    ),
}  # fmt: skip
