"""The table of verbs that nobody starts a hundred times a minute; `VERBS` is all of them, in the order of the help.  (cold)"""

from sandbox.options import FLAG, HOT, LIST, VALUE, Option, Verb, group as _group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_JSON = Option("--json", FLAG, "", "Print JSON.", group="Output")
_QUIET = Option("-q --quiet", FLAG, "", "No progress messages; print ids only.", group="Output")

# How a registry is reached; what speaks to one takes these.
_REGISTRY = _group(
    "Registry",
    Option("--authfile", VALUE, "FILE", "Credentials file, instead of podman's and docker's."),
    Option("--cert-dir", VALUE, "DIR", "Certificates for the registry, instead of those in certs.d."),
    Option("--tls-verify", VALUE, "BOOL", "`false` allows bad certificates and plain http.", choices=("true", "false")),
)
_CREDS = Option("--creds", VALUE, "USER:PASSWORD", "Credentials for the registry.", group="Registry")

VERBS: "Final[dict[str, Verb]]" = {
    **HOT,
    "unshare": Verb(
        "sandbox.cli.unshare:main", "Run a command as container root in the user namespace, on the host's files.", group="Run",
        options=(Option("--userns", VALUE, "MODE", "auto, keep-id[:uid=N,gid=N], nomap or single.", group="Ids"),),
        operands="[COMMAND [ARG...]]", most=-1, passthrough=True,
        about="For files that containers left under subordinate ids. Not a sandbox: files, network and processes are "
        "the host's.",
        examples=(("sbx unshare rm -rf build/root", "remove files that belong to subordinate ids"),),
    ),
    "load": Verb(
        "sandbox.cli.load:main", "Put the images of an archive or layout into the store.", group="Images",
        options=(
            Option("-i --input", VALUE, "FILE", "Archive or layout to read; standard input if not given."),
            _QUIET,
        ),
        operands="[FILE]", most=1,
        examples=(
            ("sbx load -i busybox.tar", "from `podman save` or `docker save`"),
            ("sbx load < app.tar", "from standard input"),
        ),
    ),
    "import": Verb(
        "sandbox.cli.import_:main", "Make an image of one layer from a tar file of a root file system.", group="Images",
        options=(
            Option(
                "-c --change", LIST, "INSTRUCTION", "Set image configuration, such as `CMD [\"sh\"]`.", group="Image"
            ),
            Option("-m --message", VALUE, "TEXT", "Comment for the image's history.", group="Image"),
            _QUIET,
        ),
        operands="FILE|- [NAME]", least=1, most=2,
        examples=(("sbx import rootfs.tar.gz debian:mine", ""), ("tar -c . | sbx import - tree", "")),
    ),
    "images": Verb(
        "sandbox.cli.images:main", "List the images of the store.", group="Images",
        options=_group(
            "Output",
            Option("-a --all", FLAG, "", "Show images without a name too."),
            Option("-q --quiet", FLAG, "", "Print ids only."),
            Option("--json", FLAG, "", "Print JSON."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Repository}}:{{.Tag}}."),
            Option("--digests", FLAG, "", "Show manifest digests."),
            Option("--no-trunc", FLAG, "", "Do not shorten ids."),
            Option("-n --noheading", FLAG, "", "No heading line."),
        ),
        operands="[NAME]", most=1,
        examples=(("sbx images", ""), ("sbx images --format '{{.Repository}}:{{.Tag}}'", "for scripts")),
    ),
    "rmi": Verb(
        "sandbox.cli.rmi:main", "Remove images from the store.", group="Images",
        options=(
            Option("-f --force", FLAG, "", "Do not complain about images that are not there."),
            Option("-a --all", FLAG, "", "Remove all images."),
        ),
        operands="[IMAGE...]", most=-1,
        examples=(("sbx rmi busybox", ""),),
    ),
    "inspect": Verb(
        "sandbox.cli.inspect:main", "Print what is known about images, as JSON.", group="Images",
        options=_group(
            "Output",
            Option("-f --format", VALUE, "TEMPLATE", "A template such as {{.Id}}."),
            Option("--type", VALUE, "KIND", "Kind of thing to look for, such as image."),
        ),
        operands="NAME...", least=1, most=-1,
        examples=(("sbx inspect busybox", ""), ("sbx inspect -f '{{.Digest}}' busybox", "")),
    ),
    "login": Verb(
        "sandbox.cli.login:main", "Log in to a registry, and keep the credentials.", group="Registries",
        options=(
            *_group(
                "Account",
                Option("-u --username", VALUE, "USER", "User name."),
                Option("-p --password", VALUE, "PASSWORD", "Password; every process of this machine can read it here."),
                Option("--password-stdin", FLAG, "", "Read the password from standard input."),
                Option("--get-login", FLAG, "", "Print the user name that is stored, and do nothing else."),
                Option("-v --verbose", FLAG, "", "Print where the credentials are kept."),
            ),
            *_REGISTRY,
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
            *_group(
                "Output",
                Option("--limit", VALUE, "N", "Most rows for one registry.", default="25"),
                Option("--list-tags", FLAG, "", "List the tags of one repository."),
                Option("--no-trunc", FLAG, "", "Do not shorten descriptions."),
                Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Name}}."),
            ),
            *_REGISTRY,
            _CREDS,
        ),
        operands="[REGISTRY/]TERM", least=1, most=1,
        about="Without a registry: those of unqualified-search-registries, else docker.io. Other registries than docker.io "
        "are asked for their catalogue, which many do not show.",
        examples=(
            ("sbx search localhost:5000/tool", ""),
            ("sbx search --list-tags quay.io/team/app", ""),
        ),
    ),
    "profile": Verb(
        "sandbox.cli.profile:main", "List security profiles, or show one as it is in force.", group="This machine",
        options=(_JSON,), operands="list | show NAME", least=1, most=2, words=("list", "show"),
        examples=(("sbx profile list", ""), ("sbx profile show default --json", "as an OCI fragment")),
    ),
    "doctor": Verb(
        "sandbox.cli.doctor:main", "Try each operation that sandboxes need, and name the fix for what is missing.", group="This machine",
        options=(_JSON, Option("-q --quiet", FLAG, "", "Print only what is wrong.", group="Output")),
        about="Exit status 0 says that `sbx run` works on this machine.",
        examples=(("sbx doctor", ""), ("sbx doctor --quiet && sbx run host: true", "in scripts")),
    ),
    "info": Verb(
        "sandbox.cli.info:main", "Print facts about this machine and where sbx keeps its files.", group="This machine",
        options=(_JSON,), examples=(("sbx info --json", "for a bug report"),),
    ),
    "version": Verb(
        "sandbox.cli.version:main", "Print the version.", group="Help",
        options=(_JSON,), examples=(("sbx version --json", ""),),
    ),
    "completion": Verb(
        "sandbox.cli.completion:main", "Print a completion script for a shell.", group="Help",
        operands="bash|zsh|fish", least=1, most=1, words=("bash", "zsh", "fish"),
        examples=(
            ("sbx completion bash > ~/.local/share/bash-completion/completions/sbx", ""),
            ("sbx completion fish > ~/.config/fish/completions/sbx.fish", ""),
        ),
    ),
    "help": Verb(
        "sandbox.cli.help:main", "Show help about sbx, or about a verb.", group="Help",
        operands="[VERB]", most=1, examples=(("sbx help run", ""),),
    ),
}  # fmt: skip
