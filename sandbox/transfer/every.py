"""An index with the images of all its platforms, into the store.  (cold)

Every blob is kept; only what this machine runs is unpacked, the others when they are asked for by --platform.
"""

from collections.abc import Callable, Iterator

from sandbox import idmap
from sandbox.image import reference
from sandbox.image.layers import announce
from sandbox.image.layout import BlobWriter
from sandbox.image.manifest import Descriptor, fits, is_index
from sandbox.image.store import Store, Stored, named
from sandbox.transfer.copying import Copy, Plan
from sandbox.transfer.prepare import unpack_missing
from sandbox.transfer.transports import Document, Source


class StoreSink:
    """Blobs and manifests of an index; its name comes when all is there.  Under `Store.taking`."""

    parallel = True
    family = ""

    def __init__(self, store: Store, what: str) -> None:
        self._store = store
        self.what = what

    def has(self, wanted: Descriptor) -> bool:
        return self._store.layout.has(wanted.digest, wanted.size)

    def blob(self, wanted: Descriptor, open: Callable[[int], Iterator[bytes]], diff_id: str = "") -> None:
        writer = BlobWriter(self._store.root)
        try:
            writer.write(open(0))
            writer.commit(wanted.digest)
        finally:
            writer.abandon()

    def document(self, document: Document, names: list[str] | None) -> None:
        self._store.layout.add(document.raw)

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


def take(store: Store, begin: Source, name: str, plan: Plan) -> str:
    """Copy all of an index, and call it `name`; its digest.  After a failure nothing of it is there."""
    full = str(reference.normal(name))
    with store.taking():
        made = Copy(begin, StoreSink(store, full), plan).run([full])
        entry = {"mediaType": made.media_type, "digest": made.digest, "size": len(made.raw)}
        stored = Stored([full], Descriptor(made.media_type, made.digest, len(made.raw), {}, {}, []))
        image = store.image(stored)
        warnings: list[str] = []
        if fits(image.config, plan.platform):
            warnings = unpack_missing(store, image, idmap.resolve(), full)
        size = sum(store.size_of(layer) for layer in image.layers)
        store.layout.change(lambda old: named(old, entry, [full], size))
    announce(warnings, quiet=plan.shown == "none")
    return made.digest


def wanted(begin: Source, plan: Plan) -> bool:
    """Whether the source is an index of which all is to be taken."""
    if not plan.every:
        return False
    document = begin.document()
    return is_index(document.raw, document.media_type, begin.what)
