"""Options, image record, profile -> the spec of a container.  (front, hot)"""

import os
import sys
import time

from sandbox import cold, compose_mounts, containers, idmap, mounts, profiles, spec as oci, values
from sandbox.errors import EINVAL, SandboxError, tell
from sandbox.options_run import HEALTH, LIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.sharing import Sharing

    Options = dict[str, Any]

NETWORKS = ("none", "host", "slirp4netns", "pasta")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY")
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def build(
    opts: "Options", image: "dict[str, Any]", command: "list[str]", fragment: "dict[str, Any]", maps: "dict[str, Any]",
    driver: str, container: containers.Container, sharing: "Sharing | None" = None,
) -> "dict[str, Any]":  # fmt: skip
    """The spec of one container; a checklist in the order of the OCI document."""
    spec = oci.skeleton(maps)
    config = image["config"]
    network = opts["network"] or os.environ.get("SBX_NETWORK", "") or "none"
    _root(spec, image, driver, container)
    _process(spec, opts, config, command)
    profiles.merge(spec, fragment)
    if sharing:
        sharing.apply(spec)
    _namespaces(spec, opts, network, sharing.hostname if sharing else "", container)
    if opts["publish"] or opts["publish_all"]:
        _publish(spec, opts, config, network)
    _user(spec, opts, config, container)
    values.capabilities(spec, fragment["process"]["capabilities"], opts["cap_add"], opts["cap_drop"])
    values.limits(spec, opts["ulimit"])
    if fragment["linux"].get("resources") or any(opts[option.dest] for option in LIMITS):
        from sandbox import limits

        limits.apply(spec, opts, fragment["linux"].get("resources", {}))
    values.security(spec, opts["security_opt"])
    own_sys = not (sharing and sharing.of_machine)
    compose_mounts.apply(spec, opts, image, network.rpartition(":")[2], container, own_sys=own_sys)
    profiles.finish(spec, fragment)
    spec["root"]["readonly"] = opts["read_only"]
    _annotations(spec, opts, image, network)
    if opts["detach"] or (opts["name"] and not opts["rm"]):
        from sandbox import compose_life

        compose_life.apply(spec, opts)
    return spec


def about(opts: "Options", image: "dict[str, Any]", spec: "dict[str, Any]") -> "dict[str, Any]":
    """What other commands are to know of the container; see state.py."""
    return {
        "name": opts["name"],
        "image": image["name"],
        "image_id": image.get("id", ""),
        "command": spec["process"]["args"],
        "created": time.time(),
        "labels": {**image["config"].get("Labels", {}), **_labels(opts)},
        "healthcheck": _health(opts, image),
        "restart": values.restart_policy(opts["restart"]),
        "rm": "dev.sbx.keep" not in spec["annotations"],
        "waits": bool(opts.get("create")),  # for its first start
        "tty": opts["tty"],
        "stdin": opts["interactive"],
        "stop_signal": opts["stop_signal"] or image["config"].get("StopSignal", ""),
        "stop_timeout": values.seconds(opts["stop_timeout"], "--stop-timeout") if opts["stop_timeout"] else 10.0,
        "network": spec["annotations"]["dev.sbx.network"],
        "hostname": spec["hostname"],
        "log": "dev.sbx.log" in spec["annotations"],
        "argv": sys.argv[1:],  # for a unit that makes it anew
        "ports": _ports(spec),
        "volumes": [
            line.rpartition("=")[2].partition(",")[0]
            for line in spec["annotations"].get("dev.sbx.volumes", "").split("\n")
            if line
        ],
    }


def _health(opts: "Options", image: "dict[str, Any]") -> "dict[str, Any]":
    """What is checked of a container that lives on, and how often: see life/health.py; {} for nothing."""
    given = {option.dest: opts[option.dest] for option in HEALTH}
    if not any(given.values()) and (not image["config"].get("Healthcheck") or not (opts["detach"] or opts["name"])):
        return {}
    found: dict[str, Any] = cold.call("sandbox.life.health:defined", given, image.get("id", ""))
    return found


def _ports(spec: "dict[str, Any]") -> "list[dict[str, Any]]":
    if "dev.sbx.ports" not in spec["annotations"]:
        return []
    from sandbox import ports

    return ports.rows(spec["annotations"]["dev.sbx.ports"])


def _labels(opts: "Options") -> "dict[str, str]":
    """Those of files first, so that --label wins."""
    given = [*opts["label"]]
    for path in opts["label_file"]:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                given[:0] = [line.strip() for line in file if line.strip() and not line.startswith("#")]
        except OSError as error:
            raise SandboxError.of("read labels", path, error) from None
    return dict(label.partition("=")[::2] for label in given)


