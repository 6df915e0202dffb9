"""A pull of what is there, where a login, mirrors or a proxy are in between: still no HTTP library, and no secret goes astray."""

import base64
import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import images
import pytest
from hostile import Hostile, Request, sha256
from registries import PASSWORD, USER, Registry, insecure
from support import Sbx, clean_environment, launcher_path
from test_transfer_faults import Served

from sandbox.errors import SandboxError
from sandbox.registry import glance, glance_login

PATH = "/v2/a/b/manifests/1"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
FULL = ["GET /v2/", f"HEAD {PATH}"]


@pytest.fixture
def served(hostile: Hostile) -> Served:
    served = Served(hostile)
    hostile.serve_manifest(served.manifest, Docker_Content_Digest=sha256(served.manifest))
    return served


@pytest.fixture
def puller(tmp_path: Path, session_folder: Path, hostile: Hostile) -> Iterator[Sbx]:
    environment = {**clean_environment(session_folder), **insecure(tmp_path, hostile.host)}
    environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "auth.json")
    (tmp_path / "auth.json").write_text("{}")
    yield Sbx(tmp_path / "store", environment, launcher_path())
    images.remove_tree(tmp_path / "store")


def log_in(puller: Sbx, *hosts: str, **more: str) -> None:
    auth = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), **more}
    Path(puller.environment["REGISTRY_AUTH_FILE"]).write_text(json.dumps({"auths": dict.fromkeys(hosts, auth)}))


def wanting(server: Hostile, expected: Callable[[str], bool], challenge: str) -> None:
    """Have all of `server` but the token server behind a login."""
    for path, route in list(server.routes.items()):
        if path.startswith("/v2/"):

            def guarded(request: Request, route: Any = route) -> None:
                if expected(request.headers.get("authorization", "")):
                    route(request)
                else:
                    request.answer(401, b"{}", Www_Authenticate=challenge)

            server.routes[path] = guarded


def pulled(puller: Sbx, served: Served, *words: str) -> list[str]:
    served.server.requests.clear()
    done = puller("pull", *words, f"{served.server.host}/a/b:1")
    assert (done.returncode, done.stdout.strip()) == (0, sha256(served.config)[7:]), done.stderr
    return [f"{request.method} {request.path}" for request in served.server.requests]


def kept(puller: Sbx) -> str:
    """All that is in the records of this store, and what they are called."""
    folder = puller.store / "images"
    return "".join(f"{path.name}{path.read_bytes()!r}" for path in folder.iterdir() if path.name.startswith("glance"))


