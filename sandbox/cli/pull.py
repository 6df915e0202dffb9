"""`sbx pull`: images of registries into the store.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError, UsageError
from sandbox.image import reference
from sandbox.image.store import Store
from sandbox.transfer import progress
from sandbox.transfer.pulling import Wish, by_policy, local
from sandbox.transfer.signals import ending


def retries(text: str) -> int:
    """The number of --retry."""
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise UsageError("read option", f"--retry={text}", detail="not a number")
    return int(text)


def client_options(opts: dict[str, Any], side: str = "") -> dict[str, Any]:
    """Keyword arguments of the registry client, from a verb's options; `side` is "", "src" or "dest"."""
    prefix = f"{side}_" if side else ""
    return {
        "tls_verify": {"": None, "true": True, "false": False}[opts[f"{prefix}tls_verify"]],
        "authfile": opts["authfile"],
        "creds": opts[f"{prefix}creds"],
        "cert_dir": opts[f"{prefix}cert_dir"],
    }


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Pull each image; prints its id."""
    shown = progress.choose(opts["progress"], quiet=opts["quiet"])
    wish = Wish(client_options(opts), opts["platform"], opts["policy"] or "always", shown, retries(opts["retry"]))
    with ending():
        store = Store()
        for operand in operands:
            bare = operand.removeprefix("docker://")
            for name in _tags(bare, wish) if opts["all_tags"] else [bare]:
                pulled = by_policy(store, name, wish)
                image_id = pulled.id if pulled else store.image(local(store, name, wish.platform)[0]).id
                print(image_id)
    return 0


def _tags(text: str, wish: Wish) -> list[str]:
    from sandbox.registry import names
    from sandbox.registry.client import Client

    ref = reference.parse(text)
    if ref.tag or ref.digest:
        raise SandboxError("pull image", text, detail="--all-tags goes with a name without a tag")
    found = names.candidates(text)[0]
    with Client(found, **wish.options) as client:
        return [f"{found.repository}:{tag}" for tag in client.tags()]
