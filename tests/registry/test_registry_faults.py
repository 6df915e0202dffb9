"""What a broken or hostile registry can do to a pull: each fault ends in one line that names the step, and no secret leaves."""

import gzip
import hashlib
import time
from collections.abc import Callable

import pytest
from asking import BLOB, RAW, Make, basic, endless, failing
from hostile import MANIFEST, Request, sha256
from hypothesis import given, strategies as st
from registries import PASSWORD

from sandbox.errors import SandboxError
from sandbox.registry import (
    answers,
    faults,
    manifests,
    transport,
    urls,
)

# -- manifests --


def test_G08_manifest_by_digest_with_other_bytes(hostile: Make, ask) -> None:
    server = hostile()
    server.serve_manifest(RAW, sha256(b"other"))
    assert sha256(RAW) in failing(lambda: ask(server).manifest(sha256(b"other"))).detail


def test_G08_digest_header_that_lies(hostile: Make, ask) -> None:
    server = hostile()
    server.serve_manifest(RAW, Docker_Content_Digest=sha256(b"other"))
    assert "digest" in failing(lambda: ask(server).manifest("1")).detail


def test_sha512(hostile: Make, ask) -> None:
    server = hostile()
    digest = f"sha512:{hashlib.sha512(RAW).hexdigest()}"
    server.serve_manifest(RAW, digest)
    assert ask(server).manifest(digest).digest == digest


@pytest.mark.parametrize(
    ("content_type", "raw", "words"),
    [
        ("text/html", b"<html>", "no manifest but `text/html`"),
        ("text/html", b"{}", "text/html"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}", "schema 1"),
        ("application/vnd.oci.image.index.v1+json", RAW, "calls itself"),
        (MANIFEST, b"[]", "no manifest"),
        (MANIFEST, b'{"mediaType": 1}', "no manifest"),
        (MANIFEST, b'{"a": 1, "a": 2}', "twice"),
        (MANIFEST, b"[" * 100_000, "deep"),
        (MANIFEST, b"\xff", "UTF-8"),
        ("application/vnd.oci.image.config.v1+json", b"{}", "no image"),
    ],
)
def test_I13_manifest_of_the_wrong_type(hostile: Make, ask, content_type: str, raw: bytes, words: str) -> None:
    server = hostile()
    server.serve_manifest(raw, Content_Type=content_type)
    assert words in failing(lambda: ask(server).manifest("1")).detail


@pytest.mark.limit(20)
def test_G06_endless_manifest(hostile: Make, ask) -> None:
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = endless
    assert "longer than 4096 KiB" in failing(lambda: ask(server).manifest("1")).detail


@pytest.mark.limit(20)
@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n"]
)
def test_G06_endless_beginning(hostile: Make, ask, pauses: list[float], raw: bytes) -> None:
    def answer(request: Request) -> None:
        while True:
            request.write(raw * 1000)

    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = answer
    failing(lambda: ask(server).manifest("1"))


@pytest.mark.limit(20)
def test_G06_endless_error(hostile: Make, ask) -> None:
    def answer(request: Request) -> None:
        request.begin(403, {})
        while True:
            request.write(b"no " * 20000)

    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = answer
    found = failing(lambda: ask(server).manifest("1"))
    assert found.status == 403 and len(found.detail) < 500


