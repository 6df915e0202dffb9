"""Is what was pulled still what the registry has?  One HEAD request, and no HTTP library imported for it.  (cold)

To pull what is already there is the most frequent of all pulls, and importing an HTTP library takes five times as long as
all the rest of it.  So a pull leaves a record of whom it asked for what (the mirrors before the one that had it too), and
what the answer was.  The next one like it sends the same first requests that the full way would send, from here, to the
same places.  When the answer is the same digest, that is all.  Any other answer, or none, decides nothing: the full way
(`pulling`) begins from the start, with its retries, mirrors and messages.

A record is valid while nothing changes that it came from: index.json and the blobs it needs, registries.conf, the
environment.  It holds no secret: where a login was wanted, credentials are looked up anew (`glance_login`), as
certificates are.  Where TLS was not spoken, and that was allowed, plain http is asked at once.
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

    Answer = tuple[int, list[tuple[str, str]], bytes]  # status, headers (names in lower case), body

SECONDS = 5.0  # for all of it; who is slower is asked with patience
_HEADER_BYTES = 16 << 10
_DIGEST = "docker-content-digest"
_HAS_NOT = (401, 403, 404)  # what a mirror may say before the next one is asked
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
# What decides whom a name is asked from, and by which way.
_VARIABLES = (
    "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SBX_REGISTRIES_CONF", "CONTAINERS_REGISTRIES_CONF", *_PROXIES, "NO_PROXY",
    "no_proxy",
)  # fmt: skip
ACCEPT = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def _key(text: str, platform: str, tls_verify: "bool | None", cert_dir: str) -> str:
    # By a hash: a proxy's URL may hold a password, and a key becomes the name of a file.
    told = "|".join(f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ)
    return f"glance|{text}|{platform}|{tls_verify}|{cert_dir}|{cache.short_hash(told)}"


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

    `seen` has "places" (`Session.place` of all that were asked, the one with the answer last), "asked" (tag or digest), "digest"
    (that the registry calls it by), and "name", "id" of the image in the store.
    """
    cache.put(records, _key(text, platform, tls_verify, cert_dir), {**seen, "version": sandbox.__version__}, depends)


def same(
    text: str, platform: str, tls_verify: "bool | None" = None, cert_dir: str = "", authfile: str = "", *, ask: bool = True
) -> "tuple[str, str] | None":  # fmt: skip
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
    if ask:
        try:
            if _digest(seen, cert_dir, authfile, time.monotonic() + SECONDS) != seen["digest"]:
                return None
        except (OSError, ValueError, SandboxError):  # UnicodeError is a ValueError
            return None
    return seen["id"], seen["name"]


def _digest(seen: "dict[str, Any]", cert_dir: str, authfile: str, end: float) -> str:
    """What is said to be the digest of what was asked for; "" for any answer that decides nothing.  OSError, ValueError."""
    for place in seen["places"]:
        folder = "" if place["mirror"] else cert_dir  # the command line speaks of the registry that it names
        headers = [("Accept", ", ".join(ACCEPT))]
        if place["login"]:
            from sandbox.registry.glance_login import authorization

            headers.append(("Authorization", authorization(place, folder, authfile, end)))
        target = f"/v2/{place['path']}/manifests/{seen['asked']}"
        status, fields, _ = exchange("HEAD", place["origin"], target, headers, end, folder, verify=place["verify"])
        if status == 200:
            said = [value for name, value in fields if name == _DIGEST]
            return said[0] if len(said) == 1 else ""
        if status not in _HAS_NOT:
            break
    return ""


