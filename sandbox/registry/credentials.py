"""Who we are to a registry: the auth files of podman and docker, and their credential helpers.  (cold)

Read in this order, the first that knows the registry wins (containers-auth.json(5), docker-login(1)):

    --authfile                                   only this one when given; so is
    $REGISTRY_AUTH_FILE
    $XDG_RUNTIME_DIR/containers/auth.json        /run/containers/UID/auth.json without XDG_RUNTIME_DIR
    ~/.config/containers/auth.json
    $DOCKER_CONFIG/config.json                   ~/.docker/config.json without DOCKER_CONFIG
    ~/.dockercfg

A key is a registry or a namespace below it (`quay.io/team`); the longest that fits wins.
"""

import base64
import binascii
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from sandbox import paths
from sandbox.errors import EINVAL, SandboxError, printable
from sandbox.image import jsonstrict
from sandbox.registry import helpers

FILE_BYTES = 4 << 20
_STEP = "read credentials"
_DOCKER_KEYS = ("docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io")


class Credentials(NamedTuple):
    """User and password; or an identity token, which is traded for others and never sent to the registry itself."""

    username: str
    password: str
    identity_token: str = ""
    source: str = ""

    def __repr__(self) -> str:  # a traceback with local variables must not show it
        return f"Credentials({self.username!r}, from {self.source!r})"


class AuthFile(NamedTuple):
    """A file that may hold credentials; `needed`: an error when it is not there; `old`: the form of ~/.dockercfg."""

    path: str
    needed: bool = False
    old: bool = False


def _home() -> str:
    home = os.environ.get("HOME", "")
    return home if home.startswith("/") else paths.home_of_user()


def default_file(authfile: str = "") -> str:
    """Where `sbx login` writes to."""
    own = authfile or os.environ.get("REGISTRY_AUTH_FILE", "")
    if own:
        return own
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and os.path.isdir(runtime):
        return f"{runtime}/containers/auth.json"
    run = f"/run/containers/{os.getuid()}"
    if os.access(run, os.W_OK):
        return f"{run}/auth.json"
    # Nothing that ends with the login session: better kept than lost, in the place that is read next.
    return os.path.dirname(paths.config()) + "/containers/auth.json"


def auth_files(authfile: str = "") -> list[AuthFile]:
    """The files to look into, in order."""
    if authfile:
        return [AuthFile(authfile, True)]
    own = os.environ.get("REGISTRY_AUTH_FILE", "")
    if own:
        return [AuthFile(own, True)]
    docker = os.environ.get("DOCKER_CONFIG", "") or f"{_home()}/.docker"
    found = [
        AuthFile(default_file()),
        AuthFile(os.path.dirname(paths.config()) + "/containers/auth.json"),
        AuthFile(f"{docker}/config.json"),
        AuthFile(f"{_home()}/.dockercfg", old=True),
    ]
    return list(dict.fromkeys(found))


def read_file(path: str, *, needed: bool = False) -> dict[str, Any]:
    """The JSON object in an auth file; {} when it is not there or empty."""
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if needed:
            raise SandboxError.of(_STEP, path, error, "check --authfile and REGISTRY_AUTH_FILE") from None
        return {}
    except PermissionError as error:
        if needed:
            raise SandboxError.of(_STEP, path, error) from None
        return {}
    except OSError as error:
        raise SandboxError.of(_STEP, path, error) from None
    if not raw.strip():
        return {}
    try:
        value = jsonstrict.loads(raw, path)
    except SandboxError as error:
        # Not the parser's words: they may quote the line with the secret.
        raise SandboxError(_STEP, path, EINVAL, detail=error.detail) from None
    if type(value) is not dict:
        raise SandboxError(_STEP, path, EINVAL, detail="not a JSON object")
    return value


def keys_for(host: str, repository: str) -> list[str]:
    """What a file's key may be for `host/repository`, longest first."""
    parts = repository.split("/") if repository else []
    keys = ["/".join([host, *parts[:count]]) for count in range(len(parts), 0, -1)]
    return keys + (list(_DOCKER_KEYS) if host in _DOCKER_KEYS else [host])


def _normal(key: str) -> str:
    """A key as docker wrote it through the years (`https://HOST/v1/`) -> HOST."""
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            return key.removeprefix(scheme).partition("/")[0]
    return key


