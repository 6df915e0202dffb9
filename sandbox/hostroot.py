"""The host's own root as an image: `host:` for run (an overlay, to be written to) and the view of wrap.  (front, hot)

Home folders and secrets are not in it: only the folders of the operating system are taken, the others are empty.
"""

import os

from sandbox import paths, spec as oci
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What an operating system installs; data folders (/home, /srv/data, /scratch) come in only by -v.
SYSTEM = ("usr", "etc", "var", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "nix", "gnu")
EMPTY = {
    "proc": 0o555,
    "sys": 0o555,
    "dev": 0o755,
    "run": 0o755,
    "tmp": 0o1777,
    "home": 0o755,
    "root": 0o700,
    "mnt": 0o755,
}
# Of these a system can do without: left empty where a folder in it must not be seen, and a cover could be taken off.
_SPARE = ("var", "opt")
# Hidden wherever the host's files show, readable or not: what lets somebody become somebody else.
SECRETS = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssl/private",
    "/etc/ssh", "/etc/krb5.keytab", "/etc/wireguard", "/etc/NetworkManager/system-connections", "/var/lib/sss",
    "/var/spool", "/var/mail", "/var/backups", "/var/log", "/var/crash", "/var/lib/docker", "/var/lib/containers",
)  # fmt: skip


def home() -> str:
    """The caller's home folder, "" when it has none."""
    value = os.environ.get("HOME", "")
    return os.path.realpath(value) if value.startswith("/") and value != "/" else ""


def homes() -> list[str]:
    """The folders to hide, outer ones first: what HOME says, and passwd(5) where that is a folder of the caller's own."""
    found = [home()]
    try:
        known = os.path.realpath(paths.home_of_user())
        if os.stat(known).st_uid == os.getuid():
            found.append(known)
    except (OSError, SandboxError):
        pass  # no such user, no such folder
    return [path for path in sorted(set(found)) if path not in ("", "/") and os.path.isdir(path)]


def mount_points() -> list[str]:
    """Where the host has mounts, from /proc/self/mountinfo (proc(5): field 5, octal escapes)."""
    points = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = line.split(" ", 5)[4]
            for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                point = point.replace(code, char)
            points.append(point)
    return points


def skeleton(directory: str, uid: int, gid: int) -> str:
    """Make the folder `skel` of a container: the host's top level, empty, of this owner; returns its path.

    The owner is who is 0 inside, or the caller: in a folder of an id that is not mapped nobody could make a file.
    `etc` will be covered; until then the keeper looks users up in its passwd and group.
    """
    path = f"{directory}/skel"
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return path  # of a draft that was made before
    os.chmod(path, 0o755)
    for name, mode in EMPTY.items():
        os.mkdir(f"{path}/{name}")
        os.chmod(f"{path}/{name}", mode)
        os.chown(f"{path}/{name}", uid, gid)
    os.chown(path, uid, gid)
    for name in SYSTEM:
        try:
            points_to = os.readlink(f"/{name}")
        except FileNotFoundError:
            continue
        except OSError:
            os.mkdir(f"{path}/{name}", 0o755)
            continue
        os.symlink(points_to, f"{path}/{name}")
    for name in ("passwd", "group"):
        try:
            with (
                open(f"/etc/{name}", "rb", buffering=0) as source,
                open(f"{path}/etc/{name}", "wb", buffering=0) as copy,
            ):
                copy.write(source.read())
        except OSError:
            continue  # no such file here: names are unknown, numbers work
    return path


def overlays(without: "set[str]") -> "list[dict[str, Any]]":
    """One overlay for each system folder of the host; what can not be one (mounts or the store in it) is read-only.

    Those of `without` stay empty.
    """
    points = mount_points()
    store = os.path.realpath(paths.store())
    entries = []
    for name in SYSTEM:
        path = f"/{name}"
        if name in without or os.path.islink(path) or not os.path.isdir(path):
            continue
        if any(point.startswith(path + "/") for point in points) or store.startswith(path + "/"):
            entries.append(oci.mount(path, "bind", path, "rbind", "ro", "nosuid", "nodev", "rprivate"))
        else:
            own = (f"lowerdir={path}", f"upperdir=upper.{name}", f"workdir=work.{name}", "userxattr")
            entries.append(oci.mount(path, "overlay", "overlay", "nosuid", "nodev", *own))
    return entries


def data_folders() -> list[str]:
    """The host's top level that is neither the system's nor replaced: what a view of the whole root must not show."""
    return sorted(f"/{name}" for name in os.listdir("/") if name not in SYSTEM and name not in EMPTY)


def layer(spec: "dict[str, Any]", directory: str, driver: str) -> tuple[str, str]:
    """(lowest layer, storage driver) of `host:` for a container in `directory`."""
    if driver == "copy":
        raise SandboxError(
            "use image", "host:", detail="the host's root is not copied", hint="use another storage driver"
        )
    if driver != "overlay":
        return "/", "fuse-overlayfs-squashed"
    owner = (os.getuid(), os.getgid()) if os.getuid() else oci.first_ids(spec)
    return skeleton(directory, *owner), driver


def show(spec: "dict[str, Any]") -> None:
    """Mount what a container sees of the host's root.

    Who may mount could take off what covers the store or a home in a system folder (/var/lib/ci): that folder is not there.
    """
    overlay = spec["annotations"]["dev.sbx.storage"] == "overlay"
    inside = [path for path in (os.path.realpath(paths.store()), *homes()) if path.split("/")[1] in SYSTEM]
    empty = {path.split("/")[1] for path in inside} if oci.may_mount(spec) else set()
    if oci.may_mount(spec) and not (overlay and empty <= {*_SPARE}):
        raise SandboxError(
            "use image", "host:", detail=f"who may mount can take off what covers {(*inside, 'the home folders')[0]}",
            hint="another image, or a profile without SYS_ADMIN",
        )  # fmt: skip
    if overlay:
        spec["mounts"] += overlays(empty)
    else:
        spec["linux"]["maskedPaths"] += data_folders()
    if not overlay or (os.getuid() and not oci.maps_from(spec["linux"]["uidMappings"], os.getuid())):
        # In a folder of the host, or of a caller who is not mapped, nobody could make a file.
        spec["mounts"] += [
            oci.mount(f"/{name}", "tmpfs", "tmpfs", "nosuid", "nodev", f"mode={mode:o}")
            for name, mode in EMPTY.items()
            if name not in ("proc", "sys", "dev")
        ]
    spec["mounts"].append(oci.mount("/var/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777"))
    hide(spec)


def hide(spec: "dict[str, Any]") -> None:
    """Mask the secrets, the caller's home where it is not below /home, and the store."""
    # The store may be anywhere that shows in a view of the whole root (/data/sbx); where it does not show, no harm.
    masked = [*spec["linux"]["maskedPaths"], *SECRETS, os.path.realpath(paths.store())]
    masked += [path for path in homes() if path.split("/")[1] in SYSTEM]
    spec["linux"]["maskedPaths"] = list(dict.fromkeys(masked))
