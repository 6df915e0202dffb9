"""Is what was pulled still what the registry has?  One HEAD request, and nothing imported for it.  (cold)

To pull what is already there is the most frequent of all pulls, and importing an HTTP library takes five times as long as
all the rest of it.  So a pull that was served without a login, by the registry itself, leaves a record of what it asked and
what the answer was.  The next one like it sends the same first request that the full way would send, from here: without
credentials, to the same place.  When the answer is the same digest, that is all.  Any other answer, or none, decides
nothing: the full way (`pulling`) begins from the start, with its retries, logins, mirrors and messages.

A record is valid while nothing changes that it came from: index.json and the blobs it needs, registries.conf, the
environment.  Certificates are looked up again each time.  Where TLS was not spoken, and that was allowed, plain http is
asked at once.
"""

import _socket
import os
import time

import sandbox
from sandbox import cache, paths
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SECONDS = 5.0  # for all of it; who is slower is asked with patience
_HEADER_BYTES = 16 << 10
_DIGEST = "docker-content-digest"
# What decides whom a name is asked from, and by which way.
_VARIABLES = (
    "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SBX_REGISTRIES_CONF", "CONTAINERS_REGISTRIES_CONF", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
ACCEPT = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def _key(text: str, platform: str, tls_verify: "bool | None", cert_dir: str) -> str:
    told = "|".join(f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ)
    return f"glance|{text}|{platform}|{tls_verify}|{cert_dir}|{told}"


def keep(
    records: str,
    text: str,
    platform: str,
    tls_verify: "bool | None",
    cert_dir: str,
    seen: "dict[str, Any]",
    depends: "Iterable[str]",
) -> None:
    """Remember that `text` was pulled.

    `seen` has "origin" (`https://host`), "verify", "path", "asked" (tag or digest), "digest" (that the registry calls it by),
    and "name", "id" of the image in the store.
    """
    cache.put(records, _key(text, platform, tls_verify, cert_dir), {**seen, "version": sandbox.__version__}, depends)


def same(
    text: str, platform: str, tls_verify: "bool | None" = None, cert_dir: str = "", *, ask: bool = True
) -> "tuple[str, str] | None":
    """(id, full name) of the image in the store, when the registry says that `text` is still that one; None: unknown.

    Without `ask`, that it is there is enough.
    """
    root = os.path.abspath(paths.store())
    try:
        s = os.stat(root)
    except OSError:
        return None
    if s.st_uid != os.geteuid() or s.st_mode & 0o077:
        return None  # `Store` has something to say about that
    seen = cache.get(f"{root}/images", _key(text, platform, tls_verify, cert_dir))
    if seen is None or seen["version"] != sandbox.__version__:
        return None
    if not ask:
        return seen["id"], seen["name"]
    try:
        found = _digest(seen, cert_dir, time.monotonic() + SECONDS)
    except (OSError, ValueError, SandboxError):  # UnicodeError is a ValueError
        return None
    return (seen["id"], seen["name"]) if found == seen["digest"] else None


def _digest(seen: "dict[str, Any]", cert_dir: str, end: float) -> str:
    """What the registry says is the digest of what was asked for; "" for any answer but 200.  OSError, ValueError."""
    scheme, _, netloc = seen["origin"].partition("://")
    host, colon, port = netloc.rpartition(":") if netloc[-1] != "]" else (netloc, "", "")
    if not colon:
        host = netloc
    link: Any = _connected(host.strip("[]"), int(port) if colon else 443 if scheme == "https" else 80, end)
    try:
        if scheme == "https":
            from sandbox.registry.certificates import folder_of

            link = _secured(link, host.strip("[]"), cert_dir or folder_of(netloc), end, verify=seen["verify"])
        lines = (
            f"HEAD /v2/{seen['path']}/manifests/{seen['asked']} HTTP/1.1", f"Host: {netloc}", "Accept-Encoding: identity",
            f"User-Agent: sbx/{sandbox.__version__}", f"Accept: {', '.join(ACCEPT)}", "Connection: close", "", "",
        )  # fmt: skip
        link.sendall("\r\n".join(lines).encode("ascii"))
        head = b""
        while b"\r\n\r\n" not in head:
            link.settimeout(_left(end))
            piece = link.recv(4096)
            head += piece
            if not piece or len(head) > _HEADER_BYTES:
                return ""
        status, *fields = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    finally:
        link.close()
    words = status.split(" ", 2)
    if words[0] not in ("HTTP/1.1", "HTTP/1.0") or words[1:2] != ["200"]:
        return ""
    said = [value.strip() for name, _, value in (field.partition(":") for field in fields) if name.lower() == _DIGEST]
    return said[0] if len(said) == 1 else ""


def _left(end: float) -> float:
    """Seconds until `end`; TimeoutError when it has passed."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connected(host: str, port: int, end: float) -> "_socket.socket":
    """A connection to the first address of `host` that takes one; the last one's OSError."""
    failed = OSError()
    for family, kind, protocol, _, address in _socket.getaddrinfo(host.encode("ascii"), port, 0, _socket.SOCK_STREAM):
        link = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
        try:
            link.settimeout(_left(end))
            link.connect(address)
            # The request follows the end of the TLS handshake at once: it must not wait for that to be acknowledged.
            link.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            return link
        except OSError as error:
            link.close()
            failed = error
    raise failed


def _secured(link: "_socket.socket", host: str, folder: str, end: float, *, verify: bool) -> "Any":
    """TLS on a connection, checked as the full way checks it."""
    import socket

    from sandbox.registry import certificates

    context = certificates.context(folder, verify=verify)
    plain = socket.socket(link.family, link.type, link.proto, link.detach())
    plain.settimeout(_left(end))
    return context.wrap_socket(plain, server_hostname=host)
