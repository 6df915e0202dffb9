"""`sbx pod logs`, `pod stats`, `pod top`: what the containers of pods print, use and run.  (cold)"""

from typing import Any

from sandbox import state
from sandbox.cli import logs as container_logs, stats as container_stats, top as container_top
from sandbox.errors import ENOENT, SandboxError, UsageError
from sandbox.life import logtext, pods
from sandbox.life.chosen import find, improper
from sandbox.life.pods import Pod
from sandbox.life.used import Used

_COLUMNS = (
    ("POD", "Pod"), ("CID", "CID"), ("NAME", "Name"), ("CPU %", "CPU"), ("MEM USAGE/ LIMIT", "MemUsage"), ("MEM %", "Mem"),
    ("NET IO", "NetIO"), ("BLOCK IO", "BlockIO"), ("PIDS", "PIDS"),
)  # fmt: skip
_INTERVAL = 5.0  # seconds


def _the_one(operands: list[str], *, latest: bool) -> Pod:
    """The pod that is named, or with --latest the last that was made."""
    if bool(operands) == latest:
        raise UsageError("read command line", "POD", detail="name a pod, or give --latest")
    if operands:
        return pods.find(operands[0])
    everyone = pods.everything()
    if not everyone:
        raise SandboxError("find pod", "--latest", ENOENT, "there is none", "`sbx pod ps` lists them")
    return everyone[-1]


def logs(opts: dict[str, Any], operands: list[str]) -> int:
    """The logs of all its containers in the order of their times, each line with its container; or with -c one's."""
    pod = _the_one(operands, latest=opts["latest"])
    word = opts["container"]
    if not word:
        members = [known for known in pod.members if logtext.driver(known) not in ("", "none")]
        return container_logs.show(members, opts, several=True) if members else 0
    try:
        known = find(word)
    except SandboxError:
        known = None
    if known is None or known.id not in {one.id for one in pod.containers}:
        raise SandboxError(
            "read log", word, ENOENT, f"container {word} is not in pod {pod.name}: no such container",
            hint=f"`sbx pod inspect {pod.name}` names those that are",
        )  # fmt: skip
    return container_logs.show([known], opts, several=False)


def stats(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each container of the pods that are named, or of all that run."""
    named = [pods.find(word).id for word in operands]
    whose: dict[str, str] = {}

    def chosen() -> list[state.Known]:
        everyone = pods.everything()
        if opts["latest"]:
            everyone = everyone[-1:]
        found = [pod for pod in everyone if (pod.id in named if named else opts["all"] or opts["latest"] or _runs(pod))]
        whose.update({known.id: pod.id[:12] for pod in found for known in pod.containers})
        return [known for pod in found for known in pod.containers]

    def row(known: state.Known, before: Used, now: Used, seconds: float) -> dict[str, Any]:
        cell = container_stats.cell(known, before, now, seconds, full=False)
        return {
            "CPU": cell["CPUPerc"], "MemUsage": cell["MemUsage"], "MemUsageBytes": f"{now.memory}B / {now.limit}B",
            "Mem": cell["MemPerc"], "NetIO": cell["NetIO"], "BlockIO": cell["BlockIO"], "PIDS": str(now.processes),
            "Pod": whose[known.id], "CID": known.id[:12], "Name": known.name,
        }  # fmt: skip

    return container_stats.show(chosen, row, _COLUMNS, opts, _INTERVAL)


def _runs(pod: Pod) -> bool:
    return any(known.lives for known in pod.containers)


def top(opts: dict[str, Any], operands: list[str]) -> int:
    """The processes of all its containers that run."""
    pod = _the_one([] if opts["latest"] else operands[:1], latest=opts["latest"])
    running = [known for known in pod.containers if known.status == "running"]
    if not running:
        raise improper("list processes of pod", pod.infra, "top can only be used on pods with a running container")
    return container_top.show(running, operands if opts["latest"] else operands[1:])
