#!/usr/bin/env python3
"""Which HTTP library for registries: urllib3, httpx and pycurl download the same 200 MB from a server on loopback.

    python3 bench/http_libraries.py [--size MB] [--rounds N]     prints a Markdown table; docs/registries.md shows one

The server is a process of its own that sends from memory.  Each download is a new process too: wall time and processor
time are from just before the first request to the last byte, hashed with SHA-256 as a registry client has to; peak
memory and the time of the import are the process's.  With 4 connections, ranges of 16 MB are fetched by 4 threads.
"""

import argparse
import concurrent.futures
import hashlib
import http.server
import json
import os
import re
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

PART = 16 << 20
CHUNK = 1 << 18
LIBRARIES = ("urllib3", "httpx", "pycurl", "socket")
BLOCK = os.urandom(1 << 20)

Fetch = Callable[[str, int, int], Iterator[bytes | memoryview]]


# -- the server --


class Blob(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    size = 0

    def do_GET(self) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(found[1]), int(found[2]) + 1) if found else (0, self.size)
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        while start < end:
            piece = memoryview(BLOCK)[: min(len(BLOCK), end - start)]
            self.wfile.write(piece)
            start += len(piece)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def serve(size: int, folder: str) -> tuple[int, list[str]]:
    """Fork servers for http and https; (pid, URLs)."""
    certificate = f"{folder}/server"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{certificate}.key", "-out",
         f"{certificate}.crt", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    Blob.size = size
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blob) for _ in range(2)]
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    settings.load_cert_chain(f"{certificate}.crt", f"{certificate}.key")
    servers[1].socket = settings.wrap_socket(servers[1].socket, server_side=True, do_handshake_on_connect=False)
    pid = os.fork()
    if pid == 0:
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Event().wait()
    urls = [
        f"{scheme}://127.0.0.1:{server.server_address[1]}/blob"
        for scheme, server in zip(("http", "https"), servers, strict=True)
    ]
    for server in servers:
        server.socket.close()
    return pid, urls


# -- the clients --


def with_urllib3(certificate: str) -> Fetch:
    import urllib3

    pool = urllib3.PoolManager(ssl_context=ssl.create_default_context(cafile=certificate), maxsize=8)

    def fetch(url: str, start: int, end: int) -> Iterator[bytes]:
        response = pool.request("GET", url, headers={"Range": f"bytes={start}-{end - 1}"}, preload_content=False)
        yield from response.stream(CHUNK, decode_content=False)
        response.release_conn()

    return fetch


def with_httpx(certificate: str) -> Fetch:
    import httpx

    client = httpx.Client(verify=ssl.create_default_context(cafile=certificate))

    def fetch(url: str, start: int, end: int) -> Iterator[bytes]:
        with client.stream("GET", url, headers={"Range": f"bytes={start}-{end - 1}"}) as response:
            yield from response.iter_raw()

    return fetch


def with_pycurl(certificate: str) -> Callable[[str, int, int, Callable[[bytes], object]], None]:
    """pycurl gives pieces to a function instead of an iterator."""
    import pycurl

    mine = threading.local()

    def fetch(url: str, start: int, end: int, take: Callable[[bytes], object]) -> None:
        if not hasattr(mine, "curl"):
            mine.curl = pycurl.Curl()
            mine.curl.setopt(pycurl.CAINFO, certificate)
            mine.curl.setopt(pycurl.BUFFERSIZE, CHUNK)
        mine.curl.setopt(pycurl.URL, url)
        mine.curl.setopt(pycurl.RANGE, f"{start}-{end - 1}")
        mine.curl.setopt(pycurl.WRITEFUNCTION, take)
        mine.curl.perform()

    return fetch


def with_socket(certificate: str) -> Fetch:
    """The limit: http.client with one buffer that is used again and again."""
    import http.client
    import urllib.parse

    settings = ssl.create_default_context(cafile=certificate)

    def fetch(url: str, start: int, end: int) -> Iterator[memoryview]:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc
        connection = (
            http.client.HTTPSConnection(host, context=settings)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host)
        )
        connection.request("GET", parts.path, headers={"Range": f"bytes={start}-{end - 1}"})
        response = connection.getresponse()
        buffer = memoryview(bytearray(CHUNK))
        while count := response.readinto(buffer):
            yield buffer[:count]
        connection.close()

    return fetch


def client(library: str, url: str, size: int, connections: int, certificate: str) -> None:
    """One download in this process; prints its figures as JSON."""
    began = time.perf_counter()
    fetch = globals()[f"with_{library}"](certificate)
    imported = time.perf_counter() - began

    def part(start: int, end: int) -> None:
        # Every part with a hash of its own: what is measured is the library, not how parts are put together.
        check = hashlib.sha256()
        if library == "pycurl":
            fetch(url, start, end, check.update)
        else:
            for piece in fetch(url, start, end):
                check.update(piece)

    before, wall = os.times(), time.perf_counter()
    if connections == 1:
        part(0, size)
    else:
        with concurrent.futures.ThreadPoolExecutor(connections) as threads:
            list(threads.map(part, *zip(*((at, min(at + PART, size)) for at in range(0, size, PART)), strict=True)))
    wall = time.perf_counter() - wall
    after = os.times()
    print(json.dumps({
        "wall": wall, "cpu": after.user + after.system - before.user - before.system, "import": imported,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=200, help="MB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--client", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.client:
        library, url, size, connections, certificate = chosen.client
        client(library, url, int(size), int(connections), certificate)
        return
    size = chosen.size << 20
    with tempfile.TemporaryDirectory() as folder:
        pid, urls = serve(size, folder)
        try:
            rows(urls, size, chosen.rounds, f"{folder}/server.crt")
        finally:
            os.kill(pid, 15)
            os.waitpid(pid, 0)


def rows(urls: list[str], size: int, rounds: int, certificate: str) -> None:
    print("| scheme, connections | library | wall, s | processor, s | MB/s | peak memory, MB | import and set-up, ms |")
    print("|---|---|---|---|---|---|---|")
    for url in urls:
        for connections in (1, 4):
            found: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
            for _ in range(rounds):  # the libraries take turns
                for library in LIBRARIES:
                    command = [
                        sys.executable,
                        __file__,
                        "--client",
                        library,
                        url,
                        str(size),
                        str(connections),
                        certificate,
                    ]
                    found[library].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            for library, runs in found.items():
                middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                name = "(http.client, the limit)" if library == "socket" else library
                print(
                    f"| {url.partition(':')[0]}, {connections} | {name} | {middle['wall']:.2f} | {middle['cpu']:.2f} "
                    f"| {(size >> 20) / middle['wall']:.0f} | {middle['memory'] / 1024:.0f} | {middle['import'] * 1000:.0f} |"
                )  # fmt: skip


if __name__ == "__main__":
    main()
