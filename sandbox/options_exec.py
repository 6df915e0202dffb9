"""What `exec` takes.  (core, hot)"""

from sandbox.options import DETACH_KEYS, FLAG, VALUE, Option, Verb
from sandbox.options_run import RUN

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

VERB = Verb(
    "sandbox.exec:main", "Run a command in a running container.", group="Containers",
    options=EXEC, operands="CONTAINER COMMAND [ARG...]", least=1, most=-1, hot=True, passthrough=True,
    about="It has the namespaces, rights and filter of the container's own command. It ends with this client, "
    "unless it was detached.",
    examples=(
        ("sbx exec web ps", ""),
        ("sbx exec -it web sh", "a shell with a terminal"),
        ("sbx exec -u 1000 -w /src -e CI=1 build make", "as another user, elsewhere"),
    ),
)  # fmt: skip
