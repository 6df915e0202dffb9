"""Verbs about this machine, and about how sbx sees it.  (cold)"""

from sandbox.options import FLAG, VALUE, Option, Verb
from sandbox.options_run import RUN
from sandbox.verbs.parts import JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Options of run that make no sense for a command that is observed
_NOT_LEARNED = (
    "rm", "name", "detach", "profile", "privileged", "restart", "log_driver", "log_opt", "replace", "cidfile", "pidfile", "detach_keys",
    "sig_proxy", "print_config", "print_plan", "timings", "report", "interactive", "tty", "quiet", "stop_signal", "stop_timeout",
    "preserve_fds", "preserve_fd", "pod", "pod_id_file", "no_healthcheck", "rmi", "requires", "attach",
)  # fmt: skip
# Names of the rows of `doctor`; a test holds them against doctor/table.py, which is not to be imported for help.
PROBES = (
    "userns", "idmap", "mount", "proc", "sysfs", "overlay", "fuse", "netns", "slirp", "pasta", "seccomp", "notify", "landlock",
    "cgroup", "tty", "timens", "store", "runtime", "linger",
)  # fmt: skip

VERBS: "Final[dict[str, Verb]]" = {
    "unshare": Verb(
        "sandbox.cli.unshare:main", "Run a command as container root in the user namespace, on the host's files.", group="Run",
        options=(Option("--userns", VALUE, "MODE", "auto, keep-id[:uid=N,gid=N], nomap or single.", group="Ids"),),
        operands="[COMMAND [ARG...]]", most=-1, passthrough=True,
        about="For files that containers left under subordinate ids. Not a sandbox: files, network and processes are "
        "the host's.",
        examples=(("sbx unshare rm -rf build/root", "remove files that belong to subordinate ids"),),
    ),
    "profile": Verb(
        "sandbox.cli.profile:main", "List, show, check, compare, explain, test and score security profiles.", group="This machine",
        options=(
            JSON,
            Option("--effective", FLAG, "", "show: with all that the profile extends, rule by rule.", group="Output"),
            Option("--profile", VALUE, "PROFILE", "explain: the profile that is asked; `default` if not given."),
            Option("--threshold", VALUE, "N", "score: exit with 1 when the exposure is above this."),
        ),
        operands="ACTION [NAME...]", least=1, most=8,
        words=("list", "show", "check", "diff", "explain", "test", "score", "schema", "learn"),
        about="ACTION is list, show NAME, check FILE, diff A B, explain CALL [ARG...], test FILE, score NAME or schema. "
        "`sbx profile learn --help` tells of learn.",
        examples=(
            ("sbx profile list", ""), ("sbx profile show strict --effective", "with what it extends"),
            ("sbx profile explain ptrace --profile strict", "allowed or not, and by which line"),
            ("sbx profile test ./mine.toml", "tries its [[test]] tables in a sandbox"),
        ),
    ),
    "profile learn": Verb(
        "sandbox.cli.profile_learn:main", "Write the profile that a command needs, from what it does.", group="This machine",
        options=(
            Option("--base --from", VALUE, "PROFILE", "Profile to start from, which is made stricter; `default` if not given."),
            Option("-o --output", VALUE, "FILE", "File to write; standard output if not given."),
            Option("--runs", VALUE, "N", "How often the command is observed.", default="1"),
            Option("--merge", FLAG, "", "Add to what FILE knows from earlier runs."),
            Option("--force", FLAG, "", "Replace FILE when it is there; with --merge give up changes that were made to it."),
            Option("--status", VALUE, "N", "Exit status that the command is to end with.", default="0"),
            *(option for option in RUN if option.dest not in _NOT_LEARNED and not option.dest.startswith("health")),
        ),
        operands="IMAGE COMMAND [ARG...]", least=1, most=-1, passthrough=True,
        about="The command runs under PROFILE, with the options of run, and all that it does is observed. The profile that "
        "comes of it allows that and little more; the command is run once more under it, and must end the same way. What it "
        "prints while it is observed goes to standard error.",
        examples=(
            ("sbx profile learn -o app.toml debian sh -c 'apt-get --version'", "then `sbx run --profile ./app.toml`"),
            ("sbx profile learn -o app.toml --merge -v .:/src -w /src debian make test", "adds what another run does"),
        ),
    ),
    "doctor": Verb(
        "sandbox.cli.doctor:main", "Try each operation that sandboxes need, and name the fix for what is missing.", group="This machine",
        options=(JSON, Option("-q --quiet", FLAG, "", "Print only what is wrong.", group="Output")),
        operands="[PROBE...]", most=-1, words=PROBES,
        about="Exit status 0 says that `sbx run` works on this machine. Without PROBE all are tried; PROBE is one of "
        f"{', '.join(PROBES)}.",
        examples=(("sbx doctor", ""), ("sbx doctor cgroup", "only this"), ("sbx doctor --quiet && sbx run host: true", "in scripts")),
    ),
    "info": Verb(
        "sandbox.cli.info:main", "Print facts about this machine and where sbx keeps its files.", group="This machine",
        options=(JSON, Option("-f --format", VALUE, "TEMPLATE", "`json`, or a template such as {{.host.kernel}}.", group="Output")),
        examples=(("sbx info --json", "for a bug report"),),
    ),
}  # fmt: skip
