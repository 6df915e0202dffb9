"""What is said when a command has ended: calls that the filter refused, and `--report FILE`.  (front, hot)"""

import os

from sandbox import cold
from sandbox.errors import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandbox.containers import Container


def give(
    spec: "dict[str, Any]", container: "Container", command: "list[str]", status: int, opts: "dict[str, Any]"
) -> None:
    """Say on standard error what was refused (see refusals.py); write the report that was asked for."""
    name, _, seccomp = spec["annotations"]["dev.sbx.profile"].partition("|")
    if opts["report"]:
        about = {
            "id": container.id, "command": list(command), "exit_code": status, "reason": container.reason,
            "isolation": container.isolation,
        }  # fmt: skip
        path = os.path.abspath(opts["report"])
        cold.call("sandbox.profile.refused:report", name, seccomp, container.refused, about, path)
    if container.reason and not opts.get("quiet"):
        tell(container.reason)
    if container.refused and not opts.get("quiet"):
        for line in cold.call("sandbox.profile.refused:lines", name, seccomp, container.refused):
            tell(line)
