"""What users write as option values, read into spec terms: sizes, durations, limits, variables, sysctls.  (front, hot)

Each function takes the words of the command line, changes the spec, and raises SandboxError in their terms.
"""

import os

from sandbox import caps, spec as oci
from sandbox.errors import EBADF, EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_UNITS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kb": 1 << 10,
    "m": 1 << 20,
    "mb": 1 << 20,
    "g": 1 << 30,
    "gb": 1 << 30,
    "t": 1 << 40,
}
_FOREVER = 1e12  # seconds; what the kernel counts in nanoseconds of 64 bits it refuses itself
_DIGITS = 20  # as many as 64 bits have; Python refuses to read 4300 with a ValueError
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PASSED_LABELS = ("label=", "label:")
# The sysctls that belong to a namespace of the container, by namespace; with a dot at its end a whole folder
_SYSCTLS = {
    "ipc": ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
            "kernel.shmmni", "kernel.shm_rmid_forced", "fs.mqueue."),
    "network": ("net.",),
    "uts": ("kernel.domainname",),
}  # fmt: skip


def size(text: str, option: str) -> int:
    """Bytes of "64m", "1gb", "4096"; units are powers of 1024."""
    word = text.strip().lower()
    digits = word.rstrip("bkmgt")
    if digits.isascii() and digits.isdecimal() and len(digits) < _DIGITS and word[len(digits) :] in _UNITS:
        return int(digits) * _UNITS[word[len(digits) :]]
    raise SandboxError(f"read {option}", text, EINVAL, hint="a size is a number with b, k, m or g behind it: 64m")


def seconds(text: str, option: str) -> float:
    """Seconds of "90", "1m30s", "500ms", "-2h"."""
    sign, word = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    total, number, unit = 0.0, "", ""
    for char in word + "\0":
        if char.isascii() and (char.isdecimal() or char == ".") and not unit:
            number += char
            continue
        if char.isalpha():
            unit += char
            continue
        if (char != "\0" and not char.isdecimal()) or number.count(".") > 1 or not number.strip("."):
            break
        if (unit or "s") not in _SECONDS:
            break
        total += float(number) * _SECONDS[unit or "s"]
        number, unit = char, ""
        if char == "\0" and total < _FOREVER:
            return sign * total
    raise SandboxError(f"read {option}", text, EINVAL, hint="a time is seconds, or like 1m30s")


def umask(text: str) -> int:
    """`--umask 0022`."""
    if not set(text) <= set("01234567") or len(text) > 5 or int(text, 8) > 0o777:
        raise SandboxError("read --umask", text, EINVAL, hint="octal, like 0022")
    return int(text, 8)


def restart_policy(text: str) -> tuple[str, int]:
    """(policy, how often at most or -1) of --restart; ("no", 0) when it is not given."""
    name, colon, count = text.partition(":")
    if name not in ("", "no", "always", "unless-stopped", "on-failure") or (colon and name != "on-failure"):
        raise SandboxError("read --restart", text, EINVAL, hint="no, always, unless-stopped or on-failure[:N]")
    if colon and not (count.isdecimal() and len(count) < 10):
        raise SandboxError("read --restart", text, EINVAL, detail="a number is missing")
    return name or "no", int(count) if colon else -1


