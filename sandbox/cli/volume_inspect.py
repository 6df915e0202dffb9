"""`sbx volume inspect`: all that is known about volumes.  (cold)"""

from typing import Any

from sandbox.cli.rows import documents
from sandbox.cli.volume_ls import document
from sandbox.errors import SandboxError, UsageError, report
from sandbox.life import volumes


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """A JSON array, or each by --format; names that are not there are told."""
    if bool(operands) == opts["all"]:
        raise UsageError("read command line", "VOLUME", detail="name volumes, or give --all")
    found = [document(volume) for volume in volumes.everything()] if opts["all"] else []
    code = 0
    for name in operands:
        try:
            found.append(document(volumes.find(name)))
        except SandboxError as error:
            code = report(error)
    documents(found, opts["format"])
    return code
