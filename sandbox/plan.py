"""Spec -> flat lists of steps, which the keeper and the init execute without deciding anything.  (launch, hot)

Pure: no system call, no look at the host; `--print-plan` shows it, golden tests hold it.  A step is a tuple
(verb, arguments...) of marshal types; the verb is the name of a function in sources.py (open, build, give) or init.py (init).
Things that the keeper opens for the init travel as slots: numbers, filled in at run time.

  open   by the keeper as the caller, while the id maps are being written: descriptors of layers and volume sources
  build  by the keeper as root of the namespace: overlays
  give   by the keeper once the user is known: volumes that change owner
  init   by the init, in this order: hostname, loopback, routes, root, mounts, devices, sysctls, masked and read-only paths,
         pivot_root, session, limits, working directory, ids, rights, seccomp last, exec.  Sysctls come before
         the paths that make /proc/sys read-only.
"""

from sandbox import caps, filters, linux, mounts, spec as oci
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Step = tuple[Any, ...]
    Plan = dict[str, list[Step]]

NAMESPACE_FLAGS = {
    "pid": linux.CLONE_NEWPID, "network": linux.CLONE_NEWNET, "ipc": linux.CLONE_NEWIPC, "uts": linux.CLONE_NEWUTS,
    "mount": linux.CLONE_NEWNS, "cgroup": linux.CLONE_NEWCGROUP,
}  # fmt: skip
_FILES = {
    "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time", "mount": "mnt",
}  # fmt: skip
# Where clouds hand a machine its credentials: behind the helper's default route, without these.
_UNREACHABLE = (("169.254.0.0", 16), ("100.100.100.200", 32))
_LOCKED = linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
_DEVICE_ATTRIBUTES = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC


class _Slots:
    """Hands out slot numbers; 0 is the root file system."""

    def __init__(self) -> None:
        self.last = 0

    def new(self) -> int:
        self.last += 1
        return self.last


def make(spec: "dict[str, Any]", bpf: bytes = b"") -> "Plan":
    """All steps for `spec`; `bpf` is the compiled form of its linux.seccomp."""
    plan: Plan = {"open": [], "build": [], "give": [], "init": []}
    slots = _Slots()
    _root(spec, plan, slots)
    init = plan["init"]
    kinds = {namespace["type"] for namespace in spec["linux"]["namespaces"] if "path" not in namespace}
    if "oomScoreAdj" in spec["process"]:
        init.append(("oom_score_adj", spec["process"]["oomScoreAdj"]))
    if spec["hostname"] and "uts" in kinds:
        init.append(("hostname", spec["hostname"]))
    if "network" in kinds:
        init.append(("loopback",))
        if spec["annotations"].get("dev.sbx.network") in ("slirp4netns", "pasta"):
            init += [("unreachable", network, prefix) for network, prefix in _UNREACHABLE]
    # The host's own root as it is (wrap): read-only with everything mounted below, set-uid files and devices void.
    read_only = spec["root"]["readonly"] and spec["annotations"].get("dev.sbx.storage", "bind") == "bind"
    init.append(("root", 0, _LOCKED if read_only else 0))
    for entry in spec["mounts"]:
        _mount(spec, entry, plan, slots)
        if entry["destination"] == "/dev":
            _devices(plan, slots)
    for path in spec["annotations"].get("dev.sbx.folders", "").split("\n"):
        if path:
            init.append(("folder", path))
    if spec["process"]["terminal"]:
        init.append(("terminal", spec["process"]["user"]["uid"]))
    for key, value in sorted(spec["linux"].get("sysctl", {}).items()):
        init.append(("sysctl", key, value))
    if bpf and not _allows_user_namespace(bpf):
        init.append(("no_namespaces",))
    for path in spec["linux"].get("readonlyPaths", ()):
        init.append(("readonly", path))
    if spec["linux"].get("maskedPaths"):
        init.append(("mask", *spec["linux"]["maskedPaths"]))
    if spec["root"]["readonly"] and not read_only:
        init.append(("readonly_root",))
    init.append(("pivot_root",))
    process_steps(spec, bpf, init)
    return plan


def clone_flags(spec: "dict[str, Any]") -> int:
    """CLONE_NEW* flags for the init; the user namespace exists already, time needs unshare (see keeper.py).

    With limits the init makes its cgroup namespace itself, in the group that is to be the top of it.
    """
    flags = 0
    for namespace in spec["linux"]["namespaces"]:
        if "path" in namespace:
            continue  # the keeper is in it: see spaces.py
        flags |= NAMESPACE_FLAGS.get(namespace["type"], 0)
    return flags & ~linux.CLONE_NEWCGROUP if "resources" in spec["linux"] else flags


