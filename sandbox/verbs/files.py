"""Verbs about the files of containers.  (cold)"""

from sandbox.options import FLAG, LIST, VALUE, Option, Verb, group
from sandbox.verbs.parts import QUIET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_LATEST = Option("-l --latest", FLAG, "", "The container that was made last.")

VERBS: "Final[dict[str, Verb]]" = {
    "cp": Verb(
        "sandbox.cli.cp:main", "Copy files between containers and this machine.", group="Containers",
        options=(
            Option("-a --archive", FLAG, "", "Keep ids of what is copied into a container; else it is the container user's."),
            Option("--overwrite", FLAG, "", "Replace a folder by a file, and a file by a folder."),
        ),
        operands="SOURCE DESTINATION", least=2, most=2,
        about="CONTAINER:PATH, or for one of the two a path of this machine, or `-` for a tar archive. A folder is "
        "copied into a folder that is there, FOLDER/. is what is in it. Running or not; links are followed inside only.",
        examples=(
            ("sbx cp build:/src/app.whl .", ""), ("sbx cp conf/. web:/etc/app", "what is in the folder"),
            ("sbx cp build:/out - | tar -t", ""),
        ),
    ),
    "diff": Verb(
        "sandbox.cli.diff:main", "List what a container has changed of its image's files.", group="Containers",
        options=(Option("--format", VALUE, "FORMAT", "`json`.", choices=("json",), group="Output"), _LATEST),
        operands="[CONTAINER]", most=1, about="A added, C changed, D deleted.", examples=(("sbx diff build", ""),),
    ),
    "commit": Verb(
        "sandbox.cli.commit:main", "Make an image of a container's files as they are now.", group="Containers",
        options=(
            *group(
                "Image",
                Option("-a --author", VALUE, "NAME", "Author of the image."),
                Option("-c --change", LIST, "INSTRUCTION", "Set image configuration, such as `CMD [\"sh\"]`."),
                Option("-m --message", VALUE, "TEXT", "Comment for the image's history."),
            ),
            Option("-s --squash", FLAG, "", "One layer with all files, instead of one more on those of its image."),
            Option("--iidfile", VALUE, "FILE", "Write the image's id to this file."),
            Option("--include-volumes", FLAG, "", "The image names the volumes that the container has."),
            Option("-p --pause", FLAG, "", "Stop its processes meanwhile, where that can be done."),
            QUIET,
        ),
        operands="CONTAINER [NAME]", least=1, most=2,
        examples=(("sbx commit build localhost/built:1", ""), ("sbx commit -c 'CMD [\"serve\"]' web web", "")),
    ),
    "export": Verb(
        "sandbox.cli.export:main", "Write the files of a container to a tar archive.", group="Containers",
        options=(Option("-o --output", VALUE, "FILE", "File to write; standard output if not given."),),
        operands="CONTAINER", least=1, most=1, examples=(("sbx export web -o web.tar", ""),),
    ),
    "mount": Verb(
        "sandbox.cli.mount:main", "Mount the roots of stopped containers, inside `sbx unshare`.", group="Containers",
        options=(
            Option("-a --all", FLAG, "", "Of all containers."), Option("-l --latest", FLAG, "", "Of the one that was made last."),
            Option("--format", VALUE, "FORMAT", "Of the list: json.", choices=("json",), group="Output"),
            Option("--no-trunc", FLAG, "", "Do not shorten ids.", group="Output"),
        ),
        operands="[CONTAINER...]", most=-1,
        about="Prints where. Without operands it lists what is mounted. What is mounted goes with the `sbx unshare`; a "
        "container must not be started meanwhile.",
        examples=(("sbx unshare sh -c 'ls $(sbx mount web)/etc'", ""),),
    ),
    "umount": Verb(
        "sandbox.cli.umount:main", "Unmount what `sbx mount` mounted.", group="Containers",
        options=(Option("-a --all", FLAG, "", "Of all containers."), _LATEST), operands="CONTAINER...", most=-1,
        examples=(("sbx umount web", "inside `sbx unshare`"),),
    ),
    "port": Verb(
        "sandbox.cli.port:main", "List the published ports of a container, or say where one is.", group="Containers",
        options=(Option("-a --all", FLAG, "", "Of all containers that run."), _LATEST),
        operands="[CONTAINER [PORT[/tcp|udp]]]", most=2, examples=(("sbx port web 80", ""),),
    ),
}  # fmt: skip
