"""The mounts of a container: what every one has, files of its own, what options and the image ask for.  (front, hot)"""

import os

from sandbox import cold, containers, etc, paths, spec as oci, values
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.volumes import Reader

    Options = dict[str, Any]

_MOST_DECLARED = 1000  # volumes that an image may ask for
# Options that volumes.py reads; most containers have none of them, and do not load it.
_ASKED = ("volumes_from", "volume", "mount", "tmpfs", "device", "gpus", "tz")


def apply(
    spec: "dict[str, Any]", opts: "Options", image: "dict[str, Any]", network: str, container: containers.Container,
    *, own_sys: bool,
) -> None:  # fmt: skip
    """All of them, in their order; `network` as the command sees it, `own_sys`: a sysfs of it can be mounted."""
    _system(spec, opts, own_sys=own_sys)
    if image["name"] == "host:":
        from sandbox import hostroot

        hostroot.show(spec)
    elif image["name"].startswith("rootfs:"):
        _cover_store(spec, image["layers"][0])
    _files(spec, opts, network, container)
    if opts["secret"]:
        _secrets(spec, opts["secret"], container)
    # What a throw-away container writes to the image's volumes is thrown away with all the rest.
    kept = opts["read_only"] or opts["detach"] or opts["name"] or opts["image_volume"] == "tmpfs"
    declared = list(image["config"].get("Volumes") or ()) if kept and opts["image_volume"] != "ignore" else []
    if declared or any(opts[name] for name in _ASKED):
        _volumes(spec, opts, declared, container)


def _cover_store(spec: "dict[str, Any]", root: str) -> None:
    """A folder that is the root may hold the store; as with volumes nothing of it is to be seen."""
    store = os.path.realpath(paths.store())
    if not store.startswith(f"{root.rstrip('/')}/"):
        return
    if oci.may_mount(spec):
        raise SandboxError(
            "open root file system", root, detail="it holds the store of sbx, and who may mount can take off what covers that",
            hint="a profile without SYS_ADMIN, or a store elsewhere (SBX_STORE)",
        )  # fmt: skip
    spec["linux"]["maskedPaths"] = [*spec["linux"]["maskedPaths"], store[len(root.rstrip("/")) :]]


def _system(spec: "dict[str, Any]", opts: "Options", *, own_sys: bool) -> None:
    """/proc, /dev, /sys and what is in them."""
    hosts_sys = not own_sys or not any(entry["type"] == "network" for entry in spec["linux"]["namespaces"])
    cgroup = any(os.path.exists(f"/sys/fs/cgroup/{name}cgroup.controllers") for name in ("", "unified/"))
    gid5 = oci.maps_id(spec["linux"]["gidMappings"], 5)
    shm = f"{values.size(opts['shm_size'] or '64m', '--shm-size')}"
    spec["mounts"] = oci.default_mounts(shm_size=shm, host_network=hosts_sys, cgroup=cgroup, tty_group=gid5)
    if opts["ipc"] == "host":
        _host_ipc(spec)
    if any(line.startswith("ipc=container:") for line in spec["annotations"].get("dev.sbx.spaces", "").split("\n")):
        entry = next(entry for entry in spec["mounts"] if entry["destination"] == "/dev/shm")
        entry.update(oci.mount("/dev/shm", "bind", "/dev/shm", "bind", "nosuid", "noexec", "nodev"))
    if opts["pid"] == "host":
        spec["mounts"][0] = oci.mount("/proc", "bind", "/proc", "rbind", "nosuid", "noexec", "nodev", "rprivate")
    if cgroup and hosts_sys:
        # The host's /sys comes along with all its cgroups; what is seen of them is the container's own part.
        hardened = ("nosuid", "noexec", "nodev", "relatime", "ro")
        spec["mounts"].append(oci.mount("/sys/fs/cgroup", "cgroup", "cgroup", *hardened))


def _host_ipc(spec: "dict[str, Any]") -> None:
    """The queues can only be mounted by their owner; /dev/shm goes with the rest."""
    spec["mounts"] = [entry for entry in spec["mounts"] if entry["destination"] not in ("/dev/mqueue", "/dev/shm")]
    hardened = ("nosuid", "noexec", "nodev", "rprivate")
    spec["mounts"] += [
        oci.mount(path, "bind", path, "bind", *hardened) for path in ("/dev/shm", "/dev/mqueue") if os.path.isdir(path)
    ]


