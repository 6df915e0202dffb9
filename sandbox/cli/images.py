"""`sbx images`: what is in the store.  (cold)"""

from typing import Any

from sandbox.image import listing
from sandbox.image.listing import Row, repository_and_tag

_NONE = "<none>"
_COLUMNS = (
    ("REPOSITORY", "Repository"), ("TAG", "Tag"), ("DIGEST", "Digest"), ("IMAGE ID", "ID"), ("CREATED", "Created"),
    ("SIZE", "Size"),
)  # fmt: skip


def _cells(row: Row, *, full: bool) -> list[dict[str, Any]]:
    """One for each name, with the fields that templates may use."""
    import datetime

    from sandbox.image.describe import age, human_size, moment, repo_digests_of, tags_of

    now = datetime.datetime.now(datetime.UTC)
    created = moment(row["created"])
    found = []
    for name in row["names"] or [""]:
        repository, tag = repository_and_tag(name)
        found.append(
            {
                "Repository": repository or _NONE,
                "Tag": tag or _NONE,
                "ID": f"sha256:{row['id']}" if full else row["id"][:12],
                "Id": row["id"],
                "Digest": row["digest"],
                "Size": human_size(row["bytes"]),
                "VirtualSize": human_size(row["bytes"]),
                "Created": age(created, now),
                "CreatedSince": age(created, now),
                "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S %z UTC") if created else "",
                "CreatedTime": row["created"],
                "Names": row["names"],
                "RepoTags": tags_of(row["names"]),
                "RepoDigests": repo_digests_of(row["names"], row["digest"]),
                "History": row["names"],
                "Labels": row["labels"],
                "Dangling": not row["names"],
                "ReadOnly": False,
                "Containers": row.get("containers", 0),
                "ParentId": "",
            }
        )
    return found


def _json(rows: list[Row]) -> str:
    """One object per image, with podman's keys."""
    from sandbox.image.describe import json_text, moment, repo_digests_of, tags_of

    images = []
    for row in rows:
        when = moment(row["created"])
        images.append(
            {
                "Id": row["id"],
                "ParentId": "",
                "Names": row["names"],
                "History": row["names"],
                "RepoTags": tags_of(row["names"]),
                "RepoDigests": repo_digests_of(row["names"], row["digest"]),
                "Digest": row["digest"],
                "Created": int(when.timestamp()) if when else 0,
                "CreatedAt": when.strftime("%Y-%m-%dT%H:%M:%SZ") if when else "",
                "Size": row["bytes"],
                "VirtualSize": row["bytes"],
                "SharedSize": 0,
                "Containers": row["containers"],
                "Labels": row["labels"],
                "Dangling": not row["names"],
            }
        )
    return json_text(images)


def _counted(rows: list[Row]) -> list[Row]:
    """With how many containers are made from each."""
    from sandbox.life.chosen import all_known

    ids = [known.about.get("image_id", "") for known in all_known()]
    return [{**row, "containers": ids.count(row["id"])} for row in rows]


def _chosen(opts: dict[str, Any], operands: list[str]) -> list[Row]:
    """The rows that operand and filters leave, in the wanted order."""
    rows = listing.rows()
    test = known = None
    if opts["filter"] or operands:
        from sandbox.image import filters
        from sandbox.registry.local import short_names

        test = filters.parse(opts["filter"], rows, meanings=short_names) if opts["filter"] else None
        known = filters.Named(operands[0], short_names) if operands else None
    rows = [row for row in rows if not test or test(row)]
    if known:
        named = [{**row, "names": names} for row in rows if (names := known.names(row))]
        rows = named or [row for row in rows if known.by_id(row)]
    return _sorted(rows, opts["sort"])


def _sorted(rows: list[Row], key: str) -> list[Row]:
    if key == "size":
        return sorted(rows, key=lambda row: int(row["bytes"]))
    if key == "id":
        return sorted(rows, key=lambda row: str(row["id"]))
    if key in ("repository", "tag"):
        part = 0 if key == "repository" else 1
        single = [{**row, "names": [name] if name else []} for row in rows for name in row["names"] or [""]]
        return sorted(single, key=lambda row: repository_and_tag((row["names"] or [""])[0])[part])
    from sandbox.image.filters import created

    return sorted(rows, key=created, reverse=True)


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """List images, newest first; a broken one is told on stderr and does not hide the others."""
    rows = _chosen(opts, operands)
    template = opts["format"]
    if opts["json"] or template == "json":
        print(_json(_counted(rows)))
    elif opts["quiet"]:
        for image_id in dict.fromkeys(row["id"] for row in rows):
            print(f"sha256:{image_id}" if opts["no_trunc"] else image_id[:12])
    elif template:
        from sandbox.cli.rows import templated

        rows = _counted(rows) if ".Containers" in template else rows
        cells = [cell for row in rows for cell in _cells(row, full=opts["no_trunc"])]
        templated(template, cells, _COLUMNS, heading=not opts["noheading"])
    else:
        from sandbox.cli.rows import table

        columns = tuple(column for column in _COLUMNS if opts["digests"] or column[1] != "Digest")
        rows = _counted(rows) if ".Containers" in template else rows
        cells = [cell for row in rows for cell in _cells(row, full=opts["no_trunc"])]
        table(columns, cells, heading=not opts["noheading"])
    return 0
