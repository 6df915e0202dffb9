"""The OCI runtime-spec config.json as a plain dict: defaults, builders, and what `dev.sbx.*` annotations mean.  (core, hot)

Field names and defaults: the OCI runtime specification 1.0.2 (config.md, config-linux.md).  The front ends build it, the
launcher executes it, `--print-config` shows it, and crun or runc can run it.
"""

from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Spec = dict[str, Any]

# What OCI has no field for.  All values are strings, as OCI wants them.
ANNOTATIONS = {
    "dev.sbx.storage": "how the root file system is put together: overlay, fuse-overlayfs, copy, bind",
    "dev.sbx.layers": "the unpacked layers below the root, bottom first, one absolute path per line",
    "dev.sbx.network": "none, host, slirp4netns or pasta; `shared:` and one of these for the network of another",
    "dev.sbx.user": "user[:group] still to be looked up in the image's passwd and group files",
    "dev.sbx.passwd": "the user gets a line in passwd and group: his name, then the entries asked for, one per line",
    "dev.sbx.groups": "supplementary groups (--group-add) still to be looked up, comma separated",
    "dev.sbx.added": "capabilities that the caller added by name, comma separated",
    "dev.sbx.home": "`lookup`: HOME is not set by image or caller, take it from the image's passwd",
    "dev.sbx.init": "`reaper`: pid 1 is sbx's own and reaps; `pause`: it is all there is; otherwise the command is pid 1",
    "dev.sbx.handed": "mounts that the launcher has fetched from another container: DESTINATION=DESCRIPTOR, one per line",
    "dev.sbx.pid": "descriptor of the pid namespace of another that the command belongs into; set by the launcher",
    "dev.sbx.spaces": "namespaces of others: KIND=container:ID or KIND=ns:PATH, one per line",
    "dev.sbx.log": "the container lives on without its cli: log driver (k8s-file, journald, none), `:`, most bytes of the log",
    "dev.sbx.awaited": "`1`: what the command prints waits for the cli to attach",
    "dev.sbx.keep": "`1`: the container stays when it has ended",
    "dev.sbx.timeout": "seconds of wall clock until the container is killed",
    "dev.sbx.stdin": "`null`: standard input is /dev/null",
    "dev.sbx.report": "`1`: the cli is to be told how the command is isolated",
    "dev.sbx.fds": "descriptors above 2 that the command inherits, comma separated",
    "dev.sbx.chown": "destinations of volumes whose files are given to the user, one per line",
    "dev.sbx.ports": "published ports: PROTOCOL ADDRESS PORT PORT-INSIDE, one per line",
    "dev.sbx.volumes": "volumes of the store: DESTINATION=NAME, `,nocopy` when the image does not fill it, one per line",
    "dev.sbx.idmap": "volumes, `/` the image, whose ids the map is laid over: DESTINATION=DESCRIPTOR, one per line",
    "dev.sbx.folders": "folders to make in the root when they are missing, one per line",
    "dev.sbx.landlock": "what Landlock confines: KEY VALUE, one per line, see landlock.py",
    "dev.sbx.profile": "name of the profile, `|`, and the path of the JSON profile that its filter is from, if any",
    "dev.sbx.explain": "calls that are looked at for what is read-only: NUMBER=NAME, comma separated, see explain.py",
    "dev.sbx.observe": "descriptor of what `profile learn` is told by: see observe.py",
    "dev.sbx.image": "the image's full name",
    "dev.sbx.degraded": "what is weaker than asked for, with the user's consent, comma separated",
}

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# setrlimit(2)
RLIMITS = {
    "RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = (
    ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"), ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"), ("/proc/kcore", "/dev/core"), ("pts/ptmx", "/dev/ptmx"),
)  # fmt: skip


def lines(step: str, *words: str) -> str:
    """Words as the lines of an annotation; SandboxError of `step` for one that would be two."""
    for word in words:
        if "\n" in word:
            raise SandboxError(step, word, EINVAL, detail="there is a line break in its name")
    return "\n".join(words)


def mount(destination: str, fstype: str, source: str, *options: str) -> "dict[str, Any]":
    """One entry of `mounts`."""
    return {"destination": destination, "type": fstype, "source": source, "options": list(options)}


def default_mounts(*, shm_size: str, host_network: bool, cgroup: bool, tty_group: bool) -> "list[dict[str, Any]]":
    """/proc, /dev and below, /sys: what every container has, in mount order.

    A sysfs of one's own needs a network namespace of one's own; with the host's network its /sys is bound, read-only.
    `tty_group`: gid 5 is mapped, so terminals can belong to it.
    """
    hardened = ("nosuid", "noexec", "nodev")
    group = ("gid=5",) if tty_group else ()
    mounts = [
        mount("/proc", "proc", "proc", *hardened),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *group),
        mount("/dev/shm", "tmpfs", "shm", *hardened, "mode=1777", f"size={shm_size}"),
        mount("/dev/mqueue", "mqueue", "mqueue", *hardened),
    ]
    if host_network:
        mounts.append(mount("/sys", "bind", "/sys", "rbind", "ro", *hardened))
    else:
        mounts.append(mount("/sys", "sysfs", "sysfs", *hardened, "ro"))
        if cgroup:
            mounts.append(mount("/sys/fs/cgroup", "cgroup", "cgroup", *hardened, "relatime", "ro"))
    return mounts


