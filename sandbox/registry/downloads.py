"""Blobs from a registry: taken up again after a cut, and big ones in parallel ranges where the network is slow.  (cold)"""

import collections
import hashlib
import re
import time
from collections.abc import Generator, Iterator
from typing import Any

from urllib3.exceptions import HTTPError

from sandbox.errors import SandboxError
from sandbox.image.reference import valid_digest
from sandbox.registry.answers import Answer
from sandbox.registry.faults import RegistryError
from sandbox.registry.session import PULL, Session
from sandbox.registry.urls import Url

STEP = "pull blob"
PART = 4 << 20  # bytes of one ranged request; a few of them are kept in memory
PARALLEL_FROM = 32 << 20  # bytes still to come that are worth more connections
PATIENCE = 1.0  # seconds of waiting for the network after which it is known how fast one connection is
FAST = 64 << 20  # bytes in a second: more connections would not help much
PROGRESS = 1 << 20  # bytes after which a cut does not count as one more failure in a row
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z")


def hasher(digest: str) -> "Any":
    """A hash object for the algorithm of `digest`; SandboxError when the digest is none that may be trusted."""
    if not valid_digest(digest):
        raise SandboxError("check digest", digest[:100], detail="not a digest of sha256 or sha512")
    return hashlib.new(digest.partition(":")[0], usedforsecurity=True)


def _open(
    session: Session, digest: str, size: int, start: int, end: int, subject: str, *, retry: bool = True
) -> tuple[Answer, int]:  # fmt: skip
    """(the answer, where in the blob its body begins) for bytes `start` to `end` (exclusive)."""
    headers = {"Range": f"bytes={start}-{end - 1}"} if start or end < size else {}
    answer = session.request(
        "GET", f"{session.repository}/blobs/{digest}", step=STEP, subject=subject, scopes=session.scopes(PULL), headers=headers,
        retry=retry,
    )  # fmt: skip
    if answer.status == 206 and headers:
        found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
        if not found or int(found[1]) != start or int(found[2]) >= end or found[3] not in ("*", str(size)):
            answer.drop()
            raise RegistryError(STEP, subject, detail="the server sends another range than was asked for", status=206)
        return answer, start
    if answer.status == 200:
        if answer.headers.get("content-encoding", "identity") not in ("", "identity"):
            answer.drop()
            raise RegistryError(STEP, subject, detail="the body is encoded, which was not asked for")
        if answer.length not in (-1, size):
            answer.drop()
            raise RegistryError(STEP, subject, detail=f"it has {answer.length} bytes where the manifest says {size}")
        return answer, 0
    raise session.error(answer, STEP, subject)


def pieces(
    session: Session, digest: str, size: int, start: int, end: int, subject: str
) -> Generator[bytes, None, None]:  # fmt: skip
    """Bytes `start` to `end` of a blob, taken up again where the connection was cut; not verified."""
    at, failures, mark = start, 0, start
    url = Url(session.base(STEP, subject) + "/", STEP)
    while at < end:
        answer = None
        try:
            answer, begins = _open(session, digest, size, at, end, subject)
            skip = at - begins  # the server does not know ranges: what we have comes again
            for part in answer.stream():
                if skip >= len(part):
                    skip -= len(part)
                    continue
                piece = part[skip:] if skip else part
                skip = 0
                if at + len(piece) > end:
                    if end < size:
                        yield piece[: end - at]  # an answer with the whole blob, of which a part was wanted
                        answer.drop()
                        return
                    raise RegistryError(STEP, subject, detail=f"longer than the {size} bytes of the manifest")
                at += len(piece)
                yield piece
            if at < end:
                raise ConnectionError(f"the server ended the body {end - at} bytes early")
        except (HTTPError, OSError) as error:
            if answer is not None:
                answer.drop()
            failures = failures + 1 if at - mark < PROGRESS else 1
            mark = at
            pause = session.transport.pause_after(error, failures - 1)
            if pause < 0:
                failed = session.transport.failure(error, STEP, subject, url)
                failed.detail += f", {at} of {end} bytes were received"
                raise failed from None
            session.transport.wait(pause)
        except BaseException:
            if answer is not None:
                answer.drop()
            raise


def stream(
    session: Session, digest: str, size: int, start: int, subject: str, connections: int = 1
) -> Iterator[bytes]:  # fmt: skip
    """The blob from `start` on, in order, not verified.

    Where one connection is slow and much is still to come, the rest is fetched in ranges over `connections` of them, when
    the server knows ranges.
    """
    at, waited = start, 0.0
    began = time.monotonic()
    single = pieces(session, digest, size, start, size, subject)
    for piece in single:
        waited += time.monotonic() - began
        at += len(piece)
        yield piece
        if connections > 1 and waited > PATIENCE and size - at >= PARALLEL_FROM:
            if (at - start) / waited < FAST and _ranges(session, digest, size, at, subject):
                single.close()
                break
            connections = 1  # it was fast, or there is nothing to be done
        began = time.monotonic()  # what the reader does with a piece is not the network's time
    else:
        return
    yield from _ahead(session, digest, size, at, subject, connections)


def _ranges(session: Session, digest: str, size: int, at: int, subject: str) -> bool:
    """Whether the server gives a part when asked for one; when not, whatever it says, there is one connection that works."""
    try:
        answer, begins = _open(session, digest, size, at, at + 1, subject, retry=False)
    except SandboxError:
        return False
    if begins == at:
        answer.done()
    else:
        answer.drop()
    return begins == at


def _ahead(
    session: Session, digest: str, size: int, start: int, subject: str, connections: int
) -> Iterator[bytes]:  # fmt: skip
    """The blob from `start` on, parts of it fetched side by side and given in order."""
    import concurrent.futures  # 3 ms that a pull of what is already there need not wait for

    stopped = False

    def part(begin: int) -> list[bytes]:
        found = []
        for piece in pieces(session, digest, size, begin, min(begin + PART, size), subject):
            if stopped:
                break
            found.append(piece)
        return found

    threads = concurrent.futures.ThreadPoolExecutor(connections, "pull")
    waiting: collections.deque[concurrent.futures.Future[list[bytes]]] = collections.deque()
    following = start
    try:
        while following < size or waiting:
            while following < size and len(waiting) < connections:
                waiting.append(threads.submit(part, following))
                following += PART
            yield from waiting.popleft().result()
    finally:
        stopped = True
        threads.shutdown(wait=True, cancel_futures=True)


def compare(check: "Any", digest: str, subject: str) -> None:
    found = f"{digest.partition(':')[0]}:{check.hexdigest()}"
    if found != digest:
        raise RegistryError(
            STEP,
            subject,
            detail=f"what came has the digest {found}",
            hint="the registry's copy is damaged, or somebody changed it on its way",
        )
