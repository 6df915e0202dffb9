"""A client that asks a hostile registry, and what its failures must be like.  Imported by name."""

import os
from collections.abc import Callable

import pytest
from hostile import MANIFEST, Hostile, Request, manifest_bytes
from registries import PASSWORD

from sandbox.errors import SandboxError
from sandbox.registry.faults import RegistryError

Make = Callable[..., Hostile]
RAW = manifest_bytes(b"layer")
BLOB = os.urandom(200_000)


def failing(call: Callable[[], object], step: str = "pull manifest") -> RegistryError:
    with pytest.raises(SandboxError) as found:
        call()
    assert found.value.step == step
    shown = f"{found.value}{found.value.hint}"
    assert shown.isprintable() and len(shown) < 1500
    assert PASSWORD not in shown
    assert isinstance(found.value, RegistryError) or not hasattr(found.value, "status")
    return found.value  # type: ignore[return-value]


def basic(answer: Callable[[Request], None]) -> Callable[[Request], None]:
    """`answer`, for those who log in."""

    def ask_first(request: Request) -> None:
        if "authorization" in request.headers:
            answer(request)
        else:
            request.answer(401, WWW_Authenticate='Basic realm="x"')

    return ask_first


def endless(request: Request) -> None:
    request.begin(200, {"Content-Type": MANIFEST})
    while True:
        request.write(b" " * 65536)
