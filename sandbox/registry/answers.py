"""One answer of a server: its body is read to a limit and a deadline, or streamed, or dropped.  (cold)"""

import time
from collections.abc import Iterator, Mapping

import urllib3
from urllib3.exceptions import HTTPError

from sandbox.errors import SandboxError
from sandbox.registry.connections import CHUNK
from sandbox.registry.faults import ERROR_BYTES, RegistryError
from sandbox.registry.urls import Url

SMALL_BODY_SECONDS = 60.0  # for a whole manifest, token or error text


class Answer:
    """A response whose body is still to be read; `close` gives the connection back or drops it."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: Url) -> None:
        self.response = response
        self.url = url
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self.body = b""  # when `request` was given a limit
        self.challenges = ", ".join(response.headers.getlist("www-authenticate"))

    @property
    def length(self) -> int:
        """What Content-Length says, -1 when it says nothing that makes sense."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1

    def read(self, limit: int, step: str, subject: str, *, cut: bool = False) -> bytes:
        """The body, at most `limit` bytes: more is an error, or cut off with `cut`."""
        parts: list[bytes] = []
        got, end = 0, time.monotonic() + SMALL_BODY_SECONDS
        encoding = self.headers.get("content-encoding", "identity")
        if encoding not in ("", "identity"):
            self.drop()
            if cut:
                return b""
            raise RegistryError(step, subject, detail=f"the body is encoded ({encoding}), which was not asked for")
        while True:
            part = self.response.read1(min(CHUNK, limit + 1 - got), decode_content=False)
            if not part:
                self.response.release_conn()
                return b"".join(parts)
            parts.append(part)
            got += len(part)
            if got > limit:
                self.drop()
                if cut:
                    return b"".join(parts)[:limit]
                raise RegistryError(step, subject, detail=f"the answer is longer than {limit >> 10} KiB")
            if time.monotonic() > end:
                self.drop()
                raise RegistryError(step, subject, detail=f"the answer took more than {SMALL_BODY_SECONDS:.0f} s")

    def stream(self) -> Iterator[bytes]:
        """The body in pieces; urllib3's errors for a cut are the caller's to catch."""
        while True:
            part = self.response.read(CHUNK, decode_content=False)
            if not part:
                self.response.release_conn()
                return
            yield part

    def drop(self) -> None:
        """Close the connection: what is left of the body is not worth reading."""
        self.response.close()

    def done(self) -> None:
        """Read what is left when it is little, so that the connection can be used again."""
        try:
            self.read(ERROR_BYTES, "", "", cut=True)
        except (SandboxError, HTTPError, OSError):
            self.drop()
