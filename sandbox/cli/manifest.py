"""`sbx manifest inspect`: a manifest or index as it is stored, for people.  (cold)"""

from typing import Any

from sandbox.errors import SandboxError
from sandbox.image.layout import content_lock
from sandbox.image.store import Store
from sandbox.registry.access import Access
from sandbox.transfer.recode import pretty
from sandbox.transfer.sources import RegistrySource, source_of, stored
from sandbox.transfer.transports import Document, place


def _found(text: str, access: Access) -> Document:
    where = place(text)
    if where.transport != "store":
        source = source_of(where, None, "", access)
        try:
            return source.document()
        finally:
            source.close()
    store = Store()
    try:
        with content_lock(store.root):
            return stored(store, where.path).document()
    except SandboxError as missing:
        if missing.step != "find image" or text.startswith(("store:", "containers-storage:", "sha256:")):
            raise
    from sandbox.registry import names

    source = RegistrySource(names.candidates(where.path)[0], access)
    try:
        return source.document()
    finally:
        source.close()


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Print the manifest of NAME."""
    access = Access(opts["tls_verify"], opts["authfile"], opts["creds"], opts["cert_dir"])
    print(pretty(_found(operands[0], access).raw, operands[0]))
    return 0
