"""What is known of a container on disk, and from that its status: written by who knows it, never by who asks.  (launch, hot)

    containers/<id>/        locked (exclusively) for as long as its cli or keeper lives
      about                 who made it, from what, and how it is to live; written once, replaced by `rename`, `update`
      spec                  (spec, filter): only of a container that may be started again
      state                 {"pid", "started"}: by the keeper, when the command runs; {"prepared"} by `init`, before
      ended                 {"code", "finished", "reason"}: by the keeper, when it has ended
      control               the keeper's socket, see control.py
    containers/.names/<name>   a link to the id: taken by whoever makes it first

Files are marshal records that appear by rename.  A status is never stored: a lock that is held says that the container
lives, and nothing has to be put right after a crash or a reboot.
"""

import fcntl
import marshal
import os

from sandbox import cache
from sandbox.errors import EEXIST, EINVAL, ENOENT, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LONGEST = 200  # characters of a name: it has to fit into a file's, with what else is put there
_MARSHAL = 4  # read by all versions of Python there are
_BLOCK = 4096  # bytes: what a small file has on most disks
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEFT = (
    "amber", "bold", "brave", "bright", "calm", "clever", "cosmic", "eager", "fair", "gentle", "golden", "happy", "keen",
    "kind", "lively", "lucid", "merry", "neat", "noble", "polite", "proud", "quick", "quiet", "rapid", "sharp", "smart",
    "solid", "steady", "sunny", "swift", "tidy", "vivid",
)  # fmt: skip
_RIGHT = (
    "badger", "bear", "beaver", "crane", "crow", "deer", "dove", "duck", "eagle", "falcon", "finch", "fox", "goose",
    "hare", "hawk", "heron", "ibis", "jay", "lark", "lynx", "marten", "mole", "moose", "otter", "owl", "puffin", "raven",
    "robin", "seal", "stork", "swan", "wren",
)  # fmt: skip


def write(name: str, value: "Any", folder: int | None = None) -> None:
    """Put the record `value` under `name` in `folder` (a descriptor; the working directory), whole or not at all."""
    fresh = f".new-{name}-{os.getpid()}"
    data = marshal.dumps(value, _MARSHAL)
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError:
            os.unlink(fresh, dir_fd=folder)
            raise
        finally:
            os.close(fd)
    except OSError:
        if name != "ended":
            raise
        _write_over_state(value, folder)
        return
    os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)


