"""What `pod ps` and `pod inspect` show of pods, and which of them a filter means.  (cold)"""

from collections.abc import Callable
from typing import Any

from sandbox.errors import EINVAL, SandboxError
from sandbox.image import keyed
from sandbox.image.gofunctions import Map
from sandbox.life import rows
from sandbox.life.document import time_text
from sandbox.life.pods import Pod
from sandbox.life.settings import bindings

Test = Callable[[Pod], bool]
FILTERS = ("ctr-ids", "ctr-names", "ctr-number", "ctr-status", "id", "label", "name", "network", "status")
_STATES = ("created", "running", "paused", "exited", "stopped", "degraded", "error")


def parse(texts: list[str]) -> Test:
    """One test for all filters: different keys must all hold, of the values of one key any (labels: all)."""
    return keyed.parse(texts, FILTERS, _test)


def _test(key: str, value: str) -> Test:
    if key == "status" and value.lower() not in _STATES:
        raise SandboxError("read filter", f"{key}={value}", EINVAL, "no such status", ", ".join(_STATES))
    if key in ("name", "ctr-names"):
        wanted = keyed.expression(key, value)
        if key == "name":
            return lambda pod: wanted.search(pod.name) is not None
        return lambda pod: any(wanted.search(known.name) for known in pod.containers)
    tests: dict[str, Test] = {
        "id": lambda pod: pod.id.startswith(value),
        "ctr-ids": lambda pod: any(known.id.startswith(value) for known in pod.containers),
        "ctr-number": lambda pod: str(len(pod.containers)) == value,
        "ctr-status": lambda pod: any(known.status == value for known in pod.containers),
        "label": lambda pod: keyed.has_label(pod.infra.about.get("labels", {}), value),
        "network": lambda pod: pod.infra.about.get("network") == value,
        "status": lambda pod: pod.status.lower() == value.lower(),
    }
    return tests[key]


def cells(pod: Pod, *, full: bool) -> dict[str, Any]:
    """The fields that templates may use, podman's names."""
    known = rows.cells(pod.infra, full=full)
    ids = [one.id if full else one.id[:12] for one in pod.containers]
    return {
        "ID": known["ID"], "Id": pod.id, "Name": pod.name, "Status": pod.status, "Created": known["CreatedHuman"],
        "InfraID": known["ID"], "InfraId": pod.id, "NumberOfContainers": str(len(pod.containers)), "Labels": known["Labels"],
        "Networks": known["Networks"], "Cgroup": "", "Namespace": "", "ContainerIds": ",".join(ids),
        "ContainerNames": ",".join(one.name for one in pod.containers),
        "ContainerStatuses": ",".join(one.status for one in pod.containers),
    }  # fmt: skip


def listed(pod: Pod) -> dict[str, Any]:
    """One element of `pod ps --format json`, with podman's keys."""
    return {
        "Cgroup": "",
        "Containers": [{"Id": one.id, "Names": one.name, "Status": one.status} for one in pod.containers],
        "Created": time_text(pod.infra.about.get("created", 0.0)), "Id": pod.id, "InfraId": pod.id, "Name": pod.name,
        "Namespace": "", "Networks": [], "Status": pod.status, "Labels": pod.infra.about.get("labels", {}),
    }  # fmt: skip


def document(pod: Pod) -> dict[str, Any]:
    """All that is known, with podman's keys."""
    about = pod.infra.about
    return {
        "Id": pod.id, "Name": pod.name, "Created": time_text(about.get("created", 0.0)),
        "CreateCommand": ["sbx", *about.get("argv", ())], "ExitPolicy": "continue", "State": pod.status,
        "Hostname": about.get("hostname", ""), "Labels": Map(about.get("labels", {})), "CreateCgroup": False, "CgroupParent": "",
        "CgroupPath": "", "CreateInfra": True, "InfraContainerID": pod.id,
        "InfraConfig": {"PortBindings": bindings(about), "HostNetwork": about.get("network") == "host"},
        "SharedNamespaces": about["shares"], "NumContainers": len(pod.containers),
        "Containers": [{"Id": one.id, "Name": one.name, "State": one.status} for one in pod.containers],
    }  # fmt: skip
