"""`cp`: what goes where, and the two ends of it.  (cold)

A path inside is looked up inside: every link and `..` counts from the container's root, by openat2, whoever changes them
meanwhile (CVE-2018-15664).  No program or library of the container is used (CVE-2019-14271).
"""

import contextlib
import os
import stat
from typing import Any, NamedTuple

from sandbox import linux, state, users
from sandbox.errors import EEXIST, EINVAL, ELOOP, ENOENT, ENOTDIR, SandboxError
from sandbox.life import beside, chosen, root
from sandbox.life.tarreader import TarReader
from sandbox.life.tarwriter import TarWriter

_LINKS = 40


class End(NamedTuple):
    """One operand: a path in a container, or on this machine (`known` is None)."""

    known: state.Known | None
    path: str

    @property
    def contents(self) -> bool:
        """Whether it says "what is in the folder"."""
        return self.path in (".", "..") or self.path.endswith(("/.", "/.."))


def parsed(text: str) -> End:
    """CONTAINER:PATH, or a path; one with a colon in it has to begin with `/` or `.`."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")) or "/" in name or not name:
        return End(None, text)
    return End(chosen.find(name), path if path.startswith("/") else f"/{path}")


def copy(source: End, target: End, *, archive: bool, overwrite: bool) -> None:
    """Copy; at least one of the two is in a container."""
    if source.known is None and target.known is None:
        raise SandboxError("copy", "", EINVAL, detail="one of the two must be CONTAINER:PATH", hint="sbx help cp")
    if source.known and target.known:
        _between(source, target, archive, overwrite)
    elif target.known is None:
        _out(source, target, overwrite)
    else:
        _in(source, target, archive, overwrite)


# -- looking up, on either side: `top` is the root of the container or of the host --


def _looked_up(top: int, path: str) -> tuple[int, str, str]:
    """(open folder, name in it, path without a link at its end) of what `path` names in the end, links followed below `top`; name "." for the root."""
    for _ in range(_LINKS):
        head, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            return linux.openat2(top, path or "/", os.O_RDONLY | os.O_DIRECTORY), ".", path
        folder = linux.openat2(top, head or "/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                if path.endswith("/") and not stat.S_ISDIR(status.st_mode):
                    raise OSError(ENOTDIR, os.strerror(ENOTDIR), path)
                return folder, name, path
            points_to = os.readlink(name, dir_fd=folder)
        except OSError:
            os.close(folder)
            raise
        os.close(folder)
        path = points_to if points_to.startswith("/") else f"{head}/{points_to}"
    raise OSError(ELOOP, os.strerror(ELOOP), path)


def _kind(top: int, path: str) -> tuple[str, str]:
    """`folder`, `file`, or "" for what is not there, and where links at its end lead; SandboxError when it can not be told."""
    try:
        folder, name, final = _looked_up(top, path)
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        finally:
            os.close(folder)
    except FileNotFoundError:
        return "", path
    except OSError as error:
        raise SandboxError.of("look up", path, error) from None
    return ("folder", path) if stat.S_ISDIR(mode) else ("file", final)


def _written_name(path: str) -> str:
    """The last part of a path as it was typed."""
    return path.rstrip("/").rpartition("/")[2]


def _send(top: int, path: str, name: str, out: int, owner: tuple[int, int] | None) -> None:
    """What `path` names as a tar to `out`; a folder's own entry is `name`, or "." for its contents only."""
    folder, last, _ = _looked_up(top, path)
    with TarWriter(out, owner=owner) as writer:
        writer.tree(folder, last, name)


class _Plan(NamedTuple):
    """Where the entries go: into the folder `path` of the target; the first one is called `name`."""

    path: str
    name: str


def _planned(source: End, kind: str, target: End, there: str) -> _Plan:
    """As cp(1), docker and podman: into a folder that is there, else under the name that is given."""
    name = _written_name(source.path)
    if there == "folder":
        return _Plan(target.path, "." if kind == "folder" and (source.contents or name in ("", ".", "..")) else name)
    head, _, last = target.path.rstrip("/").rpartition("/")
    if not last:
        raise SandboxError("copy to", target.path, ENOENT)
    if there == "file" and kind == "folder":
        raise SandboxError("copy to", target.path, EEXIST, detail="a folder can not be copied over a file")
    if not there and kind == "file" and target.path.endswith("/"):
        raise SandboxError("copy to", target.path, ENOENT, detail="no such folder")
    return _Plan(head or ("/" if target.path.startswith("/") else "."), last)


# -- from a container --


