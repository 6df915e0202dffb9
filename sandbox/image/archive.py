"""Images in archives: OCI layouts (folder or tar) and what `docker save` writes.  (cold)

Everything small is read and checked here, before a byte of a layer is touched; layers stay where they are and are
read from there when they are unpacked or copied.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sandbox.errors import SandboxError
from sandbox.image import limits, manifest, reference
from sandbox.image.files import Files, blob_name, digest_of, read, verified
from sandbox.image.jsonstrict import dumps, expect, loads, strings


class Layer(NamedTuple):
    """One layer where it lies.  `digest` is "" when only its unpacked form has a known digest (docker-archive)."""

    digest: str
    size: int
    diff_id: str
    media_type: str
    pieces: Callable[[], Iterator[bytes]]


class Image(NamedTuple):
    """One image in some archive or store; `manifest_raw` is b"" when the archive has none (docker-archive)."""

    names: list[str]
    digest: str
    manifest_raw: bytes
    manifest_type: str
    config_raw: bytes
    config: manifest.Config
    layers: list[Layer]

    @property
    def id(self) -> str:
        """Image id: the config's digest in hex, as docker and podman have it."""
        return digest_of(self.config_raw).partition(":")[2]


def oci_image(
    files: Files, entry: manifest.Descriptor, platform: str, what: str, depth: int = 0, *, other: bool = False
) -> Image:
    """The image behind a descriptor; of an index the one for `platform` ("" is this machine), or with `other` any."""
    raw = verified(files, entry.digest, entry.size)
    if manifest.is_index(raw, entry.media_type, what):
        if depth >= limits.INDEX_DEPTH:
            raise SandboxError("read manifest", what, detail=f"indexes nested more than {limits.INDEX_DEPTH} deep")
        entries = manifest.parse_index(raw, entry.media_type, what)
        try:
            chosen = manifest.choose(entries, platform, what)
        except SandboxError:
            first = next((one for one in entries if not manifest.attestation(one)), None)
            if not other or first is None:
                raise
            chosen = first
        return oci_image(files, chosen, platform, what, depth + 1, other=other)
    found = manifest.parse_manifest(raw, entry.media_type, what)
    config_raw = verified(files, found.config.digest, found.config.size)
    config = manifest.parse_config(config_raw, what, len(found.layers))
    layers = []
    for descriptor, diff_id in zip(found.layers, config.diff_ids, strict=True):
        name = blob_name(descriptor.digest)
        if not files.has(name):
            detail = f"layer {descriptor.digest} is missing"
            if descriptor.urls:
                detail += "; it is a foreign layer, and sbx never fetches urls that an image names"
            raise SandboxError("read image", what, detail=detail)
        layers.append(Layer(descriptor.digest, descriptor.size, diff_id, descriptor.media_type, _pieces(files, name)))
    return Image([], entry.digest, raw, found.media_type, config_raw, config, layers)


def every_image(files: Files, entry: manifest.Descriptor, what: str, depth: int = 0) -> list[Image]:
    """The images of all platforms behind a descriptor, as far as they are there."""
    raw = verified(files, entry.digest, entry.size)
    if not manifest.is_index(raw, entry.media_type, what) or depth >= limits.INDEX_DEPTH:
        return [oci_image(files, entry, "", what, depth)]
    entries = [one for one in manifest.parse_index(raw, entry.media_type, what) if not manifest.attestation(one)]
    there = [one for one in entries if files.has(blob_name(one.digest))]
    return [image for one in there for image in every_image(files, one, what, depth + 1)]


def _pieces(files: Files, name: str) -> Callable[[], Iterator[bytes]]:
    return lambda: files.pieces(name)


def oci_index(files: Files) -> list[manifest.Descriptor]:
    """The descriptors of an OCI layout's index.json."""
    marker = expect(loads(read(files, "oci-layout"), f"{files.what}/oci-layout"), dict, files.what, "oci-layout")
    if marker.get("imageLayoutVersion") != "1.0.0":
        raise SandboxError("read archive", files.what, detail="oci-layout is not of version 1.0.0")
    return manifest.parse_index(read(files, "index.json"), "", f"{files.what}/index.json")


def entry_name(entry: manifest.Descriptor) -> str:
    """The name that an index gives an image: containerd's full one, or the OCI one; "" when it has none."""
    return entry.annotations.get(manifest.CONTAINERD_NAME, "") or entry.annotations.get(manifest.REF_NAME, "")


def pick(entries: list[manifest.Descriptor], tag: str, platform: str, what: str) -> manifest.Descriptor:
    """The entry named `tag`, or the only one; several without names are told apart by platform."""
    if tag:
        for entry in entries:
            if tag in (entry.annotations.get(manifest.REF_NAME), entry_name(entry)):
                return entry
    else:
        if len({e.digest for e in entries}) == 1:
            return entries[0]
        if entries and len({entry_name(e) for e in entries}) == 1 and all(e.platform for e in entries):
            return manifest.choose(entries, platform, what)
    names = ", ".join(sorted({entry_name(e) for e in entries} - {""})) or "none has a name"
    raise SandboxError(
        "find image", f"{what}:{tag}" if tag else what,
        detail="no image of this name in it" if tag else f"it holds {len(entries)} images",
        hint=f"names in it: {names}",
    )  # fmt: skip


