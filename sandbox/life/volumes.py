"""Volumes: folders of the store that outlive containers.  (cold)

volumes/<name>/    locked (shared) by the keepers that use it; appears by rename
  about            name, when and for whom it was made, labels, the id map of its owners
  data             what containers see; made and filled as root of their user namespace
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sandbox import containers, events, idmap, paths, state, userns
from sandbox.errors import EEXIST, ENOENT, SandboxError
from sandbox.fill import BEGUN, DONE
from sandbox.life.chosen import all_known

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATIENCE = 2.0


class Volume(NamedTuple):
    """One volume as it is found on disk."""

    name: str
    about: dict[str, Any]

    @property
    def directory(self) -> str:
        return f"{parent()}/{self.name}"

    @property
    def data(self) -> str:
        return f"{self.directory}/data"

    def users(self) -> list[state.Known]:
        """Containers that have it, running or not."""
        return [known for known in all_known() if self.name in known.about.get("volumes", ())]


def parent() -> str:
    """The folder of all volumes."""
    return f"{paths.store()}/volumes"


def everything() -> list[Volume]:
    """All volumes, by name; what dead containers left goes away first."""
    sweep()
    return sorted(_all())


def _all() -> list[Volume]:
    try:
        names = [name for name in os.listdir(parent()) if not name.startswith(".")]
    except OSError:
        return []
    found = [Volume(name, state.read(f"{parent()}/{name}", "about") or {}) for name in names]
    return [volume for volume in found if volume.about]


def find(name: str) -> Volume:
    """The volume of that name; SandboxError "find volume"."""
    about = state.read(f"{parent()}/{name}", "about") if name and "/" not in name and name[0] != "." else None
    if about is None:
        detail = f'no volume with name "{name}" found: no such volume'
        raise SandboxError("find volume", name, ENOENT, detail, hint="`sbx volume ls` lists them")
    return Volume(name, about)


def ensure(wanted: list[tuple[str, bool]], maps: dict[str, Any], container: str, auto: bool) -> None:
    """Make those of (name, anonymous) that are not there."""
    sweep()
    for name, anonymous in wanted:
        if not os.path.isdir(f"{parent()}/{name}"):
            with contextlib.suppress(FileExistsError):
                _make(name, maps, {"anonymous": anonymous, "container": container, "auto": auto})


def create(name: str, labels: dict[str, str], *, ignore: bool) -> None:
    """A new volume; one that is there is an error unless `ignore`."""
    paths.private_directory(paths.store())
    try:
        if os.path.isdir(f"{parent()}/{name}"):
            raise FileExistsError
        _make(name, idmap.resolve(), {"labels": labels})
    except FileExistsError:
        if not ignore:
            raise SandboxError(
                "create volume", name, EEXIST, f"volume with name {name} already exists: volume already exists"
            ) from None


def _make(name: str, maps: dict[str, Any], more: dict[str, Any], tries: int = 20) -> None:
    paths.private_directory(parent())
    fresh = f".new-{os.urandom(8).hex()}"
    try:
        os.mkdir(f"{parent()}/{fresh}", 0o700)
        folder = os.open(f"{parent()}/{fresh}", _FOLDER)
        try:
            fcntl.flock(folder, fcntl.LOCK_SH)
            # Its root, another uid on disk, makes entries here; nobody but us can enter the parent.
            os.fchmod(folder, 0o1777)
            userns.call(maps, lambda: os.mkdir("data", 0o755, dir_fd=folder))
            about = {"name": name, "created": time.time(), "labels": {}, "anonymous": False, "maps": maps, **more}
            state.write("about", about, folder)
            if os.path.isdir(f"{parent()}/{name}"):  # a rename would replace an empty folder only, and this is none
                raise FileExistsError
            os.rename(f"{parent()}/{fresh}", f"{parent()}/{name}")
            events.remember_other("volume", "create", "", name)
        finally:
            os.close(folder)
    except FileExistsError:
        _discard(fresh, maps)
        raise
    except OSError as error:
        if os.path.isdir(f"{parent()}/{name}"):
            _discard(fresh, maps)
            raise FileExistsError from None
        if isinstance(error, FileNotFoundError) and tries:
            return _make(name, maps, more, tries - 1)  # a `sweep` took it for a dead one's before it was locked
        raise SandboxError.of("create volume", name, error) from None


def sweep() -> None:
    """Remove half-made volumes, and anonymous ones whose container was one to be removed at its end, and has been."""
    with contextlib.suppress(OSError):
        for name in os.listdir(parent()):
            if name.startswith("."):
                with _alone(name) as alone:
                    if alone:
                        _discard(name, idmap.resolve())
    for volume in _all():
        container = str(volume.about.get("container", ""))
        left = volume.about.get("anonymous") and volume.about.get("auto")
        if left and not os.path.isdir(f"{paths.store()}/containers/{container}"):
            with contextlib.suppress(SandboxError):
                remove(volume, patience=0)


def _discard(name: str, maps: dict[str, Any]) -> None:
    with contextlib.suppress(SandboxError, OSError):
        containers.remove_leftover(parent(), name, maps)


@contextlib.contextmanager
def _alone(name: str, patience: float = 0.0) -> Iterator[bool]:
    """Whether nobody else has the folder, or will within `patience` seconds; it is locked meanwhile."""
    try:
        fd = os.open(f"{parent()}/{name}", _FOLDER)
    except OSError:
        yield False
        return
    try:
        yield _locks(fd, time.monotonic() + patience)
    finally:
        os.close(fd)


def _locks(fd: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def remove(volume: Volume, patience: float = _PATIENCE) -> None:
    """Remove it; SandboxError with podman's code 2 when a container has it.

    A keeper that ends gives up its container before its volumes: `patience`, in seconds, is for the moment between.
    """
    users = [known for known in volume.users() if not known.gone]
    if users:
        raise SandboxError(
            "remove volume", volume.name, hint="remove the container first, or --force", code=2,
            detail=f"it is being used by the following container(s): {', '.join(known.id[:12] for known in users)}: "
            "volume is being used",
        )  # fmt: skip
    with _alone(volume.name, patience) as alone:
        if not alone:
            raise SandboxError(
                "remove volume", volume.name, detail="a running container uses it: volume is being used", code=2
            )
        doomed = f".old-{os.urandom(8).hex()}"
        os.rename(volume.directory, f"{parent()}/{doomed}")
        containers.remove_leftover(parent(), doomed, volume.about["maps"])
        events.remember_other("volume", "remove", "", volume.name)


def remove_anonymous(names: list[str]) -> None:
    """Of the volumes of a container that is gone: those that were made for it alone."""
    for name in names:
        with contextlib.suppress(SandboxError):
            volume = find(name)
            if volume.about.get("anonymous"):
                remove(volume)


def inside(volume: Volume, function: Callable[[int], Any]) -> Any:
    """`function(data)`, an open folder, as root of the namespace whose ids its files have."""
    folder = os.open(volume.directory, _FOLDER)
    try:
        fcntl.flock(folder, fcntl.LOCK_SH)
        return userns.call(volume.about["maps"], lambda: function(os.open("data", _FOLDER, dir_fd=folder)))
    finally:
        os.close(folder)


def used(volume: Volume) -> None:
    """Say that it has its content: no container fills it any more."""
    folder = os.open(volume.directory, _FOLDER)
    try:
        for name in (BEGUN, DONE):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=folder))
        os.unlink(BEGUN, dir_fd=folder)
    finally:
        os.close(folder)


def of_container(word: str) -> list[tuple[str, str, list[str], str]]:
    """(source, destination, options, name of the volume) of all that a container was given to mount: --volumes-from."""
    from sandbox.life.chosen import find as container
    from sandbox.life.root import spec_of

    known = container(word)
    spec, _ = spec_of(known)
    names = dict(line.rpartition("=")[::2] for line in spec["annotations"].get("dev.sbx.volumes", "").split("\n"))
    return [
        (
            entry["source"],
            entry["destination"],
            list(entry["options"]),
            names.get(entry["destination"], "").partition(",")[0],
        )
        for entry in spec["mounts"]
        if entry["type"] == "bind"
        and not entry["source"].startswith(f"{known.directory}/")
        and entry["destination"] not in ("/sys", "/dev")
    ]
