"""`--filter KEY=VALUE` of images: different keys must all hold, of the values of one key any (labels: all).  (cold)"""

import datetime
import fnmatch
from collections.abc import Callable

from sandbox.errors import SandboxError
from sandbox.image import keyed
from sandbox.image.describe import moment, point_in_time
from sandbox.image.listing import Row, repository_and_tag

Test = Callable[[Row], bool]
Meanings = Callable[[str], list[str]]  # full names that registries.conf lets a short one stand for
_EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)
ALL = ("after", "before", "dangling", "digest", "id", "intermediate", "label", "label!", "reference", "since", "until")
OF_PRUNE = ("label", "label!", "until", "dangling")


def created(row: Row) -> datetime.datetime:
    """When the image was made; long ago, when it does not say."""
    return moment(row["created"]) or _EARLIEST


def _nothing(text: str) -> list[str]:
    return []


def parse(
    texts: list[str], all_rows: list[Row], keys: tuple[str, ...] = ALL, meanings: Meanings = _nothing
) -> Test:  # fmt: skip
    """One test for all of `texts`; SandboxError "read filter", or "find image" for before= and since=."""
    return keyed.parse(texts, keys, lambda key, value: _test(key, value, all_rows, meanings))


def _test(key: str, value: str, rows: list[Row], meanings: Meanings) -> Test:
    if key in ("dangling", "intermediate"):
        if value.lower() not in ("true", "false", "1", "0"):
            raise SandboxError("read filter", f"{key}={value}", detail="true or false is missing")
        wanted = value.lower() in ("true", "1")
        # Only builds make intermediate images, and none are kept here.
        return (lambda row: (not row["names"]) == wanted) if key == "dangling" else (lambda row: not wanted)
    if key in ("label", "label!"):
        return lambda row: keyed.has_label(row["labels"], value) == (key == "label")
    if key == "until":
        limit = point_in_time(value, datetime.datetime.now(datetime.UTC))
        return lambda row: created(row) < limit
    if key in ("before", "since", "after"):
        other = created(_find(value, rows, meanings))
        return (lambda row: created(row) < other) if key == "before" else (lambda row: created(row) > other)
    if key == "id":
        return lambda row: row["id"].startswith(value.removeprefix("sha256:"))
    if key == "digest":
        return lambda row: row["digest"].startswith(value)
    known = Named(value, meanings)
    return lambda row: bool(known.names(row)) or known.by_id(row)


def matches(name: str, pattern: str) -> bool:
    """Whether a stored name is meant by a shell pattern: whole, or its last parts, with the tag or without."""
    repository, tag = repository_and_tag(name)
    parts = repository.split("/")
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    wanted = pattern.split("/")  # a star does not reach beyond a slash

    def fits(text: str) -> bool:
        have = text.split("/")
        return len(have) == len(wanted) and all(map(fnmatch.fnmatchcase, have, wanted))

    return any(fits(text) for tail in tails for text in (tail, f"{tail}:{tag}"))


class Named:
    """What a person calls images by: a name as every verb takes it, a repository, a pattern, or the beginning of an id."""

    def __init__(self, text: str, meanings: Meanings = _nothing) -> None:
        from sandbox.image import reference

        self._text, self._prefix = text, reference.id_prefix(text)
        self._digest, self._whole, self._repositories = "", set(), set()
        try:
            found = [*reference.candidates(text), *map(reference.normal, meanings(text))]
            self._digest = found[0].digest
            self._whole = {str(ref) for ref in found}
            if not reference.parse(text).tag:
                self._repositories = {ref.repository for ref in found}
        except SandboxError:
            if not self._prefix and not any(letter in text for letter in "*?["):
                raise

    def names(self, row: Row) -> list[str]:
        """Those names of an image that are meant."""
        return [name for name in row["names"] if self._meant(name, row["digest"])]

    def _meant(self, name: str, digest: str) -> bool:
        if self._digest and digest != self._digest:
            return False
        if name in self._whole or repository_and_tag(name)[0] in self._repositories:
            return True
        return not self._digest and matches(name, self._text)

    def exact(self, row: Row) -> bool:
        """Whether the image has one of the full names."""
        return any(name in self._whole for name in row["names"])

    def by_id(self, row: Row) -> bool:
        """Whether its id, or its manifest's digest, begins so."""
        known = row["id"], row["digest"].partition(":")[2]
        return bool(self._prefix) and any(text.startswith(self._prefix) for text in known)


def _find(text: str, rows: list[Row], meanings: Meanings) -> Row:
    """The row of an image that a filter names."""
    known = Named(text, meanings)
    for row in rows:
        if known.exact(row) or known.by_id(row):
            return row
    raise SandboxError("find image", text, detail="no such image in the local store", hint="`sbx images` lists them")
