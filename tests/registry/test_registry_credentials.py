"""Auth files of podman and docker, credential helpers, proxies."""

import base64
import json
import os
import select
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from hostile import Hostile, Request, manifest_bytes
from hypothesis import HealthCheck, given, settings, strategies as st

from sandbox.errors import SandboxError
from sandbox.image.reference import normal
from sandbox.registry import credentials, keeping, proxies
from sandbox.registry.access import Access
from sandbox.registry.client import Client
from sandbox.registry.credentials import AuthFile, Credentials


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def pair(found: Credentials | None) -> tuple[str, str] | None:
    return (found.username, found.password) if found else None


def test_order(monkeypatch: pytest.MonkeyPatch, nobodys_files: Path) -> None:
    """Written from the last place to the first: each takes over from the one before."""
    home = nobodys_files
    assert credentials.find("h.example") is None
    write(home / ".dockercfg", {"https://h.example/v1/": auth("dockercfg", "p")})
    for user, path in (
        ("docker", home / ".docker/config.json"),
        ("config", home / ".config/containers/auth.json"),
        ("runtime", home / "run/containers/auth.json"),
    ):
        assert pair(credentials.find("h.example")) is not None
        write(path, {"auths": {"h.example": auth(user, "p")}})
        assert pair(credentials.find("h.example")) == (user, "p")
    write(home / "elsewhere", {"auths": {"h.example": auth("variable", "p")}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "elsewhere"))
    assert pair(credentials.find("h.example")) == ("variable", "p")
    write(home / "given", {"auths": {}})
    assert credentials.find("h.example", authfile=str(home / "given")) is None
    with pytest.raises(SandboxError, match="read credentials"):
        credentials.find("h.example", authfile=str(home / "none"))


def test_docker_config(monkeypatch: pytest.MonkeyPatch, nobodys_files: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(nobodys_files / "d"))
    write(nobodys_files / "d/config.json", {"auths": {"https://index.docker.io/v1/": auth("hub", "p")}})
    assert pair(credentials.find("docker.io", "library/busybox")) == ("hub", "p")


def test_longest_namespace_wins(nobodys_files: Path) -> None:
    write(nobodys_files / "run/containers/auth.json", {"auths": {
        "h.example": auth("all", "p"), "h.example/team": auth("team", "p"), "h.example/team/app": auth("app", "p"),
        "h.example/te": auth("no", "p"),
    }})  # fmt: skip
    for repository, user in (
        ("team/app", "app"),
        ("team/other", "team"),
        ("team/app/x", "app"),
        ("else", "all"),
        ("", "all"),
        ("team", "team"),
    ):
        assert pair(credentials.find("h.example", repository)) == (user, "p"), repository
    assert credentials.find("other.example", "team/app") is None


