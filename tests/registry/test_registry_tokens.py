"""Bearer tokens: whom the password is sent to, what a token may look like, how long it is kept."""

import json
import threading
import time
from collections.abc import Callable

import pytest
from hostile import MANIFEST, Hostile, Request, manifest_bytes
from hypothesis import given, strategies as st
from registries import PASSWORD, USER

from sandbox.errors import SandboxError
from sandbox.image.reference import normal
from sandbox.registry import challenge, proxies, tokens
from sandbox.registry.access import Access
from sandbox.registry.client import Client
from sandbox.registry.names import Endpoint
from sandbox.registry.session import Session

Make = Callable[..., Hostile]
RAW = manifest_bytes(b"layer")
TOKEN = "the-t0ken-of-this-test"


def bearer(server: Hostile, realm: str, token: str = TOKEN) -> None:
    """`server` gives its manifest for `token` only."""

    def answer(request: Request) -> None:
        if request.headers.get("authorization") == f"Bearer {token}":
            request.answer(200, RAW, Content_Type=MANIFEST)
        else:
            request.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s p&c",scope="repository:a/b:pull"')

    server.routes["/v2/a/b/manifests/1"] = answer


def client(server: Hostile, trusting: str, **options) -> Client:
    return Client(
        normal(f"{server.host}/a/b:1"), Access(**{"cert_dir": trusting, "creds": f"{USER}:{PASSWORD}", **options})
    )


def refused(ours: Client) -> SandboxError:
    with pytest.raises(SandboxError) as found:
        ours.manifest("1")
    shown = f"{found.value}{found.value.hint}"
    assert PASSWORD not in shown and TOKEN not in shown and shown.isprintable()
    return found.value


