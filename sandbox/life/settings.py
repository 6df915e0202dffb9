"""How one container was made, with podman's keys: what of `inspect` its spec and its record say.  (cold)"""

from typing import Any

from sandbox.image.gofunctions import Map

Spec = dict[str, Any]


def config(about: dict[str, Any], spec: Spec) -> dict[str, Any]:
    """`Config`: what an image could have said.  The command is whole in Cmd: a spec knows no entry point."""
    process = spec.get("process", {})
    user = process.get("user", {})
    return {
        "Hostname": spec.get("hostname", ""),
        "Domainname": "",
        "User": spec.get("annotations", {}).get("dev.sbx.user") or (f"{user['uid']}:{user['gid']}" if user else ""),
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": bool(about.get("tty")),
        "OpenStdin": bool(about.get("stdin")),
        "StdinOnce": False,
        "Env": process.get("env", []),
        "Cmd": [str(word) for word in about.get("command", [])],
        "Entrypoint": "",
        "Image": about.get("image", ""),
        "Volumes": None,
        "WorkingDir": process.get("cwd", ""),
        "OnBuild": None,
        "Labels": Map(about.get("labels", {})),
        "Annotations": Map((k, v) for k, v in spec.get("annotations", {}).items() if not k.startswith("dev.sbx.")),
        "StopSignal": about.get("stop_signal") or "SIGTERM",
        "StopTimeout": about.get("stop_timeout", 10),
        "Timeout": float(spec.get("annotations", {}).get("dev.sbx.timeout", "0")),
        "Umask": f"{user.get('umask', 0o22):04o}",
        "CreateCommand": ["sbx", *about.get("argv", ())],
    }


def host_config(about: dict[str, Any], spec: Spec, log: str) -> dict[str, Any]:
    """`HostConfig`: what the one who runs it has said.  0, "" and [] are what was not said; `log`: the path of its log."""
    annotations = spec.get("annotations", {})
    process, linux = spec.get("process", {}), spec.get("linux", {})
    policy, most = about.get("restart", ("no", 0))
    kinds = {entry["type"]: entry.get("path", "") for entry in linux.get("namespaces", ())}
    return {
        "Binds": [_bind(one) for one in mounts(spec)],
        "CgroupParent": linux.get("cgroupsPath", ""),
        "LogConfig": _log(annotations, log),
        "NetworkMode": about.get("network", ""),
        "PortBindings": bindings(about),
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": max(0, most)},
        "AutoRemove": bool(about.get("rm")),
        "CapAdd": [name for name in annotations.get("dev.sbx.added", "").split(",") if name],
        "Devices": [
            {"PathOnHost": one["path"], "PathInContainer": one["path"], "CgroupPermissions": ""} for one in linux.get("devices", ())
        ],
        "Init": annotations.get("dev.sbx.init") == "reaper",
        "IpcMode": _mode(kinds, "ipc"),
        "OomScoreAdj": process.get("oomScoreAdj", 0),
        "PidMode": _mode(kinds, "pid"),
        "Privileged": annotations.get("dev.sbx.profile", "").partition("|")[0] == "privileged",
        "PublishAllPorts": False,
        "ReadonlyRootfs": bool(spec.get("root", {}).get("readonly")),
        "Runtime": "oci",
        "SecurityOpt": [],
        "Tmpfs": {
            entry["destination"]: ",".join(entry["options"])
            for entry in spec.get("mounts", ())
            if entry["type"] == "tmpfs" and not entry["destination"].startswith("/dev")
        },
        "UTSMode": _mode(kinds, "uts"),
        "UsernsMode": "private",
        "Ulimits": [
            {"Name": one["type"], "Soft": one["soft"], "Hard": one["hard"]} for one in process.get("rlimits", ())
        ],
        **_resources(linux.get("resources", {})),
    }  # fmt: skip


def _mode(kinds: dict[str, str], kind: str) -> str:
    """The word of --pid, --ipc and --uts for it; a namespace of another is `ns:` and its path."""
    return "host" if kind not in kinds else f"ns:{kinds[kind]}" if kinds[kind] else "private"


def _resources(found: dict[str, Any]) -> dict[str, Any]:
    memory, cpu = found.get("memory", {}), found.get("cpu", {})
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    return {
        "Memory": memory.get("limit", 0),
        "MemoryReservation": memory.get("reservation", 0),
        "MemorySwap": memory.get("swap", 0),
        "NanoCpus": quota * 10**9 // period if quota > 0 and period else 0,
        "CpuPeriod": period,
        "CpuQuota": quota,
        "CpuShares": cpu.get("shares", 0),
        "CpusetCpus": cpu.get("cpus", ""),
        "CpusetMems": cpu.get("mems", ""),
        "BlkioWeight": found.get("blockIO", {}).get("weight", 0),
        "PidsLimit": found.get("pids", {}).get("limit", 0),
    }


def _log(annotations: dict[str, str], path: str) -> dict[str, Any]:
    driver, _, most = annotations.get("dev.sbx.log", "none").partition(":")
    return {
        "Type": driver,
        "Path": path if driver == "k8s-file" else "",
        "Config": None,
        "Tag": "",
        "Size": f"{most or 0}B",
    }


def mounts(spec: Spec) -> list[dict[str, Any]]:
    """`Mounts`: volumes and folders; what every container has is left out."""
    lines = spec.get("annotations", {}).get("dev.sbx.volumes", "").split("\n")
    names = {line.rpartition("=")[0]: line.rpartition("=")[2].partition(",")[0] for line in lines if line}
    found = []
    for entry in spec.get("mounts", ()):
        if entry["type"] != "bind" or entry["destination"].startswith("/etc/") or entry["destination"] == "/dev/shm":
            continue
        name = names.get(entry["destination"], "")
        volume = {"Type": "volume", "Name": name, "Driver": "local"} if name else {"Type": "bind"}
        propagation = [word for word in entry["options"] if word.lstrip("r") in ("private", "shared", "slave")]
        found.append({
            **volume, "Source": entry["source"], "Destination": entry["destination"], "Mode": "", "Options": entry["options"],
            "RW": "ro" not in entry["options"], "Propagation": propagation[-1] if propagation else "rprivate",
        })  # fmt: skip
    return found


def _bind(mount: dict[str, Any]) -> str:
    words = ",".join(["rw" if mount["RW"] else "ro", mount["Propagation"]])
    return f"{mount.get('Name') or mount['Source']}:{mount['Destination']}:{words}"


def network(about: dict[str, Any]) -> dict[str, Any]:
    """`NetworkSettings`: there is no bridge, so nothing has an address that others could use."""
    unknown = (
        "EndpointID", "Gateway", "IPAddress", "IPv6Gateway", "GlobalIPv6Address", "MacAddress", "Bridge", "SandboxID", "SandboxKey",
        "LinkLocalIPv6Address",
    )  # fmt: skip
    return {
        **dict.fromkeys(unknown, ""),
        "IPPrefixLen": 0,
        "GlobalIPv6PrefixLen": 0,
        "LinkLocalIPv6PrefixLen": 0,
        "HairpinMode": False,
        "Networks": Map(),
        "Ports": bindings(about),
    }


def bindings(about: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Published ports, by the container's."""
    found: dict[str, list[dict[str, str]]] = Map()
    for port in about.get("ports", ()):
        key = f"{port['container']}/{port['protocol']}"
        found.setdefault(key, []).append({"HostIp": port.get("ip", ""), "HostPort": str(port["host"])})
    return found
