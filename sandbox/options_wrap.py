"""What `wrap` takes.  (core, hot)"""

from sandbox.options import LIST, Option, Verb, group
from sandbox.options_run import RUN

# What `wrap` shares with `run`; it has no image, so nothing about images, and its file options are its own.
_SHARED = (
    "timeout", "tty", "env", "env_file", "unsetenv", "workdir", "umask", "ulimit", "allow_degraded",
    "memory", "memory_swap", "cpus", "pids_limit", "tmpfs", "network", "profile", "security_opt",
    "report", "explain", "print_config", "print_plan",
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

VERB = Verb(
    "sandbox.wrap:main", "Run a command of this machine in a sandbox.", group="Run",
    options=WRAP, operands="[--] COMMAND [ARG...]", least=1, most=-1, hot=True, passthrough=True,
    about="The host's root is read-only, home and secrets are hidden, the working directory is writable and its "
    "files stay yours, /tmp is private, the environment is clean, and there is no network unless asked for.",
    examples=(
        ("sbx wrap -- make test", "build with nothing but this directory"),
        ("sbx wrap --network pasta -- pip download httpx", "with network"),
        ("sbx wrap --ro ~/.gitconfig -- git log", "show one file of the hidden home"),
    ),
)  # fmt: skip
