"""The one table of verbs and options, and the quick parser that reads argv by it.  (core, hot)

The table feeds the quick parser here, typer's signatures, ``--help``, completion scripts and manual pages (cli/).
The quick parser accepts only what it fully understands; for everything else it returns None, and typer, fed from the
same table, parses again and finds the words for what is wrong.  A property test holds the two against each other.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

FLAG: "Final" = "flag"
VALUE: "Final" = "value"
LIST: "Final" = "list"


class Option:
    """One option: ``flags`` as typed (the first long one names the dest), ``kind`` flag, value or list (repeatable).

    ``hidden``: accepted, not shown.  ``later``: not shown, and refused in so many words, because nothing reads it yet: an
    option that is accepted and ignored would be a promise, of isolation most of all.
    """

    __slots__ = ("choices", "default", "dest", "flags", "group", "help", "hidden", "kind", "later", "metavar")

    def __init__(
        self,
        flags: str,
        kind: str,
        metavar: str,
        help: str,
        *,
        group: str = "",
        choices: tuple[str, ...] = (),
        default: str = "",
        hidden: bool = False,
        later: bool = False,
    ) -> None:
        self.flags = tuple(flags.split())
        self.kind = kind
        self.metavar = metavar
        self.help = help
        self.group = group
        self.choices = choices
        self.default = default
        self.hidden = hidden or later
        self.later = later
        self.dest = next(flag for flag in self.flags if flag[:2] == "--")[2:].replace("-", "_")

    def postponed(self) -> "Option":
        """This option for a verb that does not read it yet."""
        return Option(" ".join(self.flags), self.kind, self.metavar, self.help, group=self.group, later=True)

    def takes(self, value: str) -> bool:
        """Whether `value` is one of the choices, or begins with one that ends with a colon."""
        begin = f"{value.partition(':')[0]}:"
        return value in self.choices or (begin in self.choices and len(value) > len(begin))

    def blank(self) -> "Any":
        """The value of this option when it is not given; a new list each time."""
        return False if self.kind == FLAG else [] if self.kind == LIST else self.default


class Verb:
    """One verb: where it lives (``module:function``), what it takes, and the words that describe it.

    ``operands`` is the usage text, between ``least`` and ``most`` of them are accepted (-1: any number).
    ``passthrough``: from the first operand on, nothing is an option of ours.  ``examples``: (command, what it does).
    """

    __slots__ = (
        "about", "examples", "group", "hot", "least", "most", "operands", "options", "passthrough", "summary", "target",
        "words",
    )  # fmt: skip

    def __init__(
        self,
        target: str,
        summary: str,
        *,
        options: tuple[Option, ...] = (),
        operands: str = "",
        least: int = 0,
        most: int = 0,
        words: tuple[str, ...] = (),
        about: str = "",
        examples: tuple[tuple[str, str], ...] = (),
        hot: bool = False,
        passthrough: bool = False,
        group: str = "",
    ) -> None:
        self.target = target
        self.summary = summary
        self.group = group
        self.options = options + COMMON
        self.operands = operands
        self.least = least
        self.most = most
        self.words = words  # what the first operand may be, when that is a closed list
        self.about = about
        self.examples = examples
        self.hot = hot
        self.passthrough = passthrough


class Switch(Option):
    """A flag that need not be given: True for `--flag` and `--flag=true`, False for `--flag=false`, else None."""

    __slots__ = ()

    def blank(self) -> "Any":
        return None


def group(name: str, *options: Option) -> tuple[Option, ...]:
    """These options under one heading of the help."""
    for option in options:
        option.group = name
    return options


DETACH_KEYS: "Final" = "ctrl-p,ctrl-q"  # podman's and docker's

COMMON = group("Common", Option("--debug", FLAG, "", "Show a traceback when something fails; the same as SBX_DEBUG=1."))

# Limits that take a control group (cgroup v2), and what belongs to it.
LIMITS = group(
    "Limits",
    Option("-m --memory", VALUE, "SIZE", "Most memory of the container, such as 512m."),
    Option("--memory-swap", VALUE, "SIZE", "Most memory and swap together; twice the memory if not given, -1 for no limit."),
    Option("--memory-reservation", VALUE, "SIZE", "Memory that is taken away last when the machine runs short."),
    Option("--cpus", VALUE, "NUMBER", "Most processor time, as a number of processors, such as 1.5."),
    Option("--cpu-shares", VALUE, "NUMBER", "Weight against others when processors are busy; 1024 is ordinary."),
    Option("--cpu-quota", VALUE, "MICROSECONDS", "Processor time for each period."),
    Option("--cpu-period", VALUE, "MICROSECONDS", "Length of the period; 100000 if not given."),
    Option("--cpuset-cpus", VALUE, "LIST", "Processors to run on, such as 0-2,4."),
    Option("--cpuset-mems", VALUE, "LIST", "Memory nodes to use."),
    Option("--pids-limit", VALUE, "NUMBER", "Most processes and threads; -1 for no limit."),
    Option("--blkio-weight", VALUE, "NUMBER", "Weight for the disks, 10 to 1000."),
    Option("--blkio-weight-device", LIST, "DEVICE:WEIGHT", "Weight for one disk, such as /dev/sda:200."),
    Option("--cgroup-conf", LIST, "FILE=VALUE", "Any other file of its control group, such as memory.high=64M."),
    Option("--device-read-bps", LIST, "DEVICE:RATE", "Most bytes read from a disk in a second, such as /dev/sda:1mb."),
    Option("--device-write-bps", LIST, "DEVICE:RATE", "Most bytes written."),
    Option("--device-read-iops", LIST, "DEVICE:RATE", "Most read operations in a second."),
    Option("--device-write-iops", LIST, "DEVICE:RATE", "Most write operations."),
    Option("--oom-score-adj", VALUE, "NUMBER", "How readily the kernel ends it when memory runs out, up to 1000."),
    Option("--cgroups", VALUE, "MODE", "enabled: a control group without limits too, so that it can be paused.",
           choices=("enabled", "disabled")),
    Option("--cgroup-parent", VALUE, "SLICE", "systemd's slice, or folder, that the group is made in."),
)  # fmt: skip

# What `run` takes, by group in the order of its help.  Names and meanings are podman's where podman has the option.
RUN = (
    *group(
        "Life cycle",
        Option("--rm", FLAG, "", "Remove the container when it ends; always so without --name and --detach."),
        Option("--name", VALUE, "NAME", "Name of the container; a random one if not given."),
        Option("--init", FLAG, "", "Stay as process 1: forward signals and reap orphans."),
        Option("--timeout", VALUE, "DURATION", "Stop after this time (`90`, `1m30s`) and exit with 124."),
        Option("-d --detach", FLAG, "", "Run in the background; print the container's id."),
        Option(
            "--pull", VALUE, "POLICY", "When to fetch the image.",
            choices=("always", "missing", "never", "newer"), default="missing",
        ),
        Option("-q --quiet", FLAG, "", "No progress messages."),
        Option("--cidfile", VALUE, "FILE", "Write the container's id to this file, which must not exist."),
        Option("--rmi", FLAG, "", "Remove the container, and its image too unless another container has it, when it ends."),
        Option("--requires", LIST, "CONTAINER", "Start these first; they are not removed before it."),
        Option("--pidfile", VALUE, "FILE", "Write the pid of the command, as the host numbers it, to this file."),
        Option("--restart", VALUE, "POLICY", "Start it again when it ends: always, unless-stopped, on-failure[:N], no."),
        Option(
            "--log-driver", VALUE, "DRIVER", "Where its output is kept; json-file is k8s-file, as podman has it.",
            choices=("k8s-file", "json-file", "journald", "none"), default="k8s-file",
        ),
        Option("--log-opt", LIST, "NAME=VALUE", "max-size=SIZE: the log is begun anew past it, one older one is kept."),
        Option("--replace", FLAG, "", "Remove the container that has the name already."),
        Option("--stop-signal", VALUE, "SIGNAL", "Signal by which `stop` asks it to end; the image's, or TERM."),
        Option("--stop-timeout", VALUE, "SECONDS", "How long `stop` waits before it kills; 10 if not given."),
    ),
    *group(
        "Terminal",
        Option("-i --interactive", FLAG, "", "Keep standard input open; without it the command reads /dev/null."),
        Option("-t --tty", FLAG, "", "Give the command a terminal of its own."),
        Option("-a --attach", LIST, "STREAM", "Only stdin, stdout or stderr; all but stdin if not given."),
        Option("--detach-keys", VALUE, "KEYS", "With --name: keys that detach; empty for none.", default=DETACH_KEYS),
        Option(
            "--sig-proxy", VALUE, "BOOL", "With --name: pass signals on to the command.", choices=("true", "false"),
            default="true",
        ),
    ),
    *group(
        "Process",
        Option("-e --env", LIST, "NAME[=VALUE]", "Set an environment variable; without a value, take the caller's."),
        Option("--env-file", LIST, "FILE", "Read environment variables from a file, one NAME=VALUE in a line."),
        Option("--env-merge", LIST, "NAME=VALUE", "Set a variable of which VALUE may hold the image's, as $NAME or ${NAME}."),
        Option("--http-proxy", FLAG, "", "Pass the caller's http_proxy, https_proxy, ftp_proxy and no_proxy."),
        Option("--env-host", FLAG, "", "Pass the caller's whole environment."),
        Option("--unsetenv", LIST, "NAME", "Remove a variable that the image sets."),
        Option("--unsetenv-all", FLAG, "", "Remove all variables that the image sets."),
        Option("-w --workdir", VALUE, "DIR", "Working directory inside."),
        Option("-u --user", VALUE, "USER[:GROUP]", "Names or numbers, looked up inside the image."),
        Option("--group-add", LIST, "GROUP", "Add a supplementary group."),
        Switch("--passwd", FLAG, "", "`=false`: a user who is only a number gets no name in /etc/passwd."),
        Option("--passwd-entry", VALUE, "ENTRY", "That line; with $USERNAME, $UID, $GID, $NAME, $HOME."),
        Option("--group-entry", VALUE, "ENTRY", "The line in /etc/group; with $GROUPNAME, $GID, $USERLIST."),
        Option("--entrypoint", VALUE, "COMMAND", "Replace the image's entry point: a program, or a JSON list."),
        Option("--umask", VALUE, "OCTAL", "File mode creation mask, such as 0022."),
        Option("--ulimit", LIST, "NAME=SOFT[:HARD]", "Set a resource limit, such as nofile=1024:2048."),
        Option("-h --hostname", VALUE, "NAME", "Host name inside."),
    ),
    *LIMITS,
    *group(
        "Health",
        Option("--health-cmd", VALUE, "COMMAND", "Ask this whether all is well: for a shell, or a JSON list; `none` for no check."),
        Option("--health-interval", VALUE, "DURATION", "How often; 30s if not given, `disable` for healthcheck run only."),
        Option("--health-timeout", VALUE, "DURATION", "How long one check may take; 30s if not given."),
        Option("--health-retries", VALUE, "N", "How many must fail in a row; 3 if not given."),
        Option("--health-start-period", VALUE, "DURATION", "Failures of this time after the start do not count."),
        Option("--health-on-failure", VALUE, "ACTION", "What is done once it is unhealthy.",
               choices=("none", "kill", "restart", "stop")),
        Option("--no-healthcheck", FLAG, "", "No check, whatever the image says."),
    ),
    *group(
        "Image and storage",
        Option("--platform", VALUE, "OS/ARCH", "Pick this platform of a multi-platform image."),
        Option("--arch", VALUE, "ARCH", "The same, in parts."),
        Option("--os", VALUE, "OS", "The same, in parts."),
        Option("--variant", VALUE, "VARIANT", "The same, in parts."),
        Option("--rootfs", FLAG, "", "IMAGE is a root folder; the same as rootfs:IMAGE."),
        Option("--image-volume", VALUE, "MODE", "What is mounted where the image names volumes.",
               choices=("anonymous", "bind", "ignore", "tmpfs"), default="anonymous"),
        Option(
            "--storage-driver", VALUE, "DRIVER", "How the root file system is made; the first that works if not given.",
            choices=("overlay", "fuse-overlayfs", "copy"),
        ),
    ),
    *group(
        "Files",
        Option(
            "-v --volume", LIST, "SRC:DST[:OPTIONS]",
            "Mount a host path or a named volume inside; options ro, rw, rbind, U, O, nocopy.",
        ),
        Option("--mount", LIST, "SPEC", "Mount as type=bind|volume|tmpfs,src=...,dst=...,ro."),
        Option("--volumes-from", LIST, "CONTAINER[:ro]", "Mount what another container has mounted."),
        Option("--tmpfs", LIST, "DST[:OPTIONS]", "Mount an empty file system in memory."),
        Option("--secret", LIST, "NAME[,OPTION...]", "Give it a secret: type=mount|env, target=, uid=, gid=, mode=."),
        Option("--device", LIST, "PATH[:PATH]",
               "Give it a device of this machine, with the rights that you have on it; or vendor.com/class=name, as CDI has it."),
        Option("--gpus", VALUE, "GPUS", "NVIDIA's, by their CDI description: all, a number, or device=NAME[,NAME...]."),
        Option("--tz", VALUE, "ZONE", "Time zone, such as Europe/Berlin; `local` for this machine's."),
        Option("--read-only", FLAG, "", "Make the root file system read-only."),
        Switch("--read-only-tmpfs", FLAG, "", "`=false`: with --read-only no /tmp, /var/tmp and /run to write to either."),
        Option("--shm-size", VALUE, "SIZE", "Size of /dev/shm, such as 64m."),
        Option("--allow-host-socket", FLAG, "", "Allow mounting a control socket of the host (D-Bus, podman, docker)."),
    ),
    *group(
        "Network",
        Option(
            "--network --net", VALUE, "MODE", "How the network is reached.",
            choices=("none", "host", "slirp4netns", "pasta", "container:", "ns:"),
        ),
        Option("--pod", VALUE, "POD", "Be in this pod, and share what it shares; `new:NAME` makes it."),
        Option("--pod-id-file", VALUE, "FILE", "Be in the pod whose id is in this file."),
        Option("-p --publish", LIST, "[IP:][HOST:]PORT[/tcp|udp]", "Publish a port, or a range of them, on this machine."),
        Option("-P --publish-all", FLAG, "", "Publish all ports that the image or --expose names, on free ones."),
        Option("--expose", LIST, "PORT[/tcp|udp]", "A port that -P publishes too."),
        Option("--dns", LIST, "ADDRESS", "Name server."),
        Option("--dns-search", LIST, "DOMAIN", "Search domain; `.` for none."),
        Option("--dns-option", LIST, "OPTION", "Resolver option, such as ndots:2."),
        Option("--add-host", LIST, "NAME:ADDRESS", "Add a line to /etc/hosts."),
        Option("--no-hosts", FLAG, "", "Leave the image's /etc/hosts as it is."),
    ),
    *group(
        "Security",
        Option("--cap-add", LIST, "CAP", "Add a capability (NET_BIND_SERVICE), or ALL."),
        Option("--cap-drop", LIST, "CAP", "Drop a capability, or ALL."),
        Option(
            "--security-opt", LIST, "OPTION",
            "seccomp=FILE|unconfined, no-new-privileges, mask=PATH, unmask=PATH|ALL.",
        ),
        Option("--profile", VALUE, "PROFILE", "Security profile: a name, or a path that contains a slash."),
        Option("--userns", VALUE, "MODE", "auto, keep-id[:uid=N,gid=N], nomap, single, container:NAME or ns:PATH."),
        Option("--uidmap", LIST, "IN:OUT:COUNT", "Map user ids; as in podman, OUT counts in the subordinate range."),
        Option("--gidmap", LIST, "IN:OUT:COUNT", "Map group ids."),
        Option("--ipc", VALUE, "MODE", "Shared memory and message queues: private, host, container:NAME or ns:PATH."),
        Option("--uts", VALUE, "MODE", "Host name: private, host, container:NAME or ns:PATH."),
        Option("--pid", VALUE, "MODE", "Processes in sight: private, container:NAME, ns:PATH, or host."),
        Option("--sysctl", LIST, "NAME=VALUE", "Set a kernel parameter of the container's namespaces."),
        Option("--time-offset", VALUE, "OFFSET", "Shift the clock, as monotonic=SECONDS,boottime=SECONDS."),
        Option("--privileged", FLAG, "", "The profile `privileged`: no filter, nothing masked; still no rights over the host."),
        Option(
            "--allow-degraded", LIST, "WHAT", "Go on without this protection where the machine can not give it: limits.",
            choices=("limits",),
        ),
        Option("--preserve-fds", VALUE, "N", "Pass descriptors 3 to N+2 to the command."),
        Option("--preserve-fd", LIST, "FD", "Pass this descriptor to the command."),
    ),
    *group(
        "Meta",
        Option("-l --label", LIST, "KEY=VALUE", "Label the container."),
        Option("--label-file", LIST, "FILE", "Read labels from a file, one KEY=VALUE in a line."),
        Option("--annotation", LIST, "KEY=VALUE", "Add an OCI annotation."),
        Option("--report", VALUE, "FILE", "Write what was refused, and how it ended, to this file as JSON."),
        Option("--print-config", FLAG, "", "Print the OCI config.json and do not run."),
        Option("--print-plan", FLAG, "", "Print the steps that would be taken and do not run."),
        Option("--timings", FLAG, "", "Print where the time went, to standard error."),
    ),
)  # fmt: skip

# What `wrap` shares with `run`; it has no image, so nothing about images, and its file options are its own.
_SHARED = (
    "timeout", "tty", "env", "env_file", "unsetenv", "workdir", "umask", "ulimit", "allow_degraded",
    "memory", "memory_swap", "cpus", "pids_limit", "tmpfs", "network", "profile", "security_opt",
    "report", "print_config", "print_plan",
)  # fmt: skip
_SHARED_LATER = (
    "name", "init", "replace", "stop_signal", "stop_timeout", "pidfile", "restart", "log_driver", "log_opt",
    "detach_keys", "sig_proxy", "label_file", "quiet", "interactive", "env_host", "hostname", "storage_driver", "volume", "mount",
    "shm_size", "dns", "dns_search", "dns_option", "add_host", "no_hosts", "cap_add", "cap_drop", "userns", "uidmap",
    "gidmap", "sysctl", "time_offset", "preserve_fds", "preserve_fd", "label", "annotation", "timings",
)  # fmt: skip
WRAP = (
    *group(
        "Host files",
        Option("--ro", LIST, "PATH", "Show this host path read-only, even inside what is hidden."),
        Option("--rw", LIST, "PATH", "Make this host path writable."),
        Option("--hide", LIST, "PATH", "Hide this host path behind an empty one."),
    ),
    *(option for option in RUN if option.dest in _SHARED),
    *(option.postponed() for option in RUN if option.dest in _SHARED_LATER),
)

# What `exec` shares with `run`.
_OF_EXEC = (
    "detach", "interactive", "tty", "env", "env_file", "workdir", "user", "preserve_fds",
)  # fmt: skip
EXEC = (
    *(option for option in RUN if option.dest in _OF_EXEC),
    Option("-l --latest", FLAG, "", "In the container that was made last, which is not named then."),
    Option("--detach-keys", VALUE, "KEYS", "With -it: keys that detach, and it goes on; empty for none.", default=DETACH_KEYS,
           group="Terminal"),
)  # fmt: skip

# What is started most must not wait for the table of the rest, which is in verbs/.
HOT: "Final[dict[str, Verb]]" = {
    "run": Verb(
        "sandbox.run:main", "Run a command in a container made from an image.", group="Run",
        options=RUN, operands="IMAGE [COMMAND [ARG...]]", least=1, most=-1, hot=True, passthrough=True,
        about="IMAGE is a name in the local store, `oci:DIR[:TAG]`, `oci-archive:FILE`, `docker-archive:FILE[:NAME]`, "
        "`rootfs:DIR` (a root file system, never written to) or `host:` (a copy-on-write view of this machine's own "
        "system, home and secrets hidden). Everything after IMAGE belongs to the command.",
        examples=(
            ("sbx run host: id", "a throw-away view of this machine, nothing to download"),
            ("sbx run -it --network none busybox sh", "a shell without network"),
            ("sbx run -v .:/src:ro -w /src debian make -n", "the current directory inside, read-only"),
            ("sbx run --userns keep-id -v .:/src debian touch /src/new", "files made inside are yours"),
        ),
    ),
    "wrap": Verb(
        "sandbox.wrap:main", "Run a command of this machine in a sandbox.", group="Run",
        options=WRAP, operands="[--] COMMAND [ARG...]", least=1, most=-1, hot=True, passthrough=True,
        about="The host's root is read-only, home and secrets are hidden, the working directory is writable and its "
        "files stay yours, /tmp is private, the environment is clean, and there is no network unless asked for.",
        examples=(
            ("sbx wrap -- make test", "build with nothing but this directory"),
            ("sbx wrap --network pasta -- pip download httpx", "with network"),
            ("sbx wrap --ro ~/.gitconfig -- git log", "show one file of the hidden home"),
        ),
    ),
    "exec": Verb(
        "sandbox.exec:main", "Run a command in a running container.", group="Containers",
        options=EXEC, operands="CONTAINER COMMAND [ARG...]", least=1, most=-1, hot=True, passthrough=True,
        about="It has the namespaces, rights and filter of the container's own command. It ends with this client, "
        "unless it was detached.",
        examples=(
            ("sbx exec web ps", ""),
            ("sbx exec -it web sh", "a shell with a terminal"),
            ("sbx exec -u 1000 -w /src -e CI=1 build make", "as another user, elsewhere"),
        ),
    ),
}  # fmt: skip


def find(verb: str) -> "Verb | None":
    """The table's entry of `verb`."""
    entry = HOT.get(verb)
    if entry is None:
        from sandbox import verbs

        entry = verbs.VERBS.get(verb)
    return entry


