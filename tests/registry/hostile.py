"""An HTTP(S) server on loopback that answers as a test says, and remembers what it was asked.  Imported by name."""

import hashlib
import http.server
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def sha256(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def manifest_bytes(*layers: bytes, config: bytes = b"{}") -> bytes:
    def about(kind: str, raw: bytes) -> dict[str, Any]:
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": sha256(raw), "size": len(raw)}

    return json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": about("config.v1+json", config),
        "layers": [about("layer.v1.tar", raw) for raw in layers],
    }).encode()  # fmt: skip


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    handler: "Handler"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer; `content_type` is the header Content-Type."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        names.setdefault("Content-Length", str(len(body)))
        self.begin(status, names)
        if self.method != "HEAD":
            self.handler.wfile.write(body)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Status line and headers only; the body is the caller's, and the connection is closed after it."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, raw: bytes) -> None:
        self.handler.wfile.write(raw)

    def cut(self) -> None:
        """Reset the connection."""
        connection = self.handler.connection
        self.handler.wfile.flush()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.close_connection = True
        connection.close()


Answer = Callable[[Request], None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        owner = self.server.owner
        if owner.read_bodies:
            body = self.rfile.read(length)
        else:
            body, self.close_connection = b"", True
        request = Request(
            self.command, path, query, {name.lower(): value for name, value in self.headers.items()}, body, self
        )  # fmt: skip
        owner.requests.append(request)
        try:
            owner.answer_to(request)
        except (OSError, ValueError):  # the client went away, or the test cut the connection
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = _serve

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    owner: "Hostile"
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@dataclass
class Hostile:
    """`routes` maps "METHOD path" or "path" to a function of the request, or to a list of them, one per request (the last stays)."""

    tls: Path | None = None  # folder with server.crt and server.key
    client_ca: Path | None = None
    routes: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    read_bodies: bool = True

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.owner = self
        if self.tls:
            settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            settings.load_cert_chain(self.tls / "server.crt", self.tls / "server.key")
            if self.client_ca:
                settings.verify_mode = ssl.CERT_REQUIRED
                settings.load_verify_locations(self.client_ca)
            self.server.socket = settings.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if self.tls else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(5)

    def answer_to(self, request: Request) -> None:
        with self._lock:
            found = self.routes.get(f"{request.method} {request.path}") or self.routes.get(request.path)
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
        if found is None:
            ping = request.path == "/v2/"
            request.answer(200 if ping else 404, b"{}")
        else:
            found(request)

    def serve_blob(self, raw: bytes, repository: str = "a/b", *, ranges: bool = True) -> str:
        """Serve `raw` as a blob, with ranges; its digest."""

        def answer(request: Request) -> None:
            wanted = request.headers.get("range", "")
            if not ranges or not wanted:
                request.answer(200, raw)
                return
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            last = min(int(end or len(raw)), len(raw) - 1)
            request.answer(206, raw[int(start) : last + 1], Content_Range=f"bytes {start}-{last}/{len(raw)}")

        self.routes[f"/v2/{repository}/blobs/{sha256(raw)}"] = answer
        return sha256(raw)

    def serve_manifest(self, raw: bytes, reference: str = "1", repository: str = "a/b", **headers: str) -> str:
        headers = {"Content_Type": MANIFEST, **headers}
        self.routes[f"/v2/{repository}/manifests/{reference}"] = lambda request: request.answer(200, raw, **headers)
        return sha256(raw)

    def secrets_seen(self, *secrets: str) -> list[str]:
        """Request lines and headers in which one of `secrets` appears."""
        return [
            f"{request.method} {request.path}" for request in self.requests
            if any(secret in f"{request.path}?{request.query}{request.headers}{request.body!r}" for secret in secrets)
        ]  # fmt: skip
