"""Which host ids are which ids inside: subordinate ranges and the maps made of them.  (mechanism, hot)

A map is a plain dict (it goes through marshal):
  mode     how it was chosen: "auto", "single", "keep-id", "nomap" or "map"
  uid gid  [(first id inside, first id outside, count), ...] as in user_namespaces(7)
  variant  a word for a file name, of the mode and the ranges: layers unpacked under another map have other owners
  note     "" or one line for the user: why this is weaker than the ordinary map, and the fix
"""

import os

from sandbox import cache
from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Ranges = list[tuple[int, int]]
    Entries = list[tuple[int, int, int]]

SUBUID, SUBGID = "/etc/subuid", "/etc/subgid"
MODES = ("auto", "single", "keep-id", "nomap")
# user_namespaces(7): at most 340 lines since Linux 4.15
MAX_ENTRIES = 340
ID_MAX = 0xFFFFFFFE  # (uid_t)-1 is no id


def ranges(path: str, user: str, uid: int) -> "Ranges":
    """The (start, count) ranges of `path` (subuid(5)) for login name `user` or its number `uid`, in file order."""
    found: Ranges = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except OSError:
        return found
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) != 3 or fields[0] not in (user, str(uid)):
            continue
        if fields[1].isdecimal() and fields[2].isdecimal() and int(fields[2]) > 0:
            start, count = int(fields[1]), int(fields[2])
            if start + count - 1 <= ID_MAX and (start, count) not in found:
                found.append((start, count))
    return found


def user_name(uid: int) -> str:
    """Login name of `uid` from passwd(5), or "" (LDAP and friends: getsubids asks nsswitch itself)."""
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.split(":", 3)
                if len(fields) == 4 and fields[2] == str(uid):
                    return fields[0]
    except OSError:
        pass
    return ""


def _nsswitch_subid() -> bool:
    """Whether nsswitch.conf(5) sends `subid` somewhere else than to the files."""
    try:
        with open("/etc/nsswitch.conf", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("subid:"):
                    return line[6:].split() not in ([], ["files"])
    except OSError:
        pass
    return False


def _getsubids(user: str, *, group: bool) -> "Ranges":
    """Ranges as getsubids(1) prints them: `0: alice 100000 65536`."""
    arguments = ["getsubids", *(["-g"] if group else []), user]
    read, write = os.pipe()
    try:
        pid = os.posix_spawnp(
            "getsubids", arguments, os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)],
        )  # fmt: skip
    except OSError:
        os.close(read)
        return []
    finally:
        os.close(write)
    with open(read, encoding="utf-8", errors="replace") as file:
        lines = file.read().split("\n")
    os.waitpid(pid, 0)
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) == 4 and fields[2].isdecimal() and fields[3].isdecimal():
            found.append((int(fields[2]), int(fields[3])))
    return found


def subordinate(*, group: bool) -> "Ranges":
    """The caller's subordinate ids: /etc/subuid or /etc/subgid by name and number, getsubids where nsswitch says so."""
    uid = os.getuid()
    user = user_name(uid)
    if _nsswitch_subid():
        found = _getsubids(user or str(uid), group=group)
        if found:
            return found
    return ranges(SUBGID if group else SUBUID, user, uid)


def entries_of(found: "Ranges", first: int) -> "Entries":
    """Map ids from `first` on, without holes, to the ranges one after another."""
    entries = []
    for start, count in found[: MAX_ENTRIES - 2]:
        entries.append((first, start, count))
        first += count
    return entries


def size(entries: "Entries") -> int:
    """How many ids are mapped."""
    return sum(entry[2] for entry in entries)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= ID_MAX


def _keep_words(mode: str, uid: int, gid: int) -> tuple[str, int, int]:
    """`keep-id:uid=U,gid=G`: the ids that the caller has inside, its own without them."""
    word, _, settings = mode.partition(":")
    for setting in settings.split(",") if settings else ():
        key, _, number = setting.partition("=")
        if word != "keep-id" or key not in ("uid", "gid") or not _is_id(number):
            raise SandboxError("choose user namespace", mode, EINVAL, hint="keep-id, or keep-id:uid=1000,gid=1000")
        if key == "uid":
            uid = int(number)
        else:
            gid = int(number)
    return word, uid, gid


def _keep(found: "Ranges", own: int, outside: int) -> "Entries":
    """The caller's id `outside` is `own` inside; the ids around it are subordinate, 0 included."""
    entries: Entries = []
    inside = 0
    for start, count in found[: MAX_ENTRIES - 3]:
        below = min(count, max(0, own - inside))
        if below:
            entries.append((inside, start, below))
            inside += below
        if inside == own:
            entries.append((own, outside, 1))
            inside += 1
        if count > below:
            entries.append((inside, start + below, count - below))
            inside += count - below
    if inside <= own:
        entries.append((own, outside, 1))
    return entries


def parse(text: str, ordinary: "Entries") -> "Entries":
    """One `--uidmap INSIDE:OUTSIDE[:COUNT]` as host ids.

    As in podman, OUTSIDE counts in the ordinary map (0 is the caller, 1 the first subordinate id); `@ID` is a host id.
    """
    fields = text.split(":")
    host = len(fields) > 1 and fields[1].startswith("@")
    if host:
        fields[1] = fields[1][1:]
    if len(fields) not in (2, 3) or not all(f.isascii() and f.isdecimal() and len(f) <= 10 for f in fields):
        raise SandboxError("read id map", text, EINVAL, hint="the form is INSIDE:OUTSIDE[:COUNT], in numbers")
    inside, outside = int(fields[0]), int(fields[1])
    count = int(fields[2]) if len(fields) == 3 else 1
    if count <= 0 or inside + count - 1 > ID_MAX or outside + count - 1 > ID_MAX:
        raise SandboxError("read id map", text, EINVAL, detail="outside of what ids can be")
    if host:
        return [(inside, outside, count)]
    entries = []
    for first, start, length in ordinary:
        low, high = max(first, outside), min(first + length, outside + count)
        if low < high:
            entries.append((inside + low - outside, start + low - first, high - low))
    if size(entries) != count:
        raise SandboxError(
            "read id map", text, EINVAL, detail=f"you have {size(ordinary)} ids: 0 to {size(ordinary) - 1}",
            hint="`cat /etc/subuid /etc/subgid` shows them; @ID in the middle is an id of the host",
        )  # fmt: skip
    return entries


