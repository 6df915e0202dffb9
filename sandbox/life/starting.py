"""A container that is there, started: for the first time after `create`, or again.  (cold)"""

import contextlib
import os
import time
from typing import Any

from sandbox import attach, containers, events, launch, mounts, spaces, state
from sandbox.errors import SandboxError
from sandbox.life import ending
from sandbox.life.chosen import find, improper
from sandbox.life.root import spec_of
from sandbox.options import DETACH_KEYS

_PATIENCE = 20.0  # seconds that another command may take to start it


class Known(containers.Container):
    """A container's folder that is there already, locked by us."""

    def __init__(self, known: state.Known, lock: int) -> None:
        self.id, self.parent, self.directory = known.id, known.parent, known.directory
        self.maps, self.about = known.about["maps"], known.about
        self.name, self.caller = str(known.about.get("name", "")), os.getuid()
        self.refused, self.isolation, self.reason, self.pidfile = [], {}, "", ""
        self.lock = lock

    def remove(self) -> None:
        """Nothing: a start that fails leaves it as it was."""


def start(known: state.Known, *, attached: bool, stdin: bool, keys: str = DETACH_KEYS, proxy: bool = True,
    mind: bool = True,
) -> int:  # fmt: skip
    """Start it; 0 when its command runs, or with `attached` the exit status of the command.

    One that runs already is none to start, and may be attached to, as podman has it.  `mind` is not set by who minds it
    already.  SandboxError when it is paused, or its spec was not kept.
    """
    lock = -1
    while lock < 0:
        known = _settled(known)
        if known.status == "running":
            return follow(known, stdin=stdin, keys=keys, proxy=proxy) if attached else 0
        if known.lives:
            raise improper("start container", known, "it must be in Created or Stopped state to be started")
        spec, bpf = spec_of(known)
        for id_ in known.about.get("needs", ()):
            start(find(id_), attached=False, stdin=False)  # whose namespaces it shares
        lock = _locked(known)
    if not mind and os.path.exists(f"{known.directory}/{ending.HALTED}"):
        os.close(lock)
        return 0  # it was stopped after its minder had looked
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
        with contextlib.suppress(OSError):  # the disk is full, and that is why
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


def _settled(known: state.Known) -> state.Known:
    """As it is once nobody else starts it, or cleans up behind it, just now."""
    deadline = time.monotonic() + _PATIENCE
    while known.lives and known.status in ("initialized", "stopping") and time.monotonic() < deadline:
        time.sleep(0.01)
        known = state.Known(known.parent, known.id)
    return known


def _locked(known: state.Known) -> int:
    """Its locked folder; -1 when another command has started it meanwhile."""
    try:
        lock = ending.locked(known, "start container")
    except SandboxError:
        if state.Known(known.parent, known.id).status == "running":
            return -1
        raise
    if lock < 0:
        raise SandboxError("start container", known.name, detail="it has been removed meanwhile")
    return lock


def follow(known: state.Known, *, stdin: bool, keys: str, proxy: bool) -> int:
    """Attach to one that runs; its exit status, 0 when the detach keys were typed."""
    if not known.about.get("log"):
        raise SandboxError(
            "attach to container", known.name, detail="it has the terminal that it was started on",
            hint="only containers with --name or --detach can be attached to",
        )  # fmt: skip
    return attach.follow(known.directory, stdin=stdin and bool(known.about.get("stdin")), keys=keys, proxy=proxy)


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
