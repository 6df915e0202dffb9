"""Tools of the image tests, and the probe they name: an unprivileged user with a store of its own, hostile archives.

Run by root the tests use an unprivileged user that has a subordinate range ($SBX_TEST_USER, else `dev`, else the first
of /etc/subuid); run by an ordinary user they use that.
"""

import gzip
import hashlib
import io
import json
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TREE = Path(__file__).resolve().parents[2]
CANARY = "canary: nobody may read or write this"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)

# Calls MODULE:FUNCTION with JSON arguments; "MAPS:mode" stands for an id map.  What it returns is printed as JSON.
_DRIVER = """
import importlib, json, sys
sys.path.insert(0, {tree!r})
from sandbox import idmap
from sandbox.errors import SandboxError, report
target, *arguments = json.loads(sys.argv[1])
module, _, name = target.partition(":")
try:
    arguments = [idmap.resolve(a[5:]) if isinstance(a, str) and a.startswith("MAPS:") else a for a in arguments]
    print(json.dumps(getattr(importlib.import_module(module), name)(*arguments)))
except SandboxError as error:
    sys.exit(report(error))
"""
# Runs MODULE:FUNCTION as root of a user namespace: what is in a layer can be looked at with the ids of the image.
_INSIDE = """
import json, os, stat, sys
sys.path.insert(0, {tree!r})
from sandbox import idmap, userns
def look():
    found = {{}}
    root = "."
    os.fchdir(fd)  # the way there may be closed to the root of this namespace
    def one(path, name):
        s = os.lstat(path)
        entry = {{"mode": s.st_mode, "uid": s.st_uid, "gid": s.st_gid, "mtime": s.st_mtime_ns, "size": s.st_size,
                 "ino": s.st_ino, "rdev": s.st_rdev, "blocks": s.st_blocks}}
        if stat.S_ISLNK(s.st_mode):
            entry["target"] = os.readlink(path)
        else:
            entry["xattrs"] = {{n: os.getxattr(path, n).hex() for n in os.listxattr(path)}}
        if stat.S_ISREG(s.st_mode) and s.st_size < 100000:
            entry["text"] = open(path, "rb").read().decode("utf-8", "surrogateescape")
        found[name] = entry
    one(root, ".")
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            one(path, path[2:])
    return json.dumps(found)
fd = os.open(sys.argv[1], os.O_RDONLY)
print(userns.call(idmap.resolve(sys.argv[2]), look))
"""
_REMOVE = """
import os, sys
sys.path.insert(0, {tree!r})
from sandbox import idmap, trees, userns
fd = os.open(sys.argv[1], os.O_RDONLY)
userns.call(idmap.resolve(), lambda: [trees.remove(n, fd) for n in os.listdir(fd)] and None)
"""


