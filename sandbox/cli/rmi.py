"""`sbx rmi`: names and images out of the store.  (cold)"""

from typing import Any

from sandbox import events
from sandbox.errors import ENOENT, SandboxError, report, tell
from sandbox.image.describe import show
from sandbox.image.store import Store, Stored
from sandbox.registry.local import find

_ABSENT = 1  # exit status when one was not there, and nothing else was wrong: podman's


def _delete(store: Store, stored: Stored, *, force: bool) -> None:
    image_id = store.id_of(stored)  # a broken one can still be removed
    store.delete(stored, force=force)
    for name in stored.names:
        print(show(f"Untagged: {name}"))
    print(f"Deleted: {image_id}")
    events.remember_other("image", "remove", image_id, stored.names[0] if stored.names else "")


def _remove(store: Store, text: str, *, force: bool) -> None:
    stored, name = find(store, text)
    if name and len(stored.names) > 1:
        store.untag(stored.entry.digest, name)
        print(show(f"Untagged: {name}"))
        events.remember_other("image", "untag", store.id_of(stored), name)
        return
    alike = [stored] if name else store.alike(stored)
    names = [one for other in alike for one in other.names]
    if not name and len(names) > 1 and not force:
        raise SandboxError(
            "remove image", text, detail=f"it has {len(names)} names: {', '.join(names)}",
            hint="--force removes all of them",
        )  # fmt: skip
    for other in alike:
        _delete(store, other, force=force)


def after_run(image_id: str) -> None:
    """`run --rmi`: the image goes too, unless another container has it."""
    store = Store()
    try:
        stored = find(store, image_id)[0]
        store.delete(stored, force=False)
        events.remember_other("image", "remove", image_id, stored.names[0] if stored.names else "")
    except SandboxError as error:
        tell(f"--rmi: the image stays: {error.detail or error}")


def main(opts: dict[str, Any], operands: list[str]) -> int:
    """Remove each operand, or with --all everything; goes on after an error and returns its exit status."""
    if bool(operands) == opts["all"]:
        raise SandboxError(
            "remove image", detail="images and --all exclude each other" if operands else "no image given",
            hint="sbx rmi IMAGE..., or sbx rmi --all",
        )  # fmt: skip
    store = Store()
    code = 0
    if opts["all"]:
        for stored in store.images():
            try:
                _delete(store, stored, force=opts["force"])
            except SandboxError as error:
                code = report(error)
        store.sweep()
        return code
    for text in operands:
        try:
            _remove(store, text, force=opts["force"])
        except SandboxError as error:
            missing = error.step == "find image" and error.errno == ENOENT
            if not (missing and (opts["force"] or opts["ignore"])):
                status = report(error)
                code = code or _ABSENT if missing else status
    return code
