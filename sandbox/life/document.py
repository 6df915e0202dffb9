"""The document of one container, as `inspect` prints it, with podman's keys.  (cold)"""

import datetime
from typing import Any

from sandbox import state
from sandbox.life import health

_NEVER = "0001-01-01T00:00:00Z"  # what podman says of a time that has not come


def _time(seconds: float) -> str:
    if not seconds:
        return _NEVER
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def document(known: state.Known) -> dict[str, Any]:
    """All that is known; what only a spec says is missing for throw-away containers, which keep none."""
    about, ended = known.about, known.ended
    record = state.read(known.directory, "spec")
    spec: dict[str, Any] = record[0] if record else {}
    process = spec.get("process", {})
    policy, most = about.get("restart", ("no", 0))
    command = [str(word) for word in about.get("command", [])]
    return {
        "Id": known.id,
        "Created": _time(about.get("created", 0.0)),
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": {
            "Status": known.status,
            "Running": known.status in ("running", "paused"),
            "Paused": known.status == "paused",
            "OOMKilled": bool(ended.get("oom")),
            "Dead": False,
            "Pid": known.state.get("pid", 0) if known.lives else 0,
            "ExitCode": ended.get("code", 0),
            "Error": ended.get("reason", ""),
            "StartedAt": _time(known.state.get("started", 0.0)),
            "FinishedAt": _time(ended.get("finished", 0.0)),
            **({"Health": _health(known)} if about.get("healthcheck") else {}),
        },
        "Image": about.get("image_id", ""),
        "ImageName": about.get("image", ""),
        "Name": known.name,
        "RestartCount": about.get("restarts", 0),
        "Pod": about.get("pod", ""),
        "Dependencies": list(about.get("needs", ())),
        "Driver": spec.get("annotations", {}).get("dev.sbx.storage", ""),
        "MountLabel": "",
        "ProcessLabel": "",
        "BoundingCaps": process.get("capabilities", {}).get("bounding", []),
        "EffectiveCaps": process.get("capabilities", {}).get("effective", []),
        "GraphDriver": {"Name": spec.get("annotations", {}).get("dev.sbx.storage", ""), "Data": _layers(known, spec)},
        "Mounts": _mounts(spec),
        "NetworkSettings": {"Networks": {}, "Ports": _ports(about)},
        "Config": {
            "Hostname": spec.get("hostname", ""),
            "User": _user(spec),
            "Tty": bool(about.get("tty")),
            "OpenStdin": bool(about.get("stdin")),
            "Env": process.get("env", []),
            "Cmd": command,
            "Image": about.get("image", ""),
            "WorkingDir": process.get("cwd", ""),
            "Labels": about.get("labels", {}),
            "Annotations": {k: v for k, v in spec.get("annotations", {}).items() if not k.startswith("dev.sbx.")},
            "StopSignal": about.get("stop_signal") or "SIGTERM",
            "StopTimeout": about.get("stop_timeout", 10),
            "CreateCommand": ["sbx", *about.get("argv", ())],
            **_healthcheck(about),
        },
        "HostConfig": {
            "RestartPolicy": {"Name": policy, "MaximumRetryCount": max(0, most)},
            "AutoRemove": bool(about.get("rm")),
            "NetworkMode": about.get("network", ""),
            "ReadonlyRootfs": bool(spec.get("root", {}).get("readonly")),
            "Privileged": False,
            "LogConfig": _log(known, spec),
            "Init": spec.get("annotations", {}).get("dev.sbx.init") == "reaper",
        },
        "Sbx": {
            "Profile": spec.get("annotations", {}).get("dev.sbx.profile", "").partition("|")[0],
            "IdMaps": {"uid": _maps(about, "uid"), "gid": _maps(about, "gid")},
            "Isolation": known.state.get("isolation", {}),
            "Refused": [list(row) for row in ended.get("refused", ())],
            "Directory": known.directory,
        },
    }


def _log(known: state.Known, spec: dict[str, Any]) -> dict[str, str]:
    driver = spec.get("annotations", {}).get("dev.sbx.log", "none").partition(":")[0]
    return {"Type": driver, "Path": f"{known.directory}/log" if driver == "k8s-file" else ""}


def _health(known: state.Known) -> dict[str, Any]:
    record = health.known_of(known)
    return {
        "Status": health.word(known) or health.STARTING,
        "FailingStreak": record["streak"],
        "Log": [
            {"Start": _time(began), "End": _time(ended), "ExitCode": code, "Output": output}
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


def _mounts(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Volumes; what every container has is left out."""
    return [
        {
            "Type": entry["type"], "Source": entry["source"], "Destination": entry["destination"],
            "Options": entry["options"], "RW": "ro" not in entry["options"],
        }
        for entry in spec.get("mounts", ())
        if entry["type"] == "bind" and not entry["destination"].startswith("/etc/")
    ]  # fmt: skip


def _ports(about: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in about.get("ports", ()):
        key = f"{port['container']}/{port['protocol']}"
        found.setdefault(key, []).append({"HostIp": port.get("ip", ""), "HostPort": str(port["host"])})
    return found


def _user(spec: dict[str, Any]) -> str:
    user = spec.get("process", {}).get("user", {})
    return f"{user['uid']}:{user['gid']}" if user else ""


def _maps(about: dict[str, Any], kind: str) -> list[str]:
    return [":".join(map(str, row)) for row in about.get("maps", {}).get(kind, ())]
