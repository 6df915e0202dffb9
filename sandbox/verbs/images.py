"""Verbs about images.  (cold)"""

from sandbox.options import FLAG, LIST, VALUE, Option, Verb, group
from sandbox.verbs.parts import CREDS, FORCE, JSON, MOVING, PROGRESS, QUIET, REGISTRY, WRITING, tls_verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERBS: "Final[dict[str, Verb]]" = {
    "load": Verb(
        "sandbox.cli.load:main", "Put the images of an archive or layout into the store.", group="Images",
        options=(
            Option("-i --input", VALUE, "FILE", "Archive or layout to read; standard input if not given."),
            QUIET, PROGRESS,
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
            Option("--arch", VALUE, "ARCH", "Architecture that it is for; this one's if not given.", group="Image"),
            Option("--os", VALUE, "OS", "System that it is for; linux if not given.", group="Image"),
            Option("--variant", VALUE, "VARIANT", "Variant of the architecture, such as v7 of arm.", group="Image"),
            QUIET,
        ),
        operands="FILE|- [NAME]", least=1, most=2,
        examples=(("sbx import rootfs.tar.gz debian:mine", ""), ("tar -c . | sbx import - tree", "")),
    ),
    "pull": Verb(
        "sandbox.cli.pull:main", "Fetch images from a registry into the store.", group="Images",
        options=(
            Option("-a --all-tags", FLAG, "", "Fetch every tag of the repository.", group="Image"),
            Option("--platform", VALUE, "OS/ARCH[/VARIANT]", "Platform to take of a multi-platform image.", group="Image"),
            Option(
                "--policy --pull", VALUE, "POLICY", "When to fetch what is there already.",
                choices=("always", "missing", "never", "newer"), default="always", group="Image",
            ),
            *MOVING, *REGISTRY, CREDS,
        ),
        operands="IMAGE...", least=1, most=-1,
        about="Prints the ids. What the store has is not fetched again: one question to the registry, and no more. oci:DIR[:NAME], "
        "oci-archive:FILE[:NAME], docker-archive:FILE[:NAME] and dir:DIR take an image in from there.",
        examples=(("sbx pull docker.io/library/debian", ""), ("sbx pull -q --platform linux/arm64 alpine", "")),
    ),
    "push": Verb(
        "sandbox.cli.push:main", "Send an image of the store to a registry, archive or folder.", group="Images",
        options=(
            *WRITING, *MOVING, *REGISTRY, CREDS,
        ),
        operands="IMAGE [DESTINATION]", least=1, most=2,
        about="Layers that are plain go to a registry as gzip; others stay as they are unless --compression-format is given.",
        examples=(("sbx push quay.io/team/app:1", ""), ("sbx push app localhost:5000/app", "")),
    ),
    "copy": Verb(
        "sandbox.cli.copy:main", "Copy an image between registries, archives, folders and the store.", group="Images",
        options=(
            *group(
                "Image",
                Option("-a --all-platforms --all", FLAG, "", "Copy an index with all its images."),
                Option("--platform", VALUE, "OS/ARCH[/VARIANT]", "Platform to take of a multi-platform image."),
                Option("--preserve-digests", FLAG, "", "Fail rather than write another manifest than was read."),
            ),
            *WRITING, *MOVING,
            *group(
                "Registry",
                Option("--authfile", VALUE, "FILE", "Credentials file, instead of podman's and docker's."),
                Option("--src-creds", VALUE, "USER:PASSWORD", "Credentials for the source."),
                Option("--dest-creds", VALUE, "USER:PASSWORD", "Credentials for the destination."),
                Option("--src-cert-dir", VALUE, "DIR", "Certificates for the source."),
                Option("--dest-cert-dir", VALUE, "DIR", "Certificates for the destination."),
                tls_verify("src-"),
                tls_verify("dest-"),
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
            QUIET, PROGRESS,
        ),
        operands="IMAGE...", least=1, most=-1,
        examples=(
            ("sbx save -o app.tar app:1 app:2", ""),
            ("sbx save --format docker-archive app | podman load", ""),
        ),
    ),
    "manifest inspect": Verb(
        "sandbox.cli.manifest:main", "Print the manifest or index of an image, as JSON.", group="Images",
        options=(*REGISTRY, CREDS),
        operands="NAME", least=1, most=1,
        about="A bare name is looked for in the store, then in the registry; docker://NAME asks the registry at once.",
        examples=(("sbx manifest inspect docker://docker.io/library/debian", "its platforms"),),
    ),
    "images": Verb(
        "sandbox.cli.images:main", "List the images of the store.", group="Images",
        options=group(
            "Output",
            Option("-a --all", FLAG, "", "Accepted: intermediate images, which it stands for, are not kept here."),
            Option("-q --quiet", FLAG, "", "Print ids only."),
            Option("--json", FLAG, "", "Print JSON."),
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.Repository}}:{{.Tag}}."),
            Option("-f --filter", LIST, "KEY=VALUE", "Only images with dangling=BOOL, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, id=ID, digest=DIGEST or intermediate=BOOL."),
            Option("--sort", VALUE, "KEY", "Sort by this.", choices=("created", "id", "repository", "size", "tag"), default="created"),
            Option("--digests", FLAG, "", "Show manifest digests."),
            Option("--no-trunc", FLAG, "", "Do not shorten ids."),
            Option("-n --noheading", FLAG, "", "No line of headings."),
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
        options=group(
            "Output",
            Option("--format", VALUE, "TEMPLATE", "`json`, or a template such as {{.CreatedBy}}."),
            JSON,
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
            FORCE,
            Option("--filter", LIST, "KEY=VALUE", "Only those with until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]."),
        ),
        examples=(("sbx image prune -a -f --filter until=240h", "what is older than ten days"),),
    ),
    "inspect": Verb(
        "sandbox.cli.inspect:main", "Print what is known about containers and images, as JSON.", group="Images",
        options=group(
            "Output",
            Option("-f --format", VALUE, "TEMPLATE", "A template such as {{.Id}}."),
            Option("--type", VALUE, "KIND", "What to look for: container or image; a container first if not given."),
            Option("-s --size", FLAG, "", "How many bytes a container has written, and with its image, too."),
            Option("-l --latest", FLAG, "", "The container that was made last."),
        ),
        operands="[NAME...]", most=-1,
        examples=(("sbx inspect busybox", ""), ("sbx inspect -f '{{.Digest}}' busybox", "")),
    ),
    "image inspect": Verb(
        "sandbox.cli.inspect:image", "Print what is known about images, as JSON.", group="Images",
        options=group("Output", Option("-f --format", VALUE, "TEMPLATE", "A template such as {{.Id}}.")),
        operands="IMAGE...", least=1, most=-1, examples=(("sbx image inspect busybox", "a container of that name is not meant"),),
    ),
    "image exists": Verb(
        "sandbox.cli.image_exists:main", "Exit with 0 when there is such an image, with 1 when there is none.", group="Images",
        operands="IMAGE", least=1, most=1,
        examples=(("sbx image exists busybox || sbx pull busybox", ""),),
    ),
}  # fmt: skip
