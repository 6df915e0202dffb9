"""What a broken or hostile registry can do to a pull: each fault ends in one line that names the step, and no secret leaves."""

import gzip
import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import MANIFEST, Hostile, Request, manifest_bytes, sha256
from hypothesis import given, strategies as st
from registries import PASSWORD, USER

from sandbox.errors import SandboxError
from sandbox.image.reference import normal
from sandbox.registry import (
    answers,
    certificates as registry_certificates,
    connections,
    downloads,
    faults,
    manifests,
    transport,
    urls,
)
from sandbox.registry.access import Access
from sandbox.registry.client import Client
from sandbox.registry.faults import RegistryError

Make = Callable[..., Hostile]
RAW = manifest_bytes(b"layer")
BLOB = os.urandom(200_000)


@pytest.fixture
def ask(trusting: str) -> Callable[..., Client]:
    def make(server: Hostile, **options) -> Client:
        return Client(
            normal(f"{server.host}/a/b:1"),
            Access(**{"cert_dir": trusting, "creds": f"{USER}:{PASSWORD}", **options}),
        )

    return make


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


def endless(request: Request) -> None:
    request.begin(200, {"Content-Type": MANIFEST})
    while True:
        request.write(b" " * 65536)


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


# -- TLS --


def test_G05_no_plain_http_after_a_tls_failure(hostile: Make, certificates: Path) -> None:
    server = hostile()
    with Client(normal(f"{server.host}/a/b:1"), Access(creds=f"{USER}:{PASSWORD}")) as client:
        assert "not trusted" in failing(lambda: client.manifest("1")).detail
    assert server.requests == []


def test_G05_plain_http_only_when_allowed(hostile: Make, ask) -> None:
    server = hostile(tls=None)
    server.serve_manifest(RAW)
    found = failing(lambda: ask(server).manifest("1"))
    assert "TLS failed" in found.detail and "--tls-verify=false" in found.hint and server.requests == []
    assert ask(server, tls_verify=False).manifest("1").raw == RAW


@pytest.fixture
def hashed(certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder of CAs, empty but for one that signed nothing."""
    folder = tmp_path / "hashed"
    folder.mkdir()
    (folder / "01234567.0").write_bytes((certificates / "server.crt").read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    return folder


def test_authority_in_the_hashed_folder(hostile: Make, hashed: Path, certificates: Path) -> None:
    server = hostile()
    server.serve_manifest(RAW)
    with Client(normal(f"{server.host}/a/b:1")) as client:
        assert "not trusted" in failing(lambda: client.manifest("1")).detail
    name = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", certificates / "ca.crt"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (hashed / f"{name}.0").write_bytes((certificates / "ca.crt").read_bytes())
    with Client(normal(f"{server.host}/a/b:1")) as client:
        assert client.manifest("1").raw == RAW


def test_authority_in_the_bundle_only(
    hostile: Make, hashed: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hostile()
    server.serve_manifest(RAW)
    monkeypatch.setattr(registry_certificates, "hashed_folder", lambda: str(hashed))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))
    with Client(normal(f"{server.host}/a/b:1")) as client:
        assert client.manifest("1").raw == RAW


def test_client_certificate(hostile: Make, ask, certificates: Path, tmp_path: Path, pauses: list[float]) -> None:
    server = hostile(client_ca=certificates / "ca.crt")
    server.serve_manifest(RAW)
    found = failing(lambda: ask(server).manifest("1"))
    assert server.requests == [] and ("client.cert" in found.hint or "check the network" in found.hint)
    for name in ("client.cert", "client.key", "ca.crt"):
        (tmp_path / name).write_bytes((certificates / name).read_bytes())
    assert ask(server, cert_dir=str(tmp_path)).manifest("1").raw == RAW
    (tmp_path / "client.key").unlink()
    failing(lambda: ask(server, cert_dir=str(tmp_path)).manifest("1"), "read certificate")
    (tmp_path / "ca.crt").write_text("nonsense")
    (tmp_path / "client.cert").unlink()
    assert "PEM" in failing(lambda: ask(server, cert_dir=str(tmp_path)).manifest("1"), "read certificate").detail


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
