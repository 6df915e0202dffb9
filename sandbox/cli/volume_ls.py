"""`sbx volume ls`: the volumes there are.  (cold)"""

from typing import Any

from sandbox.cli.rows import table, templated
from sandbox.errors import UsageError, printable
from sandbox.image.describe import json_text
from sandbox.image.keyed import has_label
from sandbox.life import volumes
from sandbox.life.volumes import Volume


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One row for each."""
    found = chosen(opts["filter"])
    if opts["quiet"]:
        for volume in found:
            print(printable(volume.name))
        return 0
    if opts["json"] or opts["format"] == "json":
        print(json_text([document(volume) for volume in found]))
        return 0
    cells = [document(volume) for volume in found]
    if opts["format"]:
        templated(opts["format"], cells)
    else:
        table((("DRIVER", "Driver"), ("VOLUME NAME", "Name")), cells, heading=not opts["noheading"])
    return 0


def chosen(filters: list[str]) -> list[Volume]:
    """Those that pass all filters; UsageError for one that is not known."""
    found = volumes.everything()
    for text in filters:
        key, _, value = text.partition("=")
        if key == "name":
            found = [volume for volume in found if value in volume.name]
        elif key == "label":
            found = [volume for volume in found if has_label(volume.about.get("labels", {}), value)]
        elif key == "dangling" and value in ("true", "false"):
            found = [volume for volume in found if (not volume.users()) == (value == "true")]
        else:
            raise UsageError("read --filter", text, detail="no such filter", hint="name=, label=, dangling=true|false")
    return found


def document(volume: Volume) -> dict[str, Any]:
    """All that is known of it, with podman's keys."""
    import datetime

    created = datetime.datetime.fromtimestamp(volume.about.get("created", 0), datetime.UTC)
    return {
        "Name": volume.name, "Driver": "local", "Mountpoint": volume.data,
        "CreatedAt": created.isoformat().replace("+00:00", "Z"), "Labels": volume.about.get("labels", {}),
        "Scope": "local", "Options": {}, "Anonymous": bool(volume.about.get("anonymous")),
    }  # fmt: skip
