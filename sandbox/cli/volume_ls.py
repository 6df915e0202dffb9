"""`sbx volume ls`: the volumes there are.  (cold)"""

from collections.abc import Callable
from typing import Any

from sandbox.cli.rows import table, templated
from sandbox.errors import SandboxError, printable
from sandbox.image import keyed
from sandbox.image.describe import json_text
from sandbox.life import volumes
from sandbox.life.volumes import Volume

FILTERS = ("dangling", "label", "name")


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
    """Those that pass the filters."""
    passes = keyed.parse(filters, FILTERS, _test)
    return [volume for volume in volumes.everything() if passes(volume)]


def _test(key: str, value: str) -> Callable[[Volume], bool]:
    if key == "name":
        return lambda volume: value in volume.name
    if key == "label":
        return lambda volume: keyed.has_label(volume.about.get("labels", {}), value)
    if value not in ("true", "false"):
        raise SandboxError("read filter", f"{key}={value}", detail="true or false is missing")
    return lambda volume: (not volume.users()) == (value == "true")


def document(volume: Volume) -> dict[str, Any]:
    """All that is known of it, with podman's keys."""
    import datetime

    created = datetime.datetime.fromtimestamp(volume.about.get("created", 0), datetime.UTC)
    return {
        "Name": volume.name, "Driver": "local", "Mountpoint": volume.data,
        "CreatedAt": created.isoformat().replace("+00:00", "Z"), "Labels": volume.about.get("labels", {}),
        "Scope": "local", "Options": {}, "Anonymous": bool(volume.about.get("anonymous")),
    }  # fmt: skip