def test_identity_token(nobodys_files: Path) -> None:
    write(
        nobodys_files / "run/containers/auth.json",
        {"auths": {"h.example": {**auth("<token>", ""), "identitytoken": "idt"}}},
    )
    found = credentials.find("h.example")
    assert found and (found.password, found.identity_token) == ("", "idt") and "idt" not in repr(found)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`docker-credential-test`: keeps what it is given in files of the folder that is returned."""
    folder = tmp_path / "kept"
    folder.mkdir()
    program = tmp_path / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
cd {folder}
echo "$1" >> calls
case $1 in
store) cat > in; name=$(sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/' in | tr / _); mv in "$name" ;;
get) read -r name; name=$(printf %s "$name" | tr / _); if [ -e "$name" ]; then cat "$name"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) read -r name; rm -f "$(printf %s "$name" | tr / _)" ;;
esac
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize("settings", [{"credHelpers": {"h.example": "test"}}, {"credsStore": "test"}])
def test_helper(helper: Path, nobodys_files: Path, settings: dict) -> None:
    path = write(nobodys_files / "run/containers/auth.json", settings)
    assert credentials.find("h.example") is None
    assert keeping.store("h.example", "", Credentials("me", "s3cret")) == "docker-credential-test"
    assert "s3cret" not in path.read_text()
    assert pair(credentials.find("h.example", "team/app")) == ("me", "s3cret")
    keeping.store("h.example", "", Credentials("", "", "idt"))
    found = credentials.find("h.example")
    assert found and found.identity_token == "idt"
    assert keeping.erase("h.example") == ["docker-credential-test"]
    assert credentials.find("h.example") is None


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "-x", "A B", "none-of-this-name"])
def test_G12_helper_names(nobodys_files: Path, name: str) -> None:
    write(nobodys_files / "run/containers/auth.json", {"credHelpers": {"h.example": name}})
    with pytest.raises(SandboxError, match="run credential helper"):
        credentials.find("h.example")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo nonsense", "not the JSON"),
        ('echo \'{"Username": 1, "Secret": 2}\'', "not the JSON"),
        ('echo \'{"Username": "a\\\\u000d", "Secret": "b"}\'', "not the JSON"),
        ("echo locked; exit 1", "locked"),
        ('echo \'{"Secret": "s3cret"}\'; exit 3', "exit status 3"),
        ("exit 2", "exit status 2"),
    ],
)
def test_helpers_that_fail(helper: Path, nobodys_files: Path, script: str, words: str) -> None:
    (helper.parent / "bin/docker-credential-test").write_text(f"#!/bin/sh\n{script}\n")
    write(nobodys_files / "run/containers/auth.json", {"credsStore": "test"})
    with pytest.raises(SandboxError) as found:
        credentials.find("h.example")
    assert words in found.value.detail and "s3cret" not in str(found.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"[]", b"{", b'{"auths": {"h.example": 1}}', b'{"auths": {"h.example": {"auth": "!!"}}}',
        b'{"auths": {"h.example": {"auth": "bm9jb2xvbg=="}}}', b'{"auths": {"h.example": {"auth": 1}}}', b"\xff",
        b'{"auths": {"h.example": {"auth": "YTpiDQpjOg=="}}}', b'{"a": 1, "a": 2}',
    ],
)  # fmt: skip
def test_broken_files(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(raw)
    with pytest.raises(SandboxError) as found:
        credentials.find("h.example", authfile=str(path))
    assert found.value.step == "read credentials" and "bm9jb2xvbg" not in str(found.value)


def test_G12_store_keeps_the_rest(nobodys_files: Path) -> None:
    path = write(nobodys_files / "run/containers/auth.json", {"auths": {"a.example": auth("a", "p")}, "x": [1]})
    path.chmod(0o644)
    assert keeping.store("h.example", "team", Credentials("me", "pä:ss")) == str(path)
    value = json.loads(path.read_text())
    assert value["x"] == [1] and set(value["auths"]) == {"a.example", "h.example/team"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pair(credentials.find("h.example", "team/x")) == ("me", "pä:ss")
    assert keeping.erase("h.example", "team") == [str(path)] and keeping.erase("h.example", "team") == []
    assert [name for name in os.listdir(path.parent) if name.startswith(".auth")] == []


def test_store_through_a_link(nobodys_files: Path, tmp_path: Path) -> None:
    (nobodys_files / "run/containers").mkdir()
    (nobodys_files / "run/containers/auth.json").symlink_to(tmp_path / "real.json")
    keeping.store("h.example", "", Credentials("me", "p"))
    assert (nobodys_files / "run/containers/auth.json").is_symlink() and "h.example" in (
        tmp_path / "real.json"
    ).read_text()


def test_logins_at_once(nobodys_files: Path) -> None:
    threads = [
        threading.Thread(target=keeping.store, args=(f"h{n}.example", "", Credentials("me", "p"))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((nobodys_files / "run/containers/auth.json").read_text())["auths"]) == 20


def test_podman_reads_what_we_store(nobodys_files: Path) -> None:
    path = nobodys_files / "auth.json"
    keeping.store("h.example", "", Credentials("me", "p"), str(path))
    done = subprocess.run(
        ["podman", "login", "--get-login", "--authfile", str(path), "h.example"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "me\n"), done.stderr


entries = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=12), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["auths", "h.example", "https://h.example/v1/", "auth", "username", "password", "identitytoken"]), inner, max_size=4), max_leaves=10)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries | st.fixed_dictionaries({"auths": entries}) | st.binary(max_size=100))
def test_any_auth_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "auth.json"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    for old in (False, True):
        try:
            found = credentials.find_in(AuthFile(str(path), old=old), "h.example", "team/app")
            assert found is None or found.username + found.password + found.identity_token
        except SandboxError as error:
            assert error.step == "read credentials"


# -- proxies --


@pytest.mark.parametrize(
    ("rules", "host", "port", "expected"),
    [
        ("", "a.example", 443, False),
        ("*", "a.example", 443, True),
        ("example", "a.example", 443, True),
        ("a.example", "a.example", 443, True),
        (".example", "a.example", 443, True),
        (".a.example", "a.example", 443, False),
        ("*.example", "a.example", 443, True),
        ("b.example, a.example ", "A.EXAMPLE.", 443, True),
        ("xample", "a.example", 443, False),
        ("a.example:443", "a.example", 443, True),
        ("a.example:80", "a.example", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("2001:db8::/32", "2001:db8::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("nonsense/9", "a.example", 443, False),
    ],
)
def test_no_proxy(rules: str, host: str, port: int, expected: bool) -> None:
    assert proxies.excluded(host, port, rules) is expected


def test_proxy_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    assert proxies.proxy_for("https", "a.example", 443) == "http://proxy.example:3128"
    assert proxies.proxy_for("http", "a.example", 80) == ""
    assert proxies.proxy_for("https", "127.0.0.1", 443) == proxies.proxy_for("https", "localhost", 443) == ""
    monkeypatch.setenv("NO_PROXY", "a.example")
    assert proxies.proxy_for("https", "a.example", 443) == ""


def test_request_through_a_proxy(hostile, monkeypatch: pytest.MonkeyPatch, trusting: str) -> None:
    """Plain http to the proxy with the proxy's own credentials; the registry's name is the proxy's to resolve."""
    proxy: Hostile = hostile(tls=None)
    proxy.routes["CONNECT registry.test:443"] = lambda request: request.answer(407)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:proxypass@{proxy.host}")
    with (
        Client(normal("registry.test/a/b:1"), Access(cert_dir=trusting, creds="u:registrypass")) as client,
        pytest.raises(SandboxError) as found,
    ):
        client.manifest("1")
    assert next((request.method, request.path) for request in proxy.requests) == ("CONNECT", "registry.test:443")
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:proxypass").decode()
    assert (
        "407" in str(found.value) and "proxypass" not in str(found.value) and proxy.secrets_seen("registrypass") == []
    )


