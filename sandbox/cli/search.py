"""`sbx search`: which repositories a registry has.  (cold)"""

from typing import Any

from sandbox.cli.rows import table, templated
from sandbox.errors import SandboxError
from sandbox.image import reference
from sandbox.image.describe import json_text
from sandbox.registry.access import Access
from sandbox.registry.client import Client
from sandbox.registry.login import search

_COLUMNS = (("NAME", "Name"), ("DESCRIPTION", "Description"))
_TAG_COLUMNS = (("NAME", "Name"), ("TAG", "Tag"))
_SHORT = 44  # characters of a description


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) <= 10000:
        raise SandboxError("search", text, detail="--limit is a number from 1 to 10000")
    return int(text)


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print what is found; with --list-tags the tags of one repository."""
    limit = _limit(opts["limit"])
    access = Access(opts["tls_verify"], opts["authfile"], opts["creds"], opts["cert_dir"])
    rows: list[dict[str, Any]]
    if opts["list_tags"]:
        ref = reference.normal(operands[0], "docker.io")
        with Client(ref, access) as client:
            rows = [{"Name": ref.repository, "Tag": tag} for tag in client.tags()[:limit]]
        columns = _TAG_COLUMNS
    else:
        rows = search(operands[0], limit, access)
        columns = _COLUMNS
        for row in rows:
            about = " ".join(row["Description"].split())
            row["Description"] = about if opts["no_trunc"] or len(about) <= _SHORT else about[: _SHORT - 3] + "..."
    template = opts["format"]
    if template == "json":
        print(json_text(rows))
    elif template:
        templated(template, rows, columns)
    elif rows:
        table(columns, rows)
    return 0