def parse(verb: str, argv: list[str]) -> "tuple[dict[str, Any], list[str]] | None":
    """(every option's value by dest, operands) of ``argv`` after the verb; None for what typer has to look at."""
    entry = find(verb)
    if entry is None:
        return None
    by_flag = {flag: option for option in entry.options for flag in option.flags}
    found: dict[str, Any] = {option.dest: option.blank() for option in entry.options}
    operands: list[str] = []
    position, count = 0, len(argv)
    while position < count:
        word = argv[position]
        position += 1
        if word[:1] != "-" or word == "-":
            operands.append(word)
            if not entry.passthrough:
                continue
            operands += argv[position:]
            break
        if word == "--":
            operands += argv[position:]
            break
        if word[1] == "-":
            flag, given, value = word.partition("=")
            option = by_flag.get(flag)
            if option is None or option.later:
                return None
            if option.kind == FLAG:
                if given and value not in ("true", "false"):
                    return None
                found[option.dest] = value != "false"
                continue
        else:
            # A cluster: flags, the last of which may be an option with its value attached (-v/a:/b, -w=/src).
            option = None
            for index in range(1, len(word)):
                option = by_flag.get("-" + word[index])
                if option is None or option.later:
                    return None
                if option.kind != FLAG:
                    break
                found[option.dest] = True
            if option is None or option.kind == FLAG:
                continue
            value = word[index + 1 :]
            given = value
            if value[:1] == "=":
                value = value[1:]
        if not given:
            if position == count:
                return None
            value = argv[position]
            position += 1
        if option.choices and not option.takes(value):
            return None
        if option.kind == LIST:
            found[option.dest].append(value)
        else:
            found[option.dest] = value
    if len(operands) < entry.least or (entry.most >= 0 and len(operands) > entry.most):
        return None
    if entry.words and operands[0] not in entry.words:
        return None
    return found, operands
