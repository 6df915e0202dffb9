"""Blobs, lists and mirrors of a broken or hostile registry: cuts, ranges, wrong bytes, answers without an end."""

from pathlib import Path

import pytest
from asking import BLOB, RAW, Make, endless, failing
from hostile import Hostile, Request, sha256
from registries import PASSWORD, USER

from sandbox.image.reference import normal
from sandbox.registry import (
    answers,
    connections,
    downloads,
)
from sandbox.registry.access import Access
from sandbox.registry.client import Client

# -- blobs --


def cutting(raw: bytes, at: int, server: Hostile) -> None:
    """Serve `raw` in answers of at most `at` bytes, each of which ends with a cut."""

    def answer(request: Request) -> None:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        end = min(start + at, len(raw))
        headers = {"Content-Length": str(len(raw) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(raw) - 1}/{len(raw)}"
        request.begin(206 if start else 200, headers)
        request.write(raw[start:end])
        if end < len(raw):
            request.handler.close_connection = True

    server.routes[f"/v2/a/b/blobs/{sha256(raw)}"] = answer


@pytest.mark.parametrize("at", [1, 65536, 100_000, 199_999])
def test_cut_blob_is_taken_up_again(
    hostile: Make, ask, pauses: list[float], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(downloads, "PROGRESS", 1000)
    server = hostile()
    raw = BLOB if at > 1 else b"abcd"
    cutting(raw, at, server)
    assert b"".join(ask(server).blob(sha256(raw), len(raw))) == raw
    ranges = [request.headers.get("range", "") for request in server.requests]
    assert ranges[:2] == ["", f"bytes={at}-{len(raw) - 1}"]


def test_blob_that_is_always_cut(hostile: Make, ask, pauses: list[float]) -> None:
    server = hostile()
    cutting(BLOB, 10, server)
    found = failing(lambda: list(ask(server).blob(sha256(BLOB), len(BLOB))), "pull blob")
    assert "of 200000 bytes were received" in found.detail
    assert len(server.requests) == 5


def test_resume_without_ranges(hostile: Make, ask, pauses: list[float]) -> None:
    def cut(request: Request) -> None:
        request.begin(200, {"Content-Length": str(len(BLOB))})
        request.write(BLOB[:70_000])
        request.handler.close_connection = True

    server = hostile()
    digest = sha256(BLOB)
    server.routes[f"/v2/a/b/blobs/{digest}"] = [cut, lambda request: request.answer(200, BLOB)]
    assert b"".join(ask(server).blob(digest, len(BLOB))) == BLOB


@pytest.mark.parametrize("told", ["bytes 0-199999/200000", "bytes 70000-80000/5", "nonsense", ""])
def test_resume_with_another_range(hostile: Make, ask, pauses: list[float], told: str) -> None:
    server = hostile()
    digest = sha256(BLOB)
    server.routes[f"/v2/a/b/blobs/{digest}"] = lambda request: request.answer(206, BLOB, Content_Range=told)
    assert "another range" in failing(lambda: list(ask(server).blob(digest, len(BLOB), 70_000)), "pull blob").detail


def test_G07_wrong_blob(hostile: Make, ask) -> None:
    server = hostile()
    server.serve_blob(BLOB)
    other = sha256(b"x" * len(BLOB))
    server.routes[f"/v2/a/b/blobs/{other}"] = lambda request: request.answer(200, BLOB)
    assert sha256(BLOB) in failing(lambda: list(ask(server).blob(other, len(BLOB))), "pull blob").detail


@pytest.mark.parametrize("size", [100, 300_000])
def test_G07_blob_of_another_size(hostile: Make, ask, size: int) -> None:
    server = hostile()
    digest = server.serve_blob(BLOB)
    found = failing(lambda: list(ask(server).blob(digest, size)), "pull blob")
    assert f"where the manifest says {size}" in found.detail


@pytest.mark.limit(20)
def test_G07_endless_blob(hostile: Make, ask) -> None:
    server = hostile()
    server.routes[f"/v2/a/b/blobs/{sha256(BLOB)}"] = endless
    got = []
    found = failing(lambda: got.extend(ask(server).blob(sha256(BLOB), len(BLOB))), "pull blob")
    assert "longer than" in found.detail and sum(map(len, got)) <= len(BLOB)


@pytest.mark.limit(20)
def test_G07_short_blob_without_length(hostile: Make, ask, pauses: list[float]) -> None:
    def answer(request: Request) -> None:
        request.begin(200, {"Connection": "close"})
        request.write(BLOB[:1000])
        request.handler.close_connection = True

    server = hostile()
    server.routes[f"/v2/a/b/blobs/{sha256(BLOB)}"] = answer
    assert "were received" in failing(lambda: list(ask(server).blob(sha256(BLOB), len(BLOB))), "pull blob").detail


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection is found slow after its first piece, and 60 KB are much."""
    for name, value in (("PART", 30_000), ("PARALLEL_FROM", 60_000), ("PATIENCE", 0.0), ("FAST", 1 << 50)):
        monkeypatch.setattr(downloads, name, value)
    monkeypatch.setattr(connections, "CHUNK", 10_000)
    monkeypatch.setattr(answers, "CHUNK", 10_000)


def ranges_of(server: Hostile) -> list[tuple[int, int]]:
    found = [request.headers.get("range", "") for request in server.requests]
    pairs = [text.removeprefix("bytes=").partition("-") for text in found if text]
    return sorted((int(start), int(end)) for start, _, end in pairs)


def test_a_slow_blob_comes_in_ranges_side_by_side(hostile: Make, ask, hasty: None) -> None:
    server = hostile()
    digest = server.serve_blob(BLOB)
    assert b"".join(ask(server).blob(digest, len(BLOB), 0, 4)) == BLOB
    probe, *parts = ranges_of(server)
    assert probe == (10_000, 10_000)
    assert parts == [(start, min(start + 30_000, 200_000) - 1) for start in range(10_000, 200_000, 30_000)]


@pytest.mark.parametrize("connections", [1, 4])
def test_no_ranges_where_there_is_no_use(hostile: Make, ask, hasty: None, monkeypatch: pytest.MonkeyPatch, connections: int) -> None:  # fmt: skip
    if connections > 1:
        monkeypatch.setattr(downloads, "FAST", 0)
    server = hostile()
    digest = server.serve_blob(BLOB)
    assert b"".join(ask(server).blob(digest, len(BLOB), 0, connections)) == BLOB
    assert ranges_of(server) == []


def test_a_server_without_ranges_is_read_to_its_end(hostile: Make, ask, hasty: None) -> None:
    server = hostile()
    digest = server.serve_blob(BLOB, ranges=False)
    assert b"".join(ask(server).blob(digest, len(BLOB), 0, 4)) == BLOB
    assert len(server.requests) == 2  # and asked for a range once


def test_one_connection_is_enough_where_no_more_are_wanted(
    hostile: Make, ask, hasty: None, pauses: list[float]
) -> None:
    server = hostile()
    digest = server.serve_blob(BLOB)
    good = server.routes[f"/v2/a/b/blobs/{digest}"]
    server.routes[f"/v2/a/b/blobs/{digest}"] = [good, lambda request: request.answer(429)]
    assert b"".join(ask(server).blob(digest, len(BLOB), 0, 4)) == BLOB
    assert len(server.requests) == 2 and pauses == []


@pytest.mark.parametrize(("status", "words"), [(404, "not found"), (403, "refuses access")])
def test_ranges_of_a_server_that_fails(hostile: Make, ask, hasty: None, status: int, words: str) -> None:
    server = hostile()
    digest = server.serve_blob(BLOB)
    good = server.routes[f"/v2/a/b/blobs/{digest}"]

    def answer(request: Request) -> None:
        if "bytes=100000-" in request.headers.get("range", ""):
            request.answer(status)
        else:
            good(request)

    server.routes[f"/v2/a/b/blobs/{digest}"] = answer
    found = failing(lambda: list(ask(server).blob(digest, len(BLOB), 0, 4)), "pull blob")
    assert found.status == status and words in found.detail


def test_ranges_that_are_cut_go_on_and_wrong_ones_are_found(
    hostile: Make, ask, hasty: None, pauses: list[float]
) -> None:
    server = hostile()
    digest = server.serve_blob(BLOB)
    good = server.routes[f"/v2/a/b/blobs/{digest}"]
    cut = []

    def answer(request: Request) -> None:
        wanted = request.headers.get("range", "")
        if "bytes=70000-" in wanted and not cut:
            cut.append(wanted)
            request.begin(206, {"Content-Length": "30000", "Content-Range": f"bytes 70000-99999/{len(BLOB)}"})
            request.write(BLOB[70_000:80_000])
            request.handler.close_connection = True
        else:
            good(request)

    server.routes[f"/v2/a/b/blobs/{digest}"] = answer
    assert b"".join(ask(server).blob(digest, len(BLOB), 0, 4)) == BLOB
    assert (80_000, 99_999) in ranges_of(server)
    damaged = BLOB[:120_000] + b"!" + BLOB[120_001:]
    server.serve_blob(damaged)
    server.routes[f"/v2/a/b/blobs/{digest}"] = server.routes[f"/v2/a/b/blobs/{sha256(damaged)}"]
    assert sha256(damaged) in failing(lambda: list(ask(server).blob(digest, len(BLOB), 0, 4)), "pull blob").detail


@pytest.mark.parametrize("digest", ["sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", "", "sha256:" + "A" * 64])
def test_digests_that_are_none(hostile: Make, ask, digest: str) -> None:
    server = hostile()
    failing(lambda: list(ask(server).blob(digest, 1)), "check digest")
    assert server.requests == []


# -- lists --


def test_pages(hostile: Make, ask) -> None:
    server = hostile()
    server.routes["/v2/a/b/tags/list"] = [
        lambda request: request.answer(200, b'{"tags": ["1"]}', Link='</v2/a/b/tags/list?last=1>; rel="next"'),
        lambda request: request.answer(200, b'{"tags": ["2"]}'),
    ]
    assert ask(server).tags() == ["1", "2"]


def test_G11_next_page_on_another_host(hostile: Make, ask) -> None:
    server, other = hostile(), hostile()
    server.routes["/v2/a/b/tags/list"] = lambda request: request.answer(
        200, b'{"tags": []}', Link=f'<{other.url}/x>; rel="next"'
    )
    assert "another host" in failing(lambda: ask(server).tags(), "list tags").detail
    assert other.requests == []


@pytest.mark.parametrize("length", ["9" * 5000, "\u00b2"])
def test_lengths_that_are_no_numbers(hostile: Make, ask, length: str) -> None:
    """Of a manifest, and of a blob that is looked for: no error of ours, whatever the server says."""
    server = hostile()
    headers = {"Docker-Content-Digest": sha256(RAW), "Content-Length": length}

    def answer(request: Request) -> None:
        request.begin(200, headers)
        request.handler.close_connection = True

    server.routes["HEAD /v2/a/b/manifests/1"] = answer
    server.routes[f"HEAD /v2/a/b/blobs/{sha256(BLOB)}"] = answer
    client = ask(server)
    assert client.head("1")[1:] == (sha256(RAW), 0)
    assert client.has_blob(sha256(BLOB)) == 0


# -- mirrors --


@pytest.mark.filterwarnings("ignore:Unverified")
def test_mirrors(hostile: Make, trusting: str, certificates: Path, nobodys_files: Path, pauses: list[float]) -> None:
    server, mirror = hostile(), hostile()
    (nobodys_files / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{server.host}"\n[[registry.mirror]]\nlocation = "{mirror.host}/proxy"\ninsecure = true\n'
    )
    server.serve_manifest(RAW)
    digest = server.serve_blob(BLOB)
    client = Client(normal(f"{server.host}/a/b:1"), Access(cert_dir=trusting, creds=f"{USER}:{PASSWORD}"))
    assert client.manifest("1").raw == RAW, "a mirror without the image is passed over"
    assert [request.path for request in mirror.requests][-1] == "/v2/proxy/a/b/manifests/1"
    mirror.serve_manifest(RAW, repository="proxy/a/b")
    mirror.routes[f"/v2/proxy/a/b/blobs/{digest}"] = Request.cut
    client = Client(normal(f"{server.host}/a/b:1"), Access(cert_dir=trusting))
    before = len(server.requests)
    assert client.manifest("1").raw == RAW
    assert len(server.requests) == before, "the mirror had it"
    assert b"".join(client.blob(digest, len(BLOB))) == BLOB, "the registry helps out where the mirror fails"
    assert all("authorization" not in request.headers for request in mirror.requests)
