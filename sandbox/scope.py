"""A scope of the user's systemd, asked for over D-Bus: a control group that is ours.  (launch, hot with limits)

The few messages that takes, in the D-Bus specification's wire format: https://dbus.freedesktop.org/doc/dbus-specification.html
(message protocol, authentication); StartTransientUnit: org.freedesktop.systemd1(5).
"""

import _socket
import os
import time

from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATIENCE = 10.0  # seconds for systemd's answer, and for the scope to be there
_FIXED = 16  # bytes of a header before its fields
_LONGEST = 1 << 20
_RETURN, _ERROR = 2, 3
_ERROR_NAME, _REPLY_SERIAL = 4, 5
_NAME = "org.freedesktop.systemd1"
# (object, interface, destination)
_SYSTEMD = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", _NAME)
_PEER = ("/org/freedesktop/systemd1", "org.freedesktop.DBus.Peer", _NAME)
_BUS = ("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_found: "dict[tuple[str, ...], str]" = {}  # settings -> what `address` said to them


def address() -> str:
    """Where the caller's systemd answers: the path of its own socket, `bus:` and the path of a bus that it is on, or "".

    A cron job has no XDG_RUNTIME_DIR, but may have one.
    """
    uid = os.getuid()
    folders = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"] if uid else ["/run"]
    for folder in folders:
        path = f"{folder}/systemd/private"
        if folder.startswith("/") and os.path.exists(path):
            return path
    variable = os.environ.get("DBUS_SESSION_BUS_ADDRESS" if uid else "DBUS_SYSTEM_BUS_ADDRESS", "")
    key = (variable, *folders)
    if key not in _found:
        buses = [
            _socket_of(variable),
            *(f"{folder}/{'bus' if uid else 'dbus/system_bus_socket'}" for folder in folders),
        ]
        there = (path for path in buses if path[:1] == "\0" or (path[:1] == "/" and os.path.exists(path)))
        _found[key] = next((f"bus:{path}" for path in there if _is_on(path)), "")
    return _found[key]


def _socket_of(text: str) -> str:
    """The path (after a zero byte: the abstract name) of the first socket that a D-Bus address names; "" for none."""
    for one in text.split(";"):
        kind, _, pairs = one.partition(":")
        for key, _, value in (pair.partition("=") for pair in pairs.split(",")):
            if kind == "unix" and key in ("path", "abstract"):
                first, *rest = value.split("%")
                try:
                    plain = first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)
                except ValueError:
                    continue
                return plain if key == "path" else f"\0{plain}"
    return ""


def _is_on(path: str) -> bool:
    """Whether a systemd answers on this bus, which may just be starting: who asks by name waits for it."""
    try:
        sock = _connected(path, bus=True)
        try:
            sock.sendall(_call("Ping", "", b"", 2, _PEER))
            return not _answer(sock, 2)
        finally:
            sock.close()
    except (OSError, ValueError, IndexError):
        return False


class _Writer:
    """Marshals in little endian; each value at its alignment."""

    def __init__(self) -> None:
        self.data = bytearray()

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def number(self, value: int) -> None:
        self.align(4)
        self.data += value.to_bytes(4, "little")

    def text(self, value: str) -> None:
        encoded = value.encode("utf-8", "surrogateescape")
        self.number(len(encoded))
        self.data += encoded + b"\0"

    def signature(self, value: str) -> None:
        self.data += bytes((len(value),)) + value.encode() + b"\0"

    def begin(self, align: int) -> tuple[int, int]:
        """The length of an array, to be filled in by `end`; its elements are aligned so."""
        self.number(0)
        at = len(self.data)
        self.align(align)
        return at - 4, len(self.data)

    def end(self, mark: tuple[int, int]) -> None:
        at, start = mark
        self.data[at : at + 4] = (len(self.data) - start).to_bytes(4, "little")

    def variant(self, kind: str, value: "Any") -> None:
        self.signature(kind)
        if kind == "au":
            mark = self.begin(4)
            for number in value:
                self.number(number)
            self.end(mark)
        elif kind in ("u", "b"):
            self.number(int(value))
        else:
            self.text(value)


def _call(member: str, signature: str, body: bytes, serial: int, to: tuple[str, str, str] = _SYSTEMD) -> bytes:
    writer = _Writer()
    writer.data += b"l\1\0\1" + len(body).to_bytes(4, "little") + serial.to_bytes(4, "little")
    mark = writer.begin(8)
    for code, kind, value in (
        (1, "o", to[0]),
        (2, "s", to[1]),
        (3, "s", member),
        (6, "s", to[2]),
    ):
        writer.align(8)
        writer.data.append(code)
        writer.variant(kind, value)
    if signature:
        writer.align(8)
        writer.data.append(8)
        writer.signature("g")
        writer.signature(signature)
    writer.end(mark)
    writer.align(8)
    return bytes(writer.data) + body