def test_a_basic_login_is_used_at_once(puller: Sbx, served: Served, tmp_path: Path) -> None:
    wanting(served.server, lambda said: said == BASIC, 'Basic realm="x"')
    log_in(puller, served.server.host)
    (tmp_path / "other.json").write_text(json.dumps({"auths": {served.server.host: {"auth": BASIC[6:]}}}))
    pulled(puller, served)
    assert pulled(puller, served) == [f"HEAD {PATH}"]
    assert served.server.requests[0].headers["authorization"] == BASIC
    assert PASSWORD not in kept(puller) and BASIC[6:] not in kept(puller) and "/a/b" in kept(puller)
    log_in(puller, "elsewhere.example")
    served.server.requests.clear()
    done = puller("pull", "--retry", "0", f"{served.server.host}/a/b:1")
    assert done.returncode == 125 and "wants a login" in done.stderr
    assert not served.server.secrets_seen(BASIC)
    assert pulled(puller, served, "--authfile", str(tmp_path / "other.json")) == [f"HEAD {PATH}"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_token_is_asked_for_each_time(puller: Sbx, served: Served, chunked: bool) -> None:
    server = served.server
    answer = json.dumps({"token": "t0ken-of-this-test", "expires_in": 300}).encode()

    def token(request: Request) -> None:
        if request.headers.get("authorization") != BASIC:
            request.answer(401, b"{}")
        elif chunked:
            request.begin(200, {"Transfer-Encoding": "chunked", "Connection": "close"})
            request.write(b"%x;x=y\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (9, answer[:9], len(answer) - 9, answer[9:]))
        else:
            request.answer(200, answer)

    server.routes["/token"] = token
    challenge = f'Bearer realm="{server.url}/token",service="s e",scope="repository:a/b:pull"'
    wanting(server, lambda said: said == "Bearer t0ken-of-this-test", challenge)
    log_in(puller, server.host)
    pulled(puller, served)
    assert pulled(puller, served) == ["GET /token", f"HEAD {PATH}"]
    assert server.requests[0].query == f"service=s+e&scope=repository%3Aa%2Fb%3Apull&account={USER}"
    assert not server.secrets_seen(BASIC) or server.secrets_seen(BASIC) == ["GET /token"]
    assert "t0ken" not in kept(puller) and BASIC[6:] not in kept(puller)
    server.routes["/token"] = [lambda request: request.answer(307, Location=f"{server.url}/v2/"), token]
    assert pulled(puller, served)[0] == "GET /token"  # and the full way does the rest


def test_an_identity_token_is_traded(puller: Sbx, served: Served) -> None:
    server = served.server
    server.routes["POST /token"] = lambda request: request.answer(200, b'{"access_token": "traded-for-identity"}')
    wanting(server, lambda said: said == "Bearer traded-for-identity", f'Bearer realm="{server.url}/token"')
    log_in(puller, server.host, identitytoken="who-i-am-token")
    pulled(puller, served)
    assert pulled(puller, served) == ["POST /token", f"HEAD {PATH}"]
    assert server.secrets_seen("who-i-am-token") == ["POST /token"]


def place(**changes: Any) -> dict[str, Any]:
    found = {"origin": "https://registry.example", "verify": True, "host": "registry.example", "path": "a/b",
             "mirror": False, "login": ("basic", {})}  # fmt: skip
    return {**found, **changes}


@pytest.mark.parametrize(
    ("login", "origin", "verify"),
    [
        (("basic", {}), "http://registry.example", False),
        (("bearer", {"realm": "https://registry.example/token"}), "http://registry.example", False),
        (("bearer", {"realm": "http://registry.example/token"}), "https://registry.example", True),
        (("bearer", {"realm": "http://auth.registry.example/token"}), "https://registry.example", False),
        (("bearer", {"realm": "https://elsewhere.invalid/token"}), "https://registry.example", True),
        (("bearer", {"realm": "https://127.0.0.1/token"}), "https://registry.example", True),
        (("bearer", {"realm": "https://registry.example@127.0.0.1/token"}), "https://registry.example", True),
        (("bearer", {}), "https://registry.example", True),
    ],
)
def test_a_password_goes_where_the_full_way_lets_it_go(
    login: Any, origin: str, verify: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    auth = tmp_path / "auth.json"
    auth.write_text(json.dumps({"auths": {"registry.example": {"auth": BASIC[6:]}}}))

    def asked(*words: Any, **more: Any) -> Any:
        raise AssertionError(f"asked: {words}")

    monkeypatch.setattr(glance, "exchange", asked)
    seen = place(origin=origin, verify=verify, login=login)
    with pytest.raises((ValueError, SandboxError)):
        glance_login.authorization(seen, "", str(auth), time.monotonic() + 5)


@pytest.fixture
def mirrored(puller: Sbx, served: Served, tmp_path: Path) -> Iterator[tuple[Hostile, Hostile]]:
    """(a mirror without the image, one with it) of registry.example."""
    empty = Hostile(tls=None)
    lines = ['[[registry]]\nlocation = "registry.example"\n']
    lines += [
        f'[[registry.mirror]]\nlocation = "{server.host}"\ninsecure = true\n' for server in (empty, served.server)
    ]
    (tmp_path / "registries.conf").write_text("".join(lines))
    yield empty, served.server
    empty.close()


def test_mirrors_are_asked_in_their_order(puller: Sbx, served: Served, mirrored: tuple[Hostile, Hostile]) -> None:
    empty, full = mirrored

    def asked(*words: str) -> tuple[list[str], list[str]]:
        for server in mirrored:
            server.requests.clear()
        done = puller("pull", "-q", *words, "registry.example/a/b:1")
        assert (done.returncode, done.stdout.strip()) == (0, sha256(served.config)[7:]), done.stderr
        first, second = ([f"{r.method} {r.path}" for r in server.requests] for server in mirrored)
        return first, second

    asked()
    assert asked() == ([f"HEAD {PATH}"], [f"HEAD {PATH}"])
    # A certificate or password of the command line is not for a mirror.
    assert asked("--tls-verify=true")[0] == FULL
    assert asked("--tls-verify=true") == ([f"HEAD {PATH}"], [f"HEAD {PATH}"])
    # A mirror that fails, or has the image now, decides nothing.
    empty.routes[PATH] = lambda request: request.answer(503)
    assert "GET /v2/" in asked()[0]
    served_before = full.routes[PATH]
    empty.routes[PATH] = served_before
    assert asked()[1] == []  # the first has it now, and is asked alone
    assert asked() == ([f"HEAD {PATH}"], [])


def test_a_mirror_with_wrong_bytes(puller: Sbx, served: Served, hostile: Hostile, tmp_path: Path) -> None:
    """Of the right size: the next place is asked, and no record is left that would ask the mirror first."""
    bad = Served(Hostile(tls=None))
    bad.server.routes[bad.path(1)] = lambda request: request.answer(200, bytes(len(bad.layers[1])))
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{hostile.host}"\ninsecure = true\n'
        f'[[registry.mirror]]\nlocation = "{bad.server.host}"\ninsecure = true\n'
    )
    try:
        done = puller("pull", "--retry", "0", f"{hostile.host}/a/b:1")
    finally:
        bad.server.close()
    assert (done.returncode, done.stdout.strip()) == (0, sha256(served.config)[7:]), done.stderr
    assert "the next place is asked" in done.stderr and kept(puller) == ""


def test_a_body_of_many_small_parts() -> None:
    raw = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    began = time.process_time()
    assert glance._whole([("transfer-encoding", "chunked")], raw) == b"x" * 100_000
    assert time.process_time() - began < 1
    for wrong in (b"", b"5", b"5\r\nab", b"-1\r\nab\r\n", b"2\r\nabc\r\n0\r\n", b"x\r\n", b"2\r\nab\r\n"):
        with pytest.raises(ValueError):
            glance._whole([("transfer-encoding", "chunked")], wrong)


@pytest.fixture
def tunnel() -> Iterator[tuple[Hostile, dict[str, str]]]:
    """(an http proxy, where it connects to what is asked for by name)."""
    server, places = Hostile(tls=None), {}

    def connected(request: Request) -> None:
        host, _, port = places[request.path].partition(":")
        request.begin(200, {})
        request.handler.wfile.flush()
        ends = [request.handler.connection, socket.create_connection((host, int(port)))]
        request.handler.close_connection = True
        while ready := select.select(ends, [], [], 10)[0]:
            for end in ready:
                piece = end.recv(65536)
                if not piece:
                    ends[1].close()
                    return
                ends[1 - ends.index(end)].sendall(piece)

    server.routes["CONNECT registry.test:443"] = connected
    yield server, places
    server.close()


def test_through_a_proxy_with_a_login(
    puller: Sbx, secured: tuple[Registry, Path], tunnel: tuple[Hostile, dict[str, str]],
    layered_oci: Callable[[int], images.Images],
) -> None:  # fmt: skip
    registry, trusting = secured
    proxy, places = tunnel
    places["registry.test:443"] = registry.host
    log_in(puller, registry.host, "registry.test")
    target = f"docker://{registry.host}/proxied:1"
    copied = puller("copy", "-q", "--dest-cert-dir", trusting, layered_oci(3).oci, target)
    assert copied.returncode == 0, copied.stderr
    puller.environment |= {"HTTPS_PROXY": f"http://proxy-user:proxy-s3cret@{proxy.host}", "NO_PROXY": ""}
    words = ("pull", "-q", "--cert-dir", trusting, "registry.test/proxied:1")
    first = puller(*words)
    assert first.returncode == 0, first.stderr
    proxy.requests.clear()
    script = Path(puller.launcher).read_text().replace(" -IS ", " -ISv ")
    second = Sbx(puller.store, puller.environment, "/bin/sh")("-c", script, puller.launcher, *words)
    assert second.stdout == first.stdout and "import 'urllib3" not in second.stderr
    [request] = proxy.requests
    assert request.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"proxy-user:proxy-s3cret").decode()
    assert "authorization" not in request.headers
    assert "proxy-s3cret" not in kept(puller) and PASSWORD not in kept(puller)
