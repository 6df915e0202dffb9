"""Seccomp profiles in JSON, as docker, podman and the OCI specification write them -> OCI seccomp object.  (cold)

Docker's form adds conditions to it (`includes`, `excludes`: capabilities, architectures, kernel version) and a map of
architectures.  They are decided here, once, for this machine and the profile's capabilities; the result is plain OCI.
Source: moby profiles/seccomp/{seccomp,seccomp_linux}.go, and config-linux.md of the runtime specification.
"""

import errno
import json
import os
from typing import Any, NoReturn

from sandbox import caps
from sandbox.errors import SandboxError
from sandbox.profile import calls
from sandbox.profile.patterns import OPERATORS
from sandbox.profile.policy import ACTIONS, ERRNO, PERMISSIVE
from sandbox.profile.source import near

_MAX_BYTES = 1 << 20
_FLAGS = ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")

# key -> type; what docker or podman write for people only (comment, errno as a name) is read and not used
_TOP: dict[str, type] = {
    "defaultAction": str, "defaultErrnoRet": int, "defaultErrno": str, "architectures": list, "archMap": list,
    "flags": list, "syscalls": list,
}  # fmt: skip
_CALL: dict[str, type] = {
    "names": list, "name": str, "action": str, "errnoRet": int, "errno": str, "args": list, "comment": str,
    "includes": dict, "excludes": dict,
}  # fmt: skip
_ARG: dict[str, type] = {"index": int, "value": int, "valueTwo": int, "op": str}
_CONDITION: dict[str, type] = {"caps": list, "arches": list, "minKernel": str}
_ARCH: dict[str, type] = {"architecture": str, "subArchitectures": list}


def read(path: str, capabilities: list[str]) -> dict[str, Any]:
    """The OCI seccomp object of the JSON file `path`, for this machine, its kernel and these capabilities (CAP_X)."""
    document = _load(path)
    reader = _Reader(path, capabilities, calls.machine())
    return reader.profile(document)


def _load(path: str) -> Any:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice = next(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
            raise ValueError(f"key `{twice}` stands there twice")
        return result

    def no_constants(word: str) -> NoReturn:
        raise ValueError(f"{word} is not a JSON number")

    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SandboxError.of("read seccomp profile", path, error) from None
    try:
        if len(text) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constants)
    except RecursionError:
        raise SandboxError("read seccomp profile", path, errno.EINVAL, "nested too deeply") from None
    except ValueError as error:
        raise SandboxError("read seccomp profile", path, errno.EINVAL, f"not JSON: {error}") from None


