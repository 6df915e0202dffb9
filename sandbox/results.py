"""How the result of a function comes back from a child process: one marshal record on a pipe.  (core, hot)"""

import marshal
import os
import sys

from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


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
