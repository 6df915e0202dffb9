"""`sbx pod ...`: containers that share namespaces.  (cold)"""

import os
import sys
from collections.abc import Callable
from typing import Any

from sandbox import state
from sandbox.cli.confirm import sure
from sandbox.cli.pause import ask
from sandbox.errors import ENOENT, EXIT_FAILED, SandboxError, UsageError, report
from sandbox.life import ending, podrows, pods, starting
from sandbox.life.pods import Pod

_COLUMNS = (
    ("POD ID", "ID"), ("NAME", "Name"), ("STATUS", "Status"), ("CREATED", "Created"), ("INFRA ID", "InfraID"),
    ("# OF CONTAINERS", "NumberOfContainers"),
)  # fmt: skip
_OF_MEMBERS = {
    "ctr_ids": ("IDS", "ContainerIds"), "ctr_names": ("NAMES", "ContainerNames"), "ctr_status": ("STATUS", "ContainerStatuses"),
}  # fmt: skip
_KEYS: dict[str, Callable[[Pod], Any]] = {
    "created": lambda pod: pod.infra.about.get("created", 0.0), "id": lambda pod: pod.id, "name": lambda pod: pod.name,
    "number": lambda pod: len(pod.containers), "status": lambda pod: pod.status,
}  # fmt: skip
_ABSENT = 1  # exit status of `pod rm` when a pod was not there, and nothing else was wrong: podman's


