"""`sbx info`: facts for a bug report; judging them is `sbx doctor`'s business.  (cold)"""

import ctypes.util
import json
import os
import platform
import pwd
import re
import shutil
import subprocess
import sys
from importlib import metadata
from typing import Any

from sandbox import __version__, paths
from sandbox.errors import SandboxError, printable
from sandbox.image.describe import show
from sandbox.image.goformat import render

# Program -> what makes it tell its version; newuidmap has no such option.
_TOOLS = {
    "newuidmap": "",
    "newgidmap": "",
    "fuse-overlayfs": "--version",
    "slirp4netns": "--version",
    "pasta": "--version",
}
_PACKAGES = ("typer", "pyseccomp", "tomli", "zstandard")
_VERSION = re.compile(r"\d[\w.+~-]*")


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the facts, as indented text or with --json as one object."""
    found = facts()
    if opts["format"] not in ("", "json"):
        print(show(render(opts["format"], found)))
    elif opts["json"] or opts["format"]:
        print(json.dumps(found, indent=2))
    else:
        _print(found, "")
    return 0


def facts() -> dict[str, Any]:
    """Everything as JSON types; what can not be found is None."""
    uname = os.uname()
    return {
        "version": {
            "sbx": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "package": os.path.dirname(os.path.abspath(paths.__file__)),
        }
        | {name: _package(name) for name in _PACKAGES},
        "host": {
            "system": _os_release(),
            "kernel": uname.release,
            "architecture": uname.machine,
            "cpus": len(os.sched_getaffinity(0)),
            "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "lsm": _first_line("/sys/kernel/security/lsm"),
            "cgroup": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        },
        "user": {
            "uid": os.getuid(),
            "gid": os.getgid(),
            "subuid": _ranges("/etc/subuid"),
            "subgid": _ranges("/etc/subgid"),
        },
        "paths": {
            "store": _path(paths.store),
            "cache": _path(paths.cache),
            "config": _path(paths.config),
            "profiles": paths.package_data("profiles"),
            "runtime": os.environ.get("XDG_RUNTIME_DIR") or None,
        },
        "tools": {name: _tool(name, option) for name, option in _TOOLS.items()} | {"libseccomp": _libseccomp()},
    }


def _print(found: dict[str, Any], indent: str) -> None:
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{indent}{name}:")
            _print(value, indent + "  ")
        else:
            words = ", ".join(value) if isinstance(value, list) else value
            print(f"{indent}{name}: {'-' if words in (None, '') else printable(str(words))}")


def _package(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _path(of: Any) -> str | None:
    try:
        path: str = of()
    except SandboxError:
        return None
    return path


def _os_release() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _first_line(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return None


def _ranges(path: str) -> list[str]:
    """The caller's lines of subuid(5), as first:count; entries are by name or by number."""
    uid = str(os.getuid())
    try:
        own = {uid, pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        own = {uid}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            fields = [line.strip().split(":", 1) for line in file]
    except OSError:
        return []
    return [field[1] for field in fields if len(field) == 2 and field[0] in own]


def _tool(name: str, option: str) -> dict[str, str | None] | None:
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        return None
    version = None
    if option:
        try:
            done = subprocess.run(
                [path, option], stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False, text=True,
                errors="replace",
            )  # fmt: skip
            lines = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
            match = _VERSION.search(lines[0].split(name, 1)[1]) if lines else None
            version = match.group() if match else None
        except (OSError, subprocess.TimeoutExpired):
            pass
    return {"path": path, "version": version}


def _libseccomp() -> dict[str, str | None] | None:
    """seccomp_version(3): three unsigned ints."""
    name = ctypes.util.find_library("seccomp")
    if name is None:
        return None
    try:
        library = ctypes.CDLL(name)
        library.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
        version = ".".join(str(part) for part in library.seccomp_version().contents)
    except (OSError, AttributeError, ValueError):
        version = None
    return {"path": name, "version": version}
