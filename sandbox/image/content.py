"""What lies in a store, what of it is needed, and the removal of the rest: mark and sweep.  (cold)

Whoever adds or uses content holds the content lock shared; whoever sweeps holds it alone.  So a blob that is there but
not yet in index.json is never swept under the feet of its writer, and a prepared record never names a layer that a
sweep has just removed.
"""

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import Any

from sandbox import paths, state
from sandbox.errors import SandboxError
from sandbox.image import limits, manifest
from sandbox.image.files import verified
from sandbox.image.layers import Layers, hexes
from sandbox.image.layout import Layout, try_lock

OURS = {"oci-layout", "index.json", "blobs", "layers", "images", "containers", "volumes", "secrets"}
WAIT = 10.0  # seconds that a sweep waits for a load to end


def _private(root: str) -> None:
    """The store must be the caller's own and closed to others: it holds set-uid files of subordinate ids."""
    paths.private_directory(root)
    mode = stat.S_IMODE(os.stat(root).st_mode)
    if mode & 0o077:
        foreign = {name for name in os.listdir(root) if not name.startswith(".")} - OURS
        if foreign:
            raise SandboxError(
                "use directory", root, detail="others can read it, and it is no image store (it holds other files)",
                hint="set SBX_STORE to an empty directory",
            )  # fmt: skip
        os.chmod(root, 0o700)


class Content:
    """Blobs, layers and records of the store at `root`, which is made when it is not there."""

    def __init__(self, root: str = "") -> None:
        self.root = os.path.abspath(root or paths.store())
        _private(self.root)
        self.layout = Layout(self.root)
        self.layers = Layers(self.root)
        self.layout.create()
        self.records = f"{self.root}/images"

    def pinned(self) -> dict[str, list[str]]:
        """Layers (folder names) that containers on disk are made from, running or not; the containers' ids."""
        found: dict[str, list[str]] = {}
        folder = f"{self.root}/containers"
        with contextlib.suppress(FileNotFoundError):
            for container in os.listdir(folder):
                spec = state.read(f"{folder}/{container}", "spec")
                text = spec[0].get("annotations", {}).get("dev.sbx.layers", "") if spec else ""
                for name in re.findall(rf"{re.escape(self.layers.folder)}/([^/\n]+)/fs", text):
                    found.setdefault(name, []).append(container)
        return found

    def made_from(self) -> dict[str, str]:
        """Image id of each container that is there, running or not; by the container's id."""
        found = {}
        folder = f"{self.root}/containers"
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                image_id = (state.read(f"{folder}/{name}", "about") or {}).get("image_id", "")
                # Without either it is what a killed command left.
                if image_id and (os.path.exists(f"{folder}/{name}/spec") or state.Known(folder, name).lives):
                    found[name] = str(image_id)
        return found

    def reachable(self, entries: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
        """(digests of blobs, hex diff ids) that these index entries need; SandboxError when one can not be read."""
        blobs: set[str] = set()
        layers: set[str] = set()
        files = self.layout.files()

        def walk(entry: manifest.Descriptor, depth: int) -> None:
            blobs.add(entry.digest)
            raw = verified(files, entry.digest, entry.size)
            if manifest.is_index(raw, entry.media_type, entry.digest):
                for inner in manifest.parse_index(raw, entry.media_type, entry.digest):
                    if depth < limits.INDEX_DEPTH and self.layout.has(inner.digest, inner.size):
                        walk(inner, depth + 1)
                return
            if manifest.attestation(entry):
                blobs.update(part.digest for part in manifest.opaque_parts(raw, entry.digest))
                return
            found = manifest.parse_manifest(raw, entry.media_type, entry.digest)
            blobs.add(found.config.digest)
            blobs.update(layer.digest for layer in found.layers)
            config = verified(files, found.config.digest, found.config.size)
            layers.update(hexes(manifest.parse_config(config, entry.digest, len(found.layers)).diff_ids))

        for raw_entry in entries:
            walk(manifest.descriptor(raw_entry, self.layout.index_path), 0)
        return blobs, layers

    def sweep(self, layers: set[str] | None = None, wait: float = WAIT) -> bool:
        """Remove temporaries and unreachable blobs and layers (of `layers` only, when given); False when busy."""
        self.layers.sweep()
        with self.alone(wait) as alone:
            if alone:
                with contextlib.suppress(SandboxError):
                    self._sweep(layers)
            return alone

    def _sweep(self, only: set[str] | None) -> None:
        self.layout.sweep_new()
        self.layers.sweep()
        blobs, layers = self.reachable(self.layout.raw_entries())
        pinned = self.pinned()
        doomed = [
            n for n in self.layers.names()
            if n.partition(".")[0] not in layers and n not in pinned and (only is None or n in only)
        ]  # fmt: skip
        dead = [digest for digest in self.layout.blobs() if digest not in blobs]
        if doomed or dead:
            self.forget_records()  # first: one that names a removed layer would be believed
        for name in doomed:
            fd = self.layers.try_hold(name)
            if fd >= 0:
                self.layers.remove(name, fd)
        for digest in dead:
            self.layout.remove(digest)

    @contextlib.contextmanager
    def alone(self, wait: float) -> Iterator[bool]:
        """The content lock for itself, waited for `wait` seconds; False when others hold it."""
        fd = os.open(f"{self.root}/.content.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + wait
            while not (alone := try_lock(fd, fcntl.LOCK_EX)) and time.monotonic() < end:
                time.sleep(0.05)
            yield alone
        finally:
            os.close(fd)

    def forget_records(self) -> None:
        """Remove all records, which can be made again."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.records):
                os.unlink(f"{self.records}/{name}")