def create(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the id of a new pod."""
    if operands and opts["name"]:
        raise UsageError("read command line", operands[0], detail="--name gives another name")
    name = operands[0] if operands else opts["name"]
    path = opts["pod_id_file"]
    try:
        # First, so that no pod is left that nobody knows the id of.
        file = open(path, "x", encoding="ascii") if path else None
    except OSError as error:
        raise SandboxError.of("write pod id to", path, error) from None
    try:
        id_ = pods.create(opts, name)
    except BaseException:
        if file:
            os.unlink(path)
        raise
    if file:
        with file:
            file.write(id_)
    print(id_)
    return 0


def _for_each(
    opts: dict[str, Any], operands: list[str], action: Callable[[Pod], Any], among: tuple[str, ...] = (), *,
    ignore: bool = False, absent: int = EXIT_FAILED,
) -> int:  # fmt: skip
    """`action` on each pod that is named, with --all on those whose status is `among`; prints its id.

    `ignore`: one that is not there is no error; `absent` is the exit status when that is all that is wrong.
    """
    if bool(operands) + opts["all"] + opts["latest"] != 1:
        raise UsageError("read command line", "POD", detail="name pods, or give --all or --latest")
    everyone = pods.everything()
    if opts["latest"]:
        everyone = everyone[-1:]
    wanted: list[Pod | str] = [*operands] if operands else [p for p in everyone if not among or p.status in among]
    code = 0
    for one in wanted:
        try:
            pod = pods.find(one) if isinstance(one, str) else one
            action(pod)
            print(pod.id)
        except SandboxError as error:
            missing = error.step == "find pod" and error.errno == ENOENT
            if missing and (ignore or opts.get("ignore")):
                continue
            status = report(error)
            code = code or absent if missing else status
    return code


def _all_of(containers: list[state.Known], action: Callable[[state.Known], Any]) -> None:
    """`action` on each; goes on after an error, and raises the first."""
    failed: SandboxError | None = None
    for known in containers:
        try:
            action(known)
        except SandboxError as error:
            failed = failed or error
    if failed:
        raise failed


def start(opts: dict[str, Any], operands: list[str]) -> int:
    """Start its containers, the one that holds the namespaces first."""
    return _for_each(opts, operands, _start)


def _start(pod: Pod) -> None:
    ended = [known for known in pod.containers if not known.lives]
    _all_of(ended, lambda known: starting.start(known, attached=False, stdin=False))


def stop(opts: dict[str, Any], operands: list[str]) -> int:
    """Ask its containers to end."""
    return _for_each(opts, operands, lambda pod: _stop(pod, opts["time"]), ("Running", "Degraded", "Paused"))


def _stop(pod: Pod, time: str) -> None:
    seconds = ending.patience(time, "--time") if time else None
    _all_of(pod.containers[::-1], lambda known: ending.stop(known, seconds))


def restart(opts: dict[str, Any], operands: list[str]) -> int:
    """Stop and start it."""

    def again(pod: Pod) -> None:
        _stop(pod, "")
        _start(pods.find(pod.id))

    return _for_each(opts, operands, again)


def kill(opts: dict[str, Any], operands: list[str]) -> int:
    """Send a signal to its containers' commands."""
    number = ending.signal_number(opts["signal"])

    def send(pod: Pod) -> None:
        _all_of([known for known in pod.containers[::-1] if known.lives], lambda known: ending.send(known, number))

    return _for_each(opts, operands, send, ("Running", "Degraded"))


def pause(opts: dict[str, Any], operands: list[str]) -> int:
    """Stop all processes of its members for a while."""
    return _for_each(opts, operands, lambda pod: _ask_members(pod, "pause", "running"), ("Running", "Degraded"))


def unpause(opts: dict[str, Any], operands: list[str]) -> int:
    """Let them go on."""
    return _for_each(opts, operands, lambda pod: _ask_members(pod, "resume", "paused"))


def _ask_members(pod: Pod, kind: str, status: str) -> None:
    _all_of([known for known in pod.members if known.status == status], lambda known: ask(known, kind, status))


def rm(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove pods with their containers."""
    force = opts["force"]
    return _for_each(opts, operands, lambda pod: pods.remove(pod, force=force), ignore=force, absent=_ABSENT)


def prune(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove all pods none of whose containers run."""
    if not sure("WARNING! This will remove all stopped pods.", "pod prune", force=opts["force"]):
        return 0
    code = 0
    for pod in pods.everything():
        if pod.status in ("Exited", "Stopped", "Created"):
            try:
                pods.remove(pod, force=False)
                print(pod.id)
            except SandboxError as error:
                code = report(error)
    return code


def exists(opts: dict[str, Any], operands: list[str]) -> int:
    """0 or 1."""
    try:
        pods.find(operands[0])
    except SandboxError as error:
        if error.step != "find pod":
            raise
        return 1
    return 0


def ps(opts: dict[str, Any], operands: list[str]) -> int:
    """One row for each, newest first."""
    found = list(filter(podrows.parse(opts["filter"]), reversed(pods.everything())))
    if opts["latest"]:
        found = found[:1]
    if opts["sort"]:
        found.sort(key=_KEYS[opts["sort"]])
    if opts["quiet"]:
        for pod in found:
            print(pod.id if opts["no_trunc"] else pod.id[:12])
        return 0
    if opts["json"] or opts["format"] == "json":
        from sandbox.image.describe import json_text

        print(json_text([podrows.listed(pod) for pod in found]))
        return 0
    from sandbox.cli.rows import table, templated

    cells = [podrows.cells(pod, full=opts["no_trunc"]) for pod in found]
    if opts["format"]:
        templated(opts["format"], cells)
        return 0
    columns: tuple[tuple[str, str], ...] = _COLUMNS
    more = tuple(column for option, column in _OF_MEMBERS.items() if opts[option])
    if more:
        columns = (*_COLUMNS[:-1], *more)
    table(columns, cells, heading=not opts["noheading"])
    return 0


def inspect(opts: dict[str, Any], operands: list[str]) -> int:
    """Print a JSON document of each, or by --format."""
    from sandbox.image.describe import json_text, show
    from sandbox.image.goformat import render

    documents, code = [], 0
    for word in operands:
        try:
            documents.append(podrows.document(pods.find(word)))
        except SandboxError as error:
            code = report(error)
    if opts["format"] and opts["format"] != "json":
        for document in documents:
            sys.stdout.write(f"{show(render(opts['format'], document))}\n")
    else:
        print(json_text(documents[0] if len(documents) == 1 else documents))
    return code
