"""What the headers of a layer say: names, sizes, owners, and whether the id map has them all.  (cold)

The answer to "can this be unpacked here" comes from the headers of all layers, before any of them gets its name: an
image that needs more ids than the map has leaves nothing behind, and the message can say how many it needs.
"""

import os
from typing import Any, BinaryIO

from sandbox import idmap
from sandbox.errors import SandboxError
from sandbox.image import limits
from sandbox.image.tarheader import Entry, TarError, error as tar_error, split_name
from sandbox.image.tarstream import TarStream

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def whiteout(entry: Entry) -> str:
    """ "" for an ordinary entry, else the hidden name, OPAQUE, or "." for aufs's own files, which mean nothing here.

    TarError for whiteouts of `.`, `..` and of nothing.
    """
    if not entry.parts:
        return ""
    for part in entry.parts[:-1]:
        if part.startswith(WHITEOUT) and not part.startswith(".wh..wh."):
            raise TarError(f"entry `{entry.name[:200]}` lies below a whiteout")
        if part.startswith(".wh..wh."):
            return "."
    leaf = entry.parts[-1]
    if not leaf.startswith(WHITEOUT):
        return ""
    if leaf == OPAQUE:
        return OPAQUE
    hidden = leaf[len(WHITEOUT) :]
    if hidden in ("", ".", ".."):
        raise TarError(f"entry `{entry.name[:200]}` hides `{hidden}`")
    return "." if hidden.startswith(WHITEOUT) else hidden


class Seen:
    """What the headers of a layer have told so far."""

    def __init__(self) -> None:
        self.uids: set[int] = {0}
        self.gids: set[int] = {0}

    def add(self, entry: Entry) -> str:
        """Take one entry in; what `whiteout` says of it.  TarError for what makes no sense wherever it is unpacked."""
        hidden = whiteout(entry)
        if not hidden:
            if entry.uid not in self.uids or entry.gid not in self.gids:
                self.uids.add(entry.uid)
                self.gids.add(entry.gid)
                if max(entry.uid, entry.gid) > limits.ID_MAX:
                    raise TarError(f"entry `{entry.name[:200]}` belongs to id {max(entry.uid, entry.gid)}")
            if entry.kind == "link":
                split_name(entry.linkname)
        return hidden

    def facts(self, stream: TarStream) -> dict[str, Any]:
        """{"entries", "bytes", "uids", "gids"}"""
        return {
            "entries": stream.count, "bytes": stream.bytes, "uids": sorted(self.uids), "gids": sorted(self.gids),
        }  # fmt: skip


def scan(file: BinaryIO, what: str, *, must_end: bool = False) -> dict[str, Any]:
    """{"entries", "bytes", "uids", "gids"} of a plain layer, read to its end; SandboxError "read layer" if broken.

    `must_end`: an archive without end marker is truncated (nothing else would tell when no digest is known).
    """
    stream = TarStream(file)
    seen = Seen()
    try:
        while entry := stream.next():
            seen.add(entry)
        if must_end and not stream.complete:
            raise TarError("the archive ends in the middle")
        stream.drain()
    except TarError as found:
        raise tar_error("read layer", what, found) from None
    return seen.facts(stream)


def scan_of(found: dict[str, Any]) -> dict[str, Any]:
    """What `scan` says, out of a record that says more: what is remembered of a blob."""
    return {key: found[key] for key in ("entries", "bytes", "uids", "gids")}


def fits(seen: Seen, maps: dict[str, Any]) -> bool:
    """Whether the map has all owners; with one mapped id all files get that one."""
    if maps["variant"] == "single":
        return True
    return _unmapped(sorted(seen.uids), maps["uid"]) < 0 and _unmapped(sorted(seen.gids), maps["gid"]) < 0


def _unmapped(ids: list[int], entries: "list[tuple[int, int, int]]") -> int:
    """The greatest of `ids` that no entry of the map has inside, or -1."""
    for number in reversed(ids):
        if not any(first <= number < first + count for first, _, count in entries):
            return number
    return -1


def check_ids(scans: list[dict[str, Any]], maps: dict[str, Any], what: str) -> None:
    """SandboxError when an owner in any of the layers is outside the map; with one mapped id all are squashed."""
    if maps["variant"] == "single":
        return
    for kind, key in (("uid", "uids"), ("gid", "gids")):
        worst = max((_unmapped(found[key], maps[kind]) for found in scans), default=-1)
        if worst >= 0:
            raise SandboxError(
                "unpack image", what,
                detail=f"needs {kind}s up to {worst}, this map has {idmap.size(maps[kind])}",
                hint=_fix(worst, maps),
            )  # fmt: skip


def _fix(worst: int, maps: dict[str, Any]) -> str:
    """The command that makes the map large enough: one more subordinate range, behind everybody's ranges."""
    if maps["mode"] == "map":
        return "map more ids with --uidmap and --gidmap, or leave them out"
    missing = worst + 1 - min(idmap.size(maps["uid"]), idmap.size(maps["gid"]))
    start = max(100000, _end(idmap.SUBUID), _end(idmap.SUBGID))
    user = idmap.user_name(os.getuid()) or str(os.getuid())
    last = start + missing - 1
    if last > limits.ID_MAX:
        return "no range is large enough for this; run with --userns=single, where all files belong to root"
    ids = f"{start}-{last}"
    return f"sudo usermod --add-subuids {ids} --add-subgids {ids} {user}   (or run with --userns=single)"


def _end(path: str) -> int:
    """The first id behind all ranges of a subuid(5) file."""
    end = 0
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.strip().split(":")
                if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
                    end = max(end, int(fields[1]) + int(fields[2]))
    except OSError:
        pass
    return end
