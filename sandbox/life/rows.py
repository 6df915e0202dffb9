"""What `sbx ps` shows of containers, and which of them a filter means.  (cold)"""

import datetime
import os
from collections.abc import Callable
from typing import Any

from sandbox import state
from sandbox.errors import SandboxError
from sandbox.image import keyed
from sandbox.image.describe import human_size, lapse, point_in_time

Test = Callable[[state.Known], bool]
# What status= may say -> the status; words for states that nothing is ever in here are no error.
_STATES = {
    "created": "created", "configured": "created", "initialized": "initialized", "running": "running", "paused": "paused",
    "stopping": "stopping", "exited": "exited", "stopped": "exited", "removing": "", "restarting": "", "dead": "", "unknown": "",
}  # fmt: skip
FILTERS = (
    "ancestor", "before", "exited", "health", "id", "label", "label!", "name", "network", "pod", "since", "status", "until", "volume",
)  # fmt: skip


def moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def since(seconds: float, now: datetime.datetime) -> str:
    """How long ago, in the words of podman and docker."""
    return lapse(now.timestamp() - seconds)


def status_text(known: state.Known, now: datetime.datetime) -> str:
    """ "Up 3 minutes (healthy)", "Exited (0) 2 hours ago", "Created"."""
    if known.status in ("running", "paused", "stopping"):
        well = "Paused" if known.status == "paused" else _health(known)
        return f"Up {since(known.state.get('started', 0.0), now)}" + (f" ({well})" if well else "")
    if known.status == "exited":
        finished = known.ended.get("finished") or 0.0
        ago = f" {since(finished, now)} ago" if finished else ""
        return f"Exited ({known.ended.get('code', 137)}){ago}"
    return known.status.capitalize()


def _health(known: state.Known) -> str:
    if not known.about.get("healthcheck"):
        return ""
    from sandbox.life import health  # most have none, and `ps` is quick

    return health.word(known)


def cells(known: state.Known, *, full: bool = False, size: bool = False, mounts: bool = False) -> dict[str, Any]:
    """The fields of one container that templates may use, podman's names and docker's; `size`, `mounts`: those that take time."""
    now = datetime.datetime.now(datetime.UTC)
    about = known.about
    created = moment(about.get("created", 0.0))
    command = [str(word) for word in about.get("command", [])]
    text = " ".join(command)
    row = {
        "ID": known.id if full else known.id[:12],
        "Id": known.id,
        "Image": about.get("image", ""),
        "ImageID": about.get("image_id", ""),
        "Command": text if full or len(text) <= 20 else f"{text[:17]}...",
        "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S %z UTC"),
        "Created": created.strftime("%Y-%m-%d %H:%M:%S.%f %z UTC"),
        "CreatedHuman": f"{since(about.get('created', 0.0), now)} ago",
        "RunningFor": f"{since(about.get('created', 0.0), now)} ago",
        "Status": status_text(known, now),
        "State": known.status,
        "ExitCode": known.ended.get("code", 0),
        "Exited": known.status == "exited",
        "ExitedAt": int(known.ended.get("finished") or 0),
        "StartedAt": int(known.state.get("started", 0)),
        "Restarts": about.get("restarts", 0),
        "AutoRemove": bool(about.get("rm")),
        "IsInfra": bool(about.get("pod_name")),
        "Pid": known.state.get("pid", 0) if known.lives else 0,
        "Ports": ports_text(about),
        "Names": known.name,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(about.get("labels", {}).items())),
        "Networks": about.get("network", ""),
        "Mounts": destinations(known) if mounts else [],
        "Size": "",
    }
    pod = pod_of(known)
    row["Pod"] = pod if full else pod[:12]
    row["PodName"] = pod_name(known)
    if size:
        row["Size"] = human_size(written(known))
    return row


def pod_of(known: state.Known) -> str:
    """The id of the pod that a container is in, or holds together; "" for none."""
    return str(known.about.get("pod") or (known.id if known.about.get("pod_name") else ""))


def pod_name(known: state.Known) -> str:
    """The name of that pod."""
    pod = pod_of(known)
    return str((state.read(f"{known.parent}/{pod}", "about") or {}).get("pod_name", "")) if pod else ""


def destinations(known: state.Known) -> list[str]:
    """Where volumes and folders are mounted in it."""
    from sandbox.life.settings import mounts  # which most lists do without

    record = state.read(known.directory, "spec")
    return [str(mount["Destination"]) for mount in mounts(record[0])] if record else []


def namespaces(pid: int) -> dict[str, str]:
    """The numbers of the namespaces of a process, by podman's names for them; empty for those that can not be read."""
    kinds = {
        "CGROUPNS": "cgroup",
        "IPC": "ipc",
        "MNT": "mnt",
        "NET": "net",
        "PIDNS": "pid",
        "USERNS": "user",
        "UTS": "uts",
    }
    found = {}
    for name, kind in kinds.items():
        try:
            found[name] = os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]") if pid else ""
        except OSError:
            found[name] = ""
    return found