def _transient(name: str, properties: "list[tuple[str, str, Any]]") -> bytes:
    """Body of StartTransientUnit: ssa(sv)a(sa(sv))."""
    writer = _Writer()
    writer.text(name)
    writer.text("fail")
    mark = writer.begin(8)
    for key, kind, value in properties:
        writer.align(8)
        writer.text(key)
        writer.variant(kind, value)
    writer.end(mark)
    writer.end(writer.begin(8))
    return bytes(writer.data)


def _fields(header: bytes) -> "dict[int, Any]":
    """The header fields of a message: code -> string or number."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(header):
        at += -at % 8
        code, length = header[at], header[at + 1]
        kind = header[at + 2 : at + 2 + length].decode("ascii")
        at += 3 + length
        if kind == "g":
            at += 2 + header[at]
            continue
        at += -at % 4
        number = int.from_bytes(header[at : at + 4], "little")
        at += 4
        if kind == "u":
            found[code] = number
        else:
            found[code] = header[at : at + number].decode("utf-8", "replace")
            at += number + 1
    return found


def _exactly(sock: "_socket.socket", count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise OSError(104, os.strerror(104))
        data += chunk
    return data


def _answer(sock: "_socket.socket", serial: int) -> str:
    """Wait for the answer to our message `serial`; "" for a good one, else what went wrong."""
    while True:
        fixed = _exactly(sock, _FIXED)
        if fixed[:1] != b"l":
            raise ValueError("a message in big endian")
        body, fields = (int.from_bytes(fixed[at : at + 4], "little") for at in (4, 12))
        if body > _LONGEST or fields > _LONGEST:
            raise ValueError("a message too long")
        rest = _exactly(sock, fields + -fields % 8 + body)
        known = _fields(rest[:fields])
        if known.get(_REPLY_SERIAL) != serial or fixed[1] not in (_RETURN, _ERROR):
            continue
        if fixed[1] == _RETURN:
            return ""
        text = rest[fields + -fields % 8 :]
        length = int.from_bytes(text[:4], "little")
        return text[4 : 4 + length].decode("utf-8", "replace") or str(known.get(_ERROR_NAME, "refused"))


def _connected(path: str, *, bus: bool) -> "_socket.socket":
    """A connection on which calls may be made; OSError, ValueError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    sock.settimeout(_PATIENCE)
    try:
        sock.connect(path)
        sock.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
        said = b""
        while not said.endswith(b"\r\n"):
            said += _exactly(sock, 1)
        if not said.startswith(b"OK "):
            raise OSError(13, os.strerror(13))
        if bus:
            sock.sendall(_call("Hello", "", b"", 1, _BUS))
            wrong = _answer(sock, 1)
            if wrong:
                raise ValueError(wrong)
    except BaseException:
        sock.close()
        raise
    return sock


def start(where: str, name: str, pid: int, slice_: str = "") -> str:
    """A delegated scope called `name` with process `pid` in it; the path of its group, from the root of all of them.

    `where`: see `address`.  SandboxError "start scope".
    """
    properties: list[tuple[str, str, Any]] = [
        ("Description", "s", "container of sbx"),
        ("PIDs", "au", [pid]),
        ("Delegate", "b", True),
        ("CollectMode", "s", "inactive-or-failed"),
    ]
    if slice_ and not slice_.endswith(".slice"):
        raise SandboxError(
            "read --cgroup-parent", slice_, 22, hint="systemd makes the group: a slice, such as build.slice"
        )
    if slice_:
        properties.append(("Slice", "s", slice_))
    path = where.removeprefix("bus:")
    sock = None
    try:
        sock = _connected(path, bus=path != where)
        sock.sendall(_call("StartTransientUnit", "ssa(sv)a(sa(sv))", _transient(name, properties), 2))
        wrong = _answer(sock, 2)
    except TimeoutError:
        wrong = f"no answer within {_PATIENCE:.0f} s"
    except OSError as error:
        raise SandboxError.of("start scope", path.replace("\0", "@"), error) from None
    except (ValueError, IndexError) as error:
        wrong = f"not D-Bus: {error}"
    finally:
        if sock:
            sock.close()
    if wrong:
        raise SandboxError("start scope", name, detail=f"systemd: {wrong}")
    return _arrived(name, pid)


def _arrived(name: str, pid: int) -> str:
    """Wait until `pid` is in the scope: the last that systemd does for it."""
    end = time.monotonic() + _PATIENCE
    pause = 0.001
    while time.monotonic() < end:
        with open(f"/proc/{pid}/cgroup", "rb", buffering=0) as file:
            for line in file.read().decode("utf-8", "surrogateescape").split("\n"):
                if line.startswith("0::") and line.endswith(f"/{name}"):
                    return line[3:]
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    raise SandboxError("start scope", name, detail="systemd has not moved the container into it")
