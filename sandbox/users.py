"""`-u user[:group]` looked up in the image's own passwd and group files, never through libc.  (mechanism, hot)

nss modules of an image are code of the image (CVE-2019-14271); symlinks that leave the image, pipes and huge files are
refused (CVE-2024-9676), an unknown name is an error and never falls back to 0.
"""

import os

from sandbox import linux, spec as oci
from sandbox.errors import ENOENT, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.spec import Spec

_MAX_FILE = 1 << 20
_MAX_LINE = 4096
_MAX_ID = 0xFFFFFFFE
_NAMELESS = "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"  # what podman writes for a user that the image does not know
_GROUP = "$GROUPNAME:x:$GID:$USERLIST"


def _lines(root: int, path: str) -> list[list[str]]:
    """The colon-separated lines of a regular file below `root`; [] when there is none."""
    try:
        resolve = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
        fd = linux.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SandboxError.of("read", path, error) from None
    try:
        status = os.stat(fd)
        if status.st_mode & 0o170000 != 0o100000 or status.st_size > _MAX_FILE:
            raise SandboxError("read", path, detail="not a regular file of at most 1 MiB")
        text = b""
        while chunk := os.read(fd, 1 << 16):
            text += chunk
            if len(text) > _MAX_FILE:
                raise SandboxError("read", path, detail="longer than 1 MiB")
    finally:
        os.close(fd)
    lines = text.decode("utf-8", "replace").split("\n")
    return [line.split(":") for line in lines if len(line) <= _MAX_LINE]


def _number(text: str) -> int:
    """`text` as an id, or -1: plain decimal digits only, no sign, no blanks, no other digits of Unicode."""
    if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _MAX_ID:
        return int(text)
    return -1


def resolve(root: int, text: str) -> tuple[int, int, list[int], str]:
    """(uid, gid, supplementary gids, home) of `user`, `user:group`, `uid`, `uid:gid` in the image at `root`.

    As docker does: a name must be in /etc/passwd; without a group it is the passwd entry's (0 for a bare number that
    has no entry) and the groups that list the user come along; with a group there are no others.
    """
    user, colon, group = text.partition(":")
    user = user or "0"
    if (colon and not group) or not all(c.isprintable() and c != "/" for c in text):
        raise SandboxError("find user", text, detail="not of the form user[:group]")
    uid, gid, name, home = _number(user), 0, "", "/"
    for fields in _lines(root, "etc/passwd"):
        if len(fields) >= 6 and (fields[0] == user if uid < 0 else fields[2] == user):
            if _number(fields[2]) < 0 or _number(fields[3]) < 0:
                continue
            uid, gid, name, home = int(fields[2]), int(fields[3]), fields[0], fields[5] or "/"
            break
    if uid < 0:
        raise SandboxError(
            "find user", user, detail="no such user in the image's /etc/passwd", hint="use a number, or a name it has"
        )
    if uid == 0 and not name:
        home = "/root"
    if not group:
        groups = []
        if name:
            for fields in _lines(root, "etc/group"):
                if len(fields) >= 4 and name in fields[3].split(",") and 0 <= _number(fields[2]) != gid:
                    groups.append(int(fields[2]))
        return uid, gid, groups, home
    return uid, group_id(root, group), [], home


def names(root: int, path: str) -> "dict[int, str]":
    """Id -> name, of `path`, a passwd or group file below `root`; {} when it can not be read."""
    try:
        lines = _lines(root, path)
    except SandboxError:
        return {}
    return {_number(fields[2]): fields[0] for fields in reversed(lines) if len(fields) > 2 and _number(fields[2]) >= 0}


def group_id(root: int, group: str) -> int:
    """The id of a group by name (in the image's /etc/group) or number."""
    gid = _number(group)
    if gid < 0:
        for fields in _lines(root, "etc/group"):
            if len(fields) >= 3 and fields[0] == group and _number(fields[2]) >= 0:
                return int(fields[2])
        raise SandboxError("find group", group, ENOENT, detail="no such group in the image's /etc/group")
    return gid


def complete(spec: "Spec", root: int, text: str) -> bool:
    """Fill in `process.user` and HOME of `spec` from the image mounted at `root`; True when the user changed.

    `text` is what `-u` or the image's config says; "" keeps the numbers there are.
    """
    user = spec["process"]["user"]
    uid, gid, groups, home = resolve(root, text or f"{user['uid']}")
    if spec["annotations"].get("dev.sbx.home") == "lookup":
        spec["process"]["env"].append(f"HOME={home}")
    if not text:
        return True
    extra = [group_id(root, name) for name in spec["annotations"].get("dev.sbx.groups", "").split(",") if name]
    user.update(uid=uid, gid=gid, additionalGids=sorted({*groups, *extra} - {gid}))
    oci.limit_capabilities(spec)
    return True


def enlist(spec: "Spec", root: int) -> None:
    """Give the user a line in /etc/passwd of the mounted image, and his group one in /etc/group, where they have none.

    `dev.sbx.passwd` has three lines: the name of the user, and what was asked for as entries instead of podman's; an entry
    that was asked for must be written, the others need not.
    """
    name, *asked = spec["annotations"]["dev.sbx.passwd"].split("\n")
    user = spec["process"]["user"]
    known = {"UID": f"{user['uid']}", "GID": f"{user['gid']}", "USERNAME": name or f"{user['uid']}"}
    known["HOME"] = oci.environment(spec, "HOME") or spec["process"]["cwd"]
    known["NAME"] = name or "container user"
    known["GROUPNAME"], known["USERLIST"] = known["USERNAME"] if name else known["GID"], known["USERNAME"]
    for path, number, entry, template in (
        ("etc/passwd", known["UID"], asked[0], _NAMELESS), ("etc/group", known["GID"], asked[1], _GROUP)
    ):  # fmt: skip
        try:
            if all(len(fields) < 3 or fields[2] != number for fields in _lines(root, path)):
                _append(root, path, _filled(entry or template, known))
        except (OSError, SandboxError) as error:
            if entry:
                raise SandboxError("add entry to", f"/{path}", detail=str(error)) from None


def _filled(template: str, known: "dict[str, str]") -> str:
    for variable in sorted(known, key=len, reverse=True):
        template = template.replace(f"${variable}", known[variable].replace(":", "").replace("\n", ""))
    return template


def _append(root: int, path: str, line: str) -> None:
    resolve = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    fd = linux.openat2(root, path, flags, resolve, 0o644)
    try:
        size = os.fstat(fd).st_size
        begun = bool(size) and os.pread(fd, 1, size - 1) != b"\n"
        os.write(fd, (b"\n" if begun else b"") + line.encode("utf-8", "surrogateescape") + b"\n")
    finally:
        os.close(fd)
