"""Credentials into podman's auth file, or a helper that it names, and out of it again: login and logout.  (cold)

Files are replaced whole, have mode 0600, and two logins at once take turns.
"""

import base64
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from typing import Any

from sandbox.errors import EINVAL, SandboxError
from sandbox.registry import helpers
from sandbox.registry.credentials import DOCKER_KEYS, Credentials, default_file, from_helper, read_file


def key_of(host: str, repository: str = "") -> str:
    """The key that `store` and `erase` use."""
    return f"{host}/{repository}" if repository else "docker.io" if host in DOCKER_KEYS else host


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
        if name and from_helper(name, [key]) is not None:
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