def check(entries: "Entries", what: str) -> None:
    """Refuse maps that the kernel would refuse with a bare EINVAL: overlaps, too many entries."""
    if len(entries) > MAX_ENTRIES:
        raise SandboxError(f"read {what} map", detail=f"{len(entries)} entries; the kernel takes {MAX_ENTRIES}")
    for side, word in ((0, "inside"), (1, "outside")):
        ordered = sorted((e[side], e[side] + e[2]) for e in entries)
        for (_, end), (start, _) in zip(ordered, ordered[1:], strict=False):  # noqa: RUF007 - itertools costs 0.3 ms
            if start < end:
                raise SandboxError(f"read {what} map", detail=f"id {start} {word} is mapped twice")


def _fix(uid: int) -> str:
    user = user_name(uid) or str(uid)
    return f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"


def resolve(
    mode: str = "", uidmap: "list[str] | tuple[str, ...]" = (), gidmap: "list[str] | tuple[str, ...]" = ()
) -> "dict[str, Any]":
    """The map for `--userns=MODE` or for explicit `--uidmap/--gidmap`; errors: SandboxError with the fix.

    Without a mode: the ordinary map, 0 is the caller and 1.. the subordinate range; one id when there is no range.
    For root the ordinary map has only subordinate ids: root of the host is never mapped.
    """
    uid, gid = os.getuid(), os.getgid()
    if uidmap or gidmap:
        return _explicit(list(uidmap), list(gidmap), mode)
    mode, inside_uid, inside_gid = _keep_words(mode, uid, gid)
    if mode not in ("", *MODES):
        raise SandboxError("choose user namespace", mode, detail="no such mode", hint="one of " + ", ".join(MODES))
    if mode == "single" and uid:
        return _map("single", [(0, uid, 1)], [(0, gid, 1)], "single")
    uids, gids = subordinate(group=False), subordinate(group=True)
    if not uids or not gids:
        path = SUBUID if not uids else SUBGID
        if mode not in ("", "auto") or uid == 0:
            raise SandboxError("map ids", user_name(uid) or str(uid), detail=f"no range in {path}", hint=_fix(uid))
        note = f"no subordinate ids in {path}: only one id inside; fix: {_fix(uid)}"
        return _map("single", [(0, uid, 1)], [(0, gid, 1)], "single", note)
    if uid == 0:
        if mode in ("keep-id", "single"):
            raise SandboxError("map ids", mode, detail="root of the host is never mapped", hint="leave --userns out")
        return _map(mode or "auto", entries_of(uids, 0), entries_of(gids, 0), f"root.{_word(uids, gids)}")
    if mode == "nomap":
        return _map("nomap", entries_of(uids, 0), entries_of(gids, 0), f"nomap.{_word(uids, gids)}")
    if mode == "keep-id":
        variant = f"keep-id-{inside_uid}-{inside_gid}.{_word(uids, gids)}"
        return _map("keep-id", _keep(uids, inside_uid, uid), _keep(gids, inside_gid, gid), variant)
    variant = _word(uids, gids)
    return _map("auto", [(0, uid, 1), *entries_of(uids, 1)], [(0, gid, 1), *entries_of(gids, 1)], variant)


def _word(uids: "Ranges", gids: "Ranges") -> str:
    """The subordinate ranges in a word: `100000-65536`, or a hash; with other ranges layers have other owners on disk."""
    return "-".join(map(str, uids[0])) if len(uids) == 1 and uids == gids else cache.short_hash(f"{uids} {gids}")


def _explicit(uidmap: list[str], gidmap: list[str], mode: str) -> "dict[str, Any]":
    if mode:
        raise SandboxError("choose user namespace", mode, detail="--userns and --uidmap exclude each other")
    ordinary = resolve()
    uids = [entry for text in uidmap or gidmap for entry in parse(text, ordinary["uid"])]
    gids = [entry for text in gidmap or uidmap for entry in parse(text, ordinary["gid"])]
    for entries, what, option in ((uids, "user id", "--uidmap"), (gids, "group id", "--gidmap")):
        check(entries, what)
        if not any(inside == 0 for inside, _, _ in entries):
            # Set-up mounts and creates files as root of the namespace.
            raise SandboxError(f"read {what} map", detail="id 0 is not mapped", hint=f"add {option} 0:HOSTID:1")
        if os.getuid() == 0 and any(outside == 0 for _, outside, _ in entries):
            raise SandboxError(f"read {what} map", detail="root of the host is never mapped")
    words = "_".join("-".join(map(str, e)) for e in [*uids, *gids])
    return _map("map", uids, gids, f"map-{words}" if len(words) < 100 else f"map-{cache.short_hash(words)}")


def _map(mode: str, uid: "Entries", gid: "Entries", variant: str, note: str = "") -> "dict[str, Any]":
    return {"mode": mode, "uid": uid, "gid": gid, "variant": variant, "note": note}
