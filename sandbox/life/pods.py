"""Pods: containers that share namespaces, which an infra container holds.  (cold)

A pod is its infra container: there is no other record of it, and the pod's id is that container's.  What is `needed` of it
keeps it from being removed before its members.
"""

import contextlib
import io
import os
from typing import Any, NamedTuple

from sandbox import cold, run, state
from sandbox.errors import EEXIST, EINVAL, ENOENT, SandboxError
from sandbox.life import chosen, ending
from sandbox.options_run import RUN

SHARED = ("ipc", "net", "uts")
# What --share may name -> the option of `run`
KINDS = {"ipc": "ipc", "net": "network", "uts": "uts", "pid": "pid"}
# Options of `pod create` that the infra container gets as they are
_GIVEN = (
    "network", "publish", "hostname", "add_host", "dns", "dns_search", "dns_option", "no_hosts", "userns", "uidmap", "gidmap",
    "label", "label_file", "sysctl", "shm_size", "replace",
)  # fmt: skip


class Pod(NamedTuple):
    """One pod as it is found."""

    infra: state.Known
    members: list[state.Known]

    @property
    def id(self) -> str:
        return self.infra.id

    @property
    def name(self) -> str:
        return str(self.infra.about["pod_name"])

    @property
    def containers(self) -> list[state.Known]:
        """Infra first."""
        return [self.infra, *self.members]

    @property
    def status(self) -> str:
        """Podman's word for it."""
        words = {known.status for known in self.containers}
        for word in ("created", "running", "paused", "exited"):
            if words == {word}:
                return word.capitalize()
        if "running" in words:
            return "Degraded"
        return "Stopped" if "exited" in words else "Created"


def everything() -> list[Pod]:
    """All pods, oldest first."""
    everyone = chosen.all_known()
    return [
        Pod(known, [other for other in everyone if other.about.get("pod") == known.id])
        for known in everyone
        if known.about.get("pod_name")
    ]


def find(word: str) -> Pod:
    """The pod of that name, id, or beginning of one; SandboxError "find pod"."""
    pods = everything()
    found = [pod for pod in pods if word in (pod.name, pod.id)]
    found = found or [pod for pod in pods if word and pod.id.startswith(word)]
    if len(found) > 1:
        raise SandboxError("find pod", word, EINVAL, f"{len(found)} ids begin so", "give more digits; `sbx pod ps`")
    if not found:
        raise SandboxError(
            "find pod", word, ENOENT, f"no pod with name or ID {word} found: no such pod", "`sbx pod ps` lists them"
        )
    return found[0]


def create(opts: dict[str, Any], name: str) -> str:
    """Make a pod, and return its id; `opts` are those of `pod create`."""
    shares = _shares(opts["share"])
    if opts["publish"] and "net" not in shares:
        raise SandboxError("create pod", "--publish", EINVAL, detail="its containers do not share a network")
    name = name or state.made_up_name(os.urandom(32).hex())
    state.check_name(name, "name pod")
    for pod in everything():
        if pod.name == name and not opts["replace"]:
            detail = f'name "{name}" is in use: pod already exists'
            raise SandboxError(
                "name pod", name, EEXIST, detail, f"`sbx pod rm {name}` removes it; --replace does so first"
            )
        if pod.name == name:
            remove(pod, force=True)
    given = {option.dest: option.blank() for option in RUN}
    given.update({option: opts[option] for option in _GIVEN})
    given.update(
        name=opts["infra_name"] or f"{name}-infra", detach=True, create=True, hostname=opts["hostname"] or name
    )
    given["infra"] = {"pod_name": name, "shares": shares, "image": "localhost/pause", "command": ["pause"]}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run.main(given, ["pause:", "pause"])
    return said.getvalue().strip()


def _shares(text: str) -> list[str]:
    words = [word for word in text.split(",") if word]
    if words in ([], ["none"]):
        return [] if words else list(SHARED)
    if words[0].startswith("+"):
        words = [*SHARED, words[0][1:], *words[1:]]
    for word in words:
        if word not in (*KINDS, "cgroup", "user"):
            raise SandboxError("read --share", word, EINVAL, "no such namespace", hint="ipc, net, pid, uts, or none")
    return sorted({word for word in words if word in KINDS})


def member(opts: dict[str, Any]) -> dict[str, Any]:
    """The options of a container in `opts["pod"]`, which is made when it is `new:NAME`, and started when it is not."""
    word = str(opts["pod"])
    if word.startswith("new:"):
        blank = {option.dest: option.blank() for option in RUN}
        own = {name: opts[name] for name in ("network", "publish", "hostname", "label") if opts[name]}
        given = {**blank, **own, "share": "", "infra_name": "", "replace": False}
        word = cold.call("sandbox.life.pods:create", given, word[4:])  # in a child: who makes a container locks it
        opts = {**opts, "publish": [], "hostname": "", "network": ""}
    pod = find(word)
    start_infra(pod)
    shared = {}
    for kind in pod.infra.about["shares"]:
        option = KINDS[kind]
        if opts[option] and kind == "net":
            raise SandboxError(
                "run",
                f"--network {opts[option]}",
                EINVAL,
                f"pod {pod.name} has a network",
                hint="leave one of the two out",
            )
        if not opts[option]:
            shared[option] = f"container:{pod.id}"
    return {**opts, **shared, "pod": pod.id}


def remove(pod: Pod, *, force: bool) -> None:
    """Remove it with its containers; SandboxError with podman's code when some run, unless `force`."""
    running = [known for known in pod.members if known.lives]
    if running and not force:
        raise SandboxError(
            "remove pod", pod.name, detail=f"{len(running)} of its containers run", code=2,
            hint=f"`sbx pod stop {pod.name}` first, or --force",
        )  # fmt: skip
    for known in [*pod.members[::-1], pod.infra]:  # the newest first: it may need an older one
        ending.remove(known, force=True, volumes=True)


def start_infra(pod: Pod) -> None:
    """Start what holds the namespaces, if it does not run."""
    from sandbox.life import starting

    if not pod.infra.lives:
        starting.start(pod.infra, attached=False, stdin=False)
