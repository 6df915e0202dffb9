"""`sbx secret ls`: the secrets there are, not what they say.  (cold)"""

import datetime
from typing import Any

from sandbox.cli.rows import table, templated
from sandbox.errors import printable
from sandbox.image.describe import json_text
from sandbox.life import rows, secrets


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One row for each."""
    found = secrets.everything()
    if opts["quiet"]:
        for record in found:
            print(printable(record["id"]))
        return 0
    if opts["format"] == "json":
        print(json_text([document(record) for record in found]))
        return 0
    now = datetime.datetime.now(datetime.UTC)
    cells = [
        {
            "ID": record["id"], "Name": record["name"], "Driver": "file",
            "CreatedAt": f"{rows.since(record['created'], now)} ago",
        }
        for record in found
    ]  # fmt: skip
    if opts["format"]:
        templated(opts["format"], cells)
    else:
        columns = (("ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("CREATED", "CreatedAt"))
        table(columns, cells, heading=not opts["noheading"])
    return 0


def document(record: dict[str, Any], *, show: bool = False) -> dict[str, Any]:
    """What is known of it, with podman's keys; with `show` what it says too."""
    created = datetime.datetime.fromtimestamp(record["created"], datetime.UTC).isoformat().replace("+00:00", "Z")
    found: dict[str, Any] = {
        "ID": record["id"], "CreatedAt": created, "UpdatedAt": created,
        "Spec": {"Name": record["name"], "Driver": {"Name": "file", "Options": {}}, "Labels": record["labels"]},
    }  # fmt: skip
    if show:
        found["SecretData"] = record["data"].decode("utf-8", "replace")
    return found