def exchange(
    method: str, origin: str, target: str, headers: "list[tuple[str, str]]", end: float, folder: str, *, verify: bool,
    more: str = "", body: bytes = b"", most: int = 0,
) -> "Answer":  # fmt: skip
    """One request to `scheme://host[:port]` on a connection of its own, and the answer, with up to `most` bytes of its body.

    `folder` and `more` hold certificates, as `certificates.context` takes them; "" is what certs.d has for the host.
    OSError, ValueError.
    """
    scheme, _, netloc = origin.partition("://")
    host, colon, port = netloc.rpartition(":") if netloc[-1] != "]" else (netloc, "", "")
    if not colon:
        host = netloc
    number = int(port) if colon else 443 if scheme == "https" else 80
    way: tuple[str, int] | None = None
    headers = [*headers]
    if any(os.environ.get(name) for name in _PROXIES):
        from sandbox.registry.glance_proxy import through

        way, proved = through(scheme, host.strip("[]"), number)
        if way and scheme == "http":
            headers += proved
            target = origin + target
    link: Any = _connected(*(way or (host.strip("[]"), number)), end)
    try:
        if way and scheme == "https":
            _tunnel(link, f"{host}:{number}", proved, end)
        if scheme == "https":
            from sandbox.registry.certificates import folder_of

            link = _secured(link, host.strip("[]"), folder or folder_of(netloc), more, end, verify=verify)
        sent = [("Host", netloc), ("Accept-Encoding", "identity"), *headers, ("Connection", "close")]
        link.sendall(_request(f"{method} {target}", sent) + body)
        return _answer(link, end, most)
    finally:
        link.close()


def _request(begins: str, headers: "list[tuple[str, str]]") -> bytes:
    agent = ("User-Agent", f"sbx/{sandbox.__version__}")
    lines = [f"{begins} HTTP/1.1", *(f"{name}: {value}" for name, value in (*headers, agent)), "", ""]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError
    return "\r\n".join(lines).encode("ascii")


def _tunnel(link: "Any", netloc: str, proved: "list[tuple[str, str]]", end: float) -> None:
    """Have a proxy connect us; ValueError when it does not."""
    link.settimeout(_left(end))
    link.sendall(_request(f"CONNECT {netloc}", [("Host", netloc), *proved]))
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        link.settimeout(_left(end))
        piece = link.recv(1)  # what follows is not the proxy's
        got += piece
        if not piece or len(got) > _HEADER_BYTES:
            raise ValueError
    if got.split(b" ", 2)[1:2] != [b"200"] or not got.startswith(b"HTTP/1."):
        raise ValueError


def _answer(link: "Any", end: float, most: int) -> "Answer":
    got = b""
    while b"\r\n\r\n" not in got:
        piece = _piece(link, end)
        got += piece
        if not piece or len(got) > _HEADER_BYTES + most:
            raise ValueError
    head, _, body = got.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    words = status.split(" ", 2)
    if words[0] not in ("HTTP/1.1", "HTTP/1.0") or len(words) < 2 or not words[1].isdigit():
        raise ValueError
    pairs = (line.partition(":") for line in lines)
    fields = [(name.lower(), value.strip()) for name, _, value in pairs]
    if most:
        while piece := _piece(link, end):
            body += piece
            if len(body) > most:
                raise ValueError
        body = _whole(fields, body)
    return int(words[1]), fields, body


def _whole(fields: "list[tuple[str, str]]", body: bytes) -> bytes:
    """All of a body, out of what came until the connection was closed; ValueError when that is not all."""
    found = dict(fields)
    if "content-encoding" in found:
        raise ValueError
    if "transfer-encoding" not in found:
        if "content-length" in found and int(found["content-length"]) != len(body):
            raise ValueError
        return body
    parts: list[bytes] = []  # a body of many small ones is not to be copied for each
    at = 0
    while True:
        line = body.index(b"\r\n", at)
        count = int(body[at:line].partition(b";")[0], 16)
        if not count:
            return b"".join(parts)
        at = line + 2 + count
        if count < 0 or body[at : at + 2] != b"\r\n":
            raise ValueError
        parts.append(body[line + 2 : at])
        at += 2


def _piece(link: "Any", end: float) -> bytes:
    link.settimeout(_left(end))
    found: bytes = link.recv(1 << 14)
    return found


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


def _secured(link: "_socket.socket", host: str, folder: str, more: str, end: float, *, verify: bool) -> "Any":
    """TLS on a connection, checked as the full way checks it."""
    import socket

    from sandbox.registry import certificates

    context = certificates.context(folder, verify=verify, more=more)
    plain = socket.socket(link.family, link.type, link.proto, link.detach())
    plain.settimeout(_left(end))
    return context.wrap_socket(plain, server_hostname=host)
