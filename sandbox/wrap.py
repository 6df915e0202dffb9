"""`sbx wrap -- CMD`: the host's own root read-only, home and secrets hidden, the working directory writable.  (front, hot)

The caller keeps its own id inside, so what it writes belongs to it; one id needs no helper and no range.
"""

import os
import sys

from sandbox import cold, containers, hostroot, idmap, launch, paths, profiles, spec as oci, values, volumes
from sandbox.errors import EINVAL, EXIT_FAILED, SandboxError
from sandbox.options_run import LIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Options = dict[str, Any]

# What a command line program needs of the caller's environment; tokens and secrets are not in it.
_KEPT = ("TERM", "LANG", "LANGUAGE", "TZ", "COLUMNS", "LINES", "NO_COLOR", "SOURCE_DATE_EPOCH")
_NETWORKS = ("none", "host", "slirp4netns", "pasta")


# What a profile may say of options here; read_only, user and userns are so anyway.
_ABLE = ("read_only", "user", "userns", "umask", "timeout", "tmpfs", "network", "env", "unsetenv")


def main(opts: "Options", operands: "list[str]") -> int:
    """Run a command of the host, confined; returns its exit status."""
    if not operands:
        raise SandboxError("wrap", detail="no command given", hint="sbx wrap [options] -- COMMAND...")
    maps = _maps()
    profile = profiles.load(opts["profile"] or "default", values.seccomp(opts["security_opt"]))
    opts = profiles.apply(opts, profile["fragment"], _ABLE)
    shown = opts["print_config"] or opts["print_plan"]
    container = containers.Draft(f"{opts} {operands}", maps) if shown else containers.Container(paths.store(), maps)
    try:
        spec = build(opts, operands, profile["fragment"], maps, container)
        if shown:
            show = "sandbox.cli.show:steps" if opts["print_plan"] else "sandbox.cli.show:config"
            sys.stdout.write(cold.call(show, spec, profile["bpf"], maps))
            return 0
    except BaseException:
        container.remove()
        raise
    status = EXIT_FAILED
    try:
        status = launch.run(spec, profile["bpf"] if "seccomp" in spec["linux"] else b"", container)
    finally:
        if container.refused or container.reason or opts["report"]:
            from sandbox import report

            report.give(spec, container, operands, status, opts)
    return status


