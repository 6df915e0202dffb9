"""A container that is there, started: for the first time after `create`, or again.  (cold)"""

import os
from typing import Any

from sandbox import attach, containers, events, launch, mounts, spaces, state
from sandbox.errors import SandboxError, tell
from sandbox.life import ending
from sandbox.life.chosen import find
from sandbox.life.root import spec_of
from sandbox.options import DETACH_KEYS


class Known(containers.Container):
    """A container's folder that is there already, locked by us."""

    def __init__(self, known: state.Known, lock: int) -> None:
        self.id, self.parent, self.directory = known.id, known.parent, known.directory
        self.maps, self.about = known.about["maps"], known.about
        self.name = str(known.about.get("name", ""))
        self.refused, self.isolation, self.reason, self.pidfile = [], {}, "", ""
        self.lock = lock

    def remove(self) -> None:
        """Nothing: a start that fails leaves it as it was."""


def start(known: state.Known, *, attached: bool, stdin: bool, keys: str = DETACH_KEYS, proxy: bool = True,
    mind: bool = True,
) -> int:  # fmt: skip
    """Start it; 0 when its command runs, or with `attached` the exit status of the command.

    SandboxError when it runs already or its spec was not kept.
    """
    if known.lives:
        if known.status == "running" and not attached:
            return 0  # as podman has it
        raise SandboxError("start container", known.name, detail=f"it is {known.status} already")
    spec, bpf = spec_of(known)
    for id_ in known.about.get("needs", ()):
        start(find(id_), attached=False, stdin=False)  # whose namespaces it shares
    lock = ending.locked(known, "start container")
    if lock < 0:
        raise SandboxError("start container", known.name, detail="it has been removed meanwhile")
    annotations = spec["annotations"]
    annotations.pop("dev.sbx.awaited", None)
    if attached:
        annotations["dev.sbx.awaited"] = "1"
    _open_mapped(spec)
    for name in ("ended", "state", ending.HALTED):
        try:
            os.unlink(name, dir_fd=lock)
        except FileNotFoundError:
            pass
    container = Known(known, lock)
    try:
        status = launch.start(spec, bpf, container)
    except SandboxError as error:
        # Podman has it too: a command that is not there ends the container, with its status.
        state.write("ended", {"code": error.code, "finished": 0.0, "reason": str(error)}, lock)
        raise
    finally:
        os.close(lock)
    if not status and known.about.get("healthcheck", {}).get("interval"):
        from sandbox.life import checker

        checker.begin(known.directory)
    if not status and mind and known.about.get("restart", ("no", 0))[0] != "no":
        from sandbox.life import minder  # which imports us

        minder.begin(known.directory)
    if status or not attached:
        return status
    return attach.follow(known.directory, stdin=stdin, keys=keys, proxy=proxy)


def _open_mapped(spec: dict[str, Any]) -> None:
    """The mounts over which the id map is laid (root's volumes), opened anew: the first start's are long closed."""
    lines = [line for line in spec["annotations"].get("dev.sbx.idmap", "").split("\n") if line]
    opened = ""
    for line in lines:
        destination = line.rpartition("=")[0]
        if destination == "/":
            fd = mounts.tree(spec["root"]["path"], recursive=False)
        else:
            entry = next(entry for entry in spec["mounts"] if entry["destination"] == destination)
            fd = mounts.tree(entry["source"], recursive="rbind" in entry["options"])
        opened += f"{destination}={fd}\n"
    if lines:
        spec["annotations"]["dev.sbx.idmap"] = opened


def required(words: list[str], run: bool) -> list[str]:
    """The ids of the containers that another one requires (--requires): started if it is to `run`, and marked as needed."""
    found = [find(word) for text in words for word in text.split(",")]
    for known in found:
        if run:
            start(known, attached=False, stdin=False)
        os.close(os.open(f"{known.directory}/{spaces.NEEDED}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return [known.id for known in found]


def restart(known: state.Known, seconds: float | None) -> None:
    """Stop it if it runs, and start it."""
    ending.stop(known, seconds)
    events.remember(known.parent, "restart", known.about)
    start(state.Known(known.parent, known.id), attached=False, stdin=False)


def say_reason(known: state.Known) -> None:
    """On standard error: why a container ended, when it was not its command's own doing."""
    reason = state.Known(known.parent, known.id).ended.get("reason")
    if reason:
        tell(str(reason))
