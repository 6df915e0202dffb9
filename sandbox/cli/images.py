"""`sbx images`: what is in the store.  (cold)"""

import contextlib
import datetime
from typing import Any

from sandbox.errors import SandboxError, printable, tell
from sandbox.image import reference
from sandbox.image.describe import age, human_size, json_text, moment, repo_digests, show, size_of
from sandbox.image.goformat import render
from sandbox.image.store import Store, Stored, repository

_NONE = "<none>"
_COLUMNS = (
    ("REPOSITORY", "Repository"), ("TAG", "Tag"), ("DIGEST", "Digest"), ("IMAGE ID", "ID"), ("CREATED", "Created"),
    ("SIZE", "Size"),
)  # fmt: skip


def _rows(store: Store, stored: Stored, now: datetime.datetime, *, full: bool) -> list[dict[str, Any]]:
    """One row per name, with the fields that templates may use."""
    image = store.image(stored)
    created = moment(image.config.created)
    size = size_of(stored, image)
    rows = []
    for name in stored.names or [""]:
        repository, tag = name or _NONE, _NONE
        with contextlib.suppress(SandboxError):
            ref = reference.parse(name)
            repository, tag = ref.repository, ref.tag or _NONE
        rows.append(
            {
                "Repository": repository,
                "Tag": tag,
                "ID": f"sha256:{image.id}" if full else image.id[:12],
                "Id": image.id,
                "Digest": stored.entry.digest,
                "Size": human_size(size),
                "Created": age(created, now),
                "CreatedSince": age(created, now),
                "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S %z UTC") if created else "",
                "Names": stored.names,
                "Labels": image.config.run["Labels"],
                "Dangling": not stored.names,
                "bytes": size,
                "when": created,
            }
        )
    return rows


def _json(rows: list[dict[str, Any]], found: list[Stored]) -> str:
    """One object per image, with podman's keys."""
    images = []
    for stored in found:
        row = next(row for row in rows if row["Digest"] == stored.entry.digest)
        images.append(
            {
                "Id": row["Id"],
                "Names": stored.names,
                "RepoTags": stored.names,
                "RepoDigests": repo_digests(stored),
                "Digest": stored.entry.digest,
                "Created": int(row["when"].timestamp()) if row["when"] else 0,
                "CreatedAt": row["when"].isoformat() if row["when"] else "",
                "Size": row["bytes"],
                "Labels": row["Labels"],
                "Dangling": row["Dangling"],
            }
        )
    return json_text(images)


def _wanted(stored: Stored, text: str) -> list[str]:
    """The names that a filter operand matches: a repository or a full name, short or long."""
    if not text:
        return stored.names
    full = reference.candidates(text)
    tagged = bool(reference.parse(text).tag)
    return [
        name for name in stored.names
        if any(name == str(ref) or (not tagged and repository(name) == ref.repository) for ref in full)
    ]  # fmt: skip


def _table(rows: list[dict[str, Any]], *, digests: bool, heading: bool) -> None:
    columns = [column for column in _COLUMNS if digests or column[1] != "Digest"]
    lines = [[title for title, _ in columns]] if heading else []
    lines += [[printable(str(row[key])) for _, key in columns] for row in rows]
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """List images, newest last; a broken one is told on stderr and does not hide the others."""
    store = Store()
    now = datetime.datetime.now(datetime.UTC)
    rows: list[dict[str, Any]] = []
    found: list[Stored] = []
    for stored in store.images():
        names = _wanted(stored, operands[0] if operands else "")
        if not names and (operands or not opts["all"]):
            continue
        named = stored._replace(names=names)
        try:
            rows += _rows(store, named, now, full=opts["no_trunc"])
        except SandboxError as error:
            tell(str(error))
            continue
        found.append(named)
    template = opts["format"]
    if opts["json"] or template == "json":
        print(_json(rows, found))
    elif opts["quiet"]:
        for image_id in dict.fromkeys(row["ID"] for row in rows):
            print(image_id)
    elif template:
        public = [{key: value for key, value in row.items() if key not in ("bytes", "when")} for row in rows]
        template = template.removeprefix("table ")
        for row in public:
            print(show(render(template, row)))
    else:
        _table(rows, digests=opts["digests"], heading=not opts["noheading"])
    return 0
