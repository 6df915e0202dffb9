"""Containers on disk: their folders, whose locks say who is alive, and the removal of what the dead left.  (launch, hot)"""

import fcntl
import os

from sandbox import paths, state, trees, userns
from sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ONCE = "once"  # a file that tells `sweep` that the container is removed when it ends, though it has a spec


class Container:
    """The folder of one container: `containers/<id>`, locked for as long as one of its processes lives.

    Made under another name and renamed once it is locked, so who finds an unlocked `<id>` knows that its owner is dead.
    """

    unwritten = False  # what others are to know of it

    def __init__(self, store: str, maps: "dict[str, Any]") -> None:
        self.id = os.urandom(32).hex()
        self.parent = f"{store}/containers"
        self.directory = f"{self.parent}/{self.id}"
        self.maps = maps
        self.caller = os.getuid()  # as the host numbers him; the keeper itself would see nobody's number
        self.name = ""
        self.about: dict[str, Any] = {"id": self.id}
        self.pidfile = ""  # where the command's pid is to be written
        self.reason = ""  # why it ended, when that was not the command's own doing
        self.isolation: dict[str, Any] = {}  # what was asked for and what is in force: see isolation.py
        self.refused: list[tuple[Any, ...]] = []  # what the filter refused, once it has ended: see refusals.py
        try:
            while not self._made(f"{self.parent}/.new-{self.id}"):
                pass
        except OSError as error:
            raise SandboxError.of(
                "make container directory", self.directory, error, "set SBX_STORE to a directory that you can write"
            ) from None

    def _made(self, fresh: str) -> bool:
        """Make the folder, lock it, give it its name.  False when a `sweep` took it for a dead one's before the lock."""
        try:
            os.mkdir(fresh, 0o700)
        except FileNotFoundError:
            paths.private_directory(os.path.dirname(self.parent))
            paths.private_directory(self.parent)
            os.mkdir(fresh, 0o700)
        lock = -1
        try:
            if not _keeper_is_caller(self.maps):
                # The keeper is somebody else's uid on disk; nobody but us can enter the parent.
                os.chmod(fresh, 0o1777)
            lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.rename(fresh, self.directory)
        except FileNotFoundError:
            if lock >= 0:
                os.close(lock)
            return False
        self.lock = lock
        return True

    def write(self, name: str, text: str) -> str:
        """A file of the container that is mounted into it (/etc/hosts and the like); returns its path."""
        path = f"{self.directory}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                os.fchmod(fd, 0o644)
                data = text.encode("utf-8", "surrogateescape")
                while data:
                    data = data[os.write(fd, data) :]
            finally:
                os.close(fd)
        except OSError as error:
            raise SandboxError.of("write", path, error) from None
        return path

    def describe(self, about: "dict[str, Any]", spec: "dict[str, Any]", bpf: bytes) -> None:
        """Write down what other commands need to know: `about`, and the spec when it may be started again."""
        self.name = str(about["name"])
        if self.name:
            state.take_name(self.parent, self.name, self.id)
        try:
            if "dev.sbx.log" in spec["annotations"]:
                state.write("spec", (spec, bpf), self.lock)
                if about["rm"]:
                    os.close(os.open(_ONCE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self.lock))
        except OSError as error:
            raise SandboxError.of("write", self.directory, error) from None
        self.about = {"id": self.id, "maps": self.maps, **about}
        self.unwritten = True
        if self.name or "dev.sbx.log" in spec["annotations"]:
            self.note()
        if about["log"]:
            from sandbox import events

            events.remember(self.parent, "create", self.about)

    def note(self) -> None:
        """Write `about`; of a throw-away container that is left until newuidmap runs, when the cli has nothing else to do."""
        if self.unwritten:
            self.unwritten = False
            try:
                state.write("about", self.about, self.lock)
            except OSError as error:
                raise SandboxError.of("write", self.directory, error) from None

    def remove(self) -> None:
        """Remove the folder; with the help of the user namespace when files of subordinate ids are left in it."""
        if self.name:
            state.release_name(self.parent, self.name, self.id)
        try:
            os.rmdir(self.directory)
        except FileNotFoundError:
            pass
        except OSError:
            remove_leftover(self.parent, self.id, self.maps)


class Draft(Container):
    """What stands for the container in a spec that is only shown: a folder of the cache, by the hash of what was asked.

    The spec binds its files, so they stay; the same question gets the same host name and the same paths again.
    """

    def __init__(self, question: str, maps: "dict[str, Any]") -> None:
        import hashlib  # nobody waits for a spec that is shown

        self.id = hashlib.sha256(question.encode("utf-8", "surrogateescape")).hexdigest()
        self.parent = f"{paths.cache()}/etc"
        self.directory = f"{self.parent}/{self.id[:16]}"
        self.maps = maps
        for path in (paths.cache(), self.parent, self.directory):
            paths.private_directory(path)

    def write(self, name: str, text: str) -> str:
        """As of a container, but a file that is there is replaced as a whole: somebody may be running from it."""
        path = f"{self.directory}/{name}"
        fresh = super().write(f".new-{os.getpid()}", text)
        try:
            os.rename(fresh, path)
        except OSError as error:
            raise SandboxError.of("write", path, error) from None
        return path

    def remove(self) -> None:
        """Nothing: the files are what the spec binds."""


def _keeper_is_caller(maps: "dict[str, Any]") -> bool:
    """Whether the keeper, root of the namespace where there is one, has the caller's uid on disk."""
    return all(outside == os.getuid() for inside, outside, _ in maps["uid"] if inside == 0)


def remove_leftover(parent: str, name: str, maps: "dict[str, Any]") -> None:
    """Remove `parent/name`, whoever its files belong to, as far as `maps` reaches."""
    folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            trees.remove(name, folder)
        except OSError:
            # Opened here: the namespace's root may not be able to enter our folders.
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                userns.call(maps, lambda: _empty(inner))
            finally:
                os.close(inner)
            trees.remove(name, folder)
    except OSError as error:
        raise SandboxError.of("remove", f"{parent}/{name}", error) from None
    finally:
        os.close(folder)


def _empty(folder: int) -> None:
    """Remove what is in `folder` as far as the namespace's root may; the rest is the caller's own."""
    for child in os.listdir(folder):
        try:
            trees.remove(child, folder)
        except OSError:
            pass


def _may_start_again(parent: str, name: str) -> bool:
    """Whether it has a spec, and is not one of those that are removed when they end."""
    directory = f"{parent}/{name}"
    if not os.path.exists(f"{directory}/spec"):
        return False
    return not os.path.exists(f"{directory}/{_ONCE}") or not state.Known(parent, name).gone


def sweep(container: Container) -> None:
    """Remove what containers left whose keeper and cli were killed: their folders are not locked any more."""
    try:
        names = os.listdir(container.parent)
    except OSError:
        return
    for name in names:
        if name in (container.id, ".names") or _may_start_again(container.parent, name):
            continue
        try:
            fd = os.open(f"{container.parent}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_leftover(container.parent, name, container.maps)
        except (OSError, SandboxError):
            pass  # in use, or gone already, or it stays for a run that can
        finally:
            os.close(fd)
    others = sum(not name.startswith(".") for name in names if name != container.id)
    state.forget_names(container.parent, others + bool(container.name))
