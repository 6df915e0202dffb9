"""The client against Debian's docker-registry, with TLS and htpasswd or tokens."""

import io
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from hostile import MANIFEST, manifest_bytes, sha256
from registries import PASSWORD, USER, Registry, TokenServer

from sandbox.errors import SandboxError
from sandbox.image.reference import normal
from sandbox.registry import downloads, keeping, uploads
from sandbox.registry.access import Access
from sandbox.registry.client import Client
from sandbox.registry.credentials import Credentials
from sandbox.registry.faults import RegistryError

LAYER = os.urandom(3_000_001)


def opener(raw: bytes):
    def at(offset: int) -> BinaryIO:
        stream = io.BytesIO(raw)
        stream.seek(offset)
        return stream

    return at


def push(client: Client, *layers: bytes, tag: str = "1") -> str:
    for raw in (b"{}", *layers):
        client.upload(sha256(raw), len(raw), opener(raw))
    return client.put_manifest(tag, manifest_bytes(*layers), MANIFEST)


def client(registry: Registry, trusting: str, name: str = "a/b", **options) -> Client:
    return Client(
        normal(f"{registry.host}/{name}:1"),
        Access(**{"creds": f"{USER}:{PASSWORD}", "cert_dir": trusting, **options}),
    )


def test_push_and_pull(registry: Registry, trusting: str) -> None:
    with client(registry, trusting, "round/trip") as ours:
        digest = push(ours, LAYER)
        assert ours.head("1") == (MANIFEST, digest, len(manifest_bytes(LAYER)))
        assert ours.manifest("1") == (manifest_bytes(LAYER), MANIFEST, digest)
        assert ours.manifest(digest).digest == digest
        assert b"".join(ours.blob(sha256(LAYER), len(LAYER))) == LAYER
        assert b"".join(ours.blob(sha256(LAYER), len(LAYER), 1000)) == LAYER[1000:]
        assert ours.has_blob(sha256(LAYER)) == len(LAYER)
        assert ours.has_blob(sha256(b"none")) is None
        assert ours.head("2") is None
        assert ours.tags() == ["1"]
        assert "round/trip" in ours.catalog("trip")
        ours.delete(digest)
        assert ours.head("1") is None


def test_empty_blob(registry: Registry, trusting: str) -> None:
    with client(registry, trusting, "empty") as ours:
        ours.upload(sha256(b""), 0, opener(b""))
        assert ours.has_blob(sha256(b"")) == 0
        assert b"".join(ours.blob(sha256(b""), 0)) == b""


def test_mount(registry: Registry, trusting: str) -> None:
    with client(registry, trusting, "from/here") as ours, client(registry, trusting, "to/there") as other:
        ours.upload(sha256(LAYER), len(LAYER), opener(LAYER))
        assert other.has_blob(sha256(LAYER)) is None
        assert other.mount(sha256(LAYER), "from/here") is True
        assert other.has_blob(sha256(LAYER)) == len(LAYER)
        assert other.mount(sha256(b"nothing"), "from/here") is False


def test_chunked_upload(registry: Registry, trusting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 1 << 20)
    with client(registry, trusting, "chunked") as ours:
        upload = uploads.Upload(ours._home(), sha256(LAYER), len(LAYER), opener(LAYER), "chunked")
        upload.chunk = 1 << 20
        upload.run()
        assert b"".join(ours.blob(sha256(LAYER), len(LAYER))) == LAYER


def test_wrong_digest_is_refused_by_the_registry(registry: Registry, trusting: str) -> None:
    with client(registry, trusting) as ours, pytest.raises(RegistryError) as found:
        ours.upload(sha256(b"other"), len(LAYER), opener(LAYER))
    assert found.value.step == "push blob" and found.value.status == 400


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_big_blob(registry: Registry, trusting: str, monkeypatch: pytest.MonkeyPatch, connections: int, damaged: bool) -> None:  # fmt: skip
    for name, value in (("PART", 1 << 18), ("PARALLEL_FROM", 1 << 19), ("PATIENCE", 0.0), ("FAST", 1 << 50)):
        monkeypatch.setattr(downloads, name, value)
    raw = os.urandom(2 << 20)
    digest = sha256(raw)
    with client(registry, trusting, "big") as ours:
        ours.upload(digest, len(raw), opener(raw))
        if not damaged:
            assert b"".join(ours.blob(digest, len(raw), 0, connections)) == raw
            return
        path = registry.root / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        with pytest.raises(RegistryError) as found:
            list(ours.blob(digest, len(raw), 0, connections))
    assert found.value.step == "pull blob"
    assert sha256(path.read_bytes()) in found.value.detail


def test_login_is_needed(registry: Registry, trusting: str) -> None:
    for creds, hint in (("", f"sbx login {registry.host}"), ("me:wrong", "not accepted")):
        with client(registry, trusting, creds=creds) as ours, pytest.raises(RegistryError) as found:
            ours.manifest("1")
        assert (found.value.step, found.value.status) == ("pull manifest", 401)
        assert hint in found.value.hint


