"""`sbx history`: how an image was made.  (cold)"""

import datetime
from typing import Any

from sandbox.cli.rows import table, templated
from sandbox.image.describe import age, human_size, json_text, moment
from sandbox.image.store import Store
from sandbox.registry.local import find

_MISSING = "<missing>"
_COLUMNS = (
    ("ID", "ID"), ("CREATED", "Created"), ("CREATED BY", "CreatedBy"), ("SIZE", "Size"), ("COMMENT", "Comment"),
)  # fmt: skip


def _text(step: dict[str, Any], key: str) -> str:
    value = step.get(key)
    return value if isinstance(value, str) else ""


def _rows(store: Store, name: str) -> list[dict[str, Any]]:
    """Newest first; sizes are of the layers unpacked (blobs, where that is not known)."""
    stored = find(store, name)[0]
    image = store.image(stored)
    steps: list[dict[str, Any]] = image.config.document.get("history") or []
    layers = list(image.layers)
    full = sum(not step.get("empty_layer") for step in steps)
    nothing: dict[str, Any] = {}
    steps = [nothing] * max(0, len(layers) - full) + steps  # an image made without history
    rows = []
    for step in steps:
        layer = None if step.get("empty_layer") or not layers else layers.pop(0)
        rows.append(
            {
                "id": _MISSING,
                "created": _text(step, "created"),
                "CreatedBy": _text(step, "created_by"),
                "size": store.size_of(layer) if layer else 0,
                "comment": _text(step, "comment"),
                "tags": [],
            }
        )
    rows.reverse()
    if rows:
        rows[0]["id"], rows[0]["tags"] = image.id, list(stored.names)
    return rows


def _cells(row: dict[str, Any], *, full: bool, human: bool, now: datetime.datetime) -> dict[str, Any]:
    when = moment(row["created"])
    command = row["CreatedBy"]
    short = row["id"] if row["id"] == _MISSING else row["id"][:12]
    return {
        "ID": (row["id"] if row["id"] == _MISSING else f"sha256:{row['id']}") if full else short,
        "Created": age(when, now) if human else row["created"],
        "CreatedAt": row["created"],
        "CreatedSince": age(when, now),
        "CreatedBy": command if full or len(command) <= 45 else command[:42] + "...",
        "Size": human_size(row["size"]) if human else str(row["size"]),
        "Comment": row["comment"],
        "Tags": row["tags"],
    }


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One line for each step of the image's history, newest first."""
    rows = _rows(Store(), operands[0])
    template = opts["format"]
    if opts["json"] or template == "json":
        print(json_text(rows))
        return 0
    now = datetime.datetime.now(datetime.UTC)
    cells = [_cells(row, full=opts["no_trunc"], human=opts["human"] == "true", now=now) for row in rows]
    if opts["quiet"]:
        for cell in cells:
            print(cell["ID"])
    elif template:
        templated(template, cells, _COLUMNS)
    else:
        table(_COLUMNS, cells)
    return 0
