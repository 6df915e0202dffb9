"""`sbx pod ...`: containers that share namespaces.  (cold)"""

import sys
from collections.abc import Callable
from typing import Any

from sandbox import state, values
from sandbox.cli.confirm import sure
from sandbox.cli.pause import ask
from sandbox.errors import SandboxError, UsageError, report
from sandbox.life import ending, pods, rows, starting
from sandbox.life.pods import Pod

_COLUMNS = (
    ("POD ID", "ID"), ("NAME", "Name"), ("STATUS", "Status"), ("CREATED", "Created"), ("INFRA ID", "InfraID"),
    ("# OF CONTAINERS", "NumberOfContainers"),
)  # fmt: skip


def create(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the id of a new pod."""
    if operands and opts["name"]:
        raise UsageError("read command line", operands[0], detail="--name gives another name")
    name = operands[0] if operands else opts["name"]
    id_ = pods.create(opts, name)
    if opts["pod_id_file"]:
        try:
            with open(opts["pod_id_file"], "x", encoding="ascii") as file:
                file.write(id_)
        except OSError as error:
            raise SandboxError.of("write pod id to", opts["pod_id_file"], error) from None
    print(id_)
    return 0


def _for_each(
    opts: dict[str, Any], operands: list[str], action: Callable[[Pod], Any], among: tuple[str, ...] = ()
) -> int:
    """`action` on each pod that is named, with --all on those whose status is `among`; prints its id."""
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
            if opts.get("ignore") and error.step == "find pod":
                continue
            code = report(error)
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
    seconds = values.seconds(time, "--time") if time else None
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
    return _for_each(opts, operands, lambda pod: pods.remove(pod, force=opts["force"]))


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
    found = [pod for pod in reversed(pods.everything()) if all(_passes(pod, text) for text in opts["filter"])]
    if opts["quiet"]:
        for pod in found:
            print(pod.id if opts["no_trunc"] else pod.id[:12])
        return 0
    if opts["json"] or opts["format"] == "json":
        from sandbox.image.describe import json_text

        print(json_text([_document(pod) for pod in found]))
        return 0
    from sandbox.cli.rows import table, templated

    cells = [_cells(pod, full=opts["no_trunc"]) for pod in found]
    if opts["format"]:
        templated(opts["format"], cells)
    else:
        table(_COLUMNS, cells, heading=not opts["noheading"])
    return 0


def _passes(pod: Pod, text: str) -> bool:
    key, _, value = text.partition("=")
    if key == "name":
        return value in pod.name
    if key == "id":
        return pod.id.startswith(value)
    if key == "status":
        return pod.status.lower() == value.lower()
    if key == "label":
        label, equals, wanted = value.partition("=")
        labels = pod.infra.about.get("labels", {})
        return label in labels and (not equals or labels[label] == wanted)
    raise UsageError("read --filter", text, detail="no such filter", hint="name=, id=, status=, label=")


def _cells(pod: Pod, *, full: bool) -> dict[str, Any]:
    known = rows.cells(pod.infra, full=full)
    return {
        "ID": known["ID"], "Id": pod.id, "Name": pod.name, "Status": pod.status, "Created": known["Created"],
        "InfraID": known["ID"], "NumberOfContainers": str(len(pod.containers)), "Labels": known["Labels"],
        "Networks": known["Networks"],
    }  # fmt: skip


def _document(pod: Pod) -> dict[str, Any]:
    """All that is known, with podman's keys."""
    known = rows.document(pod.infra)
    return {
        "Id": pod.id, "Name": pod.name, "State": pod.status, "Status": pod.status, "Created": known["Created"],
        "Hostname": pod.infra.about.get("hostname", ""), "Labels": pod.infra.about.get("labels", {}),
        "CreateInfra": True, "InfraContainerID": pod.id, "InfraId": pod.id,
        "SharedNamespaces": pod.infra.about["shares"], "NumContainers": len(pod.containers),
        "Containers": [{"Id": one.id, "Name": one.name, "State": one.status} for one in pod.containers],
    }  # fmt: skip


def inspect(opts: dict[str, Any], operands: list[str]) -> int:
    """Print a JSON document of each, or by --format."""
    from sandbox.image.describe import json_text, show
    from sandbox.image.goformat import render

    documents = [_document(pods.find(word)) for word in operands]
    if opts["format"] and opts["format"] != "json":
        for document in documents:
            sys.stdout.write(f"{show(render(opts['format'], document))}\n")
    else:
        print(json_text(documents[0] if len(documents) == 1 else documents))
    return 0
