"""Verbs about containers and their lives.  (cold)"""

from sandbox.options import DETACH_KEYS, FLAG, LIST, VALUE, Option, Verb, group
from sandbox.options_run import RUN
from sandbox.verbs.parts import COLUMNS, FORCE, JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_ALL = Option("-a --all", FLAG, "", "All containers that this can be done to.")
_LATEST = Option("-l --latest", FLAG, "", "The container that was made last.")
_IGNORE = Option("-i --ignore", FLAG, "", "A container that is not there is no error.")
_CIDFILE = Option("--cidfile", LIST, "FILE", "The container whose id is in this file, as --cidfile of run writes it.")
_FILTER = Option("-f --filter", LIST, "KEY=VALUE", "All that this holds for, as ps has it.")
_KEYS = Option(
    "--detach-keys", VALUE, "KEYS", "Keys that detach, such as ctrl-a,d; empty for none.", default=DETACH_KEYS
)
_SIG_PROXY = Option(
    "--sig-proxy", VALUE, "BOOL", "Pass signals on to the command.", choices=("true", "false"), default="true"
)
# What only says how `run` goes on once the container is there
_OF_RUN_ONLY = (
    "detach",
    "attach",
    "rmi",
    "print_config",
    "print_plan",
    "timings",
    "report",
    "preserve_fds",
    "preserve_fd",
)


def _time(text: str) -> Option:
    return Option("-t --time --timeout", VALUE, "SECONDS", text)