def _root(spec: "dict[str, Any]", image: "dict[str, Any]", driver: str, container: containers.Container) -> None:
    layers = image["layers"]
    if image["name"] == "host:":
        from sandbox import hostroot

        layer, driver = hostroot.layer(spec, container.directory, driver)
        layers = [layer]
    elif image["name"] == "pause:":  # what holds the namespaces of a pod has no files
        layers = [f"{container.directory}/empty"]
        os.mkdir(layers[0], 0o755)
        if not os.getuid():
            os.chown(layers[0], *oci.first_ids(spec))
    spec["root"]["path"] = layers[-1]
    annotations = spec["annotations"]
    annotations["dev.sbx.storage"] = driver
    annotations["dev.sbx.layers"] = oci.lines("open layer", *layers)
    if (
        os.getuid() == 0
        and image["name"].startswith("rootfs:")
        and not oci.maps_from(spec["linux"]["uidMappings"], os.stat(layers[0]).st_uid)
    ):
        # A folder made by root (debootstrap): root of the host is in no map, so the map is laid over it.
        annotations["dev.sbx.idmap"] = f"/={mounts.tree(layers[0], recursive=False)}\n"


def _process(spec: "dict[str, Any]", opts: "Options", config: "dict[str, Any]", command: "list[str]") -> None:
    process = spec["process"]
    entrypoint = list(config.get("Entrypoint") or [])
    arguments = command or list(config.get("Cmd") or [])
    if opts["entrypoint"]:
        entrypoint, arguments = values.entrypoint(opts["entrypoint"]), command
    process["args"] = [*entrypoint, *arguments]
    if not process["args"] or not process["args"][0]:
        raise SandboxError("run", detail="no command given, and the image names none", hint="sbx run IMAGE COMMAND")
    process["terminal"] = opts["tty"]
    if not opts["workdir"] and config.get("WorkingDir", "/") not in ("", "/"):
        folder = values.absolute(config["WorkingDir"], "WorkingDir")
        spec["annotations"]["dev.sbx.folders"] = oci.lines("make working directory", folder)
    process["cwd"] = values.absolute(opts["workdir"] or config.get("WorkingDir") or "/", "--workdir")
    oci.set_environment(spec, "PATH", oci.DEFAULT_PATH)
    oci.set_environment(spec, "container", "sbx")
    if opts["tty"]:
        oci.set_environment(spec, "TERM", os.environ.get("TERM", "xterm"))
    if opts["env_host"]:
        for name, value in os.environ.items():
            oci.set_environment(spec, name, value)
    if opts["unsetenv_all"]:
        process["env"] = []
    else:
        oci.set_variables(spec, config.get("Env") or [])
        for name in opts["unsetenv"]:
            oci.unset_environment(spec, name)
    if opts["http_proxy"]:
        values.environment(spec, [name for name in _PROXIES if name in os.environ], [])
    for text in opts["env_merge"]:
        oci.set_environment(spec, *values.merged(spec, text).partition("=")[::2])
    values.environment(spec, opts["env"], opts["env_file"])
    if opts["umask"]:
        process["user"]["umask"] = values.umask(opts["umask"])


