"""`sbx commit`: an image made of a container.  (cold)"""

import contextlib
import datetime
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from sandbox import channel, events, idmap, state
from sandbox.cli.import_ import apply
from sandbox.errors import SandboxError, tell
from sandbox.image import manifest, reference
from sandbox.image.archive import Image, Layer
from sandbox.image.files import stream_pieces
from sandbox.image.jsonstrict import dumps
from sandbox.image.layers import announce
from sandbox.image.store import Store
from sandbox.life import beside, changes, chosen, root


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Add what the container has changed as a layer to its image, named NAME when given; prints the new id."""
    known = chosen.find(operands[0])
    names = [str(reference.normal(operands[1]))] if len(operands) > 1 else []
    store = Store()
    base = _base(store, known)
    document = json.loads(base.config_raw) if base else {"config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
    inner: dict[str, Any] = document.setdefault("config", {}) or {}
    for change in opts["change"]:
        apply(inner, change)
    if opts["include_volumes"]:
        inner["Volumes"] = {**(inner.get("Volumes") or {}), **{path: {} for path in _volumes(known)}}
    maps = idmap.resolve()
    with store.taking(), _frozen(known, wanted=opts["pause"]):
        layer = _layer(store, known, changes.write_whole if opts["squash"] else changes.write_layer)
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        system, architecture, _ = manifest.machine()
        step = {
            "created": now,
            "created_by": " ".join(map(str, known.about.get("command", []))),
            "comment": opts["message"],
        }
        document.update(created=now, config=inner)
        document.setdefault("architecture", architecture)
        document.setdefault("os", system)
        if opts["author"]:
            document["author"] = step["author"] = opts["author"]
        before = [] if opts["squash"] else document.get("history") or []
        document["history"] = [*before, {key: text for key, text in step.items() if text}]
        layers = [*(base.layers if base and not opts["squash"] else []), layer]
        document["rootfs"] = {"type": "layers", "diff_ids": [one.diff_id for one in layers]}
        config_raw = dumps(document)
        config = manifest.parse_config(config_raw, "commit", len(layers))
        image = Image(names, "", b"", manifest.MANIFEST, config_raw, config, layers)
        image_id, warnings = store.take(image, maps, quiet=True)
        announce(warnings, quiet=opts["quiet"])
    if opts["iidfile"]:
        try:
            with open(opts["iidfile"], "w", encoding="ascii") as file:
                file.write(f"sha256:{image_id}")
        except OSError as error:
            raise SandboxError.of("write image id to", opts["iidfile"], error) from None
    print(f"sha256:{image_id}")
    events.remember(known.parent, "commit", known.about)
    return 0


def _volumes(known: state.Known) -> list[str]:
    spec, _ = root.spec_of(known)
    lines = spec["annotations"].get("dev.sbx.volumes", "").split("\n")
    return [line.rpartition("=")[0] for line in lines if line]


@contextlib.contextmanager
def _frozen(known: state.Known, *, wanted: bool) -> Iterator[None]:
    """With --pause: stopped meanwhile where that can be done, else said."""
    sock = None
    if wanted and known.status == "running":
        sock = channel.connect(known.directory)
        channel.ask(sock, "pause", {})
        kind, value, _ = channel.receive(sock)
        sock.close()
        if kind == "error":
            sock = None
            tell(f"it goes on meanwhile: {SandboxError.from_tuple(value)}")
    try:
        yield
    finally:
        if sock:
            sock = channel.connect(known.directory)
            channel.send(sock, "resume", {})
            channel.receive(sock)
            sock.close()


def _base(store: Store, known: state.Known) -> Image | None:
    """The image that the container was made from; None for a root folder, whose changes are an image by themselves."""
    name = str(known.about.get("image", ""))
    if not known.about.get("image_id"):
        raise SandboxError(
            "commit container", known.name, detail=f"it was made from {name}, not from an image of the store",
            hint="`sbx export` and `sbx import` make an image of all its files",
        )  # fmt: skip
    stored, _ = store.find(known.about["image_id"])
    return store.image(stored)


def _layer(store: Store, known: state.Known, write: Callable[[state.Known, int], None]) -> Layer:
    with beside.writer(lambda out: write(known, out)) as read:

        def pieces() -> Iterator[bytes]:
            yield from stream_pieces(os.dup(read), "layer")

        layer, _ = store.keep_layer(Layer("", -1, "", "", pieces), must_end=True)
    return layer
