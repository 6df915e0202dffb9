"""`--print-config` and `--print-plan`: the spec as JSON, the plan as text.  (cold)"""

import json
import marshal
import os
from typing import Any

from sandbox import linux, overlay, plan, userns, users
from sandbox.errors import SandboxError


def config(spec: dict[str, Any], bpf: bytes, maps: dict[str, Any]) -> str:
    """The OCI config.json, with the user looked up in the image; the compiled filter is not part of it."""
    del bpf
    _look_up_user(spec, maps)
    if "seccomp" in spec["linux"]:
        spec["linux"]["seccomp"] = marshal.loads(spec["linux"]["seccomp"])  # as profile/load.py packs it
    for entry in spec["mounts"]:
        if "rbind" in entry["options"]:  # ours are read-only with all that is mounted below; others want that in words
            entry["options"] = ["rro" if option == "ro" else option for option in entry["options"]]
    # A terminal gets no control character of an image.
    text = json.dumps(spec, indent=2, ensure_ascii=os.isatty(1))
    try:
        text.encode()
    except UnicodeEncodeError:  # a word of the command line that is no UTF-8
        text = json.dumps(spec, indent=2)
    return text + "\n"


def steps(spec: dict[str, Any], bpf: bytes, maps: dict[str, Any]) -> str:
    """The steps of keeper and init, one a line, with the user looked up in the image."""
    _look_up_user(spec, maps)
    return plan.text(plan.make(spec, bpf))


def _look_up_user(spec: dict[str, Any], maps: dict[str, Any]) -> None:
    """What the keeper does once the root file system is mounted (see users.py); other runtimes know numbers only."""
    annotations = spec["annotations"]
    text = annotations.get("dev.sbx.user", "")
    if not text and annotations.get("dev.sbx.home") != "lookup":
        return
    layers = [path for path in annotations["dev.sbx.layers"].split("\n") if path]

    def found() -> dict[str, Any]:
        users.complete(spec, _merged(layers), text)
        process: dict[str, Any] = spec["process"]
        return process

    if len(layers) == 1:
        spec["process"] = found()
    elif os.geteuid() == 0:
        # Root of a namespace could not walk to root's store; this process is a child (cold.call) that ends with this.
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        spec["process"] = found()
    else:
        spec["process"] = userns.call(maps, found)
    for name in ("user", "groups", "home"):
        annotations.pop(f"dev.sbx.{name}", None)


def _merged(layers: list[str]) -> int:
    """A descriptor of the layers put together; several are mounted, in a mount namespace of one's own."""
    fds = []
    for path in layers:
        try:
            fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise SandboxError.of("open layer", path, error) from None
    if len(fds) == 1:
        return fds[0]
    linux.mount("tmpfs", "/tmp", "tmpfs", 0, "mode=700")
    os.chdir("/tmp")
    os.mkdir("root")
    return overlay.mount(fds, "upper", "work")
