"""Secrets: short texts kept in the store for the caller alone, and given to containers as files or variables.  (cold)

secrets/<name>     one marshal record, mode 0600 in a folder of mode 0700; appears by rename.  It is not encrypted.
"""

import contextlib
import os
import time
from typing import Any, NamedTuple

from sandbox import paths, state, userns
from sandbox.errors import E2BIG, EEXIST, EINVAL, ENOENT, SandboxError

MOST = 512000  # bytes, podman's limit
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FORM = "the form is NAME[,type=mount|env][,target=NAME][,uid=N][,gid=N][,mode=OCTAL]"


class Wanted(NamedTuple):
    """One --secret, read."""

    name: str
    kind: str
    target: str
    uid: int
    gid: int
    mode: int


def parent() -> str:
    """The folder of all secrets."""
    return f"{paths.store()}/secrets"


def check_name(name: str) -> None:
    """SandboxError for what can be no secret's name."""
    if not name[:1].isalnum() or not all(char.isascii() and (char.isalnum() or char in "_.-") for char in name):
        raise SandboxError(
            "name secret", name, EINVAL, "letters, digits, `_`, `.` and `-`, the first two to begin with"
        )


def create(name: str, data: bytes, labels: dict[str, str], *, replace: bool) -> str:
    """Keep it; its id."""
    check_name(name)
    if not data or len(data) > MOST:
        raise SandboxError("create secret", name, E2BIG if data else EINVAL, f"a secret has 1 to {MOST} bytes")
    paths.private_directory(paths.store())
    paths.private_directory(parent())
    if os.path.exists(f"{parent()}/{name}") and not replace:
        raise SandboxError("create secret", name, EEXIST, f"{name}: secret name in use", "--replace replaces it")
    record = {"name": name, "id": os.urandom(13).hex()[:25], "created": time.time(), "labels": labels, "data": data}
    folder = os.open(parent(), _FOLDER)
    before = os.umask(0o077)
    try:
        state.write(name, record, folder)
    except OSError as error:
        raise SandboxError.of("create secret", name, error) from None
    finally:
        os.umask(before)
        os.close(folder)
    return str(record["id"])


def everything() -> list[dict[str, Any]]:
    """All records, by name."""
    try:
        names = sorted(name for name in os.listdir(parent()) if not name.startswith("."))
    except OSError:
        return []
    return [record for name in names if (record := state.read(parent(), name))]


def find(word: str) -> dict[str, Any]:
    """The record of the secret of that name or id; SandboxError "find secret"."""
    for record in everything():
        if word in (record["name"], record["id"]):
            return record
    detail = f'no secret with name or id "{word}": no such secret'
    raise SandboxError("find secret", word, ENOENT, detail, hint="`sbx secret ls` lists them")


def remove(word: str) -> str:
    """Forget it, and tell its id; containers that were given it keep it."""
    record = find(word)
    with contextlib.suppress(FileNotFoundError):  # another command was faster
        os.unlink(f"{parent()}/{record['name']}")
    return str(record["id"])


def parse(text: str) -> Wanted:
    """One --secret."""
    name, *fields = text.split(",")
    given = dict(field.partition("=")[::2] for field in fields)
    numbers = [given.get(key, "0") for key in ("uid", "gid")]
    mode = given.get("mode", "0444")
    known = {"type", "target", "uid", "gid", "mode"}
    fine = all(n.isascii() and n.isdecimal() and len(n) < 10 for n in numbers) and 0 < len(mode) <= 5
    if not name or not set(given) <= known or not fine or not set(mode) <= set("01234567") or int(mode, 8) > 0o777:
        raise SandboxError("read --secret", text, EINVAL, hint=_FORM)
    kind = given.get("type", "mount")
    if kind not in ("mount", "env"):
        raise SandboxError("read --secret", text, EINVAL, detail="no such type", hint=_FORM)
    return Wanted(name, kind, given.get("target") or name, int(numbers[0]), int(numbers[1]), int(mode, 8))


def place(
    texts: list[str], directory: str, maps: dict[str, Any]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(files to mount: source, destination; variables: name, value) of all --secret of a container in `directory`."""
    files: list[tuple[str, str]] = []
    variables: list[tuple[str, str]] = []
    contents: list[tuple[str, Wanted, bytes]] = []
    for number, wanted in enumerate(map(parse, texts)):
        data: bytes = find(wanted.name)["data"]
        if wanted.kind == "env":
            if b"\0" in data or "=" in wanted.target:
                raise SandboxError("read --secret", wanted.name, EINVAL, detail="it can be no variable")
            variables.append((wanted.target, data.decode("utf-8", "surrogateescape")))
            continue
        target = wanted.target if wanted.target.startswith("/") else f"/run/secrets/{wanted.target}"
        destination = os.path.normpath(target).replace("//", "/")
        if destination == "/" or (".." in wanted.target.split("/") and not wanted.target.startswith("/")):
            raise SandboxError("read --secret", wanted.target, EINVAL, detail="that can be no file")
        files.append((f"{directory}/secrets/{number}", destination))
        contents.append((str(number), wanted, data))
    if contents:
        folder = os.open(directory, _FOLDER)
        try:
            userns.call(maps, lambda: _write(folder, contents))
        finally:
            os.close(folder)
    return files, variables


def _write(container: int, contents: list[tuple[str, Wanted, bytes]]) -> None:
    """As root of the container's namespace, so that owners are those of the container."""
    os.mkdir("secrets", 0o700, dir_fd=container)
    folder = os.open("secrets", _FOLDER, dir_fd=container)
    os.fchmod(folder, 0o711)  # the caller opens what is in it
    for name, wanted, data in contents:
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fchown(fd, wanted.uid, wanted.gid)
                os.fchmod(fd, wanted.mode)
        except OSError as error:
            raise SandboxError.of("give secret", wanted.name, error) from None
    os.close(folder)