def test_unknown_certificate(registry: Registry) -> None:
    with (
        Client(normal(f"{registry.host}/a/b:1"), Access(creds=f"{USER}:{PASSWORD}")) as ours,
        pytest.raises(SandboxError) as found,
    ):
        ours.manifest("1")
    assert "not trusted" in found.value.detail
    assert f"certs.d/{registry.host}/ca.crt" in found.value.hint


@pytest.mark.filterwarnings("ignore:Unverified")
def test_tls_verify_false(registry: Registry) -> None:
    with Client(normal(f"{registry.host}/a/b:1"), Access(creds=f"{USER}:{PASSWORD}", tls_verify=False)) as ours:
        assert ours.head("none") is None


def test_certs_d(registry: Registry, certificates: Path, nobodys_files: Path) -> None:
    folder = nobodys_files / f".config/containers/certs.d/{registry.host}"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    with Client(normal(f"{registry.host}/a/b:1"), Access(creds=f"{USER}:{PASSWORD}")) as ours:
        assert ours.head("none") is None


def test_bearer_token(token_registry: tuple[Registry, TokenServer], trusting: str) -> None:
    registry, tokens = token_registry
    before = len(tokens.issued)
    with client(registry, trusting, "public/x") as ours:
        digest = push(ours, LAYER)
        assert ours.manifest("1").digest == digest
        assert b"".join(ours.blob(sha256(LAYER), len(LAYER))) == LAYER
        assert len(tokens.issued) - before == 2, "one token per scope: pull, and pull with push"
        assert ours.catalog("public/x") == ["public/x"]
    with client(registry, trusting, "public/x", creds="") as nobody:
        assert nobody.manifest("1").digest == digest, "an anonymous token is enough"
        with pytest.raises(RegistryError) as found:
            nobody.upload(sha256(b"x"), 1, opener(b"x"))
        assert (found.value.step, found.value.status) == ("push blob", 401)
    with client(registry, trusting, "private/x", creds="") as nobody, pytest.raises(RegistryError) as found:
        nobody.manifest("1")
    assert found.value.status == 401


def test_many_blobs_at_once(token_registry: tuple[Registry, TokenServer], trusting: str) -> None:
    registry, tokens = token_registry
    blobs = [os.urandom(200_000) for _ in range(24)]
    before = len(tokens.issued)
    with client(registry, trusting, "public/many") as ours, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda raw: ours.upload(sha256(raw), len(raw), opener(raw)), blobs))
        assert list(threads.map(lambda raw: b"".join(ours.blob(sha256(raw), len(raw))), blobs)) == blobs
    assert len(tokens.issued) - before <= 10, "a thread waits for the token that another one asks for"


def test_forked_children(token_registry: tuple[Registry, TokenServer], trusting: str) -> None:
    """Each child has connections of its own, and the parent's token."""
    registry, tokens = token_registry
    blobs = [os.urandom(300_000) for _ in range(4)]
    with client(registry, trusting, "public/forked") as ours:
        push(ours, *blobs)
        assert list(ours.blob(sha256(blobs[0]), len(blobs[0])))
        before = len(tokens.issued)
        children = []
        for raw in blobs:
            pid = os.fork()
            if pid == 0:
                good = False
                try:
                    good = b"".join(ours.forked().blob(sha256(raw), len(raw))) == raw
                finally:
                    os._exit(0 if good else 1)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0, 0]
        assert list(ours.blob(sha256(blobs[1]), len(blobs[1]))), "the parent's connection still works"
    # What a child asks for would show in the token server's requests, which the parent sees.
    assert len(tokens.issued) == before


def test_bearer_mount_asks_for_both_scopes(token_registry: tuple[Registry, TokenServer], trusting: str) -> None:
    registry, _ = token_registry
    with client(registry, trusting, "public/y") as ours, client(registry, trusting, "public/z") as other:
        ours.upload(sha256(LAYER), len(LAYER), opener(LAYER))
        assert other.mount(sha256(LAYER), "public/y") is True


def test_wrong_password_for_a_token(token_registry: tuple[Registry, TokenServer], trusting: str) -> None:
    with client(token_registry[0], trusting, creds="me:wrongpassword") as ours, pytest.raises(RegistryError) as found:
        ours.manifest("1")
    assert (found.value.step, found.value.status) == ("get token", 401)
    assert "incorrect username or password" in str(found.value) and "wrongpassword" not in str(found.value)


def test_identity_token(token_registry: tuple[Registry, TokenServer], trusting: str, nobodys_files: Path) -> None:
    registry, tokens = token_registry
    keeping.store(registry.host, "", Credentials("me", "", "identity-token-of-me"))
    with client(registry, trusting, "private/x", creds="") as ours:
        assert ours.head("none") is None
    assert tokens.server.requests[-1].method == "POST"
    assert b"refresh_token=identity-token-of-me" in tokens.server.requests[-1].body


def test_skopeo_reads_what_we_push(registry: Registry, trusting: str) -> None:
    with client(registry, trusting, "for/skopeo") as ours:
        digest = push(ours, LAYER)
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--creds", f"{USER}:{PASSWORD}", "--cert-dir", trusting, f"docker://{registry.host}/for/skopeo:1"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert sha256(done.stdout) == digest