def kinds(spec: "dict[str, Any]") -> "dict[str, str]":
    """OCI's name -> file below /proc/PID/ns of the namespaces that an exec enters; in that order, the mounts last."""
    listed = {namespace["type"] for namespace in spec["linux"]["namespaces"]}
    return {kind: file for kind, file in _FILES.items() if kind in listed}


def _root(spec: "dict[str, Any]", plan: "Plan", slots: _Slots) -> None:
    annotations = spec["annotations"]
    driver = annotations.get("dev.sbx.storage", "bind")
    layers = [path for path in annotations.get("dev.sbx.layers", "").split("\n") if path]
    if driver == "bind":
        # The mounts below come along: a folder of the host with mounts below it is only to be had as a whole.
        plan["open"].append(("tree", 0, spec["root"]["path"], True))
        return
    lowers = []
    mapped = _mapped(spec)
    for path in layers:
        slot = slots.new()
        lowers.append(slot)
        if "/" in mapped:
            plan["open"].append(("inherited", slot, int(mapped["/"])))
            plan["build"].append(("attach", slot, "lower"))
        else:
            plan["open"].append(("layer", slot, path))
    lasting = (True,) if driver == "overlay" and annotations.get("dev.sbx.keep") else ()
    plan["build"].append((driver.replace("-", "_"), 0, tuple(lowers), "upper", "work", *lasting))


def _mapped(spec: "dict[str, Any]") -> dict[str, str]:
    """Destination -> descriptor of the volumes, and of the layer `/`, that have the id map laid over them, or were handed in."""
    annotations = spec["annotations"]
    text = annotations.get("dev.sbx.idmap", "") + annotations.get("dev.sbx.handed", "")
    return dict(line.rpartition("=")[::2] for line in text.split("\n"))


def _named(spec: "dict[str, Any]") -> dict[str, str]:
    """Destination -> name of the volumes of the store, with `,nocopy` behind it where they are not filled."""
    return dict(line.rpartition("=")[::2] for line in spec["annotations"].get("dev.sbx.volumes", "").split("\n"))


def _mount(spec: "dict[str, Any]", entry: "dict[str, Any]", plan: "Plan", slots: _Slots) -> None:
    destination, fstype = entry["destination"], entry["type"]
    attributes, cleared, rest = mounts.split_options(entry["options"])
    if fstype == "bind" or "bind" in entry["options"] or "rbind" in entry["options"]:
        slot = slots.new()
        mapped, volumes = _mapped(spec), _named(spec)
        if destination in mapped:
            plan["open"].append(("inherited", slot, int(mapped[destination])))
        elif destination in volumes:
            plan["open"].append(("volume", slot, entry["source"]))
            plan["give"].append(("fill", slot, destination, not volumes[destination].endswith(",nocopy")))
        else:
            plan["open"].append(("tree", slot, entry["source"], "rbind" in entry["options"]))
        if destination in spec["annotations"].get("dev.sbx.chown", "").split("\n"):
            plan["give"].append(("chown", slot))
        plan["init"].append(("bind", destination, slot, attributes, cleared))
    elif fstype == "overlay":
        settings = dict(option.partition("=")[::2] for option in rest)
        lower, slot = slots.new(), slots.new()
        plan["open"].append(("path", lower, settings["lowerdir"]))
        plan["build"].append(("overlay", slot, (lower,), settings["upperdir"], settings["workdir"]))
        plan["init"].append(("bind", destination, slot, attributes, cleared))
    else:
        if fstype == "cgroup":
            fstype, rest = "cgroup2", []
        plan["init"].append(("mount", destination, fstype, entry["source"], attributes, *rest))


def _devices(plan: "Plan", slots: _Slots) -> None:
    """Nodes can not be made in a user namespace: the host's six harmless ones are bound, and the usual links made."""
    for name in oci.DEVICES:
        slot = slots.new()
        plan["open"].append(("device", slot, f"/dev/{name}"))
        plan["init"].append(("bind", f"/dev/{name}", slot, _DEVICE_ATTRIBUTES, 0))
    for points_to, path in oci.DEVICE_LINKS:
        plan["init"].append(("symlink", points_to, path))


