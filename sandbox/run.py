"""`sbx run IMAGE CMD`: image, profile and options -> spec (compose.py); then the launcher.  (front, hot)"""

import os
import sys
import time

from sandbox import cache, cold, compose, containers, idmap, launch, paths, profiles, state, storage, values
from sandbox.errors import EEXIST, EINVAL, ENOENT, ENOTDIR, EXIT_FAILED, SandboxError, tell
from sandbox.options_run import HEALTH, RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.sharing import Sharing

    Options = dict[str, Any]

_TRIES = 20  # how often --replace tries to have the name, when others want it too
_EMPTY_CONFIG: "dict[str, Any]" = {
    "Env": [], "Cmd": ["/bin/sh"], "Entrypoint": [], "WorkingDir": "/", "User": "", "Volumes": [], "Labels": {},
}  # fmt: skip


def create(opts: "Options", operands: "list[str]") -> int:
    """Make a container as `run -d` would, and do not start it."""
    given = {option.dest: option.blank() for option in RUN}
    return main({**given, **opts, "detach": True, "create": True}, operands)


def main(opts: "Options", operands: "list[str]") -> int:
    """Run a command in a new container; returns its exit status (125, 126, 127, 128+n and 124 as in errors.py)."""
    started = time.monotonic()
    if not operands:
        raise SandboxError(
            "run", detail="no image given", hint="sbx run [options] IMAGE [COMMAND...]; `host:` needs no download"
        )
    _refuse(opts)
    opts = _spelled_out(opts)
    profile = profiles.load(_profile(opts), values.seccomp(opts["security_opt"]))
    opts = profiles.apply(opts, profile["fragment"])
    sharing = _sharing(opts)
    if sharing:
        opts, maps = sharing.opts, sharing.maps
    else:
        maps = idmap.resolve("" if opts["userns"] == "auto" else opts["userns"], opts["uidmap"], opts["gidmap"])
    if maps["note"] and not opts["quiet"]:
        tell(maps["note"])
    image = _image(f"rootfs:{operands[0]}" if opts["rootfs"] else operands[0], maps, opts)
    store = paths.store()
    driver = storage.choose(store, maps, opts["storage_driver"])
    shown = opts["print_config"] or opts["print_plan"]
    container = containers.Draft(f"{opts} {operands}", maps) if shown else containers.Container(store, maps)
    try:
        spec = compose.build(opts, image, operands[1:], profile["fragment"], maps, driver, container, sharing)
        if shown:
            show = "sandbox.cli.show:steps" if opts["print_plan"] else "sandbox.cli.show:config"
            sys.stdout.write(cold.call(show, spec, profile["bpf"], maps))
            return 0
        bpf = profile["bpf"] if "seccomp" in spec["linux"] else b""
        _describe(opts, image, spec, bpf, container, sharing)
    except BaseException:
        container.remove()
        raise
    if opts.get("create"):
        sys.stdout.write(f"{container.id}\n")
        return 0
    prepared = time.monotonic()
    status = _launch(opts, operands, image, spec, bpf, container)
    if opts["timings"]:
        ended = time.monotonic()
        tell(f"timings: prepared {1000 * (prepared - started):.1f} ms, ran {1000 * (ended - prepared):.1f} ms")
    return status


def _describe(
    opts: "Options", image: "dict[str, Any]", spec: "dict[str, Any]", bpf: bytes, container: containers.Container,
    sharing: "Sharing | None",
) -> None:  # fmt: skip
    """Leave word of the container, for other commands and for who asked for its id."""
    about = {**compose.about(opts, image, spec), **opts.get("infra", {})}
    if sharing:
        about.update(needs=sharing.needs, pod=sharing.pod)
        sharing.note()
    if opts["requires"]:
        required = cold.here("sandbox.life.starting:required", opts["requires"], not opts.get("create"))
        about["needs"] = sorted({*about.get("needs", ()), *required})
    _named(container, about, spec, bpf, replace=opts["replace"] and bool(opts["name"]))
    container.pidfile = os.path.abspath(opts["pidfile"]) if opts["pidfile"] else ""
    if opts["cidfile"]:
        _write_cidfile(opts["cidfile"], container.id)