VERBS: "Final[dict[str, Verb]]" = {
    "create": Verb(
        "sandbox.run:create", "Make a container without starting it.", group="Containers",
        options=tuple(option for option in RUN if option.dest not in _OF_RUN_ONLY),
        operands="IMAGE [COMMAND [ARG...]]", least=1, most=-1, passthrough=True,
        examples=(("sbx create --name db -v data:/data postgres", "then `sbx start db`"),),
    ),
    "init": Verb(
        "sandbox.cli.init:main", "Make containers ready for their start: put their root together once.", group="Containers",
        options=(_ALL, _LATEST), operands="CONTAINER...", most=-1,
        about="What a start would stumble over is found now. Namespaces are made at the start.",
        examples=(("sbx init db", "then `sbx start db`"),),
    ),
    "start": Verb(
        "sandbox.cli.start:main", "Start containers that were created, or have ended.", group="Containers",
        options=(
            Option("-a --attach", FLAG, "", "Show what it prints, and exit with its status."),
            Option("-i --interactive", FLAG, "", "Attach standard input too."),
            _KEYS, _SIG_PROXY, Option("--all", FLAG, "", "All containers that do not run."), _LATEST, _FILTER,
        ),
        operands="CONTAINER...", most=-1,
        examples=(("sbx start db", ""), ("sbx start -ai shell", "with this terminal")),
    ),
    "stop": Verb(
        "sandbox.cli.stop:main", "Ask containers to end, and kill them when they do not.", group="Containers",
        options=(_time("How long to wait; 10 if neither this nor --stop-timeout was given."), _ALL, _LATEST, _IGNORE, _CIDFILE, _FILTER),
        operands="CONTAINER...", most=-1,
        examples=(("sbx stop db", ""), ("sbx stop -t 2 --all", "")),
    ),
    "restart": Verb(
        "sandbox.cli.restart:main", "Stop containers and start them again.", group="Containers",
        options=(
            _time("How long to wait for their end."), Option("--running", FLAG, "", "Only those that run."), _ALL, _LATEST, _CIDFILE,
            _FILTER,
        ),
        operands="CONTAINER...", most=-1, examples=(("sbx restart db", ""),),
    ),
    "kill": Verb(
        "sandbox.cli.kill:main", "Send a signal to the commands of containers.", group="Containers",
        options=(Option("-s --signal", VALUE, "SIGNAL", "A name or a number.", default="KILL"), _ALL, _LATEST, _CIDFILE),
        operands="CONTAINER...", most=-1, examples=(("sbx kill -s HUP web", "reload"),),
    ),
    "wait": Verb(
        "sandbox.cli.wait:main", "Wait until containers have ended; print their exit status.", group="Containers",
        options=(
            _LATEST, Option("--ignore", FLAG, "", "A container that is not there is no error."),
            Option("--condition", LIST, "STATE", "Until it is running, healthy, unhealthy, paused, exited ...; stopped if not given."),
            Option("-i --interval", VALUE, "TIME", "How often to look, with --condition.", default="250ms"),
        ),
        operands="CONTAINER...", most=-1, examples=(("sbx wait build", ""), ("sbx wait --condition=healthy db", "")),
    ),
    "rm": Verb(
        "sandbox.cli.rm:main", "Remove containers.", group="Containers",
        options=(
            Option("-f --force", FLAG, "", "Those that run too; they are killed."), _time("With --force: ask first, and wait so long."),
            _ALL, _LATEST, _IGNORE, _CIDFILE,
            Option("--filter", LIST, "KEY=VALUE", "All that this holds for, as ps has it."),
            Option("-v --volumes", FLAG, "", "Their anonymous volumes too."),
            Option("--depend", FLAG, "", "Those too that share namespaces with them."),
        ),
        operands="CONTAINER...", most=-1, examples=(("sbx rm db", ""), ("sbx rm -fa", "everything")),
    ),
    "ps": Verb(
        "sandbox.cli.ps:main", "List containers.", group="Containers",
        options=group(
            "Output",
            Option("-a --all", FLAG, "", "Those that do not run too."),
            Option("-q --quiet", FLAG, "", "Print ids only."),
            Option("--filter", LIST, "KEY=VALUE", "Only those with status=, health=, name=, label=, ancestor= ..."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Names}}."),
            Option("-n --last", VALUE, "N", "The N that were made last."),
            Option("-l --latest", FLAG, "", "The one that was made last."),
            Option("--no-trunc", FLAG, "", "Do not shorten ids and commands."),
            Option("--noheading", FLAG, "", "No line of headings."),
            Option("-s --size", FLAG, "", "How much each has written."),
            Option("--ns", FLAG, "", "The numbers of their namespaces."),
            Option("-p --pod", FLAG, "", "The pods that they are in."),
            Option("-w --watch", VALUE, "SECONDS", "Again and again, so often."),
            Option(
                "--sort", VALUE, "KEY", "Sort by this.",
                choices=("command", "created", "id", "image", "names", "runningfor", "size", "status"),
            ),
            JSON,
        ),
        examples=(("sbx ps -a", ""), ("sbx ps --format '{{.Names}} {{.Status}}' --filter label=ci", "in scripts")),
    ),
    "logs": Verb(
        "sandbox.cli.logs:main", "Print what the commands of containers have printed.", group="Containers",
        options=group(
            "Output",
            Option("-f --follow", FLAG, "", "Go on until it ends."),
            Option("-n --tail", VALUE, "LINES", "Only the last lines."),
            Option("-t --timestamps", FLAG, "", "Say when, before each line."),
            Option("--since", VALUE, "TIME", "From then on: 10m, or 2026-01-31T12:00:00Z."),
            Option("--until", VALUE, "TIME", "Up to then; 10m is in ten minutes, -10m ten minutes ago."),
            Option("--names", FLAG, "", "Of several containers: the name before each line, not the id."),
            Option("--color", FLAG, "", "Of several containers: each in a colour of its own."),
            _LATEST,
        ),
        operands="CONTAINER...", most=-1, examples=(("sbx logs -f --tail 10 web", ""),),
    ),
    "events": Verb(
        "sandbox.cli.events:main", "Show what happens to containers, images and volumes.", group="Containers",
        options=group(
            "Output",
            Option("--since", VALUE, "TIME", "From then on: 10m, or 2026-01-31T12:00:00Z; from now on if not given."),
            Option("--until", VALUE, "TIME", "Up to then; 10m is in ten minutes, -10m ten minutes ago."),
            Option("--filter -f", LIST, "KEY=VALUE", "Only those with type=, container=, event=, image=, volume=, label=."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Status}}."),
            Option("--stream", VALUE, "BOOL", "`false`: what has happened, and no more.", choices=("true", "false"), default="true"),
            Option("--no-trunc", FLAG, "", "Do not shorten ids."),
        ),
        about="Of containers that live on: create, init, start, died, stop, kill, restart, remove, rename, pause, unpause, exec, exec_died, "
        "attach, commit, health_status. Of images: pull, push, tag, untag, remove, import, loadfromarchive. Of volumes: create, remove.",
        examples=(("sbx events --since 1h --filter event=died --stream=false", ""),),
    ),
    "attach": Verb(
        "sandbox.cli.attach:main", "Connect terminal or pipes to a running container.", group="Containers",
        options=(_KEYS, Option("--no-stdin", FLAG, "", "Only look."), _SIG_PROXY, _LATEST),
        operands="[CONTAINER]", most=1, about="ctrl-p,ctrl-q detaches; the container goes on.",
        examples=(("sbx attach shell", ""),),
    ),
    "rename": Verb(
        "sandbox.cli.rename:main", "Give a container another name.", group="Containers",
        operands="CONTAINER NAME", least=2, most=2, examples=(("sbx rename db db-old", ""),),
    ),
    "top": Verb(
        "sandbox.cli.top:main", "List the processes of a running container.", group="Containers",
        options=(_LATEST,), operands="CONTAINER [COLUMN...]", most=-1, passthrough=True,
        about=f"Columns: {', '.join(sorted(COLUMNS))}. Other words are given to the ps of the container.",
        examples=(("sbx top web", ""), ("sbx top web pid user args", ""), ("sbx top web -o pid,args", "by its own ps")),
    ),
    "stats": Verb(
        "sandbox.cli.stats:main", "Show what running containers use of processor, memory, network and disk.", group="Containers",
        options=group(
            "Output",
            Option("--no-stream", FLAG, "", "Once; always so when the output is no terminal."),
            Option("-i --interval", VALUE, "SECONDS", "How often.", default="5"),
            Option("-a --all", FLAG, "", "Those that do not run too."),
            _LATEST,
            Option("--no-reset", FLAG, "", "Do not clear the screen before each."),
            Option("--no-trunc", FLAG, "", "Do not shorten ids."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Name}}."),
        ),
        operands="[CONTAINER...]", most=-1,
        about="Of its control group where it has one; else added up from /proc: memory is what is resident in all its processes, and "
        "of the disk only what those that live have used.",
        examples=(("sbx stats", ""), ("sbx stats --no-stream --format '{{.Name}} {{.MemPerc}} {{.NetIO}}'", "")),
    ),
    "container inspect": Verb(
        "sandbox.cli.inspect:container", "Print what is known about containers, as JSON.", group="Containers",
        options=group(
            "Output",
            Option("-f --format", VALUE, "TEMPLATE", "A template such as {{.State.Status}}."),
            Option("-s --size", FLAG, "", "How many bytes each has written, and with its image, too."),
            _LATEST,
        ),
        operands="CONTAINER...", most=-1, examples=(("sbx container inspect web", "an image of that name is not meant"),),
    ),
    "container exists": Verb(
        "sandbox.cli.container_exists:main", "Exit with 0 when there is such a container, with 1 when there is none.", group="Containers",
        operands="CONTAINER", least=1, most=1, examples=(("sbx container exists web", ""),),
    ),
    "healthcheck run": Verb(
        "sandbox.cli.healthcheck:main", "Run the health check of a container once.", group="Containers",
        operands="CONTAINER", least=1, most=1, about="Exit status 1 says that it is not well. "
        "Checks run by themselves too, after --health-interval; `inspect` has what the last ones printed.",
        examples=(("sbx healthcheck run web", ""),),
    ),
    "generate systemd": Verb(
        "sandbox.cli.generate_systemd:main", "Print a systemd unit for a container.", group="Containers",
        options=(
            Option("-f --files", FLAG, "", "Write it to a file in the working directory."),
            Option("--restart-policy", VALUE, "POLICY", "Its Restart=; the container's own, else on-failure."),
            Option("-t --time --stop-timeout", VALUE, "SECONDS", "How long to wait for the end; the container's own if not given."),
            Option("--new", FLAG, "", "Make the container anew at each start, and remove it at its end."),
            Option("-n --name", FLAG, "", "Accepted: units are always named so."),
            Option("-e --env", LIST, "NAME=VALUE", "Set a variable for sbx itself."),
            Option("--after", LIST, "UNIT", "Start after this unit."),
            Option("--wants", LIST, "UNIT", "Start this unit with it."),
            Option("--requires", LIST, "UNIT", "Start this unit with it, and end with it."),
            Option("--restart-sec", VALUE, "SECONDS", "How long to wait before it is started again."),
            Option("--no-header", FLAG, "", "Without the comment."),
            Option("--start-timeout", VALUE, "SECONDS", "How long a start may take."),
            Option("--template", FLAG, "", "With --new: a unit for several, NAME@1, NAME@2."),
            Option("--container-prefix", VALUE, "WORD", "How the unit's name begins.", default="container"),
            Option("--separator", VALUE, "WORD", "What is between that and the container's name.", default="-"),
            Option("--format", VALUE, "FORMAT", "As JSON, by the unit's name.", choices=("json",)),
        ),
        operands="CONTAINER", least=1, most=1,
        examples=(("sbx generate systemd web", ""), ("sbx generate systemd --new --files web", "made anew at each start")),
    ),
    "container prune": Verb(
        "sandbox.cli.container_prune:main", "Remove all containers that have ended.", group="Containers",
        options=(FORCE, Option("--filter", LIST, "KEY=VALUE", "Only those with until=TIME, label=KEY[=VALUE] ...")),
        examples=(("sbx container prune -f", ""),),
    ),
}  # fmt: skip
