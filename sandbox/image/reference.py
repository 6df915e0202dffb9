"""Image names: what a person types, what is stored, and how the one is found from the other.  (cold)

Grammar of github.com/distribution/reference; normal form and local search order as podman has them:

    busybox              stored: localhost/busybox:latest, else docker.io/library/busybox:latest
    me/tool:1            stored: localhost/me/tool:1, else docker.io/me/tool:1
    quay.io/x/y@sha256:  only that manifest
    sha256:<hex>, <hex>  an image id, or its beginning when no other id begins so
"""

import re
from typing import NamedTuple

from sandbox.errors import EINVAL, SandboxError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z|sha512:[0-9a-f]{128}\Z")
ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{3,64})\Z")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_MAX_NAME = 255


class Reference(NamedTuple):
    """A parsed name; `host` is "" when none was given, then `path` stands as it was typed."""

    host: str
    path: str
    tag: str
    digest: str

    def __str__(self) -> str:
        name = f"{self.host}/{self.path}" if self.host else self.path
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def repository(self) -> str:
        """Name without tag and digest."""
        return f"{self.host}/{self.path}" if self.host else self.path


def valid_digest(text: str) -> bool:
    """Whether `text` is a digest of an algorithm that may be trusted; it is then also a safe file name."""
    return DIGEST.match(text) is not None


def _bad(text: str, why: str) -> SandboxError:
    return SandboxError("read image name", text, EINVAL, detail=why, hint="the form is [HOST/]PATH[:TAG][@sha256:...]")


def parse(text: str) -> Reference:
    """`text` in parts, nothing filled in; SandboxError when it is no image name."""
    if not text or len(text) > 1024 or not text.isascii():
        raise _bad(text[:80], "not an image name")
    rest, at, digest = text.partition("@")
    if at and not valid_digest(digest):
        raise _bad(text, "not a digest of sha256 or sha512 after the @")
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.match(tag):
        raise _bad(text, "not a tag after the colon")
    name = head + slash + last
    host, slash, path = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost" or host != host.lower()):
        host, path = "", name
    if host and not _HOST.match(host):
        raise _bad(text, "not a host name before the first slash")
    if not _PATH.match(path):
        raise _bad(text, "capital letters are not allowed" if path != path.lower() else "not a repository path")
    if len(name) > _MAX_NAME:
        raise _bad(text[:80], f"longer than {_MAX_NAME} characters")
    if not host and re.fullmatch(r"[0-9a-f]{64}", path):
        raise _bad(text, "an id can not be a name")
    return Reference(host, path, tag, digest)


def _docker(path: str) -> str:
    return path if "/" in path else f"library/{path}"


def normal(text: str, host: str = "localhost") -> Reference:
    """The full name under which `text` is stored: `host` and the tag `latest` where they are missing."""
    ref = parse(text)
    tag = ref.tag or ("" if ref.digest else "latest")
    where = ref.host or host
    if where in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        return Reference("docker.io", _docker(ref.path), tag, ref.digest)
    return Reference(where, ref.path, tag, ref.digest)


def candidates(text: str) -> list[Reference]:
    """Full names that `text` may stand for, best first."""
    if parse(text).host:
        return [normal(text)]
    return [normal(text, "localhost"), normal(text, "docker.io")]


def id_prefix(text: str) -> str:
    """The hex digits when `text` may be an image id or its beginning (3 digits or more), else ""."""
    found = ID_PREFIX.match(text)
    return found[1] if found else ""
