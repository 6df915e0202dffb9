"""What a container has that lives on: it is looked at, and started, again.  (front, hot with --name, -d)"""

import os

from sandbox import values
from sandbox.errors import EINVAL, ENOENT, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Options = dict[str, Any]


def apply(spec: "dict[str, Any]", opts: "Options") -> None:
    """Write its log and its end into the annotations; --rm says not to keep it."""
    annotations = spec["annotations"]
    annotations["dev.sbx.log"] = _log(opts)
    if not opts["rm"]:
        annotations["dev.sbx.keep"] = "1"
    if not opts["detach"]:
        annotations["dev.sbx.awaited"] = "1"


def _log(opts: "Options") -> str:
    """Driver and most bytes of the log, as the annotation wants them."""
    most = 0
    for text in opts["log_opt"]:
        name, equals, value = text.partition("=")
        if name != "max-size" or not equals:
            raise SandboxError("read --log-opt", text, EINVAL, detail="no such option", hint="max-size=SIZE")
        most = values.size(value, "--log-opt")
    if opts["log_driver"] == "journald":
        from sandbox import journal

        if most:
            raise SandboxError("read --log-opt", "max-size", EINVAL, detail="the journal has a limit of its own")
        if not os.path.exists(journal.SOCKET):
            raise SandboxError(
                "open journal",
                journal.SOCKET,
                ENOENT,
                "no systemd-journald runs here",
                "--log-driver k8s-file keeps a file",
            )
        return "journald:"
    return f"none:{most}" if opts["log_driver"] == "none" else f"k8s-file:{most or ''}"
