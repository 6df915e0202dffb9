"""Options that several verbs share.  (cold)"""

from sandbox.options import FLAG, VALUE, Option, Switch, group

JSON = Option("--json", FLAG, "", "Print JSON.", group="Output")
FORCE = Option("-f --force", FLAG, "", "Do not ask.")
# What `top` can show of a process, podman's words.
COLUMNS = (
    "args", "capamb", "capbnd", "capeff", "capinh", "capprm", "comm", "etime", "group", "hgroup", "hpid", "huser", "nice", "pcpu",
    "pgid", "pid", "ppid", "rgroup", "rss", "ruser", "seccomp", "state", "stime", "time", "tty", "user", "vsz",
)  # fmt: skip
QUIET = Option("-q --quiet", FLAG, "", "No progress messages; print ids only.", group="Output")


def tls_verify(prefix: str = "") -> Switch:
    return Switch(f"--{prefix}tls-verify", FLAG, "", "`=false` allows untrusted certificates, and plain http.")


# How a registry is reached; what speaks to one takes these.
REGISTRY = group(
    "Registry",
    Option("--authfile", VALUE, "FILE", "Credentials file, instead of podman's and docker's."),
    Option("--cert-dir", VALUE, "DIR", "Certificates for the registry, instead of those in certs.d."),
    tls_verify(),
)
CREDS = Option("--creds", VALUE, "USER:PASSWORD", "Credentials for the registry.", group="Registry")
# How images move.
PROGRESS = Option(
    "--progress", VALUE, "STYLE", "How progress is shown, on standard error.",
    choices=("auto", "plain", "json", "none"), default="auto", group="Output",
)  # fmt: skip
MOVING = (
    QUIET, PROGRESS,
    Option("--retry", VALUE, "N", "How often a failed request is tried again.", default="4", group="Registry"),
)  # fmt: skip
WRITING = group(
    "Image",
    Option("--digestfile", VALUE, "FILE", "Write the digest of what was written to this file."),
    Option("--format -f", VALUE, "TYPE", "Manifest to write.", choices=("oci", "docker", "v2s2")),
    Option(
        "--compression-format",
        VALUE,
        "FORMAT",
        "Write all layers so; plain ones go to a registry as gzip if not given.",
        choices=("gzip", "zstd", "none"),
    ),
    Option("--remove-signatures", FLAG, "", "Accepted: signatures are never copied."),
)
