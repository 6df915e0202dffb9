"""Manifests, indexes and configs: bytes of strangers to checked values.  (cold)

Formats: the OCI image spec 1.1 and Docker's distribution manifest v2 schema 2.  What a stranger wrote is either
understood fully or refused: a document that is both manifest and index (CVE-2021-41190), a digest that is a path
(CVE-2024-3727), a media type other than its descriptor's, more or fewer diff ids than layers.
"""

import os
from typing import Any, NamedTuple

from sandbox.errors import SandboxError
from sandbox.image import limits
from sandbox.image.jsonstrict import expect, loads, strings
from sandbox.image.reference import valid_digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
CONFIGS = (CONFIG, "application/vnd.docker.container.image.v1+json")
LAYERS = tuple(
    prefix + suffix
    for prefix in (LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar")
    for suffix in ("", "+gzip", "+zstd")
) + (
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}


class Descriptor(NamedTuple):
    """What points to a blob."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str]
    platform: dict[str, Any]
    urls: list[str]


class Manifest(NamedTuple):
    config: Descriptor
    layers: list[Descriptor]
    media_type: str
    annotations: dict[str, str]


class Config(NamedTuple):
    """An image config: `run` is its checked inner part, `document` all of it, for inspect."""

    architecture: str
    variant: str
    os: str
    diff_ids: list[str]
    created: str
    run: dict[str, Any]
    document: dict[str, Any]


def _annotations(value: Any, what: str) -> dict[str, str]:
    if value is None:
        return {}
    for text in expect(value, dict, what, "annotations").values():
        expect(text, str, what, "annotations")
    return dict(value)


def descriptor(value: Any, what: str) -> Descriptor:
    """A checked descriptor: digest grammar, size 0 or more, strings where strings belong."""
    expect(value, dict, what, "descriptor")
    digest = expect(value.get("digest"), str, what, "digest")
    if not valid_digest(digest):
        raise SandboxError("read manifest", what, detail=f"`{digest}` is not a sha256 or sha512 digest")
    size = expect(value.get("size"), int, what, "size")
    if size < 0 or size >= 1 << 62:
        raise SandboxError("read manifest", what, detail=f"`size` is {size}")
    media_type = expect(value.get("mediaType", ""), str, what, "mediaType")
    platform = expect(value.get("platform") or {}, dict, what, "platform")
    for key in ("os", "architecture", "variant"):
        expect(platform.get(key, ""), str, what, f"platform.{key}")
    return Descriptor(
        media_type, digest, size, _annotations(value.get("annotations"), what), platform,
        strings(value.get("urls"), what, "urls"),
    )  # fmt: skip


def _document(raw: bytes, media_type: str, known: tuple[str, ...], what: str) -> dict[str, Any]:
    document: dict[str, Any] = expect(loads(raw, what), dict, what, "document")
    if "schemaVersion" in document and document["schemaVersion"] != 2:
        raise SandboxError(
            "read manifest", what, detail="schema version 1",
            hint="the format was retired in 2019; pull and push the image again with a current tool",
        )  # fmt: skip
    if "manifests" in document and ("layers" in document or "config" in document):
        raise SandboxError("read manifest", what, detail="it is both a manifest and an index")
    own = document.get("mediaType", media_type)
    if own != media_type or (own and own not in known):
        raise SandboxError("read manifest", what, detail=f"media type `{own}` where `{media_type}` was announced")
    return document


def is_index(raw: bytes, media_type: str, what: str) -> bool:
    """Whether these bytes are an index; by the announced media type, or by the keys when none was announced."""
    if media_type in INDEXES or media_type in MANIFESTS:
        return media_type in INDEXES
    if media_type:
        raise SandboxError("read manifest", what, detail=f"media type `{media_type}` is not a container image")
    document = expect(loads(raw, what), dict, what, "document")
    return "manifests" in document


def parse_index(raw: bytes, media_type: str, what: str) -> list[Descriptor]:
    """The descriptors of an image index; an empty `media_type` accepts the document's own."""
    if not media_type:
        media_type = loads(raw, what).get("mediaType", "") if raw.lstrip()[:1] == b"{" else ""
    document = _document(raw, media_type, INDEXES, what)
    return [descriptor(item, what) for item in expect(document.get("manifests"), list, what, "manifests")]


def parse_manifest(raw: bytes, media_type: str, what: str) -> Manifest:
    """A checked image manifest."""
    if not media_type:
        media_type = loads(raw, what).get("mediaType", "") if raw.lstrip()[:1] == b"{" else ""
    document = _document(raw, media_type, MANIFESTS, what)
    config = descriptor(document.get("config"), what)
    if config.media_type not in CONFIGS:
        raise SandboxError(
            "read manifest", what, detail=f"its config is `{config.media_type}`: not a container image"
        )  # fmt: skip
    layers = [descriptor(item, what) for item in expect(document.get("layers"), list, what, "layers")]
    if len(layers) > limits.LAYERS:
        raise SandboxError(
            "read manifest", what, detail=f"{len(layers)} layers; at most {limits.LAYERS} are taken",
            hint=limits.raised("LAYERS"),
        )  # fmt: skip
    for layer in layers:
        if layer.media_type not in LAYERS:
            raise SandboxError("read manifest", what, detail=f"layer of unknown media type `{layer.media_type}`")
    return Manifest(config, layers, media_type or MANIFEST, _annotations(document.get("annotations"), what))


def _string_keys(value: Any, what: str, key: str) -> list[str]:
    return [] if value is None else sorted(expect(value, dict, what, key))


def parse_config(raw: bytes, what: str, layers: int) -> Config:
    """A checked image config; its diff ids must be as many as the manifest has `layers`."""
    document = expect(loads(raw, what), dict, what, "document")
    inner = expect(document.get("config") or {}, dict, what, "config")
    labels = expect(inner.get("Labels") or {}, dict, what, "Labels")
    for label in labels.values():
        expect(label, str, what, "Labels")
    health = expect(inner.get("Healthcheck") or {}, dict, what, "Healthcheck")
    run = {
        "Env": strings(inner.get("Env"), what, "Env"),
        "Cmd": strings(inner.get("Cmd"), what, "Cmd"),
        "Entrypoint": strings(inner.get("Entrypoint"), what, "Entrypoint"),
        "WorkingDir": expect(inner.get("WorkingDir") or "", str, what, "WorkingDir"),
        "User": expect(inner.get("User") or "", str, what, "User"),
        "StopSignal": expect(inner.get("StopSignal") or "", str, what, "StopSignal"),
        "Volumes": _string_keys(inner.get("Volumes"), what, "Volumes"),
        "ExposedPorts": _string_keys(inner.get("ExposedPorts"), what, "ExposedPorts"),
        "Labels": dict(labels),
        "Healthcheck": strings(health.get("Test"), what, "Healthcheck.Test"),  # docker's, not of OCI
    }
    for key in ("Env", "Cmd", "Entrypoint", "Volumes"):
        if any("\0" in text for text in run[key]):
            raise SandboxError("read image config", what, detail=f"`{key}` holds a zero byte")
    if any("\0" in run[key] for key in ("WorkingDir", "User", "StopSignal")):
        raise SandboxError("read image config", what, detail="a zero byte in a string")
    rootfs = expect(document.get("rootfs"), dict, what, "rootfs")
    if rootfs.get("type", "layers") != "layers":
        raise SandboxError("read image config", what, detail="`rootfs.type` is not `layers`")
    diff_ids = strings(rootfs.get("diff_ids"), what, "rootfs.diff_ids")
    for diff_id in diff_ids:
        if not valid_digest(diff_id) or not diff_id.startswith("sha256:"):
            raise SandboxError("read image config", what, detail=f"`{diff_id}` is not a sha256 digest")
    if len(diff_ids) != layers:
        raise SandboxError("read image config", what, detail=f"{len(diff_ids)} diff ids for {layers} layers")
    for step in expect(document.get("history") or [], list, what, "history"):
        expect(step, dict, what, "history")
    word = {
        key: expect(document.get(key) or "", str, what, key) for key in ("architecture", "variant", "os", "created")
    }
    return Config(word["architecture"], word["variant"], word["os"], diff_ids, word["created"], run, document)


# -- platforms --


def machine() -> tuple[str, str, str]:
    """(os, architecture, variant) of this machine, in the words of images (Go's)."""
    name = os.uname().machine
    return "linux", _MACHINES.get(name, name), ""


def platform(text: str) -> tuple[str, str, str]:
    """`[os/]arch[/variant]` or "" (this machine) in parts."""
    if not text:
        return machine()
    parts = text.split("/")
    if len(parts) > 3 or not all(p.isascii() and p.replace("_", "").replace(".", "").isalnum() for p in parts):
        raise SandboxError("read platform", text, detail="not of the form OS/ARCH[/VARIANT]", hint="e.g. linux/amd64")
    if len(parts) == 1:
        parts = ["linux", parts[0]]
    parts[1] = _MACHINES.get(parts[1], parts[1])
    variant = parts[2] if len(parts) == 3 else ""
    # All of arm64 is v8, whether an image says so or not.
    return parts[0], parts[1], "" if (parts[1], variant) == ("arm64", "v8") else variant


def choose(found: list[Descriptor], wanted: str, what: str) -> Descriptor:
    """The one of an index for platform `wanted`; a lone manifest without a platform fits every machine."""
    system, architecture, variant = platform(wanted)
    images = [d for d in found if not attestation(d)]
    if len(images) == 1 and not images[0].platform.get("architecture"):
        return images[0]
    for entry in images:
        have = entry.platform
        same = have.get("os", "") == system and have.get("architecture", "") == architecture
        if same and (not variant or have.get("variant", "") == variant):
            return entry
    have_words = sorted({platform_words(d.platform) for d in images})
    raise SandboxError(
        "choose platform", what,
        detail=f"image is for {', '.join(have_words) or 'nothing'}, "
        + (f"not for {wanted}" if wanted else f"this machine is {system}/{architecture}"),
    )  # fmt: skip


def attestation(entry: Descriptor) -> bool:
    """Whether an entry of an index is one of buildkit's: no image, though it looks like one."""
    return entry.platform.get("os") == "unknown"


def opaque_parts(raw: bytes, what: str) -> list[Descriptor]:
    """The blobs of an attestation, whatever their media types are."""
    found = expect(loads(raw, what), dict, what, "document")
    layers = expect(found.get("layers"), list, what, "layers")
    return [descriptor(entry, what) for entry in [found.get("config"), *layers]]


def platform_words(value: dict[str, Any]) -> str:
    words = [value.get("os", "") or "linux", value.get("architecture", "") or "unknown", value.get("variant", "")]
    return "/".join(w for w in words if w)


def fits(config: Config, wanted: str) -> bool:
    """Whether an image is for the platform `wanted`, "" for this machine's."""
    system, architecture, variant = platform(wanted)
    same = config.os in ("", system) and config.architecture in ("", architecture)
    return same and (not variant or config.variant in ("", variant))


def check_platform(config: Config, wanted: str, what: str) -> None:
    """Refuse an image of another machine, unless exactly that platform was asked for."""
    if fits(config, wanted):
        return
    system, architecture, _ = platform(wanted)
    have = platform_words({"os": config.os, "architecture": config.architecture, "variant": config.variant})
    if wanted:
        raise SandboxError("use image", what, detail=f"image is for {have}, not for {wanted}")
    raise SandboxError(
        "use image", what, detail=f"image is for {have}, this machine is {system}/{architecture}",
        hint=f"get the image for this machine, or say --platform {have} when an emulator is installed",
    )  # fmt: skip
