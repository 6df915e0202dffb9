"""TLS with registries: what is trusted, and what is not asked in plain text."""

import subprocess
from pathlib import Path

import pytest
from asking import RAW, Make, failing
from registries import PASSWORD, USER

from sandbox.image.reference import normal
from sandbox.registry import (
    certificates as registry_certificates,
)
from sandbox.registry.access import Access
from sandbox.registry.client import Client

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
