"""A copy from end to end: both names, the locks, the store as either end.  (cold)"""

import contextlib
import os
from collections.abc import Iterator

from sandbox import idmap
from sandbox.errors import SandboxError
from sandbox.image import reference
from sandbox.image.layout import content_lock
from sandbox.image.store import Store
from sandbox.registry.access import Access
from sandbox.transfer import every
from sandbox.transfer.archives import DockerArchiveSink, OciArchiveSink
from sandbox.transfer.copying import Copy, Plan
from sandbox.transfer.pulling import take_in
from sandbox.transfer.sinks import FolderSink, LayoutSink, RegistrySink
from sandbox.transfer.sources import RegistrySource, source_of, stored
from sandbox.transfer.transports import Place, Sink, Source, image_of

_ORIGINS = 3  # repositories that are asked for a blob before it is sent


def sink_of(where: Place, access: Access, source: Source | None = None, family: str = "") -> Sink:
    """The sink behind a name that is not the store's."""
    if where.transport == "docker":
        ref = reference.normal(where.path, "docker.io")
        return RegistrySink(ref, access, _origins(source, ref.host))
    if where.transport == "oci":
        return LayoutSink(where.path, where.name)
    if where.transport == "oci-archive":
        return OciArchiveSink(where.path, where.name)
    if where.transport == "docker-archive":
        return DockerArchiveSink(where.path, str(reference.normal(where.name, "docker.io")) if where.name else "")
    return FolderSink(where.path, family)


def _origins(source: Source | None, host: str) -> list[str]:
    """Repositories of `host` that have the source's blobs, most likely."""
    if isinstance(source, RegistrySource):
        return [source.ref.path] if source.ref.host == host else []
    found = []
    for name in source.names if source is not None else []:
        with contextlib.suppress(SandboxError):
            ref = reference.parse(name)
            if ref.host == host:
                found.append(ref.path)
    return found[:_ORIGINS]


def copy(source: Place, target: Place, plan: Plan, access: tuple[Access, Access]) -> str:
    """Copy; the digest of what was written.  `access` is for both ends."""
    store = Store() if "store" in (source.transport, target.transport) else None
    with contextlib.ExitStack() as held:
        if store is not None and source.transport == "store":
            held.enter_context(content_lock(store.root))
        begin = source_of(source, store, plan.platform, access[0])
        held.callback(begin.close)
        if target.transport == "store":
            assert store is not None
            return _to_store(store, begin, source, target, plan)
        return _to_sink(begin, target, plan, access[1])


def _to_sink(begin: Source, target: Place, plan: Plan, access: Access) -> str:
    # Other places keep what comes plain: nobody has to carry it from there.
    plan = plan._replace(compress_plain=target.transport == "docker" and not plan.preserve)
    sink = sink_of(target, access, begin, plan.family)
    # A file keeps the names that an image has; in a layout or registry it is called what was asked for.
    names = begin.names if target.transport in ("oci-archive", "docker-archive") and not target.name else []
    with _finished(sink):
        made = Copy(begin, sink, plan).run(names)
    return made.digest


@contextlib.contextmanager
def _finished(sink: Sink) -> Iterator[None]:
    """All of it is written, or nothing is left of it."""
    try:
        yield
        sink.finish()
    except BaseException:
        sink.abandon()
        raise


def _to_store(store: Store, begin: Source, source: Place, target: Place, plan: Plan) -> str:
    if source.transport == "store":
        raise SandboxError("copy image", str(source), detail="it is in the store already", hint="`sbx tag` names it")
    if plan.family or plan.compress:
        raise SandboxError("copy image", str(target), detail="the store keeps manifests and layers as they are")
    if every.wanted(begin, plan):
        return every.take(store, begin, target.path, plan)
    image = image_of(begin, plan.platform)
    take_in(store, [image._replace(names=[str(reference.normal(target.path))])], idmap.resolve(), plan.shown, plan.verb)
    return image.digest


def save(names: list[str], target: Place, family: str, shown: str) -> None:
    """Images of the store into one archive or layout; a `dir:` takes one."""
    if target.transport == "dir" and len(names) > 1:
        raise SandboxError(
            "save images", target.path, detail="this format holds one image", hint="oci-dir holds several"
        )
    store = Store()
    with content_lock(store.root):
        sources: dict[str, tuple[Source, list[str]]] = {}
        for name in names:
            found = stored(store, name)
            # As podman does: by name it keeps that name only; by id all of them.
            called = found.names[:1] if found.names and found.what == found.names[0] else found.names
            _, known = sources.setdefault(found.document().digest, (found, []))
            known += [one for one in called if one not in known]
        sink = sink_of(target, Access(), None, family)
        with _finished(sink):
            for source, called in sources.values():
                Copy(source, sink, Plan(family=family, shown=shown, verb="save")).run(called)


def keep_digest(path: str, digest: str) -> None:
    """Write the digest to the file of --digestfile; nothing when there is none."""
    if path:
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(digest)
        except OSError as error:
            raise SandboxError.of("write digest", path, error) from None


def refuse_terminal(verb: str) -> None:
    """SandboxError when stdout is a terminal."""
    if os.isatty(1):
        raise SandboxError(verb, detail="stdout is a terminal", hint="give a file with -o, or redirect the output")
