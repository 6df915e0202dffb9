"""Records with descriptors over the keeper's socket, both sides.  (launch, hot)

One SOCK_SEQPACKET message is one marshal record (kind, value) and the descriptors that go with it.  A record too long for
a message travels in a memfd, the first of the descriptors then.
"""

import _socket
import marshal
import os
import sys

from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "control"
# One chunk of output and what marshal puts around it, well below what a socket's buffer takes (net.core.wmem_default)
_LONGEST = (1 << 16) + 1024
_INT = 4
_MOST_FDS = 200  # SCM_MAX_FD is 253
_NOT_THERE = (2, 111)  # ENOENT, ECONNREFUSED


def listen() -> "_socket.socket":
    """A socket `control` in the working directory: its path may be too long for an address."""
    try:
        os.unlink(NAME)
    except FileNotFoundError:
        pass
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    sock.bind(NAME)
    sock.listen(128)
    return sock


def connect(directory: str) -> "_socket.socket":
    """To the keeper of the container in `directory`; SandboxError "reach container" when it is not running."""
    try:
        folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
            sock.connect(f"/proc/self/fd/{folder}/{NAME}")
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise SandboxError(
                "reach container", directory.rpartition("/")[2][:12], detail="it is not running",
                hint="`sbx start` starts it again; `sbx ps -a` lists all containers",
            ) from None  # fmt: skip
        raise SandboxError.of("reach container", directory, error) from None
    return sock


def send(sock: "_socket.socket", kind: str, value: "Any", fds: "list[int] | tuple[int, ...]" = ()) -> None:
    """Send one record; OSError (BlockingIOError on a socket that does not wait)."""
    data = marshal.dumps((kind, value))
    if len(data) <= _LONGEST:
        _send(sock, data, fds)
        return
    memory = os.memfd_create("record", os.MFD_CLOEXEC)
    try:
        while data:
            data = data[os.write(memory, data) :]
        _send(sock, marshal.dumps(("long", None)), [memory, *fds])
    finally:
        os.close(memory)


def ask(sock: "_socket.socket", kind: str, value: "Any", fds: "list[int] | tuple[int, ...]" = ()) -> None:
    """Send a client's request; of a keeper that has just gone `receive` tells."""
    try:
        send(sock, kind, value, fds)
    except (BrokenPipeError, ConnectionResetError):
        pass


def _send(sock: "_socket.socket", data: bytes, fds: "list[int] | tuple[int, ...]") -> None:
    ancillary = (
        [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, b"".join(fd.to_bytes(_INT, sys.byteorder) for fd in fds))]
        if fds
        else []
    )
    sock.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)


def receive(sock: "_socket.socket") -> "tuple[str, Any, list[int]]":
    """(kind, value, descriptors) of the next record; ("", None, []) at the end.  OSError, ValueError for rubbish."""
    try:
        data, ancillary, flags, _ = sock.recvmsg(
            _LONGEST, _socket.CMSG_SPACE(_INT * _MOST_FDS), _socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return "", None, []
    numbers: list[int] = []
    for level, kind_of, content in ancillary:
        if (level, kind_of) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            numbers += [int.from_bytes(content[i : i + _INT], sys.byteorder) for i in range(0, len(content), _INT)]
    try:
        if not data:
            return "", None, numbers
        if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
            raise ValueError("record too long")
        kind, value = marshal.loads(data)
        if kind == "long":
            kind, value = _long(numbers.pop(0))
    except (ValueError, EOFError, TypeError, IndexError) as error:
        for fd in numbers:
            os.close(fd)
        raise ValueError(str(error)) from None
    return kind, value, numbers


def _long(memory: int) -> "Any":
    with open(memory, "rb", buffering=0) as file:
        file.seek(0)
        return marshal.loads(file.read())


def peer(sock: "_socket.socket") -> int:
    """Pid of who has connected, as our pid namespace numbers it: 0 for a process that is in none of its processes' sight."""
    credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder, signed=True)
