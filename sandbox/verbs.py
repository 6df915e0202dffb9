"""The table of verbs that nobody starts a hundred times a minute; `VERBS` is all of them, in the order of the help.  (cold)"""

from sandbox.options import FLAG, HOT, LIST, VALUE, Option, Verb, group as _group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_JSON = Option("--json", FLAG, "", "Print JSON.", group="Output")
_FORCE = Option("-f --force", FLAG, "", "Do not ask.")
_QUIET = Option("-q --quiet", FLAG, "", "No progress messages; print ids only.", group="Output")

# How a registry is reached; what speaks to one takes these.
_REGISTRY = _group(
    "Registry",
    Option("--authfile", VALUE, "FILE", "Credentials file, instead of podman's and docker's."),
    Option("--cert-dir", VALUE, "DIR", "Certificates for the registry, instead of those in certs.d."),
    Option("--tls-verify", VALUE, "BOOL", "`false` allows bad certificates and plain http.", choices=("true", "false")),
)
_CREDS = Option("--creds", VALUE, "USER:PASSWORD", "Credentials for the registry.", group="Registry")
# How images move.
_MOVING = (
    _QUIET,
    Option(
        "--progress", VALUE, "STYLE", "How progress is shown, on standard error.",
        choices=("auto", "plain", "json", "none"), default="auto", group="Output",
    ),
    Option("--retry", VALUE, "N", "How often a failed request is tried again.", default="4", group="Registry"),
)  # fmt: skip
_WRITING = _group(
    "Image",
    Option("--digestfile", VALUE, "FILE", "Write the digest of what was written to this file."),
    Option("--format -f", VALUE, "TYPE", "Manifest to write.", choices=("oci", "docker", "v2s2")),
    Option("--compression-format", VALUE, "FORMAT", "Compress layers anew.", choices=("gzip", "zstd")),
    Option("--remove-signatures", FLAG, "", "Accepted: signatures are never copied."),
)

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
    "pull": Verb(
        "sandbox.cli.pull:main", "Fetch images from a registry into the store.", group="Images",
        options=(
            Option("-a --all-tags", FLAG, "", "Fetch every tag of the repository.", group="Image"),
            Option("--platform", VALUE, "OS/ARCH[/VARIANT]", "Platform to take of an index.", group="Image"),
            Option(
                "--policy --pull", VALUE, "POLICY", "When to fetch what is there already.",
                choices=("always", "missing", "never", "newer"), default="always", group="Image",
            ),
            *_MOVING, *_REGISTRY, _CREDS,
        ),
        operands="IMAGE...", least=1, most=-1,
        about="Prints the ids. What the store has is not fetched again: one question to the registry, and no more.",
        examples=(("sbx pull docker.io/library/debian", ""), ("sbx pull -q --platform linux/arm64 alpine", "")),
    ),
    "push": Verb(
        "sandbox.cli.push:main", "Send an image of the store to a registry, archive or folder.", group="Images",
        options=(
            *_WRITING, *_MOVING, *_REGISTRY, _CREDS,
        ),
        operands="IMAGE [DESTINATION]", least=1, most=2,
        about="Layers that are plain are compressed on their way; others stay as they are unless --compression-format is given.",
        examples=(("sbx push quay.io/team/app:1", ""), ("sbx push app localhost:5000/app", "")),
    ),
    "copy": Verb(
        "sandbox.cli.copy:main", "Copy an image between registries, archives, folders and the store.", group="Images",
        options=(
            *_group(
                "Image",
                Option("-a --all-platforms --all", FLAG, "", "Copy an index with all its images."),
                Option("--platform", VALUE, "OS/ARCH[/VARIANT]", "Platform to take of an index."),
                Option("--preserve-digests", FLAG, "", "Fail rather than write another manifest than was read."),
            ),
            *_WRITING, *_MOVING,
            *_group(
                "Registry",
                Option("--authfile", VALUE, "FILE", "Credentials file, instead of podman's and docker's."),
                Option("--src-creds", VALUE, "USER:PASSWORD", "Credentials for the source."),
                Option("--dest-creds", VALUE, "USER:PASSWORD", "Credentials for the destination."),
                Option("--src-cert-dir", VALUE, "DIR", "Certificates for the source."),
                Option("--dest-cert-dir", VALUE, "DIR", "Certificates for the destination."),
                Option(
                    "--src-tls-verify", VALUE, "BOOL", "`false` allows bad certificates and plain http.",
                    choices=("true", "false"),
                ),
                Option(
                    "--dest-tls-verify", VALUE, "BOOL", "`false` allows bad certificates and plain http.",
                    choices=("true", "false"),
                ),
            ),
        ),
        operands="SOURCE DESTINATION", least=2, most=2,
        about="Names: docker://NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR, and "
        "store:NAME, or a bare name, for the store.",
        examples=(
            ("sbx copy docker://quay.io/team/app:1 oci-archive:app.tar:1", ""),
            ("sbx copy -a docker://quay.io/team/app:1 docker://ghcr.io/team/app:1", "all platforms"),
        ),
    ),
    "save": Verb(
        "sandbox.cli.save:main", "Write images of the store to one archive.", group="Images",
        options=(
            Option("-o --output", VALUE, "FILE", "File or folder to write; standard output if not given."),
            Option(
                "--format", VALUE, "FORMAT", "Form of the archive.",
                choices=("oci-archive", "docker-archive", "oci-dir", "docker-dir"), default="oci-archive",
            ),
            Option("-m --multi-image-archive", FLAG, "", "Accepted: several images may always be named."),
            _QUIET,
        ),
        operands="IMAGE...", least=1, most=-1,
        examples=(
            ("sbx save -o app.tar app:1 app:2", ""),
            ("sbx save --format docker-archive app | podman load", ""),
        ),
    ),
    "manifest": Verb(
        "sandbox.cli.manifest:main", "Print the manifest or index of an image, as JSON.", group="Images",
        options=(*_REGISTRY, _CREDS),
        operands="inspect NAME", least=2, most=2, words=("inspect",),
        about="A bare name is looked for in the store, then in the registry; docker://NAME asks the registry at once.",
        examples=(("sbx manifest inspect docker://docker.io/library/debian", "its platforms"),),
    ),
    "images": Verb(
        "sandbox.cli.images:main", "List the images of the store.", group="Images",
        options=_group(
            "Output",
            Option("-a --all", FLAG, "", "Show images without a name too."),
            Option("-q --quiet", FLAG, "", "Print ids only."),
            Option("--json", FLAG, "", "Print JSON."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Repository}}:{{.Tag}}."),
            Option("-f --filter", LIST, "KEY=VALUE", "Only images with dangling=BOOL, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, id=ID, digest=DIGEST or intermediate=BOOL."),
            Option("--sort", VALUE, "KEY", "Sort by this.", choices=("created", "id", "repository", "size", "tag"), default="created"),
            Option("--digests", FLAG, "", "Show manifest digests."),
            Option("--no-trunc", FLAG, "", "Do not shorten ids."),
            Option("-n --noheading", FLAG, "", "No heading line."),
        ),
        operands="[NAME]", most=1,
        examples=(("sbx images", ""), ("sbx images --format '{{.Repository}}:{{.Tag}}'", "for scripts")),
    ),
    "tag": Verb(
        "sandbox.cli.tag:main", "Give an image more names.", group="Images",
        operands="IMAGE NAME...", least=2, most=-1, examples=(("sbx tag busybox localhost/tools:1", ""),),
    ),
    "untag": Verb(
        "sandbox.cli.untag:main", "Take names away from an image, which stays.", group="Images",
        operands="IMAGE [NAME...]", least=1, most=-1, about="Without NAME it loses all its names.",
        examples=(("sbx untag busybox localhost/tools:1", ""),),
    ),
    "history": Verb(
        "sandbox.cli.history:main", "Show how an image was made, layer by layer.", group="Images",
        options=_group(
            "Output",
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.CreatedBy}}."),
            _JSON,
            Option("-q --quiet", FLAG, "", "Print ids only."),
            Option("--no-trunc", FLAG, "", "Do not shorten commands and ids."),
            Option("-H --human", VALUE, "BOOL", "`false` prints sizes and times in full.", choices=("true", "false"), default="true"),
        ),
        operands="IMAGE", least=1, most=1, examples=(("sbx history --no-trunc busybox", ""),),
    ),
    "rmi": Verb(
        "sandbox.cli.rmi:main", "Remove images from the store.", group="Images",
        options=(
            Option("-f --force", FLAG, "", "Remove images with several names too; missing ones are no error."),
            Option("-a --all", FLAG, "", "Remove all images."),
            Option("-i --ignore", FLAG, "", "Images that are not there are no error."),
        ),
        operands="[IMAGE...]", most=-1,
        examples=(("sbx rmi busybox", ""),),
    ),
    "image prune": Verb(
        "sandbox.cli.image_prune:main", "Remove images without a name; with --all those that no container uses.", group="Images",
        options=(
            Option("-a --all", FLAG, "", "All images that no container uses, not only nameless ones."),
            _FORCE,
            Option("--filter", LIST, "KEY=VALUE", "Only those with until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]."),
        ),
        examples=(("sbx image prune -a -f --filter until=240h", "what is older than ten days"),),
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
    "system df": Verb(
        "sandbox.cli.system_df:main", "Show how much disk space the store takes, by kind.", group="Store",
        options=_group(
            "Output",
            Option("-v --verbose", FLAG, "", "One line for each image and container."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Type}}."),
        ),
        about="Blocks on disk, as du counts them: all rows together are what `sbx unshare du -s` says of the store.",
        examples=(("sbx system df", ""),),
    ),
    "system prune": Verb(
        "sandbox.cli.system_prune:main", "Remove ended containers, nameless images, and what killed commands left.", group="Store",
        options=(
            Option("-a --all", FLAG, "", "All images that no container uses, not only nameless ones."),
            _FORCE,
            Option("--filter", LIST, "KEY=VALUE", "Only images with until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]."),
            Option("--volumes", FLAG, "", "Volumes too.", later=True),
        ),
        examples=(("sbx system prune -f", ""),),
    ),
    "system check": Verb(
        "sandbox.cli.system_check:main", "Verify every blob and every unpacked layer; find what belongs to nothing.", group="Store",
        options=(
            Option("-q --quick", FLAG, "", "Sizes and names only: no blob is read."),
            Option("-r --repair", FLAG, "", "Remove what is broken or left over, and unpack broken layers again."),
            _JSON,
        ),
        about="Exit status 1 says that something is wrong.",
        examples=(("sbx system check --repair", ""),),
    ),
    "system reset": Verb(
        "sandbox.cli.system_reset:main", "Remove all images and containers: the whole store.", group="Store",
        options=(_FORCE,), examples=(("sbx system reset", ""),),
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
        operands="[VERB]", most=2, examples=(("sbx help run", ""), ("sbx help system df", "")),
    ),
}  # fmt: skip

