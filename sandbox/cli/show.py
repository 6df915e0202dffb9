"""`--print-config` and `--print-plan`: the spec as JSON, the plan as text.  (cold)"""

import json
import os
from collections.abc import Iterable
from typing import Any

from sandbox import linux, overlay, plan, userns, users
from sandbox.errors import SandboxError


def config(spec: dict[str, Any], bpf: bytes, maps: dict[str, Any]) -> str:
    """The OCI config.json, with the user looked up in the image; the compiled filter is not part of it."""
    del bpf
    _look_up_user(spec, maps)
    text = json.dumps(spec, indent=2, ensure_ascii=False)
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
    layers = _opened(path for path in annotations["dev.sbx.layers"].split("\n") if path)

    def found() -> dict[str, Any]:
        users.complete(spec, layers[0] if len(layers) == 1 else _merged(layers), text)
        process: dict[str, Any] = spec["process"]
        return process

    spec["process"] = found() if len(layers) == 1 else userns.call(maps, found)
    for name in ("user", "groups", "home"):
        annotations.pop(f"dev.sbx.{name}", None)


def _opened(layers: Iterable[str]) -> list[int]:
    """Descriptors of the layers, opened by the caller: root of a namespace may not be able to walk there."""
    fds = []
    for path in layers:
        try:
            fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise SandboxError.of("open layer", path, error) from None
    return fds


def _merged(layers: list[int]) -> int:
    """A descriptor of the layers put together, in a mount namespace of its own (see userns.call)."""
    linux.mount("tmpfs", "/tmp", "tmpfs", 0, "mode=700")
    os.chdir("/tmp")
    os.mkdir("root")
    return overlay.mount(layers, "upper", "work")
