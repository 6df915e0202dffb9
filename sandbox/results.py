"""How the result of a function comes back from a child process: one marshal record on a pipe.  (core, hot)"""

import marshal
import os
import sys

from sandbox import linux
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def send(channel: int, *record: "Any") -> None:
    """Write a record to the other end of a `linux.socketpair`, which may have gone: the next read finds out."""
    try:
        os.write(channel, marshal.dumps(record))
    except OSError:
        pass


def send_result(fd: int, function: "Callable[[], Any]") -> None:
    """Child side of a call across processes: ("ok", value) or ("error", SandboxError as tuple), by marshal."""
    try:
        record = ("ok", function())
    except SandboxError as error:
        record = ("error", error.as_tuple())
    except OSError as error:
        subject = str(error.filename or "")
        record = ("error", SandboxError.of("use file", subject, error).as_tuple())
    except BaseException as error:  # a traceback can not cross; its type and words can
        record = ("error", SandboxError("run step", "", detail=f"{type(error).__name__}: {error}").as_tuple())
        if os.environ.get("SBX_DEBUG"):
            sys.excepthook(type(error), error, error.__traceback__)
    payload = marshal.dumps(record)
    while payload:
        payload = payload[os.write(fd, payload) :]


def in_child(function: "Callable[[], Any]") -> "Any":
    """The result of `function`, of marshal's types, run in a child that dies with the caller."""
    read, write = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            send_result(write, function)
        finally:
            os._exit(0)
    os.close(write)
    try:
        return receive_result(read)
    finally:
        os.close(read)
        os.waitpid(child, 0)


def receive_result(fd: int) -> "Any":
    """Parent side: the value, or the SandboxError raised again; a child that died without a word is an error too."""
    chunks = []
    while chunk := os.read(fd, 1 << 16):
        chunks.append(chunk)
    if not chunks:
        raise SandboxError("run step", detail="its process died without an answer")
    kind, value = marshal.loads(b"".join(chunks))
    if kind == "error":
        raise SandboxError.from_tuple(value)
    return value
