"""A profile by name -> what a container gets of it: part of the OCI dict, and the BPF program.  (cold)

  name with a slash      that file
  name                   $XDG_CONFIG_HOME/sbx/profiles/NAME.toml, /etc/sbx/profiles/NAME.toml, then the built-in ones

A profile is never looked for in the working directory or a build context: a project must not weaken its own sandbox.
"""

import errno
import marshal
import os
import re
import stat
from typing import Any, NoReturn

from sandbox import cache, linux_rare, paths
from sandbox.errors import SandboxError
from sandbox.profile import calls, compile, foreign, language, source
from sandbox.profile.kept import Profile

_MAX_BYTES = 1 << 20
_DEPTH = 4  # profiles above each other
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def load(name: str, seccomp: str = "") -> dict[str, Any]:
    """{"fragment": part of config.json, "bpf": struct sock_filter[] or b"", "files": [what it depends on]}.

    `seccomp`: "" the profile's own, "unconfined", or the absolute path of a JSON profile (OCI or docker form).  The
    result is of marshal's types and is put into the cache.  SandboxError for everything that is not exactly right.
    """
    profile, tried = effective(name)
    _required(profile)
    fragment = profile.fragment()
    files = [*tried, *_code()]
    rules: dict[str, Any] | None = None
    if seccomp == "":
        rules = profile.policy.oci(calls.machine()) if profile.policy.confined else None
    elif seccomp.startswith("/"):
        rules = foreign.read(seccomp, list(profile.capabilities))
        files.append(seccomp)
    elif seccomp != "unconfined":
        raise SandboxError(
            "read seccomp profile", seccomp, errno.EINVAL, "neither `unconfined` nor an absolute path",
        )  # fmt: skip
    bpf = b""
    if rules is not None:
        # Packed: a start needs the program only, and 370 names take 0.3 ms to build.
        fragment["linux"]["seccomp"] = marshal.dumps(rules)
        bpf = compile.program(rules)
    if profile.settings.get("require"):
        fragment["kernel"] = os.uname().release  # what was required was there under this one
    result = {"fragment": fragment, "bpf": bpf, "files": files}
    if "/" not in name or name.startswith("/"):  # a relative path means another file in another directory
        cache.put(f"{paths.cache()}/profiles", f"{name}|{seccomp}", result, depends=files)
    return result


def effective(name: str) -> tuple[Profile, list[str]]:
    """Profile `name` with all that it extends, and every file whose appearance or change would alter that."""
    files: list[str] = []
    return _follow(*_found(name, files), files, ()), list(dict.fromkeys(files))


def _found(name: str, files: list[str]) -> tuple[str, str]:
    path, tried = find(name)
    files += tried
    return path, read(path)


def _follow(path: str, text: str, files: list[str], above: tuple[str, ...]) -> Profile:
    """The profile in `path`, below the files `above` that extend it."""

    def extend(word: str) -> Profile:
        def refuse(detail: str, hint: str = "") -> NoReturn:
            raise SandboxError("extend profile", word, errno.EINVAL, detail, hint)

        if len(above) >= _DEPTH:
            refuse(f"more than {_DEPTH} profiles extend each other")
        if word.startswith("./"):
            folder = os.path.realpath(os.path.dirname(path))
            target = os.path.realpath(os.path.join(folder, word))
            if os.path.commonpath([folder, target]) != folder or target == folder:
                refuse("it lies outside of the folder of this profile")
            files.append(os.path.abspath(os.path.join(os.path.dirname(path), word)))
            found = (target, read(target))
        elif "/" in word or not _NAME.fullmatch(word):
            refuse("it is neither a name nor a path that begins with `./`")
        else:
            # A profile of one's own may have the name of the one that it extends: then the next one of that name is meant.
            candidates = [f"{folder}/{word}.toml" for folder in folders()]
            chosen = next((c for c in candidates if os.path.lexists(c) and c not in (path, *above)), "")
            if not chosen:
                looped = any(c in (path, *above) for c in candidates)
                refuse(
                    "it extends itself" if looped else "there is no profile of this name", source.near(word, names())
                )
            files.extend(candidates)
            found = (chosen, read(chosen))
        real = [os.path.realpath(p) for p in (path, *above)]
        if os.path.realpath(found[0]) in real:
            refuse("it extends itself")
        return _follow(*found, files, (path, *above))

    return language.parse(path, text, extend)


