"""Pushes to registries that fail, cut, or want chunks."""

import io
import os
from collections.abc import Callable
from typing import BinaryIO

import pytest
from hostile import MANIFEST, Hostile, Request, manifest_bytes, sha256
from registries import PASSWORD, USER

from sandbox.image.reference import normal
from sandbox.registry import uploads
from sandbox.registry.access import Access
from sandbox.registry.client import Client
from sandbox.registry.faults import RegistryError

Make = Callable[..., Hostile]
BLOB = os.urandom(300_000)
DIGEST = sha256(BLOB)


def opener(offset: int) -> BinaryIO:
    stream = io.BytesIO(BLOB)
    stream.seek(offset)
    return stream


class Registry:
    """The upload protocol by the book, with faults: `fail` answers the first requests of a method instead."""

    def __init__(self, server: Hostile, *, least: int = 0, largest: int = 1 << 30) -> None:
        self.server, self.least, self.largest = server, least, largest
        self.has, self.whole, self.moves = b"", b"", 0
        self.fail: dict[str, list[Callable[[Request], None]]] = {}
        server.answer_to = self.answer  # type: ignore[method-assign]

    def location(self) -> str:
        self.moves += 1
        return f"/upload/{self.moves}?state=a%2Fb"

    def answer(self, request: Request) -> None:
        if self.fail.get(request.method):
            self.fail[request.method].pop(0)(request)
        elif request.method == "POST":
            self.has = b""
            least = {"OCI_Chunk_Min_Length": str(self.least)} if self.least else {}
            request.answer(202, Location=self.location(), **least)
        elif request.path != f"/upload/{self.moves}" or not request.query.startswith("state=a%2Fb"):
            request.answer(404)
        elif request.method == "GET":
            request.answer(204, Location=self.location(), Range=f"0-{max(len(self.has) - 1, 0)}")
        elif len(request.body) > self.largest:
            request.answer(413)
        elif request.method == "PATCH":
            start, _, end = request.headers["content-range"].partition("-")
            if int(start) != len(self.has) or int(end) != int(start) + len(request.body) - 1:
                request.answer(416)
                return
            self.has += request.body
            request.answer(202, Location=self.location(), Range=f"0-{len(self.has) - 1}")
        else:
            self.whole = self.has + request.body
            good = f"digest={DIGEST.replace(':', '%3A')}" in request.query and sha256(self.whole) == DIGEST
            request.answer(201 if good else 400)


def push(server: Hostile, trusting: str) -> None:
    with Client(normal(f"{server.host}/a/b:1"), Access(cert_dir=trusting, creds=f"{USER}:{PASSWORD}")) as client:
        client.upload(DIGEST, len(BLOB), opener)


def methods(server: Hostile) -> list[str]:
    return [request.method for request in server.requests]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 100_000)


def test_monolithic(hostile: Make, trusting: str) -> None:
    server = hostile()
    registry = Registry(server)
    push(server, trusting)
    assert registry.whole == BLOB and methods(server) == ["POST", "PUT"]


def test_chunks_where_the_server_asks_for_them(hostile: Make, trusting: str) -> None:
    server = hostile()
    registry = Registry(server, least=120_000)
    push(server, trusting)
    assert registry.whole == BLOB and methods(server) == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
    assert server.requests[1].headers["content-range"] == "0-119999"


def test_chunks_where_one_request_is_too_large(hostile: Make, trusting: str) -> None:
    server = hostile()
    registry = Registry(server, largest=100_000)
    push(server, trusting)
    assert registry.whole == BLOB and methods(server) == ["POST", "PUT", "POST", "PATCH", "PATCH", "PATCH", "PUT"]


def test_cut_upload_goes_on(hostile: Make, trusting: str, pauses: list[float]) -> None:
    server = hostile()
    registry = Registry(server)

    def half(request: Request) -> None:
        registry.has = BLOB[:150_000]
        request.cut()

    registry.fail["PUT"] = [half]
    push(server, trusting)
    assert registry.whole == BLOB
    assert methods(server) == ["POST", "PUT", "GET", "PATCH", "PATCH", "PUT"]
    assert server.requests[3].headers["content-range"] == "150000-249999"


