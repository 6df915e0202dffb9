"""From an image's name to what a container needs of it: layers on disk and the run config.  (cold)

    busybox  me/tool:1  sha256:...     an image of the local store
    oci:DIR[:NAME]                     an OCI layout folder
    oci-archive:FILE[:NAME]            the same in a tar
    docker-archive:FILE[:NAME]         what `docker save` writes

Archives are not copied into the store; only their layers are unpacked there.
"""

import os
import signal
from typing import Any

from sandbox import cache, linux
from sandbox.errors import SandboxError
from sandbox.image import additional, archive, manifest, reference
from sandbox.image.archive import Image
from sandbox.image.files import FolderFiles, digest_of, open_archive
from sandbox.image.layers import announce
from sandbox.image.layout import content_lock
from sandbox.image.scan import check_ids
from sandbox.image.store import Store, Stored
from sandbox.registry import configuration, glance, local
from sandbox.transfer import progress, pulling
from sandbox.transfer.signals import ending
from sandbox.transfer.sources import docker_image

TRANSPORTS = ("oci", "oci-archive", "docker-archive")


def split_transport(name: str) -> tuple[str, str, str]:
    """(transport, path, image name in it); ("", name, "") for a name of the local store.

    The path may hold colons: the longest beginning that exists is the path.
    """
    transport, colon, rest = name.partition(":")
    if not colon or transport not in TRANSPORTS:
        return "", name, ""
    if not rest:
        raise SandboxError("read image name", name, detail="no path", hint=f"the form is {transport}:PATH[:NAME]")
    path = rest
    while not os.path.exists(path) and ":" in path:
        path = path.rpartition(":")[0]
    if not os.path.exists(path):
        return transport, rest.partition(":")[0], rest.partition(":")[2]
    return transport, path, rest[len(path) + 1 :]


def _open(store: Store, transport: str, path: str, wanted: str, platform: str) -> Image:
    if transport == "oci" and not os.path.isdir(path):
        FolderFiles(path)  # says why not
    if transport != "oci" and os.path.isdir(path):
        raise SandboxError(
            "read archive", path, detail="it is a directory", hint=f"oci:{path} names an OCI layout folder"
        )
    files = open_archive(path, store.root)
    if transport == "docker-archive":
        return docker_image(files, wanted)
    entry = archive.pick(archive.oci_index(files), wanted, platform, path)
    return archive.oci_image(files, entry, platform, path)


def _depends(transport: str, path: str, store: Store) -> list[str]:
    """Files whose change makes a record stale; paths as they were given, so that another cwd is a change too."""
    if transport == "oci":
        return [f"{path}/index.json", f"{path}/oci-layout"]
    return [path] if transport else [store.layout.index_path]


def _digest(image: Image) -> str:
    """The manifest's digest; a docker-archive gets the manifest that `sbx load` would write, when that is known."""
    if image.digest:
        return image.digest
    layers = [(archive.layer_type(""), layer.diff_id, layer.size) for layer in image.layers]
    return digest_of(archive.make_manifest(image.config_raw, layers))


def unpack_missing(store: Store, image: Image, maps: dict[str, Any], what: str) -> list[str]:
    """Unpack the layers that are not there under `maps`, after the owners in all of them have been checked; warnings."""
    missing = [layer for layer in image.layers if not store.layers.has(layer.diff_id, maps["variant"])]
    scans = [store.scanned(layer, f"read layer {n}/{len(missing)} of {what}") for n, layer in enumerate(missing, 1)]
    check_ids(scans, maps, what)
    warnings = []
    for number, layer in enumerate(missing, 1):
        warnings += store.layers.make(layer, maps, f"unpack layer {number}/{len(missing)} of {what}")
    return warnings


def _elsewhere(store: Store, name: str) -> "tuple[additional.Foreign, Stored, str] | None":
    """An image that only an additional store has."""
    if not (folders := additional.folders()):
        return None
    try:
        local.find(store, name)
    except SandboxError:
        names = [name, *local.short_names(name)]
        return next(filter(None, (additional.find(one, folders) for one in names)), None)
    return None


def prepare(name: str, maps: dict[str, Any], pull: str, platform: str, quiet: bool = False) -> dict[str, Any]:
    """The prepared record of image `name` under the id map `maps`; see the contract in docs/architecture.md.

    {"name", "id", "digest", "layers": [".../fs", bottom first], "config", "architecture", "os"}.
    SandboxErrors: "find image", "read manifest", "use image" (other machine), "unpack image" (ids), "verify ...".
    Runs in a child of `sbx run`, and ends with it.
    """
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
    with ending():
        return _prepared(name, maps, pull, platform, quiet=quiet)


def _prepared(name: str, maps: dict[str, Any], pull: str, platform: str, *, quiet: bool) -> dict[str, Any]:
    asked, name = name, name.removeprefix("docker://")  # podman's form for "in a registry"
    transport, path, wanted = split_transport(name)
    store = Store()
    pulled = None
    there = None if transport or pull in ("always", "newer") else _elsewhere(store, name)
    if not transport and not there:
        # When the registry has just said that it is the same, the one that is there will do.
        same = pull in ("always", "newer") and glance.same(name, platform)
        policy = "missing" if same else pull or "missing"
        wish = pulling.Wish(platform=platform, policy=policy, shown=progress.choose("auto", quiet=quiet))
        pulled = pulling.by_policy(store, name, wish, lambda: maps)
        if pulled:
            pulling.remembered(store, name, wish, pulled)
    store.layers.sweep()
    with content_lock(store.root):
        if transport:
            image = _open(store, transport, path, wanted, platform)
            full = name
        elif there:
            other, stored, full = there
            image = other.image(stored, platform)
            full = full or (stored.names[0] if stored.names else image.id)
        else:
            stored, full = (pulled.stored, pulled.name) if pulled else local.find(store, name, platform)
            image = store.image(stored, platform)
            full = full or (stored.names[0] if stored.names else image.id)
        manifest.check_platform(image.config, platform, full)
        lent = {layer.diff_id: additional.unpacked(there[0], layer.diff_id, maps) for layer in image.layers if there}
        own = image._replace(layers=[layer for layer in image.layers if not lent.get(layer.diff_id)])
        warnings = unpack_missing(store, own, maps, full)
        record = {
            "name": full,
            "id": image.id,
            "digest": _digest(image),
            "layers": [
                lent.get(layer.diff_id) or f"{store.layers.path(layer.diff_id, maps['variant'])}/fs"
                for layer in image.layers
            ],
            "config": image.config.run,
            "architecture": image.config.architecture,
            "os": image.config.os,
        }
        if not platform:
            depends = _depends(transport, path, store) + ([there[0].layout.index_path] if there else [])
            if not transport and full in local.short_names(name) and full not in map(str, reference.candidates(name)):
                depends += configuration.stamped()  # another alias, and it is another image
            cache.put(store.records, f"{asked}|{maps['variant']}", record, depends)
    announce(warnings, quiet=quiet)
    return record
