"""Published ports: `-p`, whether they can be had, and how slirp4netns and pasta are told.  (mechanism, hot)

Loaded only where ports are published.  In the spec they are the lines `PROTOCOL IP HOST CONTAINER` of dev.sbx.ports.
"""

import _socket
import os

from sandbox.errors import EACCES, EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Port = tuple[str, str, int, int]

EADDRINUSE, EADDRNOTAVAIL = 98, 99
API = "network.api"
_FORM = "the form is [IP:][HOST:]CONTAINER[/tcp|udp], ports or ranges as 8000-8010"
_ANY = "0.0.0.0"
_KINDS = {"tcp": _socket.SOCK_STREAM, "udp": _socket.SOCK_DGRAM}
_LIMIT = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


def parse(texts: "Iterable[str]", exposed: "Iterable[str]") -> "list[Port]":
    """(protocol, address, port of the host, port of the container) of each `-p`, and of all that is exposed (-P)."""
    found: list[Port] = []
    for text in texts:
        found += _one(text)
    known = {(protocol, inside) for protocol, _, _, inside in found}
    for text in exposed:
        for protocol, ip, _, inside in _one(text):
            if (protocol, inside) not in known:
                found.append((protocol, ip, 0, inside))
    taken: set[tuple[str, str, int]] = set()
    given: list[Port] = []
    for protocol, ip, wanted, inside in found:
        outside = wanted or _free(protocol, ip, taken)
        if (protocol, ip, outside) in taken:
            raise SandboxError("publish port", f"{ip}:{outside}", EINVAL, detail="it is given twice")
        taken.add((protocol, ip, outside))
        given.append((protocol, ip, outside, inside))
    return given


def _one(text: str) -> "list[Port]":
    words, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    if words.startswith("["):
        raise SandboxError("read --publish", text, EINVAL, detail="only IPv4 addresses can be published on")
    fields = words.split(":")
    if protocol not in _KINDS or len(fields) > 3:
        raise SandboxError("read --publish", text, EINVAL, hint=_FORM)
    inside = _range(fields[-1], text)
    ip = fields[0] if len(fields) == 3 else ""
    host = fields[-2] if len(fields) > 1 else ""
    try:
        _socket.inet_pton(_socket.AF_INET, ip or _ANY)
    except OSError:
        raise SandboxError("read --publish", text, EINVAL, detail=f"`{ip}` is no IPv4 address", hint=_FORM) from None
    outside = _range(host, text) if host else [0] * len(inside)
    if len(inside) == 1 and len(outside) > 1:  # any one of a range
        outside = [next((port for port in outside if _is_free(protocol, ip or _ANY, port)), outside[0])]
    if len(inside) != len(outside):
        raise SandboxError("read --publish", text, EINVAL, detail="the ranges are not of one length", hint=_FORM)
    return [(protocol, ip or _ANY, *pair) for pair in zip(outside, inside)]


def _range(text: str, whole: str) -> list[int]:
    first, dash, last = text.partition("-")
    for word in (first, last) if dash else (first,):
        if not (word.isascii() and word.isdecimal() and len(word) <= 5 and 0 < int(word) < 65536):
            raise SandboxError("read --publish", whole, EINVAL, detail=f"`{word}` is no port", hint=_FORM)
    ports = list(range(int(first), int(last or first) + 1))
    if not ports:
        raise SandboxError("read --publish", whole, EINVAL, detail="the range is empty", hint=_FORM)
    return ports


def _bind(protocol: str, ip: str, port: int) -> int:
    """Listen there for an instant, as the helper will; the port that it was.  OSError when it can not be."""
    sock = _socket.socket(_socket.AF_INET, _KINDS[protocol] | _socket.SOCK_CLOEXEC)
    try:
        if protocol == "tcp":
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        if protocol == "tcp":
            sock.listen(1)
        return int(sock.getsockname()[1])
    finally:
        sock.close()


def _is_free(protocol: str, ip: str, port: int) -> bool:
    try:
        return _bind(protocol, ip, port) == port
    except OSError:
        return False


def _free(protocol: str, ip: str, taken: "set[tuple[str, str, int]]") -> int:
    try:
        while True:
            port = _bind(protocol, ip, 0)
            if (protocol, ip, port) not in taken:
                return port
    except OSError as error:
        raise SandboxError.of("publish port", ip, error) from None


def text(ports: "Iterable[Port]") -> str:
    """As the annotation has them."""
    return "\n".join(" ".join(map(str, port)) for port in ports)


def read(annotation: str) -> "list[Port]":
    """The other way."""
    found = []
    for line in annotation.split("\n"):
        if line:
            protocol, ip, outside, inside = line.split(" ")
            found.append((protocol, ip, int(outside), int(inside)))
    return found


def rows(annotation: str) -> "list[dict[str, Any]]":
    """As `about` has them."""
    return [{"container": i, "protocol": p, "ip": ip, "host": o} for p, ip, o, i in read(annotation)]


def check(ports: "Iterable[Port]") -> None:
    """SandboxError for the first one that can not be had."""
    for protocol, ip, outside, _ in ports:
        try:
            _bind(protocol, ip, outside)
        except OSError as error:
            raise _refused(f"{ip}:{outside}/{protocol}", outside, error.errno or 0) from None


def _refused(subject: str, port: int, errno: int) -> SandboxError:
    if errno == EACCES:
        limit = "1024"
        try:
            with open(_LIMIT, encoding="ascii") as file:
                limit = file.read().strip()
        except OSError:
            pass
        return SandboxError(
            "publish port", subject, errno, detail=f"ports below {limit} are for root, which the network helper is not",
            hint=f"publish one of {limit} and above, or `sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`",
        )  # fmt: skip
    hint = (
        "`ss -lntup` says who has it; without a number for the host a free one is taken" if errno == EADDRINUSE else ""
    )
    if errno == EADDRNOTAVAIL:
        hint = "`ip address` lists the addresses of this machine"
    return SandboxError("publish port", subject, errno, hint=hint)


def pasta_arguments(ports: "Iterable[Port]") -> list[str]:
    """What pasta is told; `none` for a protocol without any."""
    found = []
    for flag, protocol in (("-t", "tcp"), ("-u", "udp")):
        specs = [f"{ip}/{outside}:{inside}" for kind, ip, outside, inside in ports if kind == protocol]
        for spec in specs or ["none"]:
            found += [flag, spec]
    return found


def forward(ports: "Iterable[Port]", guest: str) -> None:
    """Tell slirp4netns, by its socket in the working directory; its words are JSON."""
    for protocol, ip, outside, inside in ports:
        request = (
            f'{{"execute":"add_hostfwd","arguments":{{"proto":"{protocol}","host_addr":"{ip}","host_port":{outside},'
            f'"guest_addr":"{guest}","guest_port":{inside}}}}}'
        )
        answer = b""
        try:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            sock.connect(API)
            sock.sendall(request.encode())
            sock.shutdown(_socket.SHUT_WR)
            while piece := sock.recv(4096):
                answer += piece
            sock.close()
        except OSError as error:
            raise SandboxError.of("publish port", f"{ip}:{outside}/{protocol}", error) from None
        if b'"error"' in answer or b'"return"' not in answer:
            said = answer.decode("utf-8", "replace").strip()
            raise SandboxError("publish port", f"{ip}:{outside}/{protocol}", detail=f"slirp4netns says {said}")


def remove_socket() -> None:
    """Of an earlier start."""
    try:
        os.unlink(API)
    except FileNotFoundError:
        pass
