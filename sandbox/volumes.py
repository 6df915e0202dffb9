"""`-v`, `--mount` and `--tmpfs`: what users write, read into OCI mounts.  (front, hot)

Sources are made absolute here and opened once by the keeper; targets are resolved inside the root by the init.
"""

import os

from sandbox import mounts, paths, spec as oci, values
from sandbox.errors import EINVAL, ENOENT, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A volume gives no way to gain rights and no devices, whatever its files say.
_DEFAULT = ("nosuid", "nodev", "rprivate")
_SOCKET, _FOLDER = 0o140000, 0o040000  # of st_mode
_FORM = "the form is SOURCE:DESTINATION[:ro,rw,bind,rbind,noexec,U,O,idmap]"


class Reader:
    """Collects the mounts of one command line into `spec`; `directory` is the container's (for `O` volumes)."""

    def __init__(self, spec: "dict[str, Any]", directory: str, *, sockets: bool) -> None:
        self.spec, self.directory, self.sockets = spec, directory, sockets
        self.count = 0
        self.named: dict[str, tuple[str, bool, bool]] = {}  # destination -> name, anonymous, filled from the image

    def volume(self, text: str) -> None:
        """One `-v SOURCE:DESTINATION[:OPTIONS]`."""
        fields = text.split(":")
        if len(fields) == 1 and text.startswith("/"):
            self.anonymous(text)
            return
        if not 2 <= len(fields) <= 3 or not fields[0]:
            raise SandboxError("read volume", text, EINVAL, hint=_FORM)
        options = [o for o in fields[2].split(",") if o] if len(fields) == 3 else []
        if "/" not in fields[0] and fields[0] not in (".", ".."):
            self.of_store(fields[0], fields[1], options)
            return
        self.bind(fields[0], fields[1], options)

    def mount(self, text: str) -> None:
        """One `--mount type=bind|tmpfs,src=...,dst=...[,ro]`."""
        settings: dict[str, str] = {"type": "bind"}
        words = []
        for field in text.split(","):
            key, equals, value = field.partition("=")
            key = {"src": "source", "dst": "destination", "target": "destination", "readonly": "ro"}.get(key, key)
            if key in ("type", "source", "destination", "tmpfs-size", "tmpfs-mode", "bind-propagation"):
                settings[key] = value
            elif key in ("ro", "rw") and (not equals or value in ("true", "false")):
                words.append(key if value != "false" else {"ro": "rw", "rw": "ro"}[key])
            elif not equals and (key in mounts.ATTRIBUTES or key in ("bind", "rbind", "U", "O", "idmap", "nocopy")):
                words.append(key)
            else:
                raise SandboxError("read --mount", field, EINVAL, detail="no such option")
        if "destination" not in settings:
            raise SandboxError("read --mount", text, EINVAL, detail="no destination")
        if settings["type"] == "bind":
            if settings.get("bind-propagation", "rprivate") not in mounts.PROPAGATION:
                raise SandboxError("read --mount", text, detail="only private propagation is to be had")
            if not settings.get("source"):
                raise SandboxError("read --mount", text, EINVAL, detail="no source")
            self.bind(settings["source"], settings["destination"], words)
        elif settings["type"] == "volume":
            if settings.get("source"):
                self.of_store(settings["source"], settings["destination"], words)
            else:
                self.anonymous(settings["destination"], words)
        elif settings["type"] == "tmpfs":
            options = [f"{k[6:]}={settings[k]}" for k in ("tmpfs-size", "tmpfs-mode") if k in settings]
            self.tmpfs(f"{settings['destination']}:{','.join([*words, *options])}")
        else:
            raise SandboxError(
                "read --mount", settings["type"], EINVAL, detail="no such type", hint="bind, volume or tmpfs"
            )

    def anonymous(self, destination: str, options: "list[str] | None" = None) -> None:
        """A volume without a name, for this container alone."""
        self.of_store(os.urandom(32).hex(), destination, options or [], anonymous=True)

    def of_store(self, name: str, destination: str, options: "list[str]", *, anonymous: bool = False) -> None:
        """A named volume; `finish` says which ones there must be."""
        check_name(name)
        destination = values.absolute(destination, "volume")
        if destination == "/":
            raise SandboxError("read volume", f"{name}:/", detail="the root can not be covered", hint="use rootfs:DIR")
        path = f"{paths.store()}/volumes/{name}/data"
        if "O" in options:
            raise SandboxError("read volume", f"{name}:{destination}", EINVAL, detail="`O` is for folders of the host")
        self._give(destination, options)
        rest = [o for o in options if o not in ("U", "z", "Z", "nocopy", "copy", "bind", "rbind")]
        _check(rest, destination)
        self._add(oci.mount(destination, "bind", path, "bind", *_DEFAULT, *rest))
        self.named[destination] = (name, anonymous, "nocopy" not in options)

    def like(self, others: "list[tuple[str, str, list[str], str]]", words: "list[str]") -> None:
        """What another container has, as `life/volumes.py:of_container` tells it: --volumes-from."""
        for source, destination, options, name in others:
            kept = [o for o in options if o not in ("ro", "rw")] + (words or [o for o in options if o in ("ro", "rw")])
            if name:
                self.of_store(name, destination, [o for o in kept if o not in _DEFAULT and o != "bind"])
            else:
                self._hide(source, destination)  # what covers things there is no mount, and does not come along
                self._add(oci.mount(destination, "bind", source, *kept))

    def finish(self) -> None:
        """Write down in the spec which of its mounts are volumes of the store."""
        lines = [
            f"{oci.lines('read volume', destination)}={name}{'' if fill else ',nocopy'}"
            for destination, (name, _, fill) in self.named.items()
        ]
        if lines:
            self.spec["annotations"]["dev.sbx.volumes"] = "\n".join(lines)

    def _give(self, destination: str, options: "list[str]") -> None:
        if "U" in options:
            annotations = self.spec["annotations"]
            line = oci.lines("give volume to user", destination)
            annotations["dev.sbx.chown"] = annotations.get("dev.sbx.chown", "") + f"{line}\n"

    def bind(self, source: str, destination: str, options: "list[str]") -> None:
        destination = values.absolute(destination, "volume")
        if destination == "/":
            raise SandboxError(
                "read volume", f"{source}:/", detail="the root can not be covered", hint="use rootfs:DIR"
            )
        path = os.path.abspath(source)
        # From here on without links: what is checked is what the keeper will mount.
        real = os.path.realpath(path)
        try:
            mode = os.lstat(real).st_mode & 0o170000
        except FileNotFoundError:
            raise SandboxError("open volume source", path, ENOENT, hint="make it first: sbx never makes it") from None
        except OSError as error:
            raise SandboxError.of("open volume source", path, error) from None
        self._refuse_sockets(path, real, mode)
        self._hide(real, destination)
        if "O" in options:
            self._overlay(real, destination, [o for o in options if o != "O"])
            return
        annotations = self.spec["annotations"]
        self._give(destination, options)
        if "idmap" in options:
            if os.getuid():
                raise SandboxError("read volume", destination, 1, detail="only root may map the ids of a volume")
            line = f"{oci.lines('map ids of volume', destination)}={mounts.real_tree(real, recursive=True)}"
            annotations["dev.sbx.idmap"] = annotations.get("dev.sbx.idmap", "") + f"{line}\n"
        rest = [o for o in options if o not in ("U", "idmap", "z", "Z")]
        _check(rest, destination)
        kind = [] if "bind" in rest else ["rbind"]
        self._add(oci.mount(destination, "bind", real, *kind, *_DEFAULT, *[o for o in rest if o != "rbind"]))

    def _overlay(self, path: str, destination: str, options: "list[str]") -> None:
        """`O`: the container sees the folder and may write, the folder itself does not change."""
        _check(options, destination)
        self.count += 1
        upper, work = f"upper.{self.count}", f"work.{self.count}"
        own = (f"lowerdir={path}", f"upperdir={upper}", f"workdir={work}", "userxattr")
        self._add(oci.mount(destination, "overlay", "overlay", "nosuid", "nodev", *options, *own))

    def tmpfs(self, text: str) -> None:
        """One `--tmpfs DESTINATION[:OPTIONS]`."""
        destination, _, options = text.partition(":")
        destination = values.absolute(destination, "--tmpfs")
        if destination == "/":
            raise SandboxError("read --tmpfs", destination, detail="the root can not be covered")
        words = ["nosuid", "nodev"]
        for option in options.split(",") if options else ():
            key, equals, value = option.partition("=")
            if key == "size" and equals:
                words.append(f"size={value if value.endswith('%') else values.size(value, '--tmpfs')}")
            elif option in mounts.ATTRIBUTES or (key in ("mode", "nr_inodes", "uid", "gid") and value.isdecimal()):
                words.append(option)
            elif option and option not in ("tmpcopyup", "notmpcopyup", *mounts.PROPAGATION):
                raise SandboxError("read --tmpfs", option, EINVAL, detail="no such option")
        if not any(word.startswith("mode=") for word in words):
            words.append("mode=1777")
        self._add(oci.mount(destination, "tmpfs", "tmpfs", *words))

    def device(self, text: str) -> None:
        """One `--device PATH[:PATH INSIDE][:rwm]`: a node can not be made in a user namespace, so the host's is bound."""
        source, *rest = text.split(":")
        letters = rest.pop() if rest and rest[-1] and set(rest[-1]) <= set("rwm") else ""
        if len(rest) > 1 or not source.startswith("/"):
            raise SandboxError("read --device", text, EINVAL, hint="the form is /dev/NAME[:/dev/NAME INSIDE][:rwm]")
        destination = values.absolute(rest[0] if rest else source, "--device")
        try:
            kind = os.stat(source).st_mode & 0o170000
        except OSError as error:
            raise SandboxError.of("open device", source, error) from None
        if kind not in (0o020000, 0o060000):
            raise SandboxError("open device", source, EINVAL, detail="it is no device")
        if letters and "w" not in letters:
            raise SandboxError("read --device", text, EINVAL, detail="rights to read only are not to be had")
        self._add(oci.mount(destination, "bind", os.path.realpath(source), "bind", "nosuid", "noexec", "rprivate"))

    def time_zone(self, name: str) -> None:
        """`--tz NAME`: the host's file of that zone as /etc/localtime."""
        path = "/etc/localtime" if name == "local" else f"/usr/share/zoneinfo/{name}"
        if ".." in name.split("/") or name.startswith("/") or not os.path.isfile(path):
            raise SandboxError("read --tz", name, ENOENT, "no such time zone on this machine")
        self._add(oci.mount("/etc/localtime", "bind", os.path.realpath(path), "bind", "ro", *_DEFAULT, "noexec"))

    def _add(self, entry: "dict[str, Any]") -> None:
        """A later mount on the same spot replaces the earlier one, as on the command line of podman."""
        destination = entry["destination"]
        self.named.pop(destination, None)
        self.spec["mounts"] = [m for m in self.spec["mounts"] if m["destination"] != destination]
        self.spec["mounts"].append(entry)

    def _refuse_sockets(self, path: str, real: str, mode: int) -> None:
        """A socket of the host, or a folder with those of the session, hands the host's rights in (docker.sock)."""
        if self.sockets:
            return
        runtime = os.environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{os.getuid()}"
        what = ""
        if mode == _SOCKET:
            what = "it is a socket of the host"
        elif real in ("/run", "/var/run", "/") or f"{runtime}/".startswith(f"{real}/"):
            what = "it holds the host's sockets"
        elif mode == _FOLDER and f"{real}/".startswith((f"{runtime}/", "/run/")) and _holds_socket(real):
            what = "it holds sockets of the host"
        if what:
            raise SandboxError("mount volume", path, detail=what, hint="`--allow-host-socket` allows it")

    def _hide(self, real: str, destination: str) -> None:
        """Images and containers are never open to a payload: refused, or covered when the volume holds them.  Sockets
        and tickets that the session goes by are covered too: many lie in /tmp."""
        store = os.path.realpath(paths.store())
        if f"{real}/".startswith(f"{store}/"):
            raise SandboxError("mount volume", real, detail="it belongs to the store of sbx")
        if store.startswith(f"{real.rstrip('/')}/") and oci.may_mount(self.spec):
            raise SandboxError(
                "mount volume", real, detail="it holds the store of sbx, and who may mount can take off what covers that",
                hint="a profile without SYS_ADMIN, a folder beside the store, or a store elsewhere (SBX_STORE)",
            )  # fmt: skip
        masked = self.spec["linux"]["maskedPaths"]
        for path in (store, *(_of_session() if not self.sockets else ())):
            if path.startswith(f"{real.rstrip('/')}/"):
                masked = [*masked, destination.rstrip("/") + path[len(real.rstrip("/")) :]]
        self.spec["linux"]["maskedPaths"] = masked