def _maps() -> "dict[str, Any]":
    """Only the caller's own id; for root, who is never mapped, the subordinate range."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        return idmap.resolve()
    return {"mode": "single", "uid": [(uid, uid, 1)], "gid": [(gid, gid, 1)], "variant": "self", "note": ""}


def build(
    opts: "Options",
    command: "list[str]",
    fragment: "dict[str, Any]",
    maps: "dict[str, Any]",
    container: containers.Container,
) -> "dict[str, Any]":
    """The spec; a checklist in the order of the OCI document."""
    spec = oci.skeleton(maps)
    process, annotations = spec["process"], spec["annotations"]
    network = opts["network"] or os.environ.get("SBX_NETWORK", "") or "none"
    if network not in _NETWORKS:
        raise SandboxError(
            "choose network", network, EINVAL, detail="no such mode", hint="one of " + ", ".join(_NETWORKS)
        )
    try:
        directory = os.path.realpath(opts["workdir"] or os.getcwd())
    except OSError as error:
        raise SandboxError.of("wrap", "the working directory", error, "change to one that is there") from None
    process["args"] = list(command)
    process["terminal"] = opts["tty"] or _on_a_terminal()
    process["cwd"] = directory
    if os.getuid():
        process["user"].update(uid=os.getuid(), gid=os.getgid())
    _environment(spec, opts)
    profiles.merge(spec, fragment)
    if opts.get("umask"):
        process["user"]["umask"] = values.umask(opts["umask"])
    oci.set_capabilities(spec, [], [])
    values.limits(spec, opts["ulimit"])
    if fragment["linux"].get("resources") or any(opts.get(option.dest) for option in LIMITS):
        from sandbox import limits

        limits.apply(spec, opts, fragment["linux"].get("resources", {}))
    spec["root"] = {"path": "/", "readonly": True}
    spec["hostname"] = "sbx"
    if network == "host":
        oci.confine(spec, "tried abstract_unix_socket")
        kept = [namespace for namespace in spec["linux"]["namespaces"] if namespace["type"] != "network"]
        spec["linux"]["namespaces"] = kept
    # Before what is hidden is added: `unmask=ALL` is about /proc and /sys.
    values.security(spec, opts["security_opt"])
    _mounts(spec, opts, directory, network, container)
    profiles.finish(spec, fragment)
    annotations.update({"dev.sbx.storage": "bind", "dev.sbx.network": network, "dev.sbx.image": "wrap:"})
    if opts["explain"]:
        annotations["dev.sbx.explain"] = cold.call("sandbox.profile.calls:looked_at", "seccomp" in spec["linux"])
    if opts["timeout"]:
        annotations["dev.sbx.timeout"] = str(values.seconds(opts["timeout"], "--timeout"))
    return spec


def _on_a_terminal() -> bool:
    """Whether the command may be one that people type to, and so gets a terminal of its own: see relay.py."""
    return all(map(os.isatty, (0, 1, 2))) and os.tcgetpgrp(0) == os.getpgrp()


def _environment(spec: "dict[str, Any]", opts: "Options") -> None:
    oci.set_environment(spec, "PATH", os.environ.get("PATH", oci.DEFAULT_PATH))
    oci.set_environment(spec, "HOME", hostroot.home() or "/")
    name = idmap.user_name(os.getuid())
    for variable in ("USER", "LOGNAME"):
        if name:
            oci.set_environment(spec, variable, name)
    for variable, value in os.environ.items():
        if variable in _KEPT or variable.startswith("LC_"):
            oci.set_environment(spec, variable, value)
    oci.set_environment(spec, "container", "sbx")
    for variable in opts["unsetenv"]:
        oci.unset_environment(spec, variable)
    values.environment(spec, opts["env"], opts["env_file"])


def _mounts(
    spec: "dict[str, Any]", opts: "Options", directory: str, network: str, container: containers.Container
) -> None:
    spec["mounts"] = oci.default_mounts(
        shm_size=str(64 << 20), host_network=network == "host", cgroup=False,
        tty_group=oci.maps_id(spec["linux"]["gidMappings"], 5),
    )  # fmt: skip
    if network == "host":
        spec["linux"]["maskedPaths"].append("/sys/fs/cgroup")  # the host's own come along with its /sys
    homes = hostroot.homes()
    hidden = {"/home": 0o755, "/root": 0o700, "/run": 0o755, "/mnt": 0o755, "/media": 0o755}
    for path, mode in {**hidden, "/tmp": 0o1777, "/var/tmp": 0o1777}.items():
        real = os.path.realpath(path)  # of /home it may be /var/home
        if os.path.isdir(real) and real != "/":
            spec["mounts"].append(oci.mount(real, "tmpfs", "tmpfs", "nosuid", "nodev", f"mode={mode:o}"))
    for home in homes:
        # Empty and private: programs that write dot files find a place for them.
        spec["mounts"].append(oci.mount(home, "tmpfs", "tmpfs", "nosuid", "nodev", "mode=700"))
    hostroot.hide(spec)
    spec["linux"]["maskedPaths"] = [path for path in spec["linux"]["maskedPaths"] if path not in homes]
    if network in ("slirp4netns", "pasta"):
        from sandbox import etc

        source = container.write("resolv.conf", etc.resolv_conf(network, (), (), ()))
        spec["mounts"].append(oci.mount("/etc/resolv.conf", "bind", source, "bind", "ro", "nosuid", "nodev"))
    reader = volumes.Reader(spec, container.directory, sockets=False)
    _refuse_everything(directory, homes)
    around = [text for text in opts["tmpfs"] if f"{directory}/".startswith(f"{text.partition(':')[0].rstrip('/')}/")]
    for text in around:  # such as /tmp, with the working directory below it
        reader.tmpfs(text)
    for path, options in [
        (directory, ["rw", *(["idmap"] if os.getuid() == 0 else [])]),
        *((os.path.abspath(path), ["rw"]) for path in opts["rw"]),
        *((os.path.abspath(path), ["ro"]) for path in opts["ro"]),
    ]:
        _refuse_planted(path, directory)
        reader.bind(path, path, options)
    for text in opts["tmpfs"]:
        if text not in around:
            reader.tmpfs(text)
    for path in opts["hide"]:
        spec["linux"]["maskedPaths"].append(os.path.abspath(path))


def _refuse_planted(path: str, directory: str) -> None:
    """A link in the working directory that leads out of it: the command of an earlier call may have made it."""
    real = os.path.realpath(path)
    if f"{path}/".startswith(f"{directory}/") and not f"{real}/".startswith(f"{directory}/"):
        raise SandboxError(
            "mount volume", path, EINVAL, detail=f"a link leads to {real}",
            hint=f"a command may have made it; if that is meant, name it: {real}",
        )  # fmt: skip


def _refuse_everything(directory: str, homes: "list[str]") -> None:
    """A working directory that holds all that is to be hidden."""
    if directory == "/" or any(f"{home}/".startswith(f"{directory}/") for home in homes):
        raise SandboxError(
            "wrap", directory, detail="the working directory would be writable, and it holds your home",
            hint="change to a project's folder, or name one: -w DIR",
        )  # fmt: skip