def _required(profile: Profile) -> None:
    """SandboxError when the machine lacks what the profile requires."""
    for word in profile.settings.get("require", ()):
        cause = lacking(word)
        if cause:
            raise SandboxError(
                "use profile", os.path.basename(profile.path), errno.EOPNOTSUPP, f"it requires {word}: {cause}",
                "`sbx doctor` shows what this machine has",
            )  # fmt: skip


def lacking(word: str) -> str:
    """Why this machine does not have what `require` calls `word`, or ""."""
    name, _, least = word.partition(">=")
    if name == "landlock":
        try:
            abi = linux_rare.landlock_abi()
        except OSError as error:
            return f"{error.strerror}"
        return f"the kernel has version {abi}" if abi < int(least or 1) else ""
    if name == "cgroups":
        return "" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "there is no cgroup v2"
    path = {"seccomp": "/proc/sys/kernel/seccomp/actions_avail", "user_namespaces": "/proc/self/ns/user"}[name]
    return "" if os.path.exists(path) else "the kernel does not have it"


def folders() -> list[str]:
    """Where profiles are looked for by name, the first one wins."""
    return [f"{paths.config()}/profiles", "/etc/sbx/profiles", paths.package_data("profiles")]


def names() -> dict[str, str]:
    """All profiles that can be given by name -> their files."""
    result: dict[str, str] = {}
    for folder in folders():
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        for entry in entries:
            base, extension = os.path.splitext(entry)
            if extension == ".toml" and _NAME.fullmatch(base):
                result.setdefault(base, f"{folder}/{entry}")
    return dict(sorted(result.items()))


def find(name: str) -> tuple[str, list[str]]:
    """The file of profile `name`, and all files whose appearance or change would alter that answer."""
    if "/" in name:
        path = os.path.abspath(name)
        return path, [path]
    if not _NAME.fullmatch(name):
        raise SandboxError(
            "find profile", name, errno.EINVAL, "a name has letters, digits, `_`, `.` and `-` only",
            "give a file with a slash: `./NAME.toml`",
        )  # fmt: skip
    tried = []
    for folder in folders():
        tried.append(f"{folder}/{name}.toml")
        if os.path.lexists(tried[-1]):
            return tried[-1], tried
    raise SandboxError(
        "find profile", name, errno.ENOENT, "there is no profile of this name",
        f"{source.near(name, names())}; `sbx profile list` shows all".lstrip("; "),
    )  # fmt: skip


def read(path: str) -> str:
    """The text of a profile file that nobody else can change: owned by the caller, root or whoever installed sbx."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _trusted(path, os.fstat(fd))
            with open(fd, "rb", closefd=False) as file:
                text = file.read(_MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise SandboxError.of("read profile", path, error) from None
    if len(text) > _MAX_BYTES:
        raise SandboxError("read profile", path, errno.EFBIG, f"larger than {_MAX_BYTES} bytes")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SandboxError("read profile", path, errno.EINVAL, f"not UTF-8 at byte {error.start}") from None


def _trusted(path: str, status: os.stat_result) -> None:
    cause, hint = "", ""
    if not stat.S_ISREG(status.st_mode):
        cause = "not a regular file"
    elif status.st_uid not in (0, os.geteuid(), os.stat(__file__).st_uid):
        cause = f"it belongs to uid {status.st_uid}"
        hint = "a profile decides what a sandbox may do: copy it to a file of your own"
    elif status.st_mode & stat.S_IWOTH:
        cause, hint = "everybody may write to it", f"`chmod o-w {path}`"
    if cause:
        raise SandboxError("read profile", path, errno.EPERM, cause, hint)


def _code() -> list[str]:
    """The tables and the compiler themselves: a new version of sbx makes old results stale."""
    here = os.path.dirname(os.path.abspath(__file__))
    names = "calls compile foreign groups kept language load merging patterns policy rules schema source"
    return [f"{here}/{name}.py" for name in names.split()]