def skeleton(maps: "dict[str, Any]") -> "Spec":
    """A spec with all namespaces, the id map, no rights and nothing mounted yet."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0, "additionalGids": [], "umask": 0o022},
            "args": [],
            "env": [],
            "cwd": "/",
            "capabilities": {},
            "rlimits": [],
            "noNewPrivileges": True,
        },
        "root": {"path": "", "readonly": False},
        "hostname": "",
        "mounts": [],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("user", "pid", "ipc", "uts", "mount", "network", "cgroup")],
            "uidMappings": [_mapping(entry) for entry in maps["uid"]],
            "gidMappings": [_mapping(entry) for entry in maps["gid"]],
            "sysctl": {},
            "maskedPaths": [],
            "readonlyPaths": [],
        },
        "annotations": {},
    }


def _mapping(entry: tuple[int, int, int]) -> dict[str, int]:
    return {"containerID": entry[0], "hostID": entry[1], "size": entry[2]}


def maps_id(entries: "list[dict[str, int]]", number: int) -> bool:
    """Whether the id `number` inside is mapped."""
    return any(e["containerID"] <= number < e["containerID"] + e["size"] for e in entries)


def maps_from(entries: "list[dict[str, int]]", number: int) -> bool:
    """Whether the id `number` of the host is mapped."""
    return any(e["hostID"] <= number < e["hostID"] + e["size"] for e in entries)


def first_ids(spec: "Spec") -> tuple[int, int]:
    """(uid, gid) of the host that are 0 inside, or the lowest there is."""
    maps = (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"])
    uid, gid = (min(entries, key=lambda e: e["containerID"])["hostID"] for entries in maps)
    return uid, gid


def set_environment(spec: "Spec", name: str, value: str) -> None:
    """Set one variable of the process, replacing an earlier value."""
    unset_environment(spec, name)
    spec["process"]["env"].append(f"{name}={value}")


def set_variables(spec: "Spec", entries: "list[str]") -> None:
    """`set_environment` of many NAME=VALUE at once: an image may have any number of them."""
    known = dict(entry.partition("=")[::2] for entry in spec["process"]["env"])
    for entry in entries:
        name, _, value = entry.partition("=")
        known.pop(name, None)  # a later one stands later
        if name:  # else it is none
            known[name] = value
    spec["process"]["env"] = [f"{name}={value}" for name, value in known.items()]


def unset_environment(spec: "Spec", name: str) -> None:
    spec["process"]["env"] = [entry for entry in spec["process"]["env"] if entry.partition("=")[0] != name]


def environment(spec: "Spec", name: str) -> str | None:
    """The value of a variable of the process, None when it is not set."""
    for entry in reversed(spec["process"]["env"]):
        key, _, value = entry.partition("=")
        if key == name:
            return str(value)
    return None


def confine(spec: "Spec", line: str) -> None:
    """One more line of what Landlock confines: see landlock.py."""
    annotations = spec["annotations"]
    annotations["dev.sbx.landlock"] = annotations.get("dev.sbx.landlock", "") + f"{line}\n"


def set_capabilities(spec: "Spec", root: "list[str]", added: "list[str]") -> None:
    """Fill the five sets for uid 0 with `root`, and remember what was `added` by name for any other user.

    Inheritable and ambient stay empty (CVE-2022-24769).
    """
    sets = {"bounding": root, "effective": root, "permitted": root, "inheritable": [], "ambient": []}
    spec["process"]["capabilities"] = {name: list(names) for name, names in sets.items()}
    if added:
        spec["annotations"]["dev.sbx.added"] = ",".join(added)
    limit_capabilities(spec)


def may_mount(spec: "Spec") -> bool:
    """Whether root inside has the right to mount: then he can unmount what covers something, and `ro` is no more than a word."""
    return "CAP_SYS_ADMIN" in spec["process"]["capabilities"].get("bounding", ())


def limit_capabilities(spec: "Spec") -> None:
    """A user other than 0 has no capability but what was added by name, in all five sets so that exec keeps it."""
    if spec["process"]["user"]["uid"]:
        added = [name for name in spec["annotations"].get("dev.sbx.added", "").split(",") if name]
        kinds = ("bounding", "effective", "permitted", "inheritable", "ambient")
        spec["process"]["capabilities"] = {kind: list(added) for kind in kinds}