_WORD = re.compile(r"(?:latest|stable|edge|v?[0-9][A-Za-z0-9_.-]*)\Z")


def given_name(raw: str, what: str) -> str:
    """Full name for what an OCI archive calls an image; a bare version names the file it came in."""
    base = re.sub(r"[^a-z0-9]+", "-", os.path.basename(what.rstrip("/")).lower().partition(".")[0]).strip("-")
    try:
        if _WORD.match(raw) and base:
            return str(reference.normal(f"{base}:{raw}"))
        return str(reference.normal(raw))
    except SandboxError:
        return ""  # not usable as a name: the image is loaded without one


def oci_images(files: Files, platform: str) -> list[Image]:
    """All images of an OCI layout, each with the full names it has there."""
    entries = oci_index(files)
    names: dict[str, list[str]] = {}
    chosen: dict[str, manifest.Descriptor] = {}
    by_name: dict[str, list[manifest.Descriptor]] = {}
    for entry in entries:
        by_name.setdefault(entry_name(entry) or entry.digest, []).append(entry)
    for raw, group in by_name.items():
        # One name on several manifests with platforms is an index that was written flat.
        entry = group[0] if len({e.digest for e in group}) == 1 else manifest.choose(group, platform, files.what)
        chosen[entry.digest] = entry
        found = names.setdefault(entry.digest, [])
        if raw != entry.digest and (full := given_name(raw, files.what)):
            found.append(full)
    if not chosen:
        raise SandboxError("read archive", files.what, detail="it holds no image")
    images = [
        oci_image(files, entry, platform, names[digest][0] if names[digest] else files.what)
        for digest, entry in chosen.items()
    ]
    return [image._replace(names=names[digest]) for digest, image in zip(chosen, images, strict=True)]


def docker_images(files: Files) -> list[Image]:
    """All images of a docker-archive (`docker save`, `podman save`, `skopeo copy ... docker-archive:`)."""
    document = loads(read(files, "manifest.json"), f"{files.what}/manifest.json")
    images = []
    for item in expect(document, list, files.what, "manifest.json"):
        expect(item, dict, files.what, "manifest.json")
        names = []
        for raw in strings(item.get("RepoTags"), files.what, "RepoTags"):
            names.append(str(reference.normal(raw, "docker.io")))
        members = strings(item.get("Layers"), files.what, "Layers")
        if len(members) > limits.LAYERS:
            raise SandboxError(
                "read archive", files.what, detail=f"{len(members)} layers; at most {limits.LAYERS}",
                hint=limits.raised("LAYERS"),
            )  # fmt: skip
        config_name = expect(item.get("Config"), str, files.what, "Config")
        config_raw = read(files, config_name)
        told = re.search(r"([0-9a-f]{64})(?:\.json)?\Z", config_name)
        if told and digest_of(config_raw) != f"sha256:{told[1]}":
            raise SandboxError("verify blob", config_name, detail=f"its digest is {digest_of(config_raw)}")
        config = manifest.parse_config(config_raw, names[0] if names else files.what, len(members))
        layers = [
            Layer("", files.size(member), diff_id, "", _pieces(files, member))
            for member, diff_id in zip(members, config.diff_ids, strict=True)
        ]
        images.append(Image(names, "", b"", manifest.MANIFEST, config_raw, config, layers))
    if not images:
        raise SandboxError("read archive", files.what, detail="it holds no image")
    return images


def images_of(files: Files, platform: str = "") -> list[Image]:
    """The images of an archive of either kind; what `docker save` writes today is both, and the OCI side has digests."""
    if files.has("index.json") and files.has("oci-layout"):
        return oci_images(files, platform)
    if files.has("manifest.json"):
        return docker_images(files)
    raise SandboxError(
        "read archive", files.what, detail="neither index.json nor manifest.json in it: not an image archive",
        hint="`sbx import` makes an image of a root file system in a tar",
    )  # fmt: skip


def layer_type(kind: str) -> str:
    """Media type of a layer blob compressed as `kind` ("", "gzip", "zstd")."""
    return manifest.LAYER + (f"+{kind}" if kind else "")


def make_manifest(config_raw: bytes, layers: list[tuple[str, str, int]]) -> bytes:
    """A manifest for an image that has none; layers as (media type, digest, size)."""
    return dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest.MANIFEST,
            "config": {"mediaType": manifest.CONFIG, "digest": digest_of(config_raw), "size": len(config_raw)},
            "layers": [{"mediaType": kind, "digest": digest, "size": size} for kind, digest, size in layers],
        }
    )
