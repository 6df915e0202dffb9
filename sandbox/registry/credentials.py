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
import os
from typing import Any, NamedTuple

from sandbox import paths
from sandbox.errors import EINVAL, SandboxError, printable
from sandbox.image import jsonstrict
from sandbox.registry import helpers

FILE_BYTES = 4 << 20
_STEP = "read credentials"
DOCKER_KEYS = ("docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io")


class Credentials(NamedTuple):
    """User and password; or an identity token, which is traded for others and never sent to the registry itself."""

    username: str
    password: str
    identity_token: str = ""
    source: str = ""

    def __repr__(self) -> str:  # a traceback with local variables must not show it
        return f"Credentials({self.username!r}, from {self.source!r})"


def basic(found: Credentials) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{found.username}:{found.password}".encode()).decode()


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
    return keys + (list(DOCKER_KEYS) if host in DOCKER_KEYS else [host])


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


def from_helper(name: str, keys: list[str]) -> Credentials | None:
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
                return from_helper(own[key], [key])
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
        return from_helper(value["credsStore"], hosts if host not in DOCKER_KEYS else [DOCKER_KEYS[2], *hosts])
    return None


def find(host: str, repository: str = "", authfile: str = "") -> Credentials | None:
    """The credentials for `host/repository`; None: ask as nobody."""
    for file in auth_files(authfile):
        found = find_in(file, host, repository)
        if found is not None:
            return found
    return None
