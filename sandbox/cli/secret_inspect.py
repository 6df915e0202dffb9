"""`sbx secret inspect`: what is known about secrets.  (cold)"""

from typing import Any

from sandbox.cli.rows import documents
from sandbox.cli.secret_ls import document
from sandbox.errors import SandboxError, report
from sandbox.life import secrets


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """A JSON array, or each by --format; names that are not there are told."""
    found = []
    code = 0
    for word in operands:
        try:
            found.append(document(secrets.find(word), show=opts["showsecret"]))
        except SandboxError as error:
            code = report(error)
    documents(found, opts["format"])
    return code