def clock_offsets(text: str) -> "dict[str, dict[str, int]]":
    """`--time-offset SECONDS` for both clocks, or `monotonic=SECONDS,boottime=SECONDS`; OCI's linux.timeOffsets."""
    offsets = {}
    for word in text.split(","):
        clock, equals, value = word.partition("=")
        if equals and clock not in ("monotonic", "boottime"):
            raise SandboxError("read --time-offset", text, EINVAL, hint="monotonic=SECONDS,boottime=SECONDS")
        nanoseconds = int(seconds(value if equals else word, "--time-offset") * 1e9)
        offset = {"secs": nanoseconds // 10**9, "nanosecs": nanoseconds % 10**9}
        for name in (clock,) if equals else ("monotonic", "boottime"):
            offsets[name] = offset
    return offsets


def environment(spec: "dict[str, Any]", entries: "Iterable[str]", files: "Iterable[str]") -> None:
    """`-e NAME=VALUE`, `-e NAME` (from the caller), `--env-file FILE`; later ones win, -e over files."""
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().split("\n")
        except OSError as error:
            raise SandboxError.of("read environment file", path, error) from None
        for line in lines:
            if line.strip() and not line.lstrip().startswith("#"):
                _set(spec, line.strip("\r"))
    for entry in entries:
        _set(spec, entry)


def _set(spec: "dict[str, Any]", entry: str) -> None:
    name, equals, value = entry.partition("=")
    if not name or "\0" in entry:
        raise SandboxError("set variable", entry, EINVAL, hint="the form is NAME=VALUE, or NAME for the caller's value")
    if equals:
        oci.set_environment(spec, name, value)
    elif name in os.environ:
        oci.set_environment(spec, name, os.environ[name])


def merged(spec: "dict[str, Any]", text: str) -> str:
    """`--env-merge NAME=VALUE` with what is set already for `$NAME` and `${NAME}` in VALUE; nothing for what is not."""
    name, equals, rest = text.partition("=")
    if not name or not equals:
        raise SandboxError("read --env-merge", text, EINVAL, hint="the form is NAME=VALUE")
    merged, *parts = rest.split("$")
    for part in parts:
        if part.startswith("{"):
            variable, brace, after = part[1:].partition("}")
            if not brace:
                raise SandboxError("read --env-merge", text, EINVAL, detail="a brace is not closed")
        else:
            after = part.lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
            variable = part[: len(part) - len(after)]
        merged += (oci.environment(spec, variable) or "") + after
    return f"{name}={merged}"


def entrypoint(text: str) -> list[str]:
    """`--entrypoint PROGRAM` or a JSON list of words; `[]` clears the image's."""
    if not text.startswith("["):
        return [text]
    import json

    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise SandboxError("read --entrypoint", text, EINVAL, hint='a program, or a JSON list of words: ["sh", "-c"]')
    return words


def limits(spec: "dict[str, Any]", entries: "Iterable[str]") -> None:
    """`--ulimit NAME=SOFT[:HARD]`, -1 for none; replaces what the profile says."""
    for entry in entries:
        name, _, value = entry.partition("=")
        kind = "RLIMIT_" + name.upper().removeprefix("RLIMIT_")
        soft, _, hard = value.partition(":")
        numbers = [soft, hard or soft]
        known = all(n == "-1" or (n.isascii() and n.isdecimal() and len(n) <= _DIGITS) for n in numbers)
        if kind not in oci.RLIMITS or not known:
            raise SandboxError("read --ulimit", entry, EINVAL, hint="the form is NAME=SOFT[:HARD]: nofile=1024:4096")
        soft_number, hard_number = ((1 << 64) - 1 if n == "-1" else int(n) for n in numbers)
        if soft_number > hard_number:
            raise SandboxError("read --ulimit", entry, EINVAL, detail="the soft limit is above the hard one")
        rlimits = [limit for limit in spec["process"]["rlimits"] if limit["type"] != kind]
        rlimits.append({"type": kind, "soft": soft_number, "hard": hard_number})
        spec["process"]["rlimits"] = rlimits


def sysctls(spec: "dict[str, Any]", entries: "Iterable[str]") -> None:
    """`--sysctl KEY=VALUE`, only such as belong to a namespace that the container has for itself."""
    kinds = {namespace["type"] for namespace in spec["linux"]["namespaces"]}
    for entry in entries:
        key, equals, value = entry.partition("=")
        key = key.replace("/", ".")
        if not equals or ".." in key:
            raise SandboxError("read --sysctl", entry, EINVAL, hint="the form is KEY=VALUE")
        words = [word for kind in kinds for word in _SYSCTLS.get(kind, ())]
        if not any(key == word or (word.endswith(".") and key.startswith(word)) for word in words):
            raise SandboxError("set sysctl", key, detail="it belongs to the host, not to a namespace of this container")
        spec["linux"]["sysctl"][key] = value


def capabilities(spec: "dict[str, Any]", kept: "list[str]", add: "list[str]", drop: "list[str]") -> None:
    """The profile's capabilities, changed by `--cap-add` and `--cap-drop` (`all` too; drop first, as podman does)."""
    wanted = list(kept)
    added = []
    for name in drop:
        word = name.lower()
        wanted = [] if word == "all" else [w for w in wanted if w != caps.canonical(name)]
    for name in add:
        names = [f"CAP_{n}" for n in caps.NAMES] if name.lower() == "all" else [caps.canonical(name)]
        added += [n for n in names if n not in added]
    wanted += [n for n in added if n not in wanted]
    oci.set_capabilities(spec, wanted, added)


def security(spec: "dict[str, Any]", entries: "Iterable[str]") -> None:
    """`--security-opt`: no-new-privileges, mask, unmask, landlock, label, apparmor; seccomp is read before, see `seccomp`."""
    linux = spec["linux"]
    for entry in entries:
        name, value = _security_option(entry)
        if name == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise SandboxError("read --security-opt", entry, EINVAL, hint="true or false")
            spec["process"]["noNewPrivileges"] = value != "false"
        elif name == "mask":
            linux["maskedPaths"] = [*linux["maskedPaths"], *value.split(":")]
        elif name == "unmask":
            names = None if value.upper() == "ALL" else value.split(":")
            for field in ("maskedPaths", "readonlyPaths"):
                linux[field] = [p for p in linux[field] if names is not None and p not in names]
        elif name == "landlock" and value == "unconfined":
            spec["annotations"].pop("dev.sbx.landlock", None)
        elif name == "systempaths" and value == "unconfined":
            linux["maskedPaths"], linux["readonlyPaths"] = [], []
        elif name == "label" or entry in ("apparmor=unconfined", "apparmor:unconfined") or name == "seccomp":
            pass  # sbx sets no label and no AppArmor profile of its own: these ask for what is so already
        else:
            known = (
                "seccomp, no-new-privileges, mask, unmask, landlock=unconfined, systempaths=unconfined, label, "
                "apparmor=unconfined"
            )
            raise SandboxError("read --security-opt", entry, EINVAL, detail="no such option", hint=f"one of {known}")


def _security_option(entry: str) -> tuple[str, str]:
    """NAME=VALUE, or NAME:VALUE as docker once wrote it; the value may have more of either."""
    end = min((entry.find(sign) for sign in "=:" if sign in entry), default=len(entry))
    return entry[:end], entry[end + 1 :]


def seccomp(entries: "Iterable[str]") -> str:
    """What `--security-opt seccomp=` asks for: "" the profile's own, "unconfined", or the absolute path of a JSON file."""
    choice = ""
    for entry in entries:
        name, value = _security_option(entry)
        if name == "seccomp":
            choice = value if value == "unconfined" else os.path.abspath(value)
    return choice


def absolute(path: str, option: str) -> str:
    """`path` inside the container, normalised; must be absolute."""
    if not path.startswith("/") or "\0" in path:
        raise SandboxError(f"read {option}", path, EINVAL, hint="a path in the container starts with /")
    return os.path.normpath(path).replace("//", "/")


def descriptors(first: str, single: "Iterable[str]") -> "list[int]":
    """The caller's descriptors above 2 that the command gets; each must be open, and not one of our own (close-on-exec)."""
    words = [("--preserve-fds", first or "0"), *(("--preserve-fd", fd) for fd in single)]
    for option, word in words:
        if not (word.isascii() and word.isdecimal() and len(word) <= 10):
            raise SandboxError(f"read {option}", word, EINVAL, hint="a number")
    fds = []
    for numbers in (range(3, 3 + int(words[0][1])), (int(word) for _, word in words[1:])):
        for fd in numbers:
            try:
                known = os.get_inheritable(fd)
            except (OSError, OverflowError):
                known = False
            if not known:
                raise SandboxError("preserve descriptor", str(fd), EBADF)
            fds.append(fd)
    return fds
