"""Images on the move: a docker-registry without TLS, images in it, and podman with a store of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import images
import pytest
from support import Sbx, clean_environment, launcher_path

sys.path.append(str(Path(__file__).resolve().parent.parent / "registry"))

from hostile import Hostile
from registries import (
    Registry,
    free_port,
    insecure,
    make_certificates,
    needed,
    start_registry,
    stop_registry,
    with_password,
)

Tool = Callable[..., str]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    needed("docker-registry", "skopeo")
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    (folder / "config.yml").write_text(json.dumps({
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }))  # fmt: skip
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    running = Registry(f"127.0.0.1:{port}", folder / "data", process)
    for _ in range(200):
        if subprocess.run(["curl", "-sf", f"http://{running.host}/v2/"], capture_output=True).returncode == 0:
            break
        time.sleep(0.05)
    yield running
    stop_registry(running)


@pytest.fixture(scope="session")
def pushed(registry: Registry) -> str:
    """The registry's host; in it busybox:latest, layered:3, layered:20, by skopeo."""
    for name, made in (("busybox:latest", images.busybox()), ("layered:3", images.layered(3)), ("layered:20", images.layered(20))):  # fmt: skip
        images.call("skopeo", "copy", "-q", "--dest-tls-verify=false", made.oci, f"docker://{registry.host}/{name}")
    return registry.host


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Path]]:
    """(docker-registry with TLS and a password, a folder of certs.d with its CA)."""
    needed("docker-registry", "htpasswd")
    folder = tmp_path_factory.mktemp("secured")
    certificates = make_certificates(folder)
    trusting = tmp_path_factory.mktemp("certs.d")
    (trusting / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    running = start_registry(folder, certificates, with_password(folder))
    yield running, trusting
    stop_registry(running)


@pytest.fixture
def mover(tmp_path: Path, session_folder: Path, registry: Registry) -> Iterator[Sbx]:
    """`sbx` with an empty store, that may use `registry`."""
    environment = {**clean_environment(session_folder), **insecure(tmp_path, registry.host)}
    yield Sbx(tmp_path / "store", environment, launcher_path())
    images.remove_tree(tmp_path / "store")


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile(tls=None)
    yield server
    server.close()


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Tool]:
    """podman with a store and a run-time folder of this test's own (of at most 50 characters)."""
    needed("podman")
    runtime = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    command = ["env", f"XDG_RUNTIME_DIR={runtime}", "podman", "--root", tmp_path / "podman", "--runroot", runtime / "r"]
    command += ["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--storage-driver", "vfs"]

    def call(*words: str) -> str:
        return images.call(*command, *words)

    call.__doc__ = " ".join(str(word) for word in command)  # as a shell calls it
    yield call
    for path in runtime.rglob("pause.pid"):
        os.kill(int(path.read_text()), signal.SIGKILL)
    images.remove_tree(tmp_path / "podman")
    images.remove_tree(runtime)


@pytest.fixture
def skopeo() -> Tool:
    def digest(reference: str) -> str:
        words = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}} {{len .Layers}}", reference]
        return images.call(*words).strip()

    return digest
