"""A registry, as the rest of sbx sees it: manifests, blobs and tags of one repository.  (cold)

Pulls ask the mirrors of registries.conf first, pushes go to the registry itself.  Every method raises SandboxError,
mostly `faults.RegistryError` with the HTTP status.  Safe for several threads.
"""

import copy
import hashlib
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from sandbox.errors import SandboxError
from sandbox.image import jsonstrict, limits
from sandbox.image.reference import Reference, valid_digest
from sandbox.registry import configuration, downloads, names, uploads
from sandbox.registry.access import ORDINARY, Access
from sandbox.registry.configuration import Configuration
from sandbox.registry.faults import RegistryError
from sandbox.registry.manifests import ACCEPT, digest_of, media_type_of
from sandbox.registry.names import Endpoint
from sandbox.registry.session import PULL, PUSH, Session
from sandbox.registry.urls import Url

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_LIST_BYTES = 4 << 20  # one page of tags or of the catalogue
_PAGES = 1000
_MIRROR_RETRIES = 1  # there is somebody else to ask
_HAS_NOT = (401, 403, 404)  # a mirror's answers that will be the same the next time


class Manifest(NamedTuple):
    raw: bytes
    media_type: str
    digest: str


class Client:
    """The repository of `where` (a full Reference, or a bare `host[:port]` for login and catalogue)."""

    def __init__(self, where: Reference | str, access: Access = ORDINARY) -> None:
        self.ref = where if isinstance(where, Reference) else Reference(where, "", "", "")
        self.name = self.ref.repository if self.ref.path else self.ref.host
        self._access = access
        self._sessions: dict[Endpoint, Session] = {}
        self._settings: Configuration | None = None
        self._lock = threading.RLock()
        self._good: Endpoint | None = None  # the mirror, or the registry, that had the manifest
        self._left: set[Endpoint] = set()  # mirrors that have sent wrong bytes
        self._way: list[Session] | None = None  # who was asked for the name itself, the last one with success

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()

    def forked(self) -> "Client":
        """The same client for a forked child: connections of its own; tokens and the mirror that had the image are kept."""
        other = copy.copy(self)
        other._sessions = {endpoint: session.forked() for endpoint, session in self._sessions.items()}
        other._lock = threading.RLock()
        return other

    def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            session.close()

    def _session(self, endpoint: Endpoint) -> Session:
        with self._lock:
            if endpoint not in self._sessions:
                access = self._access
                if endpoint.mirror:
                    # It has its own rules of trust: the command line speaks of the registry that it names.
                    access = Access(authfile=access.authfile, retries=min(_MIRROR_RETRIES, access.retries))
                self._sessions[endpoint] = Session(endpoint, access)
            return self._sessions[endpoint]

    def _configuration(self) -> Configuration:
        with self._lock:
            if self._settings is None:
                self._settings = configuration.load()
            return self._settings

    def _sources(self, digest: str = "") -> list[Session]:
        """Whom to ask, in order; `digest` when one is asked for."""
        ref = self.ref._replace(tag="" if digest else self.ref.tag, digest=digest or self.ref.digest)
        found = names.endpoints(ref, self._configuration())
        found = [endpoint for endpoint in found if endpoint not in self._left]
        if self._good is not None:
            found = [self._good, *(endpoint for endpoint in found if endpoint != self._good)]
        return [self._session(endpoint) for endpoint in found]

    def leave_mirror(self) -> bool:
        """Ask the mirror that had the manifest no more; False when it was none."""
        if self._good is None or not self._good.mirror:
            return False
        self._left.add(self._good)
        self._good, self._way = None, []
        return True

    def way(self) -> list[Session]:
        """Who was asked for the name itself, in order, the last one with success; [] when mirrors failed on the way."""
        return self._way or []

    def _home(self) -> Session:
        """The registry itself, for what is not pulled."""
        return self._session(names.upload_endpoint(self.ref, self._configuration()))

    def _subject(self, what: str) -> str:
        """How messages call a manifest or blob; what is neither tag nor digest is refused: it would become part of a URL."""
        if not valid_digest(what) and not TAG.match(what):
            raise SandboxError("use reference", what[:200], detail="neither a tag nor a digest")
        return f"{self.name}@{what}" if ":" in what else f"{self.name}:{what}"

    # -- manifests --

    def manifest(self, reference: str, accept: list[str] | None = None) -> Manifest:
        """The manifest or index behind a tag or digest, verified; its bytes are what was stored."""
        digest = reference if valid_digest(reference) else ""
        found: Manifest = self._try(lambda session: self._manifest(session, reference, accept or ACCEPT), digest)
        return found

    def _try(self, ask: "Callable[[Session], Any]", digest: str) -> Any:
        """The first success among the sources; the registry's own error when there is none."""
        sources = self._sources(digest)
        clear = True
        for number, session in enumerate(sources, 1):
            try:
                found = ask(session)
            except SandboxError as error:
                if session is sources[-1]:
                    raise
                clear = clear and getattr(error, "status", 0) in _HAS_NOT
                continue
            self._good = session.endpoint
            if self._way is None:
                self._way = sources[:number] if clear else []
            return found
        raise AssertionError("not reached")

    def _manifest(self, session: Session, reference: str, accept: list[str]) -> Manifest:
        step, subject = "pull manifest", self._subject(reference)
        answer = session.request(
            "GET", f"{session.repository}/manifests/{reference}", step=step, subject=subject, scopes=session.scopes(PULL),
            headers={"Accept": ", ".join(accept)}, limit=limits.JSON_BYTES,
        )  # fmt: skip
        if answer.status != 200:
            raise session.error(answer, step, subject)
        raw, headers = answer.body, answer.headers
        digest = digest_of(raw, reference, headers.get("docker-content-digest", ""), subject)
        return Manifest(raw, media_type_of(raw, headers.get("content-type", ""), accept, subject), digest)

    def head(self, reference: str) -> tuple[str, str, int] | None:
        """(media type, digest, size) of a manifest as the registry says, nothing verified; None when it is not there."""

        def ask(session: Session) -> tuple[str, str, int] | None:
            step, subject = "look up manifest", self._subject(reference)
            answer = session.request(
                "HEAD", f"{session.repository}/manifests/{reference}", step=step, subject=subject,
                scopes=session.scopes(PULL), headers={"Accept": ", ".join(ACCEPT)},
            )  # fmt: skip
            digest = answer.headers.get("docker-content-digest", "")
            answer.done()
            if answer.status == 404:
                if session.endpoint.mirror:
                    raise session.error(answer, step, subject)
                return None
            if answer.status == 405 or (answer.status == 200 and not valid_digest(digest)):
                found = self._manifest(session, reference, ACCEPT)
                return found.media_type, found.digest, len(found.raw)
            if answer.status != 200:
                raise session.error(answer, step, subject)
            return answer.headers.get("content-type", ""), digest, max(0, answer.length)

        found: tuple[str, str, int] | None = self._try(ask, reference if valid_digest(reference) else "")
        return found

    def put_manifest(self, reference: str, raw: bytes, media_type: str) -> str:
        """Store a manifest under a tag or its digest; its digest."""
        session, step, subject = self._home(), "push manifest", self._subject(reference)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        answer = session.request(
            "PUT", f"{session.repository}/manifests/{reference}", step=step, subject=subject, scopes=session.scopes(PUSH),
            headers={"Content-Type": media_type, "Content-Length": str(len(raw))}, body=lambda: raw,
        )  # fmt: skip
        if answer.status not in (200, 201, 202):
            raise session.error(answer, step, subject)
        said = answer.headers.get("docker-content-digest", "")
        answer.done()
        if valid_digest(said) and said.startswith("sha256:") and said != digest:
            raise RegistryError(step, subject, detail=f"the registry stored it under another digest ({said})")
        return digest

    def delete(self, digest: str) -> None:
        """Remove a manifest; many registries do not allow it."""
        session, step, subject = self._home(), "delete manifest", self._subject(digest)
        answer = session.request(
            "DELETE", f"{session.repository}/manifests/{digest}", step=step, subject=subject, scopes=session.scopes("pull,push,delete")
        )  # fmt: skip
        if answer.status not in (200, 202, 204):
            raise session.error(answer, step, subject)
        answer.done()

    # -- blobs --

    def blob(self, digest: str, size: int, offset: int = 0, connections: int = 1) -> Iterator[bytes]:
        """A blob in pieces, from `offset` on; a cut connection is taken up again.

        From offset 0 size and digest are verified: the iterator raises at its end when they are wrong.  From another
        offset only the size is; the caller has the beginning and checks the whole.  With `connections` above 1 threads
        may fetch ranges side by side.
        """
        check = downloads.hasher(digest)  # a digest that is none is refused before anybody is asked
        at, subject = offset, self._subject(digest)
        sources = self._sources(digest)
        for number, session in enumerate(sources):
            try:
                for piece in downloads.stream(session, digest, size, at, subject, connections):
                    at += len(piece)
                    if not offset:
                        check.update(piece)
                    yield piece
                break
            except RegistryError:
                if number == len(sources) - 1:
                    raise
        if not offset:
            downloads.compare(check, digest, subject)

    def has_blob(self, digest: str) -> int | None:
        """Its size when the repository that is pushed to has it; None when not."""
        session, step, subject = self._home(), "look up blob", self._subject(digest)
        answer = session.request(
            "HEAD", f"{session.repository}/blobs/{digest}", step=step, subject=subject, scopes=session.scopes(PUSH)
        )  # fmt: skip
        answer.done()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise session.error(answer, step, subject)
        return max(0, answer.length)

    def mount(self, digest: str, from_repository: str) -> bool:
        """Take a blob over from another repository of the same registry (its path); False when it has to be uploaded."""
        session, step, subject = self._home(), "mount blob", self._subject(digest)
        query = urllib.parse.urlencode([("mount", digest), ("from", from_repository)])
        answer = session.request(
            "POST", f"{session.repository}/blobs/uploads/?{query}", step=step, subject=subject,
            scopes=session.scopes(PUSH, (f"repository:{from_repository}:{PULL}",)), headers={"Content-Length": "0"},
        )  # fmt: skip
        if answer.status == 201:
            answer.done()
            return True
        if answer.status == 202:  # an upload was begun instead: tell the server that it is not wanted
            target = answer.headers.get("location", "")
            answer.done()
            if target:
                self._cancel(session, answer.url.join(target, step).text)
            return False
        answer.done()
        return False  # whatever the reason is: if the upload can not be either, it says why

    def _cancel(self, session: Session, location: str) -> None:
        try:
            session.request(
                "DELETE", location, step="mount blob", subject=self.name, scopes=session.scopes(PUSH), retry=False
            ).done()
        except SandboxError:
            pass  # it forgets by itself

    def upload(self, digest: str, size: int, open: Callable[[int], BinaryIO]) -> None:
        """Send a blob; `open(offset)` gives a new stream at that offset, for each attempt."""
        downloads.hasher(digest)
        uploads.Upload(self._home(), digest, size, open, self._subject(digest)).run()

    # -- lists --

    def tags(self) -> list[str]:
        """The tags of the repository."""
        session = self._sources()[-1]
        return self._pages(session, f"{session.repository}/tags/list?n=1000", "tags", "list tags", session.scopes(PULL))

    def catalog(self, query: str = "") -> list[str]:
        """The registry's repositories whose name contains `query`."""
        session = self._home()
        found = self._pages(session, "_catalog?n=1000", "repositories", "search", ["registry:catalog:*"])
        return [name for name in found if query in name]

    def _pages(self, session: Session, path: str, key: str, step: str, scopes: list[str]) -> list[str]:
        """The strings under `key` of each page; `Link: <...>; rel="next"` is followed on the registry's own origin only."""
        found: list[str] = []
        for _ in range(_PAGES):
            answer = session.request("GET", path, step=step, subject=self.name, scopes=scopes, limit=_LIST_BYTES)
            if answer.status != 200:
                hidden = step == "search" and answer.status in (403, 404, 405)
                raise session.error(
                    answer, step, self.name, "many registries do not show their catalogue" if hidden else ""
                )
            value = jsonstrict.loads(answer.body, self.name)
            page = value.get(key) if type(value) is dict else None
            found += jsonstrict.strings(page, self.name, key)
            link = answer.headers.get("link", "")
            if not link.startswith("<") or 'rel="next"' not in link:
                return found
            following = answer.url.join(link[1:].partition(">")[0], step)
            if following.origin != Url(session.base(step, self.name) + "/", step).origin:
                raise RegistryError(step, self.name, detail=f"its next page is on another host ({following.netloc})")
            path = following.text
        raise RegistryError(step, self.name, detail=f"more than {_PAGES} pages")