def _holds_socket(path: str) -> bool:
    try:
        return any(os.lstat(f"{path}/{name}").st_mode & 0o170000 == _SOCKET for name in os.listdir(path))
    except OSError:
        return False  # closed to us, and so to who is us inside


def _of_session() -> "list[str]":
    """Real paths of what the caller's environment names: agents of keys, terminals that are shared, buses, engines, tickets."""
    found = [os.environ.get(name, "").partition(",")[0] for name in ("SSH_AUTH_SOCK", "TMUX", "XAUTHORITY")]
    found.append(os.environ.get("KRB5CCNAME", "").removeprefix("FILE:").removeprefix("DIR:"))
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        found.append(os.environ.get(name, "").removeprefix("unix://"))
    for address in os.environ.get("DBUS_SESSION_BUS_ADDRESS", "").split(";"):
        found.append(address.removeprefix("unix:path=").partition(",")[0])
    if os.environ.get("DISPLAY"):
        found.append("/tmp/.X11-unix")
    return [os.path.realpath(path) for path in found if path.startswith("/") and os.path.exists(path)]


def check_name(name: str) -> None:
    """SandboxError for what can be no volume's name."""
    if not name[:1].isalnum() or not all(char.isascii() and (char.isalnum() or char in "_.-") for char in name):
        raise SandboxError(
            "name volume", name, EINVAL,
            "a name has letters, digits, `_`, `.` and `-`, and begins with one of the first two",
            f"for a folder write ./{name}",
        )  # fmt: skip


def _check(options: "list[str]", destination: str) -> None:
    for option in options:
        if option not in mounts.ATTRIBUTES and option not in mounts.BINDS and option not in mounts.PROPAGATION:
            raise SandboxError("read volume", f"{destination}:{option}", EINVAL, detail="no such option", hint=_FORM)
