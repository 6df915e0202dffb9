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

    from sandbox.image.describe import age, human_size, moment, repo_digests_of

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
                "RepoTags": row["names"],
                "RepoDigests": repo_digests_of(row["names"], row["digest"]),
                "History": row["names"],
                "Labels": row["labels"],
                "Dangling": not row["names"],
                "ReadOnly": False,
                "Containers": 0,
                "ParentId": "",
            }
        )
    return found


def _json(rows: list[Row]) -> str:
    """One object per image, with podman's keys."""
    from sandbox.image.describe import json_text, moment, repo_digests_of

    images = []
    for row in rows:
        when = moment(row["created"])
        images.append(
            {
                "Id": row["id"],
                "Names": row["names"],
                "RepoTags": row["names"],
                "RepoDigests": repo_digests_of(row["names"], row["digest"]),
                "Digest": row["digest"],
                "Created": int(when.timestamp()) if when else 0,
                "CreatedAt": when.isoformat() if when else "",
                "Size": row["bytes"],
                "Labels": row["labels"],
                "Dangling": not row["names"],
            }
        )
    return json_text(images)


def _wanted(row: Row, text: str) -> list[str]:
    """The names that an operand matches: a repository or a full name, short or long; or a pattern."""
    from sandbox.image import reference
    from sandbox.image.filters import matches

    if any(letter in text for letter in "*?["):
        return [name for name in row["names"] if matches(name, text)]
    full = reference.candidates(text)
    tagged = bool(reference.parse(text).tag)
    return [
        name for name in row["names"]
        if any(name == str(ref) or (not tagged and repository_and_tag(name)[0] == ref.repository) for ref in full)
    ]  # fmt: skip


def _chosen(opts: dict[str, Any], operands: list[str]) -> list[Row]:
    """The rows that operand and filters leave, in the wanted order."""
    rows = listing.rows()
    test = None
    if opts["filter"]:
        from sandbox.image import filters

        test = filters.parse(opts["filter"], rows)
    found = []
    for row in rows:
        if test and not test(row):
            continue
        names = _wanted(row, operands[0]) if operands else row["names"]
        if names or (not operands and (opts["all"] or test)):
            found.append({**row, "names": names})
    return _sorted(found, opts["sort"])


def _sorted(rows: list[Row], key: str) -> list[Row]:
    if key == "size":
        return sorted(rows, key=lambda row: int(row["bytes"]))
    if key == "id":
        return sorted(rows, key=lambda row: str(row["id"]))
    if key in ("repository", "tag"):
        part = 0 if key == "repository" else 1
        single = [{**row, "names": [name] if name else []} for row in rows for name in row["names"] or [""]]
        return sorted(single, key=lambda row: repository_and_tag((row["names"] or [""])[0])[part])
    return rows  # as they came


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """List images, newest last; a broken one is told on stderr and does not hide the others."""
    rows = _chosen(opts, operands)
    template = opts["format"]
    if opts["json"] or template == "json":
        print(_json(rows))
    elif opts["quiet"]:
        for image_id in dict.fromkeys(row["id"] for row in rows):
            print(f"sha256:{image_id}" if opts["no_trunc"] else image_id[:12])
    elif template:
        from sandbox.cli.rows import templated

        templated(template, [cell for row in rows for cell in _cells(row, full=opts["no_trunc"])])
    else:
        from sandbox.cli.rows import table

        columns = tuple(column for column in _COLUMNS if opts["digests"] or column[1] != "Digest")
        cells = [cell for row in rows for cell in _cells(row, full=opts["no_trunc"])]
        table(columns, cells, heading=not opts["noheading"])
    return 0
