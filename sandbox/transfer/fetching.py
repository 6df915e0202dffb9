"""The verb `pull`: names to images in the store, and a record for the next time.  (cold)"""

from collections.abc import Iterator
from typing import Any

from sandbox import idmap
from sandbox.errors import SandboxError
from sandbox.image import archive, manifest, reference
from sandbox.image.store import Store
from sandbox.registry.access import Access, retries
from sandbox.registry.local import find
from sandbox.transfer import progress
from sandbox.transfer.pulling import Wish, by_policy, remembered, take_in
from sandbox.transfer.signals import ending
from sandbox.transfer.sources import source_of
from sandbox.transfer.transports import FILES, Place, image_of, place


def fetch(opts: dict[str, Any], operands: list[str], *, remember: bool) -> Iterator[tuple[str, str]]:
    """Pull each image; its id and what it is called.  With `remember`, leave what `glance` can use."""
    wish = Wish(
        Access(opts["tls_verify"], opts["authfile"], opts["creds"], opts["cert_dir"], retries(opts["retry"])),
        platform=opts["platform"],
        policy=opts["policy"] or "always",
        shown=progress.choose(opts["progress"], quiet=opts["quiet"]),
    )
    with ending():
        store = Store()
        for operand in operands:
            where = place(operand, "docker")
            if where.transport in FILES and not opts["all_tags"]:
                yield _from_file(store, where, wish)
                continue
            bare = _bare(operand)
            for name in _tags(bare, wish) if opts["all_tags"] else [bare]:
                pulled = by_policy(store, name, wish)
                if pulled and remember:
                    remembered(store, operand, wish, pulled)
                if pulled:
                    yield pulled.id, pulled.name
                else:
                    stored, full = find(store, name, wish.platform)
                    yield store.image(stored, wish.platform).id, full or name


def _from_file(store: Store, where: Place, wish: Wish) -> tuple[str, str]:
    """The image of an archive or folder, under the names that it has there."""
    source = source_of(where, store, wish.platform, wish.access)
    image = image_of(source, wish.platform)
    manifest.check_platform(image.config, wish.platform, source.what)
    names = [full for raw in source.names if (full := archive.given_name(raw, where.path))]
    [image_id] = take_in(store, [image._replace(names=names)], idmap.resolve(), wish.shown)
    return image_id, names[0] if names else image_id


def _bare(operand: str) -> str:
    where = place(operand, "docker")
    if where.transport != "docker":
        raise SandboxError(
            "pull image", operand, detail="it is in no registry", hint=f"sbx copy {operand} store:NAME takes it in"
        )
    return where.path


def _tags(text: str, wish: Wish) -> list[str]:
    from sandbox.registry import names
    from sandbox.registry.client import Client

    ref = reference.parse(text)
    if ref.tag or ref.digest:
        raise SandboxError("pull image", text, detail="--all-tags goes with a name without a tag")
    found = names.candidates(text)[0]
    with Client(found, wish.access) as client:
        return [f"{found.repository}:{tag}" for tag in client.tags()]