def process_steps(spec: "dict[str, Any]", bpf: bytes, init: "list[Step]", loading: "Step | None" = None) -> None:
    """Append what makes the command's process, from its session to exec; `loading`: the filter's step, if it was made before."""
    if bpf and not loading:
        loading = _filter(spec, bpf)
    process, annotations = spec["process"], spec["annotations"]
    user, sets = process["user"], process["capabilities"]
    init.append(("keyring",))
    init.append(("session",))
    for limit in process["rlimits"]:
        if limit["type"] not in oci.RLIMITS:
            raise SandboxError("set resource limit", limit["type"], detail="no such limit")
        init.append(("rlimit", oci.RLIMITS[limit["type"]], limit["soft"], limit["hard"]))
    init.append(("umask", user.get("umask", 0o022)))
    if annotations.get("dev.sbx.stdin") == "null" and not process["terminal"]:
        init.append(("null_stdin",))
    if annotations.get("dev.sbx.landlock"):
        init.append(
            ("landlock", annotations["dev.sbx.landlock"])
        )  # before the reaper: it and the command are of one kind
    if annotations.get("dev.sbx.init") == "reaper":
        init.append(("reaper",))
    init.append(("bounding", caps.mask(sets.get("bounding", ()))))
    init.append(("ids", user["uid"], user["gid"], tuple(user.get("additionalGids", ()))))
    init.append(("cwd", process["cwd"]))
    init.append(("parent_death_signal",))
    if loading and not process["noNewPrivileges"]:
        # Without no_new_privs loading a filter takes CAP_SYS_ADMIN: leaving uid 0 made it ineffective, the next step
        # gives it up.
        init.append(("effective",))
        init.append(loading)
    init.append(("capabilities", *(caps.mask(sets.get(name, ())) for name in caps.SETS[1:])))
    if process["noNewPrivileges"]:
        init.append(("no_new_privs",))
    init.append(("close_fds", tuple(int(fd) for fd in annotations.get("dev.sbx.fds", "").split(",") if fd)))
    if loading and process["noNewPrivileges"]:
        init.append(loading)
    if annotations.get("dev.sbx.init") == "pause":
        init.append(("pause",))
    else:
        init.append(("execute", tuple(process["args"]), tuple(process["env"])))


def _filter(spec: "dict[str, Any]", bpf: bytes) -> "Step":
    users, groups = (
        [(e["containerID"], e["size"]) for e in spec["linux"][f"{kind}Mappings"]] for kind in ("uid", "gid")
    )
    ahead = b""
    if "dev.sbx.explain" in spec["annotations"]:
        from sandbox import explain

        ahead = explain.ahead(spec["annotations"]["dev.sbx.explain"])
    return ("seccomp", bpf, filters.telling(bpf, users, groups, ahead), filters.witness(bpf))


def _allows_user_namespace(bpf: bytes) -> bool:
    """Whether the filter itself, asked on paper as the kernel would, lets clone or unshare make a user namespace."""
    # Allowed, logged, traced: whatever is not a refusal.
    return any(
        0x7FC00000 <= filters.answer(bpf, linux.NR[call], (linux.CLONE_NEWUSER, 0, 0, 0, 0, 0)) < 0x80000000
        for call in ("unshare", "clone")
    )


def with_user(plan: "Plan", spec: "dict[str, Any]", bpf: bytes) -> "Plan":
    """`plan` again, after the user was looked up in the image: the mount part is the same, ids and rights are new."""
    uid = spec["process"]["user"]["uid"]
    init = [("terminal", uid) if s[0] == "terminal" else s for s in plan["init"] if s[0] in _BEFORE_PROCESS]
    process_steps(spec, bpf, init, next((s for s in plan["init"] if s[0] == "seccomp"), None))
    return {**plan, "init": init}


_BEFORE_PROCESS = {
    "oom_score_adj", "hostname", "loopback", "unreachable", "root", "mount", "bind", "symlink", "folder", "terminal", "sysctl", "no_namespaces",
    "readonly", "mask", "readonly_root", "pivot_root",
}  # fmt: skip


def text(plan: "Plan") -> str:
    """The plan as `--print-plan` shows it: one step a line, a filter as its length."""
    lines = []
    for part in ("open", "build", "give", "init"):
        for verb, *arguments in plan[part]:
            words = [f"<{len(a)} bytes>" if isinstance(a, bytes) else repr(a) for a in arguments]
            lines.append(" ".join([f"{part:5}", verb, *words]))
    return "\n".join(lines) + "\n"
