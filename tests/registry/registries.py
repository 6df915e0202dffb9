"""Debian's docker-registry as a process of the tests, and a token server for it.  Imported by name."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from hostile import Hostile, Request

USER, PASSWORD = "me", "s3cret-pass:word"


@dataclass
class Registry:
    """A docker-registry that runs: `host` is 127.0.0.1:PORT, `root` the folder with its blobs."""

    host: str
    root: Path
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certificates(folder: Path) -> Path:
    """ca.crt; server.crt/.key for 127.0.0.1 and localhost; client.cert/.key; all by the same CA."""
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test CA",
             "-keyout", folder / "ca.key", "-out", folder / "ca.crt")  # fmt: skip
    for name, ending, extension in (
        ("server", "crt", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test"),
        ("client", "cert", "extendedKeyUsage=clientAuth"),
    ):
        (folder / "extension").write_text(extension)
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key",
                 "-out", folder / f"{name}.csr")  # fmt: skip
        _openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key",
                 "-CAcreateserial", "-days", "2", "-extfile", folder / "extension", "-out", folder / f"{name}.{ending}")  # fmt: skip
    return folder


def with_password(folder: Path) -> dict[str, Any]:
    """The setting that lets USER in with PASSWORD, and nobody else."""
    subprocess.run(["htpasswd", "-Bbc", str(folder / "htpasswd"), USER, PASSWORD], check=True, capture_output=True)
    return {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}


def needed(*names: str) -> None:
    """Skip where a distribution has no package of these (setup/packages); fail in CI, where they are installed."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"not installed: {', '.join(missing)}")


def start_registry(folder: Path, certificates: Path, auth: dict[str, Any]) -> Registry:
    """Start docker-registry and wait until it listens; JSON is YAML."""
    port = free_port()
    (folder / "data").mkdir()
    (folder / "config.yml").write_text(json.dumps({
        "version": 0.1, "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "tls": {"certificate": str(certificates / "server.crt"), "key": str(certificates / "server.key")},
        },
        "auth": auth,
    }))  # fmt: skip
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return Registry(f"127.0.0.1:{port}", folder / "data", process)
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise RuntimeError((folder / "log").read_text())


def stop_registry(registry: Registry) -> None:
    registry.process.send_signal(signal.SIGTERM)
    try:
        registry.process.wait(10)
    except subprocess.TimeoutExpired:
        registry.process.kill()
        registry.process.wait()


def insecure(folder: Path, *hosts: str) -> dict[str, str]:
    """Environment in which these registries need no TLS."""
    path = folder / "registries.conf"
    path.write_text("".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in hosts))
    return {"SBX_REGISTRIES_CONF": str(path), "NO_PROXY": "127.0.0.1"}


class TokenServer:
    """Our own token server: signs what docker-registry trusts, for USER and PASSWORD; nobody may pull `public/...`."""

    def __init__(self, certificates: Path, folder: Path) -> None:
        self.certificates, self.folder = certificates, folder
        self.server = Hostile(tls=certificates)
        self.server.routes["/token"] = self.answer
        self.refresh_tokens = {"identity-token-of-me"}
        self.issued: list[str] = []

    def _signed(self, access: list[dict[str, Any]]) -> str:
        def part(raw: bytes) -> str:
            return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

        pem = (self.certificates / "server.crt").read_text().split("-----")[2]
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}
        now = int(time.time())
        claims = {"iss": "test", "sub": USER, "aud": "registry", "exp": now + 300, "nbf": now - 10, "iat": now,
                  "jti": str(len(self.issued)), "access": access}  # fmt: skip
        text = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.certificates / "server.key")],
            input=text.encode(), capture_output=True, check=True,
        )  # fmt: skip
        return f"{text}.{part(done.stdout)}"

    def answer(self, request: Request) -> None:
        fields = parse_qs(request.body.decode() if request.method == "POST" else request.query)
        known = (
            request.headers.get("authorization") == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        )
        if request.method == "POST":
            known = fields.get("grant_type") == ["refresh_token"] and fields["refresh_token"][0] in self.refresh_tokens
        if (request.headers.get("authorization") or request.method == "POST") and not known:
            request.answer(401, b'{"details": "incorrect username or password"}')
            return
        access = []
        for scope in " ".join(fields.get("scope", [])).split():
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if known else ["pull"] if name.startswith("public/") else []
            access.append(
                {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action in allowed]}
            )
        token = self._signed(access)
        self.issued.append(token)
        key = "access_token" if request.method == "POST" else "token"
        request.answer(200, json.dumps({key: token, "expires_in": 300}).encode())