def test_G06_dripping_manifest(hostile: Make, ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> None:
        request.begin(200, {"Content-Type": MANIFEST})
        while True:
            request.write(b" ")
            time.sleep(0.05)

    monkeypatch.setattr(answers, "SMALL_BODY_SECONDS", 0.5)
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = answer
    assert "took more than" in failing(lambda: ask(server).manifest("1")).detail


def test_G06_gzip_bomb_as_content_encoding(hostile: Make, ask) -> None:
    server = hostile()
    server.serve_manifest(gzip.compress(b" " * (64 << 20)), Content_Encoding="gzip")
    assert "encoded" in failing(lambda: ask(server).manifest("1")).detail


def test_G10_server_text_is_printable_and_without_secrets(hostile: Make, ask) -> None:
    words = f'{{"errors": [{{"message": "\\u001b[2J\\u009b31m {PASSWORD} Bearer abcdefghijklmnop"}}]}}'
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = basic(lambda request: request.answer(403, words.encode()))
    found = failing(lambda: ask(server).manifest("1"))
    assert "\\x1b" in str(found) and "abcdefghijklmnop" not in str(found) and "***" in str(found)


@given(
    st.binary(max_size=200) | st.sampled_from([RAW, b"{}", b"[]"]),
    st.text(max_size=60) | st.sampled_from([MANIFEST, "", "text/html"]),
)
def test_any_manifest(raw: bytes, content_type: str) -> None:
    try:
        assert manifests.media_type_of(raw, content_type, manifests.ACCEPT, "x") in manifests.ACCEPT
    except SandboxError as error:
        assert error.step == "pull manifest" and str(error).isprintable()


@given(st.binary(max_size=300))
def test_any_error_text(raw: bytes) -> None:
    assert len(faults.words_of(raw, ["secret"])) <= 300


@given(st.text(max_size=60) | st.text(alphabet="htps:/[]@.%0a1\\\n é", max_size=40).map("https://".__add__))
def test_any_url(text: str) -> None:
    for make in (lambda: urls.Url(text, "x"), lambda: urls.Url("https://a.example/b", "x").join(text, "x")):
        try:
            found = make()
            assert (
                found.scheme in ("http", "https") and found.host and 0 < found.port < 65536 and found.text.isprintable()
            )
        except SandboxError as error:
            assert str(error).isprintable()


# -- status codes, retries --


@pytest.mark.parametrize(
    ("status", "attempts", "hint"),
    [
        (400, 1, ""),
        (403, 1, "sbx login"),
        (404, 1, "name"),
        (429, 5, "mirror"),
        (500, 5, "later"),
        (503, 5, "later"),
        (418, 1, ""),
    ],
)
def test_status(hostile: Make, ask, pauses: list[float], status: int, attempts: int, hint: str) -> None:
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(
        status, b'{"errors": [{"code": "NO", "message": "why"}]}'
    )
    found = failing(lambda: ask(server).manifest("1"))
    assert (found.status, len(server.requests), len(pauses)) == (status, attempts, attempts - 1)
    assert f"HTTP {status}" in found.detail and "why" in found.detail and hint in found.hint
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(pauses))


def test_retry_after(hostile: Make, ask, pauses: list[float]) -> None:
    server = hostile()
    late = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    server.routes["/v2/a/b/manifests/1"] = [
        lambda request: request.answer(429, Retry_After="7"),
        lambda request: request.answer(503, Retry_After=late),
        lambda request: request.answer(200, RAW, Content_Type=MANIFEST),
    ]
    assert ask(server).manifest("1").raw == RAW
    assert 7 <= pauses[0] <= 7.3 and 28 <= pauses[1] <= 30.3


def test_retry_after_too_long(hostile: Make, ask, pauses: list[float]) -> None:
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(429, Retry_After="3600")
    found = failing(lambda: ask(server).manifest("1"))
    assert "wait 3600 s" in found.hint and pauses == []


def test_connection_reset_is_tried_again(hostile: Make, ask, pauses: list[float]) -> None:
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = [
        Request.cut,
        Request.cut,
        lambda request: request.answer(200, RAW, Content_Type=MANIFEST),
    ]
    assert ask(server).manifest("1").raw == RAW
    assert len(pauses) == 2


@pytest.mark.parametrize("length", ["1000000", None])
def test_manifest_that_is_cut_is_asked_for_again(hostile: Make, ask, pauses: list[float], length: str | None) -> None:
    def cut(request: Request) -> None:
        request.begin(
            200,
            {"Content-Type": MANIFEST, **({"Content-Length": length} if length else {"Transfer-Encoding": "chunked"})},
        )
        request.write(RAW[:100] if length else b"fff\r\nabc")
        request.handler.close_connection = True

    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = [cut, cut, lambda request: request.answer(200, RAW, Content_Type=MANIFEST)]
    assert ask(server).manifest("1").raw == RAW and len(pauses) == 2
    server.routes["/v2/a/b/manifests/1"] = cut
    assert server.host in failing(lambda: ask(server).manifest("1")).detail


def chunked(raw: bytes, piece: int) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        request.begin(200, {"Content-Type": MANIFEST, "Transfer-Encoding": "chunked"})
        for at in range(0, len(raw), piece):
            part = raw[at : at + piece]
            request.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        request.write(b"0\r\nX-Trailer: 1\r\n\r\n")

    return answer


def test_chunked_answers(hostile: Make, ask) -> None:
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = chunked(RAW, 7)
    server.routes[f"/v2/a/b/blobs/{sha256(BLOB)}"] = chunked(BLOB, 999)
    client = ask(server)
    assert client.manifest("1").raw == RAW
    assert b"".join(client.blob(sha256(BLOB), len(BLOB))) == BLOB


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\r\n", b"GARBAGE\r\n\r\n", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nxxxxx", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 \x1b[2J\r\nContent-Type: \x1b[2J\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 302 x\r\nLocation: \xff\x00\r\nContent-Length: 0\r\n\r\n",
    ],
)  # fmt: skip
def test_answers_that_are_no_http(hostile: Make, ask, pauses: list[float], raw: bytes) -> None:
    def answer(request: Request) -> None:
        request.write(raw)
        request.handler.close_connection = True

    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = answer
    failing(lambda: ask(server).manifest("1"))