def _files(spec: "dict[str, Any]", opts: "Options", network: str, container: containers.Container) -> None:
    """Files of sbx in /etc; scratch places in a root that is read-only."""
    if not opts["no_hosts"]:
        _bind_file(spec, container, "/etc/hosts", etc.hosts(spec["hostname"], network, opts["add_host"]))
    _bind_file(spec, container, "/etc/hostname", spec["hostname"] + "\n")
    resolv = etc.resolv_conf(network, opts["dns"], opts["dns_search"], opts["dns_option"])
    if resolv:
        _bind_file(spec, container, "/etc/resolv.conf", resolv)
    if opts["read_only"] and opts["read_only_tmpfs"] is not False:
        # podman's read-only-tmpfs: programs that need a scratch place find one
        for path in ("/tmp", "/var/tmp", "/run"):
            spec["mounts"].append(oci.mount(path, "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777"))


def _bind_file(spec: "dict[str, Any]", container: containers.Container, destination: str, text: str) -> None:
    source = container.write(destination.rpartition("/")[2], text)
    spec["mounts"].append(oci.mount(destination, "bind", source, "bind", "nosuid", "nodev", "noexec", "rprivate"))


def _secrets(spec: "dict[str, Any]", texts: "list[str]", container: containers.Container) -> None:
    """Files below /run/secrets, or variables; a spec that is only shown has neither."""
    if isinstance(container, containers.Draft):
        return
    files, variables = cold.call("sandbox.life.secrets:place", texts, container.directory, container.maps)
    for source, destination in files:
        entry = oci.mount(destination, "bind", source, "bind", "ro", "nosuid", "nodev", "noexec", "rprivate")
        spec["mounts"].append(entry)
    for name, value in variables:
        oci.set_environment(spec, name, value)


def _volumes(spec: "dict[str, Any]", opts: "Options", declared: "list[str]", container: containers.Container) -> None:
    """`declared`: folders that the image names as volumes."""
    from sandbox import volumes

    reader = volumes.Reader(spec, container.directory, sockets=opts["allow_host_socket"])
    if len(declared) > _MOST_DECLARED:
        raise SandboxError("make volumes", detail=f"the image names {len(declared)}", hint="--image-volume ignore")
    for path in declared:
        if opts["image_volume"] == "tmpfs":
            if ":" in path:  # which would be options of the image's
                raise SandboxError("make volume", path, EINVAL, hint="--image-volume ignore")
            reader.tmpfs(path)
        else:
            reader.anonymous(path)
    for text in opts["volumes_from"]:
        word, _, words = text.partition(":")
        like = cold.call("sandbox.life.volumes:of_container", word)
        reader.like(like, [o for o in words.split(",") if o in ("ro", "rw")])
    for text in opts["volume"]:
        reader.volume(text)
    for text in opts["mount"]:
        reader.mount(text)
    for text in opts["tmpfs"]:
        reader.tmpfs(text)
    for text in opts["device"]:
        if text.startswith("/"):
            reader.device(text)
    if opts["gpus"] or any(not text.startswith("/") for text in opts["device"]):
        _described_devices(spec, opts, reader)
    if opts["tz"]:
        reader.time_zone(opts["tz"])
    reader.finish()
    if reader.named and not isinstance(container, containers.Draft):
        wanted = [(name, anonymous) for name, anonymous, _ in reader.named.values()]
        thrown_away = bool(opts["rm"] or not (opts["detach"] or opts["name"]))
        cold.call("sandbox.life.volumes:ensure", wanted, container.maps, container.id, thrown_away)


def _described_devices(spec: "dict[str, Any]", opts: "Options", reader: "Reader") -> None:
    """`--device vendor.com/class=name` and --gpus: see life/cdi.py."""
    names = [text for text in opts["device"] if not text.startswith("/")]
    found = cold.call("sandbox.life.cdi:resolve", names, opts["gpus"])
    for source, destination in found["devices"]:
        reader.device(f"{source}:{destination}")
    for source, destination, options in found["mounts"]:
        reader.bind(source, destination, options)
    for entry in found["env"]:
        oci.set_environment(spec, *entry.partition("=")[::2])
