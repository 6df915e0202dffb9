"""Devices that their vendors describe: `--device vendor.com/class=name`, by the Container Device Interface.  (cold)

Source: https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md; of its edits deviceNodes, mounts and env
are made.  Hooks are programs that run with the rights of who starts the container, outside of it: they are refused.
"""

import os
import re
from typing import Any

from sandbox.errors import EINVAL, ENOENT, SandboxError
from sandbox.image.jsonstrict import loads

_NAME = re.compile(r"([A-Za-z][\w.-]*/[A-Za-z][\w.-]*)=([A-Za-z0-9][\w.:-]*)", re.ASCII)
_GPU = "nvidia.com/gpu"
_EDITS = ("deviceNodes", "mounts", "env")
_WORDS = frozenset(("ro", "rw", "nosuid", "nodev", "noexec", "bind", "rbind"))
# What every bind mount has here anyway.
_IMPLIED = frozenset(("rprivate", "private", "relatime", "suid", "dev", "exec", "async", "atime"))
_LONGEST = 4 << 20  # bytes of a file


def folders() -> list[str]:
    """Where descriptions are looked for; of two for one device the one of the later folder counts."""
    own = os.environ.get("XDG_CONFIG_HOME", "") or f"{os.environ.get('HOME', '')}/.config"
    return ["/etc/cdi", "/run/cdi", f"{own}/cdi"]


def of_gpus(text: str) -> list[str]:
    """The devices that `--gpus` means: all, a number of them, or device=NAME,NAME."""
    if text in ("", "none"):
        return []
    if text.isdecimal():
        return [f"{_GPU}={number}" for number in range(int(text))]
    names = text.strip('"').removeprefix("device=").split(",")
    if not all(_NAME.fullmatch(f"{_GPU}={name}") for name in names):
        raise SandboxError("read --gpus", text, EINVAL, hint="all, a number, or device=NAME[,NAME...]")
    return [f"{_GPU}={name}" for name in names]


def resolve(names: list[str], gpus: str) -> dict[str, Any]:
    """{"devices": [(path here, path inside)], "mounts": [(source, destination, options)], "env": ["NAME=VALUE"]}.

    SandboxError "find device", "use device".
    """
    found: dict[str, Any] = {"devices": [], "mounts": [], "env": []}
    known, broken = _known()
    general: set[str] = set()
    for name in [*names, *of_gpus(gpus)]:
        if not _NAME.fullmatch(name):
            raise SandboxError("read --device", name, EINVAL, hint="a path below /dev, or vendor.com/class=name")
        if name not in known:
            if broken:
                hint = f"not read: {'; '.join(broken)}"
            elif alike := sorted(other for other in known if other.partition("=")[0] == name.partition("=")[0]):
                hint = f"there are {', '.join(alike)}"
            else:
                hint = f"descriptions are looked for in {', '.join(folders())}"
            raise SandboxError("find device", name, ENOENT, "no description of it", hint)
        path, document, device = known[name]
        if path not in general:
            general.add(path)
            _edit(found, document.get("containerEdits"), name, path)
        _edit(found, device.get("containerEdits"), name, path)
    return found


def _known() -> tuple[dict[str, tuple[str, dict[str, Any], dict[str, Any]]], list[str]]:
    """({device: (file, whole document, its entry)}, [what could not be read, and why])."""
    known: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
    broken: list[str] = []
    for folder in folders():
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith((".json", ".yaml", ".yml")))
        except OSError:
            continue
        here: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
        twice: set[str] = set()  # which of them is meant is not known
        for path in (f"{folder}/{name}" for name in names):
            try:
                document = _document(path)
                for device in document["devices"]:
                    name = f"{document['kind']}={device['name']}"
                    if name in here:
                        twice.add(name)
                        broken.append(f"{path}: {name} is in {here[name][0]} too")
                    here[name] = (path, document, device)
            except (SandboxError, KeyError, TypeError) as error:
                broken.append(
                    f"{path}: {error}" if isinstance(error, SandboxError) else f"{path}: no kind, or no devices"
                )
        known.update({name: entry for name, entry in here.items() if name not in twice})
    return known, broken


def _document(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise SandboxError.of("read", path, error) from None
    if len(data) > _LONGEST:
        raise SandboxError("read", path, detail="it is too long")
    if not data.lstrip().startswith(b"{"):
        raise SandboxError("read", path, detail="it is not JSON, the only form of YAML that is read here")
    document = loads(data, path)
    if not isinstance(document, dict):
        raise SandboxError("read", path, detail="no object")
    return document


def _edit(found: dict[str, Any], edits: Any, name: str, path: str) -> None:
    """Add what one containerEdits asks for."""
    if edits is None:
        return
    if not isinstance(edits, dict):
        raise SandboxError("use device", name, EINVAL, f"containerEdits of {path} is no object")
    for key, value in edits.items():
        if value and key == "hooks":
            raise SandboxError(
                "use device", name, detail=f"{path} asks for hooks: programs that run outside of the container",
                hint="bind what it needs with --device and -v, without the description",
            )  # fmt: skip
        if value and key not in _EDITS:
            raise SandboxError("use device", name, detail=f"{path} asks for `{key}`, which is not to be had")
    try:
        for node in edits.get("deviceNodes") or ():
            found["devices"].append((_path(node.get("hostPath") or node["path"]), _path(node["path"])))
        for entry in edits.get("mounts") or ():
            options = [str(word) for word in entry.get("options") or () if word not in _IMPLIED]
            if entry.get("type", "bind") not in ("", "bind", "none") or not set(options) <= _WORDS:
                raise SandboxError(
                    "use device", name, EINVAL, f"{path}: a mount of {entry['containerPath']} that is not to be had"
                )
            found["mounts"].append((_path(entry["hostPath"]), _path(entry["containerPath"]), options))
        for text in edits.get("env") or ():
            if not isinstance(text, str) or "=" not in text[1:] or "\0" in text:
                raise ValueError(text)
            found["env"].append(text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SandboxError("use device", name, EINVAL, f"containerEdits of {path}: {error}") from None


def _path(found: Any) -> str:
    if not isinstance(found, str) or not found.startswith("/") or "\0" in found:
        raise ValueError(f"`{found}` is no absolute path")
    return found