def _user() -> pwd.struct_passwd | None:
    """Whom to run as; None: nobody suitable."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    ranges = [line.split(":")[0] for line in Path("/etc/subuid").read_text().splitlines() if line.count(":") == 2]
    for name in (os.environ.get("SBX_TEST_USER", ""), "dev", *ranges):
        if name in ranges and name != "root":
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
    return None


class Room:
    """A folder of the unprivileged user with a store in it."""

    def __init__(self, path: Path, user: pwd.struct_passwd) -> None:
        self.path = path
        self.user = user
        self.store = path / "store"
        self.canary = path / "canary"

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.path), "SBX_STORE": str(self.store), "PATH": os.environ.get("PATH", "/usr/bin:/bin:/usr/sbin"),
            "XDG_CACHE_HOME": str(self.path / "cache"), "PYTHONPATH": str(TREE), "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def command(self, words: list[str]) -> list[str]:
        if os.geteuid() != 0:
            return words
        ids = ["--reuid", str(self.user.pw_uid), "--regid", str(self.user.pw_gid), "--init-groups"]
        return ["setpriv", *ids, *words]

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment(), **more.pop("env", {})}
        if "input" not in more and "stdin" not in more:
            more["stdin"] = subprocess.DEVNULL
        return subprocess.run(
            self.command(list(words)), env=environment, capture_output=True, text=True, timeout=100, cwd=self.path,
            check=False, **more,
        )  # fmt: skip

    def sbx(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "sandbox", *words, **more)

    def call(self, target: str, *arguments: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        driver = _DRIVER.format(tree=str(TREE))
        return self.run(sys.executable, "-c", driver, json.dumps([target, *arguments]), **more)

    def prepare(self, name: str, mode: str = "", platform: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
        return self.call("sandbox.transfer.prepare:prepare", name, f"MAPS:{mode}", "", platform, **more)

    def layers(self, name: str, mode: str = "") -> list[dict[str, Any]]:
        """Prepare `name`; each unpacked layer as {relative path: facts}, with ids as inside."""
        done = self.prepare(name, mode)
        assert done.returncode == 0, done.stderr
        return [self.look(path, mode) for path in json.loads(done.stdout)["layers"]]

    def look(self, path: str, mode: str = "") -> dict[str, Any]:
        done = self.run(sys.executable, "-c", _INSIDE.format(tree=str(TREE)), path, mode)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def own(self, path: Path) -> Path:
        """Give what a test has made to the user."""
        if os.geteuid() == 0:
            for found in (path, *path.rglob("*")) if path.is_dir() else (path,):
                os.chown(found, self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)
        return path

    def untouched(self) -> None:
        """The canary is as it was, and nothing was made beside it."""
        assert self.canary.read_text() == CANARY
        assert self.canary.stat().st_mode & 0o7777 == 0o644
        assert self.canary.stat().st_mtime == 1000
        assert self.canary.stat().st_nlink == 1
        assert [p.name for p in (self.path / "outside").iterdir()] == []

    def temporaries(self) -> list[str]:
        """What a finished command must not leave."""
        found = []
        for folder in ("", "blobs/sha256", "layers", "images"):
            if (self.store / folder).is_dir():
                names = [n for n in os.listdir(self.store / folder) if n.startswith((".new", ".old"))]
                found += [f"{folder}/{n}" for n in names]
        return found

    def content(self) -> dict[str, list[str]]:
        """Blobs and layers that the store holds."""
        found = {}
        for folder in ("blobs/sha256", "layers"):
            path = self.store / folder
            found[folder] = sorted(os.listdir(path)) if path.is_dir() else []
        return found


@pytest.fixture
def room() -> Iterator[Room]:
    user = _user()
    if user is None or not shutil.which("newuidmap"):
        why = "probe idmap: no unprivileged user with a subordinate range, or no newuidmap"
        if "idmap" in os.environ.get("SBX_MUST_WORK", "").split(","):
            pytest.fail(why)
        pytest.skip(why)
    path = Path(tempfile.mkdtemp(prefix="image-room-"))
    try:
        made = Room(path, user)
        path.chmod(0o755)
        (path / "outside").mkdir()
        made.canary.write_text(CANARY)
        made.canary.chmod(0o644)
        os.utime(made.canary, (1000, 1000))
        made.own(path)
        os.utime(made.canary, (1000, 1000))
        yield made
        made.run(sys.executable, "-c", _REMOVE.format(tree=str(TREE)), str(path))
    finally:
        shutil.rmtree(path, ignore_errors=True)


# -- making archives --


def info(name: str, **values: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.mode = 0o644
    for key, value in values.items():
        setattr(made, key, value)
    return made


def folder(name: str, **values: Any) -> tarfile.TarInfo:
    return info(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **values})


def link(name: str, target: str) -> tarfile.TarInfo:
    return info(name, type=tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> tarfile.TarInfo:
    return info(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*members: Any, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of TarInfos, or (TarInfo, content) pairs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member in members:
            entry, content = member if isinstance(member, tuple) else (member, b"")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def sha256(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()


class Layout:
    """An OCI layout folder written by hand; every lie a test needs can be told through `layers` and the documents."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, raw: bytes, digest: str = "") -> dict[str, Any]:
        digest = digest or sha256(raw)
        (self.path / "blobs" / digest.replace(":", "/")).write_bytes(raw)
        return {"digest": digest, "size": len(raw)}

    def image(
        self, layers: list[bytes], *, packed: bool = True, config: dict[str, Any] | None = None, tag: str = "latest",
        diff_ids: list[str] | None = None, change: Any = None,
    ) -> None:  # fmt: skip
        """One image; `change(manifest)` may spoil the manifest before it is written."""
        blobs = []
        for raw in layers:
            stored = gzip.compress(raw, 1, mtime=0) if packed else raw
            suffix = "+gzip" if packed else ""
            blobs.append({"mediaType": f"application/vnd.oci.image.layer.v1.tar{suffix}", **self.blob(stored)})
        document = {
            "architecture": ARCHITECTURE, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [sha256(raw) for raw in layers]}, **(config or {}),
        }  # fmt: skip
        described = self.blob(json.dumps(document).encode())
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **described},
            "layers": blobs,
        }
        raw_manifest = (change(manifest) if change else None) or json.dumps(manifest).encode()
        entry = {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", **self.blob(raw_manifest),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }  # fmt: skip
        self.index([entry])

    def index(self, entries: list[dict[str, Any]]) -> None:
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def image_of(room: Room, *layers: bytes, name: str = "img", **more: Any) -> str:
    """`oci:` name of a new layout with these layers."""
    Layout(room.path / name).image(list(layers), **more)
    room.own(room.path / name)
    return f"oci:{room.path / name}"


def test_the_room_is_unprivileged(room: Room) -> None:
    done = room.call("os:getuid")
    assert done.returncode == 0
    assert int(done.stdout) != 0
