"""Verbs about this machine, and about how sbx sees it.  (cold)"""

from sandbox.options import FLAG, VALUE, Option, Verb
from sandbox.verbs.parts import JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

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
        "sandbox.cli.profile:main", "Show, check, compare, test and score security profiles.", group="This machine",
        options=(
            JSON,
            Option("--effective", FLAG, "", "show: with all that the profile extends, rule by rule.", group="Output"),
            Option("--profile", VALUE, "PROFILE", "explain: the profile that is asked; `default` if not given."),
            Option("--threshold", VALUE, "N", "score: exit with 1 when the exposure is above this."),
        ),
        operands="ACTION [NAME...]", least=1, most=8,
        words=("list", "show", "check", "diff", "explain", "test", "score", "schema"),
        about="ACTION is list, show NAME, check FILE, diff A B, explain CALL [ARG...], test FILE, score NAME or schema.",
        examples=(
            ("sbx profile list", ""), ("sbx profile show strict --effective", "with what it extends"),
            ("sbx profile explain ptrace --profile strict", "allowed or not, and by which line"),
            ("sbx profile test ./mine.toml", "tries its [[test]] tables in a sandbox"),
        ),
    ),
    "doctor": Verb(
        "sandbox.cli.doctor:main", "Try each operation that sandboxes need, and name the fix for what is missing.", group="This machine",
        options=(JSON, Option("-q --quiet", FLAG, "", "Print only what is wrong.", group="Output")),
        about="Exit status 0 says that `sbx run` works on this machine.",
        examples=(("sbx doctor", ""), ("sbx doctor --quiet && sbx run host: true", "in scripts")),
    ),
    "info": Verb(
        "sandbox.cli.info:main", "Print facts about this machine and where sbx keeps its files.", group="This machine",
        options=(JSON,), examples=(("sbx info --json", "for a bug report"),),
    ),
}  # fmt: skip