def ports_text(about: dict[str, Any]) -> str:
    """Published ports as `0.0.0.0:8080->80/tcp`."""
    found = []
    for port in about.get("ports", ()):
        host = f"{port.get('ip') or '0.0.0.0'}:{port['host']}"
        found.append(f"{host}->{port['container']}/{port['protocol']}")
    return ", ".join(found)


def written(known: state.Known) -> int:
    """Bytes on disk of what the container has written; folders of subordinate ids that are closed to us count as empty."""
    total = 0
    for folder, _, files in os.walk(f"{known.directory}/upper"):
        for name in files:
            try:
                total += os.lstat(f"{folder}/{name}").st_blocks * 512
            except OSError:
                continue
    return total


def document(known: state.Known) -> dict[str, Any]:
    """One element of `ps --format json`, with podman's keys."""
    about = known.about
    return {
        "AutoRemove": bool(about.get("rm")),
        "Command": list(about.get("command", [])),
        "Created": int(about.get("created", 0)),
        "CreatedAt": f"{since(about.get('created', 0.0), datetime.datetime.now(datetime.UTC))} ago",
        "Exited": known.status == "exited",
        "ExitedAt": int(known.ended.get("finished") or 0),
        "ExitCode": known.ended.get("code", 0),
        "Id": known.id,
        "Image": about.get("image", ""),
        "ImageID": about.get("image_id", ""),
        "IsInfra": bool(about.get("pod_name")),
        "Labels": about.get("labels", {}),
        "Mounts": destinations(known),
        "Names": [known.name],
        "Networks": [],
        "Pid": known.state.get("pid", 0) if known.lives else 0,
        "Pod": pod_of(known),
        "PodName": pod_name(known),
        "Ports": [
            {
                "host_ip": port.get("ip", ""), "container_port": port["container"], "host_port": port["host"], "range": 1,
                "protocol": port["protocol"],
            }
            for port in about.get("ports", ())
        ],
        "Restarts": about.get("restarts", 0),
        "StartedAt": int(known.state.get("started", 0)),
        "State": known.status,
        "Status": status_text(known, datetime.datetime.now(datetime.UTC)),
    }  # fmt: skip


def parse(texts: list[str], everyone: list[state.Known]) -> Test:
    """One test for all filters: different keys must all hold, of the values of one key any (labels: all)."""
    return keyed.parse(texts, FILTERS, lambda key, value: _test(key, value, everyone))


def _test(key: str, value: str, everyone: list[state.Known]) -> Test:
    if key == "id":
        return lambda known: known.id.startswith(value)
    if key == "name":
        wanted = keyed.expression(key, value)
        return lambda known: wanted.search(known.name) is not None
    if key in ("label", "label!"):
        return lambda known: keyed.has_label(known.about.get("labels", {}), value) == (key == "label")
    if key == "status":
        if value not in _STATES:
            hint = ", ".join(_STATES)
            raise SandboxError("read filter", f"{key}={value}", detail="unknown container state", hint=hint)
        return lambda known: known.status == _STATES[value]
    if key == "exited":
        if not value.isdecimal() or len(value) > 9:
            raise SandboxError("read filter", f"{key}={value}", detail="an exit status is missing")
        return lambda known: known.status == "exited" and known.ended.get("code") == int(value)
    if key == "health":
        states = ("starting", "healthy", "unhealthy", "none")
        if value not in states:
            raise SandboxError("read filter", f"{key}={value}", detail="no such state", hint=", ".join(states))
        return lambda known: (_health(known) or "none") == value
    if key == "ancestor":
        return lambda known: _is_of(known, value)
    if key in ("before", "since"):
        limit = float(_named(value, everyone).about.get("created", 0.0))
        if key == "before":
            return lambda known: known.about.get("created", 0.0) < limit
        return lambda known: known.about.get("created", 0.0) > limit
    if key == "until":
        point = point_in_time(value, datetime.datetime.now(datetime.UTC)).timestamp()
        return lambda known: known.about.get("created", 0.0) < point
    if key == "network":
        return lambda known: known.about.get("network", "") == value
    if key == "pod":
        return lambda known: bool(pod_of(known)) and (pod_name(known) == value or pod_of(known).startswith(value))
    if value.startswith("/"):
        return lambda known: value in destinations(known)
    return lambda known: value in known.about.get("volumes", ())


def _is_of(known: state.Known, image: str) -> bool:
    """Whether a container was made from the image of this name or id."""
    name = str(known.about.get("image", ""))
    if image == name or (len(image) > 5 and str(known.about.get("image_id", "")).startswith(image)):
        return True
    short = name.rpartition("/")[2]
    return image in (short, short.partition(":")[0], name.partition(":")[0])


def _named(word: str, everyone: list[state.Known]) -> state.Known:
    found = [known for known in everyone if known.name == word]
    found = found or [known for known in everyone if word and known.id.startswith(word)]
    if not found:
        raise SandboxError(
            "read filter", word, detail=f'no container with name or ID "{word}" found: no such container'
        )
    return found[0]