def _named(
    container: containers.Container, about: "dict[str, Any]", spec: "dict[str, Any]", bpf: bytes, *, replace: bool
) -> None:
    for left in reversed(range(_TRIES if replace else 1)):
        if replace:
            cold.call("sandbox.life.ending:replace", about["name"])
        try:
            container.describe(about, spec, bpf)
            break
        except SandboxError as error:
            if error.step != "name container" or error.errno != EEXIST or not left:
                raise


def _launch(
    opts: "Options", operands: "list[str]", image: "dict[str, Any]", spec: "dict[str, Any]", bpf: bytes,
    container: containers.Container,
) -> int:  # fmt: skip
    """Start the container and wait for its end, or until it runs by itself; the exit status."""
    status = EXIT_FAILED
    try:
        if "dev.sbx.log" in spec["annotations"]:
            status = _live(spec, bpf, container, opts)
        else:
            silenced = _silence(opts["attach"])
            try:
                status = launch.run(spec, bpf, container)
            finally:
                _give_back(silenced)
    finally:
        if "dev.sbx.volumes" in spec["annotations"] and not os.path.isdir(container.directory):
            cold.call("sandbox.life.volumes:sweep")  # those that were for it alone
        if container.refused or container.reason or opts["report"]:
            from sandbox import report

            report.give(spec, container, operands, status, opts)
        if opts["rmi"] and image.get("id") and not opts["detach"]:
            cold.call("sandbox.cli.rmi:after_run", image["id"])
    return status


def _live(spec: "dict[str, Any]", bpf: bytes, container: containers.Container, opts: "Options") -> int:
    """Start a container that outlives this command; its id on stdout, or in the foreground all that it prints."""
    try:
        status = launch.start(spec, bpf, container)
    except BaseException:
        container.remove()
        raise
    if status:
        container.remove()
        return status
    if container.about["healthcheck"].get("interval"):
        cold.call("sandbox.life.checker:begin", container.directory)
    if values.restart_policy(opts["restart"])[0] != "no":
        cold.call("sandbox.life.minder:begin", container.directory)
    if "dev.sbx.awaited" not in spec["annotations"]:
        sys.stdout.write(f"{container.id}\n")
        return 0
    from sandbox import attach

    silenced = _silence(opts["attach"])
    status = attach.follow(
        container.directory, stdin=opts["interactive"], keys=opts["detach_keys"], proxy=opts["sig_proxy"] != "false"
    )
    _give_back(silenced)
    container.refused = (state.read(container.directory, "ended") or {}).get("refused", [])
    return status


def _refuse(opts: "Options") -> None:
    """What podman has and sbx has not (yet), told apart from an unknown option; what a throw-away container can not have."""
    if opts["stop_signal"]:
        cold.here("sandbox.life.ending:signal_number", opts["stop_signal"])  # or nothing could stop it later
    if opts["stop_timeout"]:
        cold.here("sandbox.life.ending:patience", opts["stop_timeout"], "--stop-timeout")
    lives = opts["detach"] or (opts["name"] and not opts["rm"])
    for option in ("restart", "log_opt", *(option.dest for option in HEALTH)):
        if opts[option] and not lives:
            raise SandboxError(
                "run",
                f"--{option.replace('_', '-')}",
                detail="a throw-away container has none",
                hint="give it a --name",
            )
    if opts["restart"] and opts["rm"]:
        raise SandboxError("run", "--restart", detail="--rm removes what should be started again")


def _silence(attach: "list[str]") -> "list[tuple[int, int]]":
    """With --attach: /dev/null for the streams that were not named, until they are given back: (descriptor, its copy)."""
    silenced = []
    for fd, name in ((1, "stdout"), (2, "stderr")):
        if attach and name not in attach:
            silenced.append((fd, os.dup(fd)))
            null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, fd)
            os.close(null)
    return silenced