def test_tls_through_a_proxy(hostile, monkeypatch: pytest.MonkeyPatch, trusting: str) -> None:
    """The tunnel of CONNECT: the proxy sees neither the request nor the registry's credentials."""
    proxy: Hostile = hostile(tls=None)
    server: Hostile = hostile()
    server.serve_manifest(manifest_bytes(b"layer"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")

    def tunnel(request: Request) -> None:
        request.handler.close_connection = True
        request.handler.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            ends = {request.handler.connection: other, other: request.handler.connection}
            while True:
                for ready in select.select(list(ends), [], [])[0]:
                    raw = ready.recv(65536)
                    if not raw:
                        return
                    ends[ready].sendall(raw)

    proxy.routes["CONNECT registry.test:443"] = tunnel
    with Client(normal("registry.test/a/b:1"), Access(cert_dir=trusting, creds="u:registrypass")) as client:
        assert client.manifest("1").raw == manifest_bytes(b"layer")
    assert len(proxy.requests) == 1 and proxy.secrets_seen("registrypass", "manifests") == []


@pytest.mark.parametrize("creds", ["onlythepassword", ":p"])
def test_creds_without_a_user(hostile, trusting: str, creds: str) -> None:
    server: Hostile = hostile()
    server.routes["/v2/a/b/manifests/1"] = lambda request: request.answer(401, WWW_Authenticate='Basic realm="x"')
    with (
        Client(normal(f"{server.host}/a/b:1"), Access(cert_dir=trusting, creds=creds)) as client,
        pytest.raises(SandboxError) as found,
    ):
        client.manifest("1")
    assert "USER:PASSWORD" in str(found.value) and creds not in str(found.value)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://", "http://[::1", "ftp://me:proxypass@x"])
def test_proxies_that_can_not_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with Client(normal("registry.test/a/b:1")) as client, pytest.raises(SandboxError, match="use proxy") as found:
        client.manifest("1")
    assert "proxypass" not in str(found.value)
    assert ("a SOCKS proxy" in found.value.detail) == proxy.startswith("socks")