def _out(source: End, target: End, overwrite: bool) -> None:
    known = source.known
    assert known is not None
    kind, _ = root.within(known, lambda top: _kind(top, source.path))
    if not kind:
        raise SandboxError("copy from", f"{known.name}:{source.path}", ENOENT)
    if target.path == "-":
        name = "." if source.contents else _written_name(source.path) or "."
        root.within(known, lambda top: _send(top, source.path, name, 1, None))
        return
    # The host's own paths are the caller's affair: ordinary lookup.
    there = "folder" if os.path.isdir(target.path) else "file" if os.path.lexists(target.path) else ""
    if there == "file" and os.path.exists(target.path):
        target = End(None, os.path.realpath(target.path))
    plan = _planned(source, kind, target, there)
    try:
        folder = os.open(plan.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError.of("copy to", plan.path, error) from None
    with beside.reader(lambda read: TarReader(folder, plain=True, overwrite=overwrite).read(read)) as write:
        root.within(known, lambda top: _send(top, source.path, plan.name, write, None))
    os.close(folder)


# -- to a container --


def _in(source: End, target: End, archive: bool, overwrite: bool) -> None:
    known = target.known
    assert known is not None
    there, final, owner = _aimed(known, target.path)
    target = End(known, final)
    if source.path == "-":
        if there != "folder":
            raise SandboxError("copy to", f"{known.name}:{target.path}", ENOTDIR if there else ENOENT)
        _receive(known, _Plan(target.path, "."), 0, owner, archive, overwrite)
        return
    if not os.path.lexists(source.path):
        raise SandboxError("copy from", source.path, ENOENT)
    kind = "folder" if os.path.isdir(source.path) else "file"
    if kind == "file" and source.path.endswith("/"):
        raise SandboxError("copy from", source.path, ENOTDIR)
    plan = _planned(source, kind, target, there)

    def send(out: int) -> None:
        path = os.path.realpath(source.path)
        head, _, last = path.rpartition("/")
        folder = os.open(head or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with TarWriter(out, owner=None if archive else owner) as writer:
            writer.tree(folder, last or ".", plan.name)

    with beside.writer(send) as read:
        _receive(known, plan, read, owner, archive, overwrite)


def _between(source: End, target: End, archive: bool, overwrite: bool) -> None:
    """From one container into another, each in its own namespace."""
    giver, taker = source.known, target.known
    assert giver is not None and taker is not None
    kind, _ = root.within(giver, lambda top: _kind(top, source.path))
    if not kind:
        raise SandboxError("copy from", f"{giver.name}:{source.path}", ENOENT)
    there, final, owner = _aimed(taker, target.path)
    plan = _planned(source, kind, End(taker, final), there)

    def send(out: int, top: int) -> None:
        _send(top, source.path, plan.name, out, None if archive else owner)

    def both(top: int) -> None:
        with beside.writer(lambda out: send(out, top)) as read:
            _unpack(taker, top, plan, read, owner, archive, overwrite)

    if giver.id == taker.id:  # whose root is locked by one at a time
        root.within(taker, both)
        return
    with beside.writer(lambda out: root.within(giver, lambda top: send(out, top))) as read:
        _receive(taker, plan, read, owner, archive, overwrite)


def _receive(
    known: state.Known, plan: _Plan, read: int, owner: tuple[int, int], archive: bool, overwrite: bool
) -> None:
    root.within(known, lambda top: _unpack(known, top, plan, read, owner, archive, overwrite))


def _unpack(
    known: state.Known, top: int, plan: _Plan, read: int, owner: tuple[int, int], archive: bool, overwrite: bool
) -> None:
    try:
        folder = linux.openat2(top, plan.path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SandboxError.of("copy to", f"{known.name}:{plan.path}", error) from None
    TarReader(folder, owner=owner, ids=archive, overwrite=overwrite).read(read)


def _aimed(known: state.Known, path: str) -> tuple[str, str, tuple[int, int]]:
    """What `path` is in a container and where it leads, as `_kind` has it; the ids of the container's user, whose files come there."""
    record = state.read(known.directory, "spec")  # a throw-away container keeps none
    user: dict[str, Any] = record[0]["process"]["user"] if record else {"uid": 0, "gid": 0}
    text = record[0]["annotations"].get("dev.sbx.user", "") if record else ""

    def look(top: int) -> tuple[str, str, int, int]:
        # A name that the image does not know (any more) lets no start succeed, but files can be put there.
        with contextlib.suppress(SandboxError):
            if text:
                return (*_kind(top, path), *users.resolve(top, text)[:2])
        return (*_kind(top, path), int(user["uid"]), int(user["gid"]))

    there, final, uid, gid = root.within(known, look)
    return there, final, (uid, gid)