def _give_back(silenced: "list[tuple[int, int]]") -> None:
    for fd, saved in silenced:
        os.dup2(saved, fd)
        os.close(saved)


def _spelled_out(opts: "Options") -> "Options":
    """--arch, --os and --variant as --platform; --rmi as --rm too."""
    parts = (opts["os"], opts["arch"], opts["variant"])
    if any(parts):
        if opts["platform"]:
            raise SandboxError("read --platform", opts["platform"], EINVAL, detail="not with --arch, --os or --variant")
        machine = os.uname().machine
        arch = opts["arch"] or {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
        opts = {
            **opts,
            "platform": f"{opts['os'] or 'linux'}/{arch}" + (f"/{opts['variant']}" if opts["variant"] else ""),
        }
    if opts["attach"]:
        names = [name.lower() for name in opts["attach"]]
        if opts["detach"] or not set(names) <= {"stdin", "stdout", "stderr"}:
            why = "not with --detach" if opts["detach"] else ""
            raise SandboxError("read --attach", opts["attach"][0], EINVAL, why, "stdin, stdout or stderr")
        opts = {**opts, "attach": names, "interactive": opts["interactive"] or "stdin" in names}
    if opts["rmi"]:
        if opts["detach"]:
            raise SandboxError("run", "--rmi", EINVAL, detail="with --detach nobody waits for its end")
        opts = {**opts, "rm": True}
    return opts


def _sharing(opts: "Options") -> "Sharing | None":
    """The namespaces of others that are asked for; most containers have their own, and do not load this."""
    modes = (opts["network"], opts["ipc"], opts["uts"], opts["pid"], opts["userns"])
    if (
        not opts["pod"]
        and not opts["pod_id_file"]
        and not any(mode[:3] == "ns:" or mode[:10] == "container:" for mode in modes)
    ):
        return None
    from sandbox import sharing

    return sharing.Sharing(opts)


def _profile(opts: "Options") -> str:
    """The profile's name; `--privileged` is one of them, and says how weak it is."""
    if not opts["privileged"]:
        return opts["profile"] or "default"
    if opts["profile"] not in ("", "privileged"):
        raise SandboxError("run", "--privileged", EINVAL, detail="it is a profile, and --profile names another")
    if not opts["quiet"]:
        tell("--privileged: no system call filter, all capabilities of the user namespace, nothing masked")
    return "privileged"


def _image(name: str, maps: "dict[str, Any]", opts: "Options") -> "dict[str, Any]":
    """The prepared record of an image (see transfer/prepare.py); of `host:` and `rootfs:DIR` one made here."""
    if name == "host:" or (name == "pause:" and "infra" in opts):
        return {"name": name, "layers": [], "config": _EMPTY_CONFIG}
    if name.startswith("rootfs:"):
        directory = os.path.realpath(name[7:])
        if not os.path.isdir(directory):
            errno = ENOTDIR if os.path.exists(directory) else ENOENT
            raise SandboxError("open root file system", directory, errno, hint="rootfs: takes an unpacked root folder")
        return {"name": name, "layers": [directory], "config": _EMPTY_CONFIG}
    if opts["pull"] in ("", "missing", "never") and not opts["platform"]:
        record = cache.get(f"{paths.store()}/images", f"{name}|{maps['variant']}")
        if record and all(os.path.isdir(layer) for layer in record["layers"]):
            return dict(record)
    known: dict[str, Any] = cold.call(
        "sandbox.transfer.prepare:prepare", name, maps, opts["pull"] or "missing", opts["platform"], opts["quiet"]
    )
    return known


def _write_cidfile(path: str, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        os.write(fd, text.encode())
        os.close(fd)
    except OSError as error:
        raise SandboxError.of("write container id to", path, error) from None
