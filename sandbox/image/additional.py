"""Image stores of others, only read: images that are found there run without being copied.  (cold)

    SBX_ADDITIONAL_STORES=/srv/images:/opt/images
    $XDG_CONFIG_HOME/sbx/storage.conf, /etc/sbx/storage.conf    additional_image_stores = ["/srv/images"]

Each is the store of another sbx, or any OCI layout, that the caller may read.  A layer is used from there when it was
unpacked under the same ids (they are part of its name); others are unpacked here, from the blob there.
"""

import os
import tomllib
from typing import Any

from sandbox import paths
from sandbox.errors import SandboxError
from sandbox.image.layers import Layers
from sandbox.image.layout import Layout
from sandbox.image.store import Store, Stored


class Foreign(Store):
    """A store that is read and never written to."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.layout = Layout(root)
        self.layers = Layers(root)
        self.records = f"{root}/images"


def folders() -> list[str]:
    """Where to look, in this order; SandboxError "read storage configuration"."""
    found = [path for path in os.environ.get("SBX_ADDITIONAL_STORES", "").split(":") if path.startswith("/")]
    for path in (f"{paths.config()}/storage.conf", "/etc/sbx/storage.conf"):
        try:
            with open(path, "rb") as file:
                value = tomllib.load(file).get("additional_image_stores", [])
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise SandboxError("read storage configuration", path, detail=str(error)) from None
        if not isinstance(value, list) or not all(isinstance(text, str) and text.startswith("/") for text in value):
            raise SandboxError(
                "read storage configuration", path, detail="additional_image_stores is no list of absolute paths"
            )
        found += value
        break
    return list(dict.fromkeys(found))


def find(name: str, where: list[str]) -> "tuple[Foreign, Stored, str] | None":
    """(store, image, full name) of the first that has it."""
    for path in where:
        if not os.path.exists(f"{path}/index.json"):
            continue
        store = Foreign(path)
        try:
            return store, *store.find(name)
        except SandboxError as error:
            if error.step != "find image":
                raise
    return None


def unpacked(store: Foreign, diff_id: str, maps: dict[str, Any]) -> str:
    """The folder of a layer there, when it has the owners that `maps` gives and can be read; else ""."""
    path = store.layers.path(diff_id, maps["variant"])
    root = next((outside for inside, outside, _ in maps["uid"] if inside == 0), -1)
    try:
        fits = os.stat(f"{path}/fs").st_uid == root
    except OSError:
        return ""
    # It is locked while a container runs from it, and that takes the right to open it.
    return f"{path}/fs" if fits and os.access(path, os.R_OK | os.X_OK) else ""