def test_upload_that_the_server_forgot_begins_again(hostile: Make, trusting: str, pauses: list[float]) -> None:
    server = hostile()
    registry = Registry(server)
    registry.fail = {
        "PUT": [Request.cut, lambda request: request.answer(503)],
        "GET": [lambda request: request.answer(404)] * 2,
    }
    push(server, trusting)
    assert registry.whole == BLOB and methods(server) == ["POST", "PUT", "GET", "POST", "PUT", "GET", "POST", "PUT"]


@pytest.mark.parametrize("status", [400, 403, 500])
def test_upload_that_fails(hostile: Make, trusting: str, pauses: list[float], status: int) -> None:
    server = hostile()
    registry = Registry(server)
    registry.fail = {"PUT": [lambda request: request.answer(status)] * 99}
    with pytest.raises(RegistryError) as found:
        push(server, trusting)
    assert (found.value.step, found.value.status) == ("push blob", status)
    assert methods(server).count("PUT") == (5 if status == 500 else 1)


def test_G01_location_on_another_host_gets_no_credentials(hostile: Make, trusting: str) -> None:
    server, other = hostile(), hostile()

    def begin(request: Request) -> None:
        if "authorization" not in request.headers:
            request.answer(401, WWW_Authenticate='Basic realm="x"')
        else:
            request.answer(202, Location=f"{other.url}/take")

    server.routes["/v2/a/b/blobs/uploads/"] = begin
    other.routes["/take"] = lambda request: request.answer(201)
    push(server, trusting)
    assert other.requests[0].body == BLOB and "authorization" not in other.requests[0].headers


def test_G03_location_inside_this_machine(hostile: Make, trusting: str) -> None:
    server, other = hostile(), hostile()
    server.routes["/v2/a/b/blobs/uploads/"] = lambda request: request.answer(202, Location=f"{other.url}/take")
    with Client(normal(f"{server.host}/a/b:1"), Access(cert_dir=trusting, creds=f"{USER}:{PASSWORD}")) as client:
        client._home().transport._home_inward = False
        with pytest.raises(RegistryError, match="sends us to an address of this machine"):
            client.upload(DIGEST, len(BLOB), opener)
    assert other.requests == []


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "https://[::1/", "http://127.0.0.1:1/"])
def test_locations_that_can_not_be_used(hostile: Make, trusting: str, location: str) -> None:
    server = hostile()
    headers = {"Location": location} if location else {}
    server.routes["/v2/a/b/blobs/uploads/"] = lambda request: request.answer(202, **headers)
    with pytest.raises(RegistryError) as found:
        push(server, trusting)
    assert found.value.step == "push blob" and len(server.requests) == 1


def test_registry_that_claims_more_than_was_sent(hostile: Make, trusting: str) -> None:
    server = hostile()
    registry = Registry(server, least=1)
    registry.fail["PATCH"] = [lambda request: request.answer(202, Range="0-999999999")]
    with pytest.raises(RegistryError, match="it has 1000000000 of 300000 bytes"):
        push(server, trusting)


def test_manifest_that_is_stored_under_another_digest(hostile: Make, trusting: str) -> None:
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(201, Docker_Content_Digest=sha256(b"x"))
    with (
        Client(normal(f"{server.host}/a/b:1"), Access(cert_dir=trusting)) as client,
        pytest.raises(RegistryError, match="another digest"),
    ):
        client.put_manifest("1", manifest_bytes(), MANIFEST)


def test_mount_that_becomes_an_upload_is_cancelled(hostile: Make, trusting: str) -> None:
    server = hostile()
    server.routes["/v2/a/b/blobs/uploads/"] = lambda request: request.answer(202, Location="/take/it")
    with Client(normal(f"{server.host}/a/b:1"), Access(cert_dir=trusting)) as client:
        assert client.mount(DIGEST, "x/y") is False
    assert [(request.method, request.path) for request in server.requests][-1] == ("DELETE", "/take/it")
    assert server.requests[0].query == f"mount={DIGEST.replace(':', '%3A')}&from=x%2Fy"