def decode(entry: Any, path: str, key: str) -> Credentials | None:
    """One value of `auths`; None when it holds nothing.  SandboxError without the secret when it is broken."""
    if type(entry) is not dict:
        raise SandboxError(_STEP, path, EINVAL, detail=f"the entry of `{printable(key)}` is not an object")
    texts = {}
    for name in ("auth", "username", "password", "identitytoken"):
        value = entry.get(name)
        if value is not None and type(value) is not str:
            raise SandboxError(_STEP, path, EINVAL, detail=f"`{name}` of `{printable(key)}` is not text")
        texts[name] = value or ""
    user, password = texts["username"], texts["password"]
    if texts["auth"]:
        try:
            user, colon, password = base64.b64decode(texts["auth"], validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            colon = ""
        if not colon:
            raise SandboxError(
                _STEP, path, EINVAL, detail=f"`auth` of `{printable(key)}` is not base64 of user:password",
                hint=f"`sbx login {printable(key)}` writes it anew",
            )  # fmt: skip
        password = password.rstrip("\x00")
    if any(ord(char) < 32 or ord(char) == 127 for char in user + password + texts["identitytoken"]):
        raise SandboxError(_STEP, path, EINVAL, detail=f"control characters in the entry of `{printable(key)}`")
    if texts["identitytoken"]:
        return Credentials(user, "", texts["identitytoken"], path)
    return Credentials(user, password, "", path) if user or password else None


def _from_helper(name: str, keys: list[str]) -> Credentials | None:
    for key in keys:
        answer = helpers.ask(name, "get", key)
        if not answer:
            continue
        try:
            value = jsonstrict.loads(answer.encode(), "answer")
            user, secret = value["Username"], value["Secret"]
        except (SandboxError, KeyError, TypeError):
            raise SandboxError(
                "run credential helper", f"docker-credential-{name}", detail="not the JSON it should print"
            ) from None
        if type(user) is not str or type(secret) is not str or not (user + secret).isprintable():
            raise SandboxError(
                "run credential helper", f"docker-credential-{name}", detail="not the JSON it should print"
            )
        if not secret:
            continue
        source = f"docker-credential-{name}"
        return Credentials("", "", secret, source) if user == "<token>" else Credentials(user, secret, "", source)
    return None


def find_in(file: AuthFile, host: str, repository: str) -> Credentials | None:
    """What one file, or the helper that it names, has for `host/repository`."""
    value = read_file(file.path, needed=file.needed)
    keys = keys_for(host, repository)
    hosts = keys_for(host, "")
    own = value.get("credHelpers")
    if not file.old and type(own) is dict:
        for key in hosts:
            if type(own.get(key)) is str:
                return _from_helper(own[key], [key])
    auths = value if file.old else value.get("auths")
    if type(auths) is dict:
        normal = {_normal(key): key for key in reversed(auths)}
        for key in keys:
            name = key if key in auths else normal.get(key)
            if name is not None:
                found = decode(auths[name], file.path, name)
                if found is not None:
                    return found
    if not file.old and type(value.get("credsStore")) is str and value["credsStore"]:
        return _from_helper(value["credsStore"], hosts if host not in _DOCKER_KEYS else [_DOCKER_KEYS[2], *hosts])
    return None


def find(host: str, repository: str = "", authfile: str = "") -> Credentials | None:
    """The credentials for `host/repository`; None: ask as nobody."""
    for file in auth_files(authfile):
        found = find_in(file, host, repository)
        if found is not None:
            return found
    return None


def key_of(host: str, repository: str = "") -> str:
    """The key that `store` and `erase` use."""
    return f"{host}/{repository}" if repository else "docker.io" if host in _DOCKER_KEYS else host


def _write(path: str, value: dict[str, Any]) -> None:
    """Replace `path`, 0600, whole or not at all; a symbolic link keeps pointing where it does."""
    import tempfile  # only a login wants it

    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=".auth.", dir=folder)  # 0600 from the start
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(json.dumps(value, indent="\t", ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise SandboxError.of("store credentials", path, error) from None


@contextlib.contextmanager
def _changing(path: str) -> Iterator[dict[str, Any]]:
    """The file's object to change; written back at the end.  Two logins at once take turns by a lock on the folder."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("store credentials", folder, error) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        value = read_file(path)
        before = json.dumps(value)
        yield value
        if json.dumps(value) != before:
            _write(path, value)
    finally:
        os.close(fd)


def _helper_in(value: dict[str, Any], key: str) -> str:
    own = value.get("credHelpers")
    name = (own.get(key) if type(own) is dict else None) or value.get("credsStore")
    return name if type(name) is str else ""


def store(host: str, repository: str, found: Credentials, authfile: str = "") -> str:
    """Keep `found` for `host[/repository]` in the default file, or with the helper that it names; where it went."""
    path, key = default_file(authfile), key_of(host, repository)
    with _changing(path) as value:
        name = _helper_in(value, key)
        if name:
            answer = {
                "ServerURL": key, "Username": found.username if not found.identity_token else "<token>",
                "Secret": found.identity_token or found.password,
            }  # fmt: skip
            helpers.ask(name, "store", json.dumps(answer))
            return f"docker-credential-{name}"
        entry = {"auth": base64.b64encode(f"{found.username}:{found.password}".encode()).decode()}
        if found.identity_token:
            entry["identitytoken"] = found.identity_token
        auths = value.setdefault("auths", {})
        if type(auths) is not dict:
            raise SandboxError("store credentials", path, EINVAL, detail="`auths` is not an object")
        auths[key] = entry
    return path


def erase(host: str, repository: str = "", authfile: str = "") -> list[str]:
    """Remove what is stored for `host[/repository]` from podman's file or its helper; the places it was in."""
    path, key = default_file(authfile), key_of(host, repository)
    if authfile:
        read_file(path, needed=True)
    removed = []
    with _changing(path) as value:
        name = _helper_in(value, key)
        if name and _from_helper(name, [key]) is not None:
            helpers.ask(name, "erase", key)
            removed.append(f"docker-credential-{name}")
        auths = value.get("auths")
        if type(auths) is dict and auths.pop(key, None) is not None:
            removed.append(path)
    return removed


def erase_all(authfile: str = "") -> str:
    """Remove every entry of podman's file, and what its helpers keep for the registries it names; its path."""
    path = default_file(authfile)
    with _changing(path) as value:
        own = value.get("credHelpers")
        for key, name in (own if type(own) is dict else {}).items():
            if type(name) is str:
                helpers.ask(name, "erase", key)
        if "auths" in value:
            value["auths"] = {}
    return path
