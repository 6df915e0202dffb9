"""Blobs to a registry: in one request, or in chunks where the server wants them; a cut upload goes on.  (cold)"""

import re
import urllib.parse
from collections.abc import Callable
from typing import IO, BinaryIO

from sandbox.registry.answers import Answer
from sandbox.registry.faults import RegistryError, UnreachableError
from sandbox.registry.session import PUSH, Session
from sandbox.registry.transport import AGAIN, backoff

STEP = "push blob"
CHUNK = 16 << 20  # bytes of one PATCH, unless the server wants more
_LARGEST_CHUNK = 1 << 30
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})\Z")
Open = Callable[[int], BinaryIO]


class _Part:
    """`length` bytes of a stream, as a body; counts nothing and closes with `close`."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._left = length

    def read(self, count: int = -1) -> bytes:
        found = self._stream.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(found)
        return found

    def close(self) -> None:
        self._stream.close()


class Upload:
    """One upload: a location that moves with every answer, and how much the server has."""

    def __init__(self, session: Session, digest: str, size: int, open: Open, subject: str) -> None:
        self.session = session
        self.digest = digest
        self.size = size
        self.open = open
        self.subject = subject
        self.scopes = session.scopes(PUSH)
        self.location = ""
        self.offset = 0
        self.chunk = 0  # 0: all in one request
        self.failures = 0

    def run(self) -> None:
        """To the end, or RegistryError."""
        while True:
            try:
                if not self.location:
                    self._start()
                if not self.chunk and not self.offset:
                    answer = self._send("PUT", self._closing(), 0, self.size)
                    if answer.status in (405, 411, 413) and self.size:
                        answer.done()
                        self.location, self.chunk = "", CHUNK
                        continue
                elif self.offset < self.size:
                    answer = self._patch()
                    if answer.status in (202, 204):
                        self._moved(answer)
                        continue
                else:
                    answer = self._send("PUT", self._closing(), self.size, 0)
                if answer.status in (201, 204):
                    self._check(answer)
                    return
                if answer.status not in (*AGAIN, 404, 416) or not self._once_more():
                    raise self.session.error(answer, STEP, self.subject)
                answer.done()
            except UnreachableError as error:
                if error.lasting or not self._once_more():
                    raise
            self._resume()

    def _once_more(self) -> bool:
        if self.failures >= self.session.transport.retries:
            return False
        self.session.transport.wait(backoff(self.failures))
        self.failures += 1
        return True

    def _start(self) -> None:
        answer = self.session.request(
            "POST", f"{self.session.repository}/blobs/uploads/", step=STEP, subject=self.subject, scopes=self.scopes,
            headers={"Content-Length": "0"},
        )  # fmt: skip
        if answer.status != 202:
            raise self.session.error(answer, STEP, self.subject)
        self.offset = 0
        self._take_location(answer)
        least = answer.headers.get("oci-chunk-min-length", "")
        if least.isascii() and least.isdigit() and int(least[:12]):
            self.chunk = min(max(int(least[:12]), CHUNK), _LARGEST_CHUNK)
        answer.done()

    def _take_location(self, answer: Answer) -> None:
        target = answer.headers.get("location", "")
        if target:
            self.location = answer.url.join(target, STEP).text
        elif not self.location:
            answer.drop()
            raise RegistryError(STEP, self.subject, detail="the registry does not say where to upload to")

    def _closing(self) -> str:
        mark = "&" if "?" in self.location else "?"
        return f"{self.location}{mark}digest={urllib.parse.quote(self.digest)}"

    def _send(self, method: str, url: str, offset: int, count: int, headers: dict[str, str] | None = None) -> Answer:
        """One request with `count` bytes of the blob as body."""
        bodies: list[_Part] = []

        def body() -> "IO[bytes] | bytes":
            for part in bodies:
                part.close()
            bodies[:] = [_Part(self.open(offset), count)]
            return bodies[0]  # type: ignore[return-value]  # read is all that is called

        sent = {"Content-Type": "application/octet-stream", "Content-Length": str(count), **(headers or {})}
        try:
            return self.session.request(
                method, url, step=STEP, subject=self.subject, scopes=self.scopes, headers=sent,
                body=body if count else None, retry=False,
            )  # fmt: skip
        finally:
            for part in bodies:
                part.close()

    def _patch(self) -> Answer:
        count = min(self.chunk or CHUNK, self.size - self.offset)
        span = {"Content-Range": f"{self.offset}-{self.offset + count - 1}"}
        return self._send("PATCH", self.location, self.offset, count, span)

    def _moved(self, answer: Answer) -> None:
        """A chunk arrived: go on behind what the server says that it has."""
        count = min(self.chunk or CHUNK, self.size - self.offset)
        found = _RANGE.match(answer.headers.get("range", ""))
        has = int(found[1]) + 1 if found else self.offset + count
        if not self.offset < has <= self.size:
            answer.drop()
            raise RegistryError(STEP, self.subject, detail=f"the registry says that it has {has} of {self.size} bytes")
        self._take_location(answer)
        self.offset = has
        self.failures = 0
        answer.done()

    def _resume(self) -> None:
        """After a failure: ask how much arrived; begin again where the server does not know."""
        location, self.location = self.location, ""
        self.offset = 0
        if not location:
            return
        try:
            answer = self.session.request(
                "GET", location, step=STEP, subject=self.subject, scopes=self.scopes, retry=False
            )  # fmt: skip
        except RegistryError:
            return
        found = _RANGE.match(answer.headers.get("range", ""))
        if answer.status in (200, 202, 204) and found and 0 < int(found[1]) < self.size:
            self.offset = int(found[1]) + 1
            self.chunk = self.chunk or CHUNK
            self.location = location
            self._take_location(answer)
        answer.done()

    def _check(self, answer: Answer) -> None:
        said = answer.headers.get("docker-content-digest", "")
        answer.done()
        if said and said != self.digest and said.partition(":")[0] == self.digest.partition(":")[0]:
            raise RegistryError(STEP, self.subject, detail=f"the registry stored it under another digest ({said})")