def _write_over_state(ended: "dict[str, Any]", folder: int | None) -> None:
    """On a full disk the end goes where the start was recorded, which is not needed any more: its block is there."""
    data = marshal.dumps(ended, _MARSHAL)
    if len(data) > _BLOCK:
        data = marshal.dumps({"code": ended["code"], "finished": ended["finished"], "reason": ""}, _MARSHAL)
    fd = os.open("state", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.pwrite(fd, data, 0)
    finally:
        os.close(fd)
    os.rename("state", "ended", src_dir_fd=folder, dst_dir_fd=folder)


def read(directory: str, name: str) -> "Any":
    """The record `name` of a container's folder; None when there is none."""
    try:
        with open(f"{directory}/{name}", "rb", buffering=0) as file:
            return marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        return None


class Known:
    """One container as it is found on disk; `status` is podman's word for it."""

    def __init__(self, parent: str, id_: str) -> None:
        self.id = id_
        self.directory = f"{parent}/{id_}"
        self.parent = parent
        self.about: dict[str, Any] = read(self.directory, "about") or {}
        self.state: dict[str, Any] = read(self.directory, "state") or {}
        self.ended: dict[str, Any] = read(self.directory, "ended") or {}
        self.lives = locked(self.directory)
        if not self.lives:
            # It may have ended between the two looks.
            self.ended = read(self.directory, "ended") or {}
            if not self.ended and self.state.get("pid"):
                self.ended = {"code": 137, "finished": 0.0, "reason": "its keeper was killed"}

    @property
    def name(self) -> str:
        return str(self.about.get("name") or made_up_name(self.id))

    @property
    def status(self) -> str:
        if self.lives:
            if not self.state or self.ended:
                return "stopping" if self.ended else "initialized"
            return "paused" if self.state.get("paused") else "running"
        return "exited" if self.ended else "initialized" if self.state else "created"

    @property
    def gone(self) -> bool:
        """Nobody's any more: a container that was to be removed at its end, whose keeper and cli were killed."""
        return (
            not self.lives
            and bool(self.about.get("rm", True))
            and not (self.about.get("waits") and not self.state.get("pid"))
        )


def made_up_name(id_: str) -> str:
    """The name of a container that was given none: two words that follow from its id, so nothing has to be stored."""
    number = int(cache.short_hash(id_), 16)
    return f"{_LEFT[number % 32]}_{_RIGHT[number // 32 % 32]}{number // 1024 % 100}"


def locked(path: str, flags: int = _FOLDER) -> bool:
    """Whether somebody has the only lock on it; one that is not there nobody has."""
    try:
        fd = os.open(path, flags)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def containers(parent: str) -> "list[Known]":
    """All containers there are, oldest first."""
    try:
        names = os.listdir(parent)
    except OSError:
        return []
    found = [Known(parent, name) for name in names if not name.startswith(".")]
    found = [known for known in found if known.about and not known.gone]
    return sorted(found, key=lambda known: (known.about.get("created", 0.0), known.id))


def find(parent: str, word: str) -> "Known":
    """The container that `word` names: its name, its id, or the beginning of one; SandboxError "find container"."""
    id_ = _by_name(parent, word)
    if not id_:
        hexadecimal = bool(word) and all(char in "0123456789abcdef" for char in word)
        if len(word) == 64 and hexadecimal and os.path.isdir(f"{parent}/{word}"):
            id_ = word
        else:
            try:
                names = [name for name in os.listdir(parent) if not name.startswith(".")]
            except OSError:
                names = []
            found = [name for name in names if hexadecimal and name.startswith(word)]
            found = found or [name for name in names if made_up_name(name) == word]
            if len(found) > 1:
                raise SandboxError(
                    "find container",
                    word,
                    detail=f"more than one container: {len(found)} ids begin so",
                    hint="give more digits; `sbx ps -a`",
                )
            id_ = found[0] if found else ""
    known = Known(parent, id_) if id_ else None
    if known is None or known.gone or not known.about:
        raise SandboxError(
            "find container",
            word,
            ENOENT,
            f'no container with name or ID "{word}" found: no such container',
            "`sbx ps -a` lists all containers",
        )
    return known


def _by_name(parent: str, name: str) -> str:
    if "/" in name or not name or name.startswith("."):
        return ""
    try:
        id_ = os.readlink(f"{parent}/.names/{name}")
    except OSError:
        return ""
    return id_ if os.path.isdir(f"{parent}/{id_}") else ""


def check_name(name: str, step: str) -> None:
    """SandboxError of `step` unless `name` can be one."""
    if len(name) > _LONGEST:
        raise SandboxError(step, f"{name[:20]}...", EINVAL, f"a name has at most {_LONGEST} characters")
    if not name[:1].isalnum() or not all(char.isascii() and (char.isalnum() or char in "_.-") for char in name):
        raise SandboxError(
            step, name, EINVAL, "a name has letters, digits, `_`, `.` and `-`, and begins with one of the first two"
        )


def take_name(parent: str, name: str, id_: str) -> None:
    """Give `name` to the container `id_`; SandboxError when another has it, or when it can be none."""
    check_name(name, "name container")
    path = f"{parent}/.names/{name}"
    while True:
        try:
            os.symlink(id_, path)
            return
        except FileNotFoundError:
            os.makedirs(f"{parent}/.names", 0o700, exist_ok=True)
        except FileExistsError:
            holder = _by_name(parent, name)
            if holder and not Known(parent, holder).gone:
                raise SandboxError(
                    "name container",
                    name,
                    EEXIST,
                    f"that name is already in use by {holder[:12]}",
                    f"`sbx rm {name}` removes that container; --replace does so first",
                ) from None
            release_name(parent, name, holder)
        except OSError as error:
            raise SandboxError.of("name container", name, error) from None


def release_name(parent: str, name: str, id_: str) -> None:
    """Take the name away from `id_`, whose container is gone."""
    path = f"{parent}/.names/{name}"
    # By rename, so that of two who clean up only one removes what it has looked at.
    aside = f"{parent}/.names/.old-{os.getpid()}-{name}"
    try:
        os.rename(path, aside)
        if os.readlink(aside) == id_ or not os.path.isdir(f"{parent}/{os.readlink(aside)}"):
            os.unlink(aside)
        else:
            os.rename(aside, path)
    except OSError:
        pass


def forget_names(parent: str, most: int) -> None:
    """Take away the names of containers that are gone (a keeper can not do it), where there are more than `most` names."""
    try:
        names = os.listdir(f"{parent}/.names")
    except OSError:
        return
    for name in names if len(names) > most else ():
        try:
            id_ = os.readlink(f"{parent}/.names/{name}")
        except OSError:
            continue
        if not os.path.isdir(f"{parent}/{id_}"):
            release_name(parent, name, id_)