def test_echo_in_a_line_that_is_no_http(hostile: Make, ask, pauses: list[float]) -> None:
    def answer(request: Request) -> None:
        request.write(request.headers["authorization"].encode() + f" {PASSWORD}\r\n\r\n".encode())
        request.handler.close_connection = True

    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = basic(answer)
    client = ask(server)
    found = failing(lambda: client.manifest("1"))
    assert "***" in found.detail and server.requests[-1].headers["authorization"].partition(" ")[2] not in str(found)


@pytest.mark.parametrize("reference", ["", "../x", "a/b", "a?b", "x" * 129, "sha256:1", "a b", "-x"])
def test_references_that_are_none(hostile: Make, ask, reference: str) -> None:
    server = hostile()
    failing(lambda: ask(server).manifest(reference), "use reference")
    assert server.requests == []


def test_G06_idle_server(hostile: Make, ask, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "IDLE_SECONDS", 0.2)
    server = hostile()
    server.routes["/v2/a/b/manifests/1"] = lambda request: time.sleep(1)
    assert "no answer in time" in failing(lambda: ask(server).manifest("1")).detail
    assert len(pauses) == 4


# -- redirects --


def test_G01_redirect_to_another_host_goes_without_credentials(hostile: Make, ask) -> None:
    server, other = hostile(), hostile()
    digest = other.serve_blob(BLOB)
    other.serve_manifest(RAW)
    for path in (f"/v2/a/b/blobs/{digest}", "/v2/a/b/manifests/1"):
        server.routes[path] = basic(lambda request: request.answer(307, Location=f"{other.url}{request.path}"))
    client = ask(server)
    assert client.manifest("1").raw == RAW
    assert b"".join(client.blob(digest, len(BLOB))) == BLOB
    assert len(other.requests) == 2 and all("authorization" not in request.headers for request in other.requests)


def test_G01_credentials_do_not_come_back_after_a_detour(hostile: Make, ask) -> None:
    server, other = hostile(), hostile()
    server.routes["/v2/a/b/manifests/1"] = basic(lambda request: request.answer(302, Location=f"{other.url}/back"))
    other.routes["/back"] = lambda request: request.answer(302, Location=f"{server.url}/caught")
    failing(lambda: ask(server).manifest("1"))
    assert "authorization" not in server.requests[-1].headers and server.requests[-1].path == "/caught"


def test_G01_401_of_another_host_gets_nothing(hostile: Make, ask) -> None:
    server, other = hostile(), hostile()
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(307, Location=f"{other.url}/x")
    other.routes["/x"] = lambda request: request.answer(401, WWW_Authenticate=f'Bearer realm="{other.url}/token"')
    assert failing(lambda: ask(server).manifest("1")).status == 401
    assert [request.path for request in other.requests] == ["/x"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("{plain}/x", "plain http"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("ftp://127.0.0.1/x", "not an http or https URL"),
        ("https://u:p@127.0.0.1/x", "without a user"),
        ("https://[::1/x", "not a URL"),
        ("https://127.0.0.1:99999/", "not a URL"),
        ("https://me:s3cret-pass:word@127.0.0.1/?sig=s3cret-pass:word", "without a user"),
        ("\\\\x y", "not a URL"),
        ("/v2/a/b/manifests/1", "redirected more than 5 times"),
    ],
)
def test_G04_G05_redirects_that_are_not_followed(hostile: Make, ask, location: str, words: str) -> None:
    server, plain = hostile(), hostile(tls=None)
    target = location.format(plain=plain.url)
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(302, Location=target)
    assert words in failing(lambda: ask(server).manifest("1")).detail
    assert plain.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "169.254.169.254",
        "localhost",
        "0.0.0.0",
        "::ffff:127.0.0.1",
        "metadata.internal",
    ],
)
def test_inward(host: str) -> None:
    assert transport.inward(host)
    assert not transport.inward("192.0.2.1") and not transport.inward("example.org")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f000001", "localhost"])
def test_G03_redirect_into_this_machine(hostile: Make, ask, host: str) -> None:
    """Only a registry that is at this machine itself may point to it."""
    server, other = hostile(), hostile()
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(
        302, Location=f"https://{host}:{other.port}/x"
    )
    client = ask(server)
    client._session(client._sources()[0].endpoint).transport._home_inward = False
    assert "address of this machine" in failing(lambda: client.manifest("1")).detail
    assert other.requests == []
