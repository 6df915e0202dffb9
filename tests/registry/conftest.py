"""Registries for tests: Debian's docker-registry with TLS and htpasswd or tokens, and a hostile server of our own."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import Hostile
from registries import (
    PASSWORD,
    USER,
    Registry,
    TokenServer,
    make_certificates,
    needed,
    start_registry,
    stop_registry,
    with_password,
)

from sandbox.image.reference import normal
from sandbox.registry import transport
from sandbox.registry.access import Access
from sandbox.registry.client import Client


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt; server.crt/.key for 127.0.0.1 and localhost; client.cert/.key; all by the same CA."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def trusting(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A --cert-dir that trusts the CA of `certificates` and has no client certificate."""
    folder = tmp_path_factory.mktemp("trusting")
    (folder / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    return str(folder)


@pytest.fixture(autouse=True)
def nobodys_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No configuration or credentials but the test's own; returns the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name in (
            "REGISTRY_AUTH_FILE",
            "DOCKER_CONFIG",
            "CONTAINERS_REGISTRIES_CONF",
        ):
            monkeypatch.delenv(name)
    (home / "registries.conf").write_text("")
    monkeypatch.setenv("SBX_REGISTRIES_CONF", str(home / "registries.conf"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    (home / "run").mkdir()
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    yield home
    for path in home.rglob("pause.pid"):  # podman leaves a process behind
        os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not waited for."""
    found: list[float] = []
    monkeypatch.setattr(transport, "sleep", found.append)
    return found


@pytest.fixture
def hostile(certificates: Path) -> Iterator[Callable[..., Hostile]]:
    """`hostile()`: a server with TLS; `hostile(tls=None)`: without."""
    running: list[Hostile] = []

    def make(**options: Any) -> Hostile:
        running.append(Hostile(**{"tls": certificates, **options}))
        return running[-1]

    yield make
    for server in running:
        server.close()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Registry]:
    """docker-registry with TLS and htpasswd: USER, PASSWORD."""
    needed("docker-registry", "htpasswd")
    folder = tmp_path_factory.mktemp("registry")
    running = start_registry(folder, certificates, with_password(folder))
    yield running
    stop_registry(running)


@pytest.fixture(scope="session")
def token_registry(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[tuple[Registry, TokenServer]]:
    """docker-registry that wants bearer tokens, and the server that gives them."""
    needed("docker-registry")
    folder = tmp_path_factory.mktemp("token-registry")
    tokens = TokenServer(certificates, folder)
    running = start_registry(folder, certificates, {"token": {
        "realm": f"{tokens.server.url}/token", "service": "registry", "issuer": "test",
        "rootcertbundle": str(certificates / "server.crt"),
    }})  # fmt: skip
    yield running, tokens
    stop_registry(running)
    tokens.server.close()


@pytest.fixture
def ask(trusting: str) -> Callable[..., Client]:
    """`ask(server)`: a client for one of its repositories, which trusts it and logs in."""

    def make(server: Hostile, **options) -> Client:
        return Client(
            normal(f"{server.host}/a/b:1"),
            Access(**{"cert_dir": trusting, "creds": f"{USER}:{PASSWORD}", **options}),
        )

    return make