def test_token_is_asked_for_once(hostile: Make, trusting: str) -> None:
    server = hostile()
    server.routes["/token"] = lambda request: request.answer(200, json.dumps({"token": TOKEN}).encode())
    bearer(server, f"{server.url}/token?keep=1")
    ours = client(server, trusting)
    threads = [threading.Thread(target=ours.manifest, args=("1",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ours.manifest("1").raw == RAW
    asked = [request for request in server.requests if request.path == "/token"]
    assert 1 <= len(asked) <= 6
    assert asked[0].query == "keep=1&service=s+p%26c&scope=repository%3Aa%2Fb%3Apull&account=me"
    assert asked[0].headers["authorization"].startswith("Basic ")


def test_token_that_is_over_is_asked_for_again(hostile: Make, trusting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = hostile()
    server.routes["/token"] = lambda request: request.answer(
        200, json.dumps({"access_token": TOKEN, "expires_in": 100}).encode()
    )
    bearer(server, f"{server.url}/token")
    ours = client(server, trusting)
    ours.manifest("1")
    later = time.monotonic() + 95
    monkeypatch.setattr(time, "monotonic", lambda: later)
    ours.manifest("1")
    assert [request.path for request in server.requests].count("/token") == 2


def test_G02_password_stays_with_its_domain(hostile: Make, trusting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server, realm = hostile(), hostile()
    realm.routes["/token"] = lambda request: request.answer(200, json.dumps({"token": "anonymous-token"}).encode())
    bearer(server, f"{realm.url}/token")
    monkeypatch.setattr(tokens, "trusted", lambda registry, host: False)
    found = refused(client(server, trusting))
    assert "the password was not sent to 127.0.0.1" in found.hint and "SBX_TOKEN_HOSTS=" in found.hint
    assert realm.requests and all("authorization" not in request.headers for request in realm.requests)
    assert all("account" not in request.query for request in realm.requests)


@pytest.mark.parametrize(
    ("registry", "realm", "expected"),
    [
        ("quay.io", "quay.io", True),
        ("docker.io", "auth.docker.io", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.example.org", "auth.example.org", True),
        ("registry.gitlab.example.org", "gitlab.example.org", True),
        ("127.0.0.1", "localhost", True),
        ("docker.io", "evil.example", False),
        ("registry.example.co.uk", "evil.co.uk", False),
        ("registry.example.co.uk", "auth.example.co.uk", True),
        ("us.icr.io", "icr.io", True),
        ("registry.corp.local", "auth.corp.local", True),
        ("1.dkr.ecr.us-east-1.amazonaws.com", "2.dkr.ecr.us-east-1.amazonaws.com", False),
        ("1.dkr.ecr.us-east-1.amazonaws.com", "1.dkr.ecr.us-east-1.amazonaws.com", True),
        ("registry.example.com.au", "other.com.au", False),
        ("a.github.io", "b.github.io", False),
        ("mine.azurecr.io", "yours.azurecr.io", False),
        ("registry.example.org", "example.org.evil.net", False),
        ("example.org", "notexample.org", False),
        ("10.0.0.1", "10.1.0.1", False),
        ("192.0.2.7", "198.51.2.7", False),
        ("localhost", "example.org", False),
    ],
)
def test_G02_trusted(registry: str, realm: str, expected: bool) -> None:
    assert tokens.trusted(registry, realm) is expected


def test_trusted_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBX_TOKEN_HOSTS", "a.example=x.example, b.example=auth.other")
    assert tokens.trusted("b.example", "auth.other") and not tokens.trusted("a.example", "auth.other")


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("{plain}/token", "plain http"),
        ("file:///etc/passwd", "not an http or https"),
        ("", "not an http or https"),
        ("gopher://127.0.0.1/", "not an http or https"),
        ("https://u:p@127.0.0.1/", "without a user"),
        ("https://" + "a" * 70 + ".example/", ""),
        ("https://a..b/", ""),
        ("https://%31%32%37.0.0.1/", ""),
        ("https://127.1:1/", ""),
    ],
)
def test_G03_realms_that_are_not_asked(hostile: Make, trusting: str, realm: str, words: str) -> None:
    server, plain = hostile(), hostile(tls=None)
    bearer(server, realm.format(plain=plain.url))
    assert words in refused(client(server, trusting)).detail
    assert plain.requests == []


def test_G03_realm_inside(hostile: Make, trusting: str) -> None:
    """A registry elsewhere that names a token server on this machine."""
    session = Session(Endpoint("registry.example", "a/b"))
    for realm in ("https://127.0.0.1:1/t", "https://169.254.169.254/latest", "https://localhost/t", "https://[::1]/t"):
        with pytest.raises(SandboxError) as found:
            tokens.fetch(session.transport, {"realm": realm}, [], None, "x")
        assert "address of this machine" in found.value.detail


def test_G03_realm_that_redirects(hostile: Make, trusting: str) -> None:
    server, other = hostile(), hostile()
    server.routes["/token"] = lambda request: request.answer(302, Location=f"{other.url}/token")
    bearer(server, f"{server.url}/token")
    assert "redirects" in refused(client(server, trusting)).detail
    assert other.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"nonsense", b'{"token": ""}', b'{"token": 7}', b'{"token": "a\\r\\nX-Evil: 1"}', b'{"token": "a b"}',
        b'{"token": "\\u00e9"}', b'{"token": "x", "token": "y"}', b'{"token": "' + b"x" * 70_000 + b'"}', b"\xff\xfe",
        b"[" * 50_000,
    ],
)  # fmt: skip
def test_G09_tokens_that_can_not_be_used(hostile: Make, trusting: str, body: bytes) -> None:
    server = hostile()
    server.routes["/token"] = lambda request: request.answer(200, body)
    bearer(server, f"{server.url}/token")
    found = refused(client(server, trusting))
    assert found.step == "get token" and "no token that can be used" in found.detail
    assert len(server.requests) == 2


@pytest.mark.limit(20)
def test_G06_endless_token(hostile: Make, trusting: str) -> None:
    def endless(request: Request) -> None:
        request.begin(200, {})
        while True:
            request.write(b" " * 65536)

    server = hostile()
    server.routes["/token"] = endless
    bearer(server, f"{server.url}/token")
    assert "longer than 1024 KiB" in refused(client(server, trusting)).detail


def test_token_is_not_shown(hostile: Make, trusting: str) -> None:
    server = hostile()
    server.routes["/token"] = lambda request: request.answer(200, json.dumps({"token": TOKEN}).encode())
    bearer(server, f"{server.url}/token", "another")
    found = refused(client(server, trusting))
    assert found.status == 401 and [request.path for request in server.requests].count("/token") == 1


def test_token_that_was_revoked(hostile: Make, trusting: str) -> None:
    server = hostile()
    server.routes["/token"] = lambda request: request.answer(200, json.dumps({"token": TOKEN}).encode())
    bearer(server, f"{server.url}/token")
    ours = client(server, trusting)
    ours.manifest("1")
    server.routes["/token"] = lambda request: request.answer(200, json.dumps({"token": "another"}).encode())
    bearer(server, f"{server.url}/token", "another")
    assert ours.manifest("1").raw == RAW


def test_registry_that_echoes_the_token(hostile: Make, trusting: str) -> None:
    server = hostile()
    server.routes["/token"] = lambda request: request.answer(200, json.dumps({"token": TOKEN}).encode())

    def answer(request: Request) -> None:
        if "authorization" in request.headers:
            echo = json.dumps({"errors": [{"message": f"bad header {request.headers['authorization']}"}]})
            request.answer(403, echo.encode())
        else:
            request.answer(401, WWW_Authenticate=f'Bearer realm="{server.url}/token"')

    server.routes["/v2/a/b/manifests/1"] = answer
    assert "bad header Bearer ***" in refused(client(server, trusting)).detail


def test_G05_no_password_over_plain_http(monkeypatch: pytest.MonkeyPatch, hostile: Make) -> None:
    server = hostile(tls=None)
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(401, WWW_Authenticate='Basic realm="x"')
    ours = client(server, "", tls_verify=False)
    monkeypatch.setattr(proxies, "loopback", lambda host: False)
    found = refused(ours)
    assert "plain http" in found.detail and server.secrets_seen(PASSWORD, "Basic") == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        ('Bearer realm="https://a/t",service=s , scope="x:y:pull,push"', [("bearer", {"realm": "https://a/t", "service": "s", "scope": "x:y:pull,push"})]),
        ('Negotiate, Basic realm="a\\"b"', [("negotiate", {}), ("basic", {"realm": 'a"b'})]),
        ("Negotiate YII=, Bearer realm=x", [("negotiate", {}), ("bearer", {"realm": "x"})]),
        ("basic", [("basic", {})]),
        ("Bearer realm=a, realm=b", [("bearer", {"realm": "a"})]),
        ('Basic realm="a\r\nb"', []),
        ("realm=x", []),
        ("", []),
    ],
)  # fmt: skip
def test_challenges(header: str, expected: list) -> None:
    assert [(entry.scheme, entry.parameters) for entry in challenge.parse(header)] == expected


@given(st.text(max_size=300) | st.text(alphabet='Bearr basic="\\,; \t', max_size=300))
def test_G09_any_challenge(header: str) -> None:
    for entry in challenge.parse(header):
        assert entry.scheme.isascii() and entry.scheme == entry.scheme.lower()


@pytest.mark.limit(10)
@pytest.mark.parametrize(
    "header", ["Bearer " + "a=" * 100_000, 'Bearer a="' + "\\" * 100_000, "a " * 100_000, "," * 100_000, 'x="' * 50_000]
)
def test_G09_challenges_cost_little(header: str) -> None:
    began = time.monotonic()
    challenge.parse(header)
    assert time.monotonic() - began < 0.5


names = st.from_regex(r"[a-z0-9]{1,8}(=?=?)", fullmatch=True).map(lambda text: text.rstrip("=") or "a")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["basic", "bearer"]),
            st.dictionaries(
                names, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20), min_size=1, max_size=4
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_challenges_round_trip(entries: list) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ",".join(f"{key}={quoted(value)}" for key, value in parameters.items())
        for scheme, parameters in entries
    )
    assert [(entry.scheme, entry.parameters) for entry in challenge.parse(header)] == entries