def _namespaces(
    spec: "dict[str, Any]", opts: "Options", network: str, hostname: str, container: containers.Container
) -> None:
    """Which of them there are, and what they are set to; `hostname` is that of a uts namespace that is shared."""
    shared = network.startswith("shared:")
    if network not in NETWORKS and not shared:
        raise SandboxError(
            "choose network", network, EINVAL, detail="no such mode", hint="one of " + ", ".join(NETWORKS)
        )
    namespaces = spec["linux"]["namespaces"]
    if network == "host":
        oci.confine(spec, "tried abstract_unix_socket")
        namespaces[:] = [namespace for namespace in namespaces if namespace["type"] != "network"]
    elif not shared:
        top = max(e["containerID"] + e["size"] - 1 for e in spec["linux"]["gidMappings"])
        # The network namespace is the container's own: every user of it may ping, and listen below 1024.
        spec["linux"]["sysctl"]["net.ipv4.ping_group_range"] = f"0 {min(top, 0x7FFFFFFF)}"
        spec["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] = "0"
    if opts["ipc"] or opts["uts"] or opts["pid"]:
        _share(namespaces, opts)
    if opts["time_offset"]:
        namespaces.append({"type": "time"})
        spec["linux"]["timeOffsets"] = values.clock_offsets(opts["time_offset"])
    values.sysctls(spec, opts["sysctl"])
    hostname = hostname or opts["hostname"] or opts["name"] or container.id[:12]
    if opts["uts"] == "host":
        hostname = os.uname().nodename
    for option in ("hostname", "name"):
        if not set(opts[option]) <= _NAME_CHARACTERS or len(opts[option]) > 64 or opts[option][:1] in ("-", "."):
            raise SandboxError(f"read --{option}", opts[option], EINVAL, hint="letters, digits, `_`, `.` and `-`")
    spec["hostname"] = hostname
    if not opts["unsetenv_all"] and oci.environment(spec, "HOSTNAME") is None:
        oci.set_environment(spec, "HOSTNAME", hostname)


def _share(namespaces: "list[dict[str, Any]]", opts: "Options") -> None:
    """--ipc, --uts and --pid host; those of other containers are told by `path` already."""
    for kind in ("ipc", "uts", "pid"):
        mode = opts[kind]
        if mode in ("", "private", "shared") or (kind == "ipc" and mode == "shareable"):
            continue
        if mode != "host":
            hint = "private, host, container:NAME or ns:PATH"
            raise SandboxError(f"share {kind} namespace", mode, EINVAL, "no such mode", hint)
        namespaces[:] = [namespace for namespace in namespaces if namespace["type"] != kind]
    if opts["uts"] == "host" and opts["hostname"]:
        raise SandboxError(
            "read --hostname", opts["hostname"], EINVAL, "with --uts host it would be this machine's name"
        )


def _publish(spec: "dict[str, Any]", opts: "Options", config: "dict[str, Any]", network: str) -> None:
    from sandbox import ports

    if network == "host":
        tell("--network host: the command listens on this machine's own ports, --publish changes nothing")
        return
    exposed = [*opts["expose"], *(config.get("ExposedPorts") or [])] if opts["publish_all"] else []
    found = ports.parse(opts["publish"], exposed)
    if network == "none" and found:
        raise SandboxError(
            "publish port", str(found[0][3]), detail="the container has no network",
            hint="--network pasta or --network slirp4netns; SBX_NETWORK sets what is taken without --network",
        )  # fmt: skip
    ports.check(found)  # once more by the keeper; here the answer comes before anything is made
    if found:
        spec["annotations"]["dev.sbx.ports"] = ports.text(found)


def _user(spec: "dict[str, Any]", opts: "Options", config: "dict[str, Any]", container: containers.Container) -> None:
    """Names are looked up in the image by the keeper; with keep-id the caller is itself inside."""
    text = opts["user"] or config.get("User") or ""
    if not text and opts["userns"].startswith("keep-id"):
        text = ":".join(container.maps["variant"].partition(".")[0].split("-")[2:])
    annotations = spec["annotations"]
    if text not in ("", "0", "root", "0:0"):
        annotations["dev.sbx.user"] = text
    if opts["group_add"]:
        annotations["dev.sbx.user"] = text or "0"
        annotations["dev.sbx.groups"] = ",".join(opts["group_add"])
    if oci.environment(spec, "HOME") is None and not opts["unsetenv_all"]:
        annotations["dev.sbx.home"] = "lookup"
    _passwd(opts, annotations)


def _passwd(opts: "Options", annotations: "dict[str, str]") -> None:
    """A user who is only a number is to have a name in the image's files, as podman has it."""
    for option, colons in (("passwd_entry", 6), ("group_entry", 3)):
        if opts[option] and (opts[option].count(":") != colons or not opts[option].isprintable()):
            raise SandboxError(
                f"read --{option.replace('_', '-')}", opts[option], EINVAL, f"an entry has {colons} colons"
            )
    if opts["passwd"] is not False and annotations.get("dev.sbx.user", "").partition(":")[0].isdecimal():
        name = ""
        if not opts["user"] and opts["userns"].startswith("keep-id"):
            name = idmap.user_name(os.getuid())
        annotations["dev.sbx.passwd"] = f"{name}\n{opts['passwd_entry']}\n{opts['group_entry']}"


def _annotations(spec: "dict[str, Any]", opts: "Options", image: "dict[str, Any]", network: str) -> None:
    annotations = spec["annotations"]
    for text in [*opts["label"], *opts["annotation"]]:
        key, _, value = text.partition("=")
        if key.startswith("dev.sbx.") or not key:
            raise SandboxError("read --annotation", text, EINVAL, detail="dev.sbx. is sbx's own")
        annotations[key] = value
    annotations["dev.sbx.network"] = network
    annotations["dev.sbx.image"] = image["name"]
    if opts["init"] or opts.get("infra"):
        annotations["dev.sbx.init"] = "pause" if opts.get("infra") else "reaper"
    if opts["timeout"]:
        seconds = values.seconds(opts["timeout"], "--timeout")
        if seconds < 0:
            raise SandboxError("read --timeout", opts["timeout"], EINVAL, detail="it is negative")
        annotations["dev.sbx.timeout"] = str(seconds)
    if opts["report"]:
        annotations["dev.sbx.report"] = "1"
    if opts["explain"]:
        annotations["dev.sbx.explain"] = cold.call("sandbox.profile.calls:looked_at", "seccomp" in spec["linux"])
    if not opts["interactive"]:
        annotations["dev.sbx.stdin"] = "null"
    fds = values.descriptors(opts["preserve_fds"], opts["preserve_fd"])
    if fds:
        annotations["dev.sbx.fds"] = ",".join(map(str, fds))
