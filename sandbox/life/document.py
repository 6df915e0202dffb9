"""The document of one container, as `inspect` prints it, with podman's keys.  (cold)"""

import datetime
from typing import Any

from sandbox import state
from sandbox.life import health
from sandbox.life.settings import config, host_config, mounts, network

_NEVER = "0001-01-01T00:00:00Z"  # what podman says of a time that has not come


def time_text(seconds: float) -> str:
    """RFC 3339, in UTC."""
    if not seconds:
        return _NEVER
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def document(known: state.Known) -> dict[str, Any]:
    """All that is known; what only a spec says is missing for throw-away containers, which keep none."""
    about = known.about
    record = state.read(known.directory, "spec")
    spec: dict[str, Any] = record[0] if record else {}
    command = [str(word) for word in about.get("command", [])]
    annotations = spec.get("annotations", {})
    storage = annotations.get("dev.sbx.storage", "")
    capabilities = spec.get("process", {}).get("capabilities", {})
    return {
        "Id": known.id,
        "Created": time_text(about.get("created", 0.0)),
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": _state(known, spec),
        "Image": about.get("image_id", ""),
        "ImageName": about.get("image", ""),
        "Rootfs": annotations.get("dev.sbx.layers", "") if not about.get("image_id") else "",
        "Name": known.name,
        "RestartCount": about.get("restarts", 0),
        "Pod": about.get("pod", ""),
        "IsInfra": bool(about.get("pod_name")),
        "Dependencies": list(about.get("needs", ())),
        "ExecIDs": [],
        "OCIRuntime": "sbx",
        "Driver": storage,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "BoundingCaps": capabilities.get("bounding", []),
        "EffectiveCaps": capabilities.get("effective", []),
        "ResolvConfPath": _bound(spec, "/etc/resolv.conf"),
        "HostnamePath": _bound(spec, "/etc/hostname"),
        "HostsPath": _bound(spec, "/etc/hosts"),
        "GraphDriver": {"Name": storage, "Data": _layers(known, spec)},
        "Mounts": mounts(spec),
        "NetworkSettings": network(about),
        "Config": {**config(about, spec), **_healthcheck(about)},
        "HostConfig": host_config(about, spec, f"{known.directory}/log"),
        "Sbx": {
            "Profile": annotations.get("dev.sbx.profile", "").partition("|")[0],
            "IdMaps": {"uid": _maps(about, "uid"), "gid": _maps(about, "gid")},
            "Isolation": known.state.get("isolation", {}),
            "Refused": [list(row) for row in known.ended.get("refused", ())],
            "Directory": known.directory,
        },
    }


def _state(known: state.Known, spec: dict[str, Any]) -> dict[str, Any]:
    ended = known.ended
    return {
        "OciVersion": spec.get("ociVersion", ""),
        "Status": known.status,
        "Running": known.status in ("running", "paused"),
        "Paused": known.status == "paused",
        "Restarting": False,
        "OOMKilled": bool(ended.get("oom")),
        "Dead": False,
        "Pid": known.state.get("pid", 0) if known.lives else 0,
        "ExitCode": ended.get("code", 0),
        "Error": ended.get("reason", ""),
        "StartedAt": time_text(known.state.get("started", 0.0)),
        "FinishedAt": time_text(ended.get("finished", 0.0)),
        "Health": _health(known) if known.about.get("healthcheck") else {"Status": "", "FailingStreak": 0, "Log": []},
        "CgroupPath": known.state.get("cgroup", "") if known.lives else "",
    }


def _bound(spec: dict[str, Any], destination: str) -> str:
    """The file that is mounted there."""
    return next((str(entry["source"]) for entry in spec.get("mounts", ()) if entry["destination"] == destination), "")


def _health(known: state.Known) -> dict[str, Any]:
    record = health.known_of(known)
    return {
        "Status": health.word(known) or health.STARTING,
        "FailingStreak": record["streak"],
        "Log": [
            {"Start": time_text(began), "End": time_text(ended), "ExitCode": code, "Output": output}
            for began, ended, code, output in record["log"]
        ],
    }


def _healthcheck(about: dict[str, Any]) -> dict[str, Any]:
    """As images have it: times in nanoseconds."""
    plan = about.get("healthcheck")
    if not plan:
        return {}
    times = {name: int(plan[key] * 1e9) for name, key in
             (("Interval", "interval"), ("Timeout", "timeout"), ("StartPeriod", "start_period"))}  # fmt: skip
    return {
        "Healthcheck": {"Test": plan["test"], **times, "Retries": plan["retries"]},
        "HealthcheckOnFailureAction": plan["action"],
    }


def _layers(known: state.Known, spec: dict[str, Any]) -> dict[str, str]:
    layers = [path for path in spec.get("annotations", {}).get("dev.sbx.layers", "").split("\n") if path]
    return {"LowerDir": ":".join(reversed(layers)), "UpperDir": f"{known.directory}/upper"}


def _maps(about: dict[str, Any], kind: str) -> list[str]:
    return [":".join(map(str, row)) for row in about.get("maps", {}).get(kind, ())]
