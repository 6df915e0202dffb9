"""Which package holds a program, for the five package managers; `setup/packages` has the same names for ./try.  (cold)"""

import os

# program -> package, per manager
PACKAGES = {
    "apt-get": {
        "newuidmap": "uidmap", "getsubids": "uidmap", "fuse-overlayfs": "fuse-overlayfs", "slirp4netns": "slirp4netns",
        "pasta": "passt", "libseccomp": "libseccomp2",
    },
    "dnf": {
        "newuidmap": "shadow-utils", "getsubids": "shadow-utils-subid", "fuse-overlayfs": "fuse-overlayfs",
        "slirp4netns": "slirp4netns", "pasta": "passt", "libseccomp": "libseccomp",
    },
    "zypper": {
        "newuidmap": "shadow", "getsubids": "shadow", "fuse-overlayfs": "fuse-overlayfs", "slirp4netns": "slirp4netns",
        "pasta": "passt", "libseccomp": "libseccomp2",
    },
    "pacman": {
        "newuidmap": "shadow", "getsubids": "shadow", "fuse-overlayfs": "fuse-overlayfs", "slirp4netns": "slirp4netns",
        "pasta": "passt", "libseccomp": "libseccomp",
    },
    "apk": {
        "newuidmap": "shadow-uidmap", "getsubids": "shadow-uidmap", "fuse-overlayfs": "fuse-overlayfs",
        "slirp4netns": "slirp4netns", "pasta": "passt", "libseccomp": "libseccomp",
    },
}  # fmt: skip
_COMMANDS = {
    "apt-get": "apt-get install -y",
    "dnf": "dnf install -y",
    "zypper": "zypper install -y",
    "pacman": "pacman -S --needed",
    "apk": "apk add",
}
_FOLDERS = ("/usr/bin", "/sbin", "/bin", "/usr/sbin")


def as_root(command: str) -> str:
    """`command` with sudo in front, unless the caller is root."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def install(program: str, *, again: bool = False) -> str:
    """The command that installs what holds `program`; with `again` one that puts a broken installation right."""
    for manager, names in PACKAGES.items():
        if any(os.access(f"{folder}/{manager}", os.X_OK) for folder in _FOLDERS):
            command = _COMMANDS[manager]
            if again:
                command = {"apt-get": "apt-get install -y --reinstall", "dnf": "dnf reinstall -y"}.get(manager, command)
            return as_root(f"{command} {names[program]}")
    return f"install the program {program}"
