"""Blobs from a registry: verified while they stream, taken up again after a cut, big ones in parallel ranges.  (cold)"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from urllib3.exceptions import HTTPError

from sandbox.errors import SandboxError
from sandbox.image.reference import valid_digest
from sandbox.registry.faults import RegistryError
from sandbox.registry.session import PULL, Session
from sandbox.registry.transport import Answer
from sandbox.registry.urls import Url

STEP = "pull blob"
PART = 16 << 20  # bytes of one ranged request
PARALLEL_FROM = 2 * PART
PROGRESS = 1 << 20  # bytes after which a cut does not count as one more failure in a row
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\Z")


def hasher(digest: str) -> "Any":
    """A hash object for the algorithm of `digest`; SandboxError when the digest is none that may be trusted."""
    if not valid_digest(digest):
        raise SandboxError("check digest", digest[:100], detail="not a digest of sha256 or sha512")
    return hashlib.new(digest.partition(":")[0], usedforsecurity=True)


def _open(session: Session, digest: str, size: int, start: int, end: int, subject: str) -> tuple[Answer, int]:
    """(the answer, where in the blob its body begins) for bytes `start` to `end` (exclusive)."""
    headers = {"Range": f"bytes={start}-{end - 1}"} if start or end < size else {}
    answer = session.request(
        "GET", f"{session.repository}/blobs/{digest}", step=STEP, subject=subject, scopes=session.scopes(PULL), headers=headers
    )  # fmt: skip
    if answer.status == 206 and headers:
        found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
        if not found or int(found[1]) != start or int(found[2]) >= end or found[3] not in ("*", str(size)):
            answer.drop()
            raise RegistryError(STEP, subject, detail="the server sends another range than was asked for", status=206)
        return answer, start
    if answer.status == 200:
        length = answer.headers.get("content-length", "")
        if length.isdigit() and int(length) != size:
            answer.drop()
            raise RegistryError(STEP, subject, detail=f"it has {int(length)} bytes where the manifest says {size}")
        if answer.headers.get("content-encoding", "identity") not in ("", "identity"):
            answer.drop()
            raise RegistryError(STEP, subject, detail="the body is encoded, which was not asked for")
        return answer, 0
    raise session.error(answer, STEP, subject)


def pieces(session: Session, digest: str, size: int, start: int, end: int, subject: str) -> Iterator[bytes]:
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


def blob(session: Session, digest: str, size: int, offset: int, subject: str) -> Iterator[bytes]:
    """The blob from `offset` on; from 0 its digest is verified before the last piece counts: the iterator raises at its end."""
    check = hasher(digest) if not offset else None
    for piece in pieces(session, digest, size, offset, size, subject):
        if check is not None:
            check.update(piece)
        yield piece
    if check is not None:
        compare(check, digest, subject)


def compare(check: "Any", digest: str, subject: str) -> None:
    found = f"{digest.partition(':')[0]}:{check.hexdigest()}"
    if found != digest:
        raise RegistryError(
            STEP,
            subject,
            detail=f"what came has the digest {found}",
            hint="the registry's copy is damaged, or somebody changed it on its way",
        )


def _write(fd: int, piece: bytes, at: int, subject: str) -> None:
    view = memoryview(piece)
    try:
        while view:
            count = os.pwrite(fd, view, at)
            at += count
            view = view[count:]
    except OSError as error:
        raise SandboxError.of("write blob", subject, error) from None


def fetch(
    session: Session, digest: str, size: int, fd: int, on_bytes: Callable[[int], None] | None, connections: int, subject: str
) -> None:  # fmt: skip
    """Write the blob to `fd` from its offset 0 on, verified at the end; the caller removes the file when this raises."""
    if connections > 1 and size >= PARALLEL_FROM and _ranges(session, digest, size, subject):
        _parallel(session, digest, size, fd, on_bytes, connections, subject)
        return
    at = 0
    for piece in blob(session, digest, size, 0, subject):
        _write(fd, piece, at, subject)
        at += len(piece)
        if on_bytes:
            on_bytes(len(piece))


def _ranges(session: Session, digest: str, size: int, subject: str) -> bool:
    """Whether the server gives a part when asked for one."""
    answer, _ = _open(session, digest, size, 0, 1, subject)
    if answer.status == 206:
        answer.done()
        return True
    answer.drop()
    return False


def _parallel(
    session: Session, digest: str, size: int, fd: int, on_bytes: Callable[[int], None] | None, connections: int, subject: str
) -> None:  # fmt: skip
    import concurrent.futures  # 3 ms that a pull of what is already there need not wait for

    stop = False

    def part(start: int) -> None:
        at = start
        for piece in pieces(session, digest, size, start, min(start + PART, size), subject):
            if stop:
                return
            _write(fd, piece, at, subject)
            at += len(piece)
            if on_bytes:
                on_bytes(len(piece))

    check = hasher(digest)
    with concurrent.futures.ThreadPoolExecutor(connections, "pull") as threads:
        parts = [(start, threads.submit(part, start)) for start in range(0, size, PART)]
        try:
            for at, future in parts:
                future.result()
                # While later parts arrive, this one is hashed from the page cache.
                start, end = at, min(at + PART, size)
                while start < end:
                    piece = os.pread(fd, min(1 << 20, end - start), start)
                    if not piece:
                        raise SandboxError("write blob", subject, detail="the file is shorter than what was written")
                    check.update(piece)
                    start += len(piece)
        except BaseException:
            stop = True
            threads.shutdown(wait=True, cancel_futures=True)
            raise
    compare(check, digest, subject)
