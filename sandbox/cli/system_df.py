"""`sbx system df`: what the store takes on disk.  (cold)"""

from typing import Any

from sandbox import state
from sandbox.cli.rows import table, templated
from sandbox.image import listing
from sandbox.image.describe import human_size, json_text
from sandbox.image.prune import held
from sandbox.image.store import Store
from sandbox.image.usage import per_image, whole
from sandbox.life import volumes

_COLUMNS = (
    ("TYPE", "Type"), ("TOTAL", "Total"), ("ACTIVE", "Active"), ("SIZE", "Size"), ("RECLAIMABLE", "Reclaimable"),
)  # fmt: skip
_OF_IMAGES = (
    ("REPOSITORY", "Repository"), ("TAG", "Tag"), ("IMAGE ID", "ID"), ("SIZE", "Size"), ("SHARED SIZE", "SharedSize"),
    ("UNIQUE SIZE", "UniqueSize"), ("CONTAINERS", "Containers"),
)  # fmt: skip
_OF_VOLUMES = (("VOLUME NAME", "Name"), ("LINKS", "Links"), ("SIZE", "Size"))
_OF_CONTAINERS = (("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("SIZE", "Size"), ("STATUS", "Status"))


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """One row for each kind of thing; together they are what du says of the store."""
    store = Store()
    found = {f"volumes/{volume.name}": len(volume.users()) for volume in volumes.everything()}
    parts, rest = whole(store)
    images = per_image(store, parts)
    made_from = list(store.made_from().values())
    for image in images:
        image["containers"] = sum(made_from.count(image_id) for image_id in store.ids_of(image["stored"]))
    containers = [
        state.Known(f"{store.root}/containers", path[11:]) for path in parts if path.startswith("containers/")
    ]
    # Of an image that was removed by force, containers keep what they need.
    layers = held(store) | {name.partition(".")[0] for name in store.pinned()}
    used = {path for path in parts if path.startswith("layers/") and path[7:].partition(".")[0] in layers}
    rows = _rows(parts, rest, images, containers, found, used)
    template = opts["format"]
    if opts["verbose"]:
        _verbose(parts, images, containers, found)
    elif template == "json":
        print(json_text(rows))
    elif template:
        templated(template, rows, _COLUMNS)
    else:
        table(_COLUMNS, rows)
    return 0


def _row(kind: str, total: int, active: int, size: int, free: int) -> dict[str, Any]:
    share = f" ({100 * free // size}%)" if size else " (0%)"
    return {
        "Type": kind, "Total": total, "Active": active, "RawSize": size, "RawReclaimable": free,
        "Size": human_size(size), "Reclaimable": human_size(free) + share,
    }  # fmt: skip


def _rows(
    parts: dict[str, int], rest: int, images: list[dict[str, Any]], containers: list[state.Known], users: dict[str, int],
    used: set[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """`used` are parts that containers need, whether there is an image or not."""
    of_images = {path: size for path, size in parts.items() if path.startswith(("blobs/", "layers/"))}
    needed = set().union(*(image["parts"] for image in images if image["containers"])) | used
    lives = {f"containers/{known.id}" for known in containers if known.lives}
    boxes = {path: size for path, size in parts.items() if path.startswith("containers/")}
    kept = {path: size for path, size in parts.items() if path.startswith("volumes/")}
    return [
        _row(
            "Images", len(images), sum(bool(image["containers"]) for image in images), sum(of_images.values()),
            sum(size for path, size in of_images.items() if path not in needed),
        ),
        _row(
            "Containers", len(boxes), len(lives), sum(boxes.values()),
            sum(size for path, size in boxes.items() if path not in lives),
        ),
        _row(
            "Local Volumes", len(kept), sum(bool(users.get(path)) for path in kept), sum(kept.values()),
            sum(size for path, size in kept.items() if not users.get(path)),
        ),
        _row("Store", 1, 1, rest, 0),
    ]  # fmt: skip


def _verbose(
    parts: dict[str, int], images: list[dict[str, Any]], containers: list[state.Known], users: dict[str, int]
) -> None:
    ids = {row["digest"]: row["id"] for row in listing.rows()}
    cells = []
    for image in images:
        others = set().union(*(other["parts"] for other in images if other is not image))
        size = sum(parts[path] for path in image["parts"])
        shared = sum(parts[path] for path in image["parts"] & others)
        for name in image["names"] or [""]:
            repository, tag = listing.repository_and_tag(name)
            cells.append(
                {
                    "Repository": repository or "<none>", "Tag": tag or "<none>",
                    "ID": ids.get(image["digest"], "")[:12], "Size": human_size(size), "SharedSize": human_size(shared),
                    "UniqueSize": human_size(size - shared), "Containers": image["containers"],
                }
            )  # fmt: skip
    print("Images space usage:\n")
    table(_OF_IMAGES, cells)
    print("\nContainers space usage:\n")
    boxes = [
        {
            "ID": known.id[:12], "Image": known.about.get("image", ""), "Status": "running" if known.lives else "ended",
            "Size": human_size(parts[f"containers/{known.id}"]),
        }
        for known in containers
    ]  # fmt: skip
    table(_OF_CONTAINERS, boxes)
    print("\nLocal Volumes space usage:\n")
    kept = [
        {"Name": path.partition("/")[2], "Links": str(count), "Size": human_size(parts[path])}
        for path, count in users.items() if path in parts
    ]  # fmt: skip
    table(_OF_VOLUMES, kept)