# Other spellings, as podman has them.
ALIASES: "Final[dict[str, str]]" = {
    "image ls": "images", "image list": "images", "image rm": "rmi", "system info": "info",
    **{f"image {verb}": verb for verb in ("history", "import", "inspect", "load", "search", "tag", "untag")},
}  # fmt: skip


def resolve(first: str, second: str) -> str:
    """The verb of two words, or the one that it is another spelling of; "" when there is none."""
    name = f"{first} {second}"
    return name if name in VERBS else ALIASES.get(name, "")


def below(first: str) -> list[str]:
    """The second words that `first` may have; [] when it is no group of verbs."""
    return [name.partition(" ")[2] for name in (*VERBS, *ALIASES) if name.startswith(f"{first} ")]


def groups() -> "dict[str, Verb]":
    """VERBS by their first word, for completion: a group is a verb whose first operand is the second word."""
    found: dict[str, Verb] = {}
    for name, verb in VERBS.items():
        first, space, _ = name.partition(" ")
        if not space:
            found[first] = verb
        elif first not in found:
            members = [VERBS[resolve(first, word)] for word in below(first)]
            options: dict[str, Option] = {}
            for option in (option for member in members for option in member.options if option.dest != "debug"):
                if not any(flag in other.flags for other in options.values() for flag in option.flags):
                    options[option.dest] = option
            found[first] = Verb(
                "", f"Verbs about the {'store' if first == 'system' else first + 's'}.", group=verb.group,
                options=tuple(options.values()), operands="VERB", least=1, most=-1,
                words=tuple(below(first)),
            )  # fmt: skip
    return found