class _Reader:
    def __init__(self, path: str, capabilities: list[str], machine: str) -> None:
        self.path = path
        self.capabilities = capabilities
        self.machine = machine

    def fail(self, place: str, detail: str, hint: str = "") -> NoReturn:
        raise SandboxError("read seccomp profile", f"{self.path}: {place}", errno.EINVAL, detail, hint)

    def check(self, place: str, value: Any, known: dict[str, type]) -> dict[str, Any]:
        """`value` is an object with known keys of the right types; keys that are null count as absent, as in Go."""
        if not isinstance(value, dict):
            self.fail(place, "must be an object")
        for key, item in value.items():
            if key in ("listenerPath", "listenerMetadata"):
                self.fail(f"{place}.{key}", "user notification is not supported")
            if key not in known:
                self.fail(f"{place}.{key}", "unknown key", near(key, known))
            if item is not None and (not isinstance(item, known[key]) or isinstance(item, bool)):
                self.fail(f"{place}.{key}", f"must be of type {known[key].__name__}")
        return {key: item for key, item in value.items() if item is not None}

    def strings(self, place: str, value: list[Any]) -> list[str]:
        for item in value:
            if not isinstance(item, str):
                self.fail(place, "must be a list of strings")
        return value

    def action(self, place: str, name: str) -> str:
        if name == "SCMP_ACT_NOTIFY":
            self.fail(place, "`SCMP_ACT_NOTIFY` is not supported: nobody would listen")
        if name not in ACTIONS:
            self.fail(place, f"unknown action `{name}`", near(name, ACTIONS))
        return name

    def profile(self, document: Any) -> dict[str, Any]:
        top = self.check("profile", document, _TOP)
        if "defaultAction" not in top:
            self.fail("defaultAction", "missing")
        result: dict[str, Any] = {"defaultAction": self.action("defaultAction", top["defaultAction"])}
        if "defaultErrnoRet" in top:
            result["defaultErrnoRet"] = self.error_number("defaultErrnoRet", top["defaultErrnoRet"])
        result["architectures"] = self.architectures(top)
        flags = self.strings("flags", top.get("flags", []))
        for flag in flags:
            if flag not in _FLAGS:
                self.fail("flags", f"unknown flag `{flag}`", near(flag, _FLAGS))
        if flags:
            result["flags"] = flags
        entries = [self.entry(f"syscalls[{i}]", item) for i, item in enumerate(top.get("syscalls", []))]
        result["syscalls"] = [entry for entry in entries if entry]
        self.refuse_swallowed(result)
        return result

    def architectures(self, top: dict[str, Any]) -> list[str]:
        if "archMap" in top and "architectures" in top:
            self.fail("archMap", "must not stand beside `architectures`")
        own = calls.MACHINES[self.machine][1]
        if "archMap" not in top:
            listed = self.strings("architectures", top.get("architectures", []))
            if listed and own not in listed:
                self.fail("architectures", f"does not list {own}, the architecture of this machine")
            return listed or [own]
        entries = [self.check("archMap", item, _ARCH) for item in top["archMap"]]
        mine = [entry for entry in entries if entry.get("architecture") == own]
        if not mine:
            self.fail("archMap", f"does not list {own}, the architecture of this machine")
        return [own, *self.strings("archMap", mine[0].get("subArchitectures", []))]

    def error_number(self, place: str, number: int) -> int:
        if not 0 <= number < 4096:
            self.fail(place, f"must be between 0 and 4095, not {number}")
        return number

    def entry(self, place: str, value: Any) -> dict[str, Any] | None:
        """One entry of `syscalls`, without its conditions; None when they do not hold here."""
        item = self.check(place, value, _CALL)
        names = self.strings(f"{place}.names", item.get("names", []))
        if "name" in item:
            if names:
                self.fail(place, "`name` must not stand beside `names`")
            names = [item["name"]]
        if not names:
            self.fail(place, "names no system call")
        if "action" not in item:
            self.fail(place, "`action` is missing")
        result: dict[str, Any] = {"names": names, "action": self.action(f"{place}.action", item["action"])}
        if "errnoRet" in item and item["action"] in (ERRNO, "SCMP_ACT_TRACE"):
            result["errnoRet"] = self.error_number(f"{place}.errnoRet", item["errnoRet"])
        args = [self.argument(f"{place}.args[{i}]", arg) for i, arg in enumerate(item.get("args", []))]
        if len({arg["index"] for arg in args}) != len(args):
            self.fail(f"{place}.args", "one argument is compared twice", "write two entries")
        if args:
            result["args"] = args
        wanted = self.holds(f"{place}.includes", item.get("includes", {}), True)
        unwanted = self.holds(f"{place}.excludes", item.get("excludes", {}), False)
        return result if wanted and not unwanted else None

    def argument(self, place: str, value: Any) -> dict[str, Any]:
        item = self.check(place, value, _ARG)
        for key in ("index", "value", "op"):
            if key not in item:
                self.fail(place, f"`{key}` is missing")
        if item["op"] not in OPERATORS:
            self.fail(place, f"unknown operator `{item['op']}`", near(item["op"], OPERATORS))
        if not 0 <= item["index"] <= 5:
            self.fail(place, "`index` must be between 0 and 5")
        for key in ("value", "valueTwo"):
            if not 0 <= item.get(key, 0) < 1 << 64:
                self.fail(place, f"`{key}` does not fit in 64 bits without a sign")
        return item

    def holds(self, place: str, value: Any, every: bool) -> bool:
        """`includes` want all of theirs; of `excludes` one is enough."""
        item = self.check(place, value, _CONDITION)
        found = []
        for name in self.strings(f"{place}.caps", item.get("caps", [])):
            if name.removeprefix("CAP_") not in caps.NAMES:
                self.fail(f"{place}.caps", f"unknown capability `{name}`", near(name.removeprefix("CAP_"), caps.NAMES))
            found.append(f"CAP_{name.removeprefix('CAP_')}" in self.capabilities)
        if item.get("arches"):
            found.append(calls.MACHINES[self.machine][2] in self.strings(f"{place}.arches", item["arches"]))
        if "minKernel" in item:
            found.append(_kernel() >= self.version(f"{place}.minKernel", item["minKernel"]))
        return all(found) if every else any(found)

    def version(self, place: str, text: str) -> tuple[int, int]:
        major, _, minor = text.partition(".")
        if not (major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
            self.fail(place, f"`{text}` is not a kernel version like 4.8")
        return int(major), int(minor)

    def refuse_swallowed(self, result: dict[str, Any]) -> None:
        """A refusal with arguments beside a plain "allow" of the same call would silently do nothing."""
        plain = {
            name
            for entry in result["syscalls"]
            if entry["action"] in PERMISSIVE and not entry.get("args")
            for name in entry["names"]
        }
        for entry in result["syscalls"]:
            for name in entry["names"] if entry.get("args") and entry["action"] not in PERMISSIVE else ():
                if name in plain:
                    self.fail(name, "one entry refuses it and another one allows it whatever its arguments are")


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)
