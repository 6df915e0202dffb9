"""Remove a whole store, whoever its files belong to.  (cold)"""

import contextlib
import os

from sandbox import state
from sandbox.errors import SandboxError
from sandbox.image.content import OURS
from sandbox.image.owned import clear_folder
from sandbox.image.prune import held
from sandbox.image.store import Store


def reset(store: Store) -> None:
    """Remove all that is sbx's below the store's root; SandboxError "reset store" when somebody uses it.

    index.json goes first: a reset that is killed leaves a store without images, whose rest the next sweep removes.
    """
    with store.alone(0) as alone:
        if not alone:
            raise SandboxError("reset store", store.root, detail="another sbx is loading an image", hint="try again")
        parent = f"{store.root}/containers"
        names = os.listdir(parent) if os.path.isdir(parent) else []
        running = [name for name in names if name[:1] != "." and state.Known(parent, name).lives]
        if running or held(store, sure=True):
            what = f"container {running[0][:12]} is running" if running else "a container is running"
            raise SandboxError("reset store", store.root, detail=what, hint="stop the containers first")
        root = os.open(store.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("index.json", dir_fd=root)
            for name in os.listdir(root):
                if name in OURS or name.startswith((".new-", ".probe-", ".content.lock", ".index.lock", ".spare")):
                    clear_folder(root, name)
        except OSError as error:
            raise SandboxError.of("reset store", store.root, error) from None
        finally:
            os.close(root)
        with contextlib.suppress(OSError):
            os.rmdir(store.root)  # it may be a mount, or hold what is not ours
