"""One request to one host: connections, proxies, TLS, redirects, retries, limits.  Knows nothing of tokens.  (cold)

Rules that hold for every request (docs/registries.md):

- only http and https; plain http only where it was asked for, never after a TLS failure
- a redirect loses the credentials as soon as scheme, host or port change; https is never left for http; at most
  REDIRECTS of them; none into this machine or the link's own addresses, unless the registry is there
- connection failures, 408, 429 and 5xx are tried again `retries` times, after a growing random pause or what Retry-After says
- bodies are read to a limit and a deadline; encodings are not asked for and not decoded
"""

import copy
import email.utils
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationParseError

import sandbox
from sandbox.errors import SandboxError
from sandbox.registry import certificates, connections
from sandbox.registry.access import RETRIES
from sandbox.registry.answers import Answer
from sandbox.registry.faults import (
    ERROR_BYTES,
    RegistryError,
    UnreachableError,
    innermost,
    lasting,
    redacted,
    status_error,
    unreachable,
)
from sandbox.registry.urls import Url, inward, leads_inward

CONNECT_SECONDS = 15.0
IDLE_SECONDS = 30.0  # without a byte
REDIRECTS = 5
PAUSE_SECONDS = 0.5  # doubled with each attempt, then a random part of it
LONGEST_PAUSE = 60.0  # a server that wants more than this gets its error shown instead
AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
_AGENT = f"sbx/{sandbox.__version__}"

Body = Callable[[], "IO[bytes] | bytes"]
sleep = time.sleep  # tests look at how long


class Transport:
    """Connections to a registry and to the hosts that it points to; safe for several threads."""

    def __init__(self, registry: str, *, insecure: bool = False, cert_dir: str = "", retries: int = RETRIES) -> None:
        self.registry = registry  # host[:port], as it is in names
        self.insecure = insecure  # plain http and untrusted certificates are allowed, for this registry
        self.folder = cert_dir or certificates.folder_of(registry)
        self.secrets: set[str] = set()
        self.retries = retries
        self._pools: dict[tuple[str, str, int], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self.home_host = Url(f"https://{registry}/", "use registry").host
        self._home_inward = inward(self.home_host)
        self._whole: set[tuple[str, str, int]] = set()  # where the system's whole bundle of CAs is needed
        self._outside: set[tuple[str, str, int]] = set()  # where redirects lead to, looked up once

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def forked(self) -> "Transport":
        """The same for a forked child: connections and locks are not for sharing."""
        other = copy.copy(self)
        other._pools, other._lock, other.secrets = {}, threading.Lock(), set(self.secrets)
        return other

    def refuse_inward(self, url: Url, step: str, subject: str, how: str) -> None:
        """RegistryError for a place inside of this machine or its link that a registry elsewhere names."""
        if self._home_inward or url.origin in self._outside:
            return
        if leads_inward(url):
            raise RegistryError(step, subject, detail=f"{how} to an address of this machine ({url.netloc})")
        self._outside.add(url.origin)

    def wait(self, seconds: float) -> None:
        sleep(seconds)

    def _pool(self, url: Url) -> urllib3.PoolManager:
        with self._lock:
            pool = self._pools.get(url.origin)
            if pool is None:
                tls = None
                if url.scheme == "https":
                    home = url.netloc == self.registry or url.host == self.home_host
                    own = self.folder if home else certificates.folder_of(url.netloc)
                    more, whole = "" if home else self.folder, url.origin in self._whole
                    tls = certificates.context(own, verify=not self.insecure, more=more, whole=whole)
                pool = self._pools[url.origin] = connections.pool(url, tls)
            return pool

    def once(
        self, method: str, url: Url, headers: dict[str, str], body: Body | None, step: str, subject: str
    ) -> Answer:
        """One exchange; connection failures as urllib3 raises them."""
        sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=IDLE_SECONDS)
        while True:
            try:
                response = self._pool(url).urlopen(
                    method, url.text, headers=sent, body=body() if body else None, redirect=False, retries=False,
                    timeout=timeout, preload_content=False, decode_content=False, assert_same_host=False,
                )  # fmt: skip
                return Answer(response, url)
            except LocationParseError:
                raise RegistryError(step, url.shown, detail="not a URL that can be used") from None
            except HTTPError as error:
                if not self._with_all_authorities(url, error):
                    raise

    def _with_all_authorities(self, url: Url, error: HTTPError) -> bool:
        """Whether a certificate that is not trusted deserves a look into the whole bundle of the system's CAs."""
        if not isinstance(innermost(error), ssl.SSLCertVerificationError):
            return False
        with self._lock:
            if url.origin in self._whole or not certificates.hashed_folder():
                return False
            self._whole.add(url.origin)
            self._pools.pop(url.origin, None)
            return True

    def request(
        self, method: str, url: str, headers: Mapping[str, str], *, step: str, subject: str, body: Body | None = None,
        private: Mapping[str, str] | None = None, retry: bool = True, follow: bool = True, limit: int = 0,
    ) -> Answer:  # fmt: skip
        """The answer to one request after redirects and retries, whatever its status.

        `private` headers (Authorization) go to `url`'s own origin only.  `body` makes the body anew for each attempt.
        With a `limit`, the body of a success is read here, so that a cut in it is tried again too.
        """
        attempt = 0
        while True:
            try:
                answer = self._follow(method, Url(url, step), headers, private or {}, body, step, subject, follow)
                pause = self._pause(answer, attempt) if retry and attempt < self.retries else -1.0
                if pause < 0:
                    if limit and answer.status == 200:
                        answer.body = answer.read(limit, step, subject)
                    return answer
                answer.done()
            except (HTTPError, OSError) as error:
                pause = self.pause_after(error, attempt) if retry else -1.0
                if pause < 0:
                    raise self.failure(error, step, subject, Url(url, step)) from None
            sleep(pause)
            attempt += 1

    def _follow(
        self, method: str, url: Url, headers: Mapping[str, str], private: Mapping[str, str], body: Body | None,
        step: str, subject: str, follow: bool,
    ) -> Answer:  # fmt: skip
        for _ in range(REDIRECTS + 1):
            self._allowed(url, step, subject)
            answer = self.once(method, url, {**headers, **private}, body, step, subject)
            target = answer.headers.get("location", "")
            if answer.status not in (301, 302, 303, 307, 308) or not target or not follow:
                return answer
            answer.done()
            if method not in ("GET", "HEAD") and answer.status not in (307, 308):
                raise RegistryError(step, subject, detail=f"redirected with status {answer.status} while sending")
            following = url.join(target, step)
            if url.scheme == "https" and following.scheme != "https":
                raise RegistryError(step, subject, detail=f"redirected from https to plain http ({following.netloc})")
            if following.origin != url.origin:
                self.refuse_inward(following, step, subject, "redirected")
            if following.origin != url.origin:
                private = {}  # and they do not come back when a later redirect leads home
            url = following
        raise RegistryError(
            step, subject, detail=f"redirected more than {REDIRECTS} times", hint="the registry is set up wrongly"
        )

    def _allowed(self, url: Url, step: str, subject: str) -> None:
        if url.scheme == "http" and not self.insecure:
            raise RegistryError(
                step, subject, detail=f"plain http is not allowed ({url.netloc})", hint="--tls-verify=false allows it"
            )

    def _pause(self, answer: Answer, attempt: int) -> float:
        """Seconds until the next attempt after this status; negative: no other."""
        if answer.status not in AGAIN:
            return -1.0
        wanted = retry_after(answer.headers.get("retry-after", ""))
        if wanted is None:
            return backoff(attempt)
        return -1.0 if wanted > LONGEST_PAUSE else wanted + random.uniform(0, 0.25)

    def pause_after(self, error: BaseException, attempt: int) -> float:
        """Seconds until the next attempt after a connection failure; negative: it would fail the same way."""
        if attempt >= self.retries or lasting(error):
            return -1.0
        nobody = isinstance(innermost(error), ConnectionRefusedError) or isinstance(error, ConnectTimeoutError)
        if attempt and nobody:
            return -1.0  # nobody listens: one more attempt is enough for a service that is being restarted
        return backoff(attempt)

    def failure(self, error: BaseException, step: str, subject: str, url: Url) -> UnreachableError:
        """The SandboxError for a connection that failed."""
        found = unreachable(error, step, subject, url.netloc)
        found.detail = redacted(found.detail, self.secrets)  # a line that is no HTTP is quoted, and may be an echo
        return found

    def status_error(
        self, answer: Answer, step: str, subject: str, *, account: str = "", note: str = ""
    ) -> RegistryError:
        """The error for an answer that should have been a success; reads and ends it."""
        try:
            body = answer.read(ERROR_BYTES, step, subject, cut=True)
        except (SandboxError, HTTPError, OSError):
            body = b""
        return status_error(
            step, subject, self.registry, answer.status, answer.headers, body,
            account=account, secrets=self.secrets, note=note,
        )  # fmt: skip


def backoff(attempt: int) -> float:
    """Seconds before attempt + 1, at random so that many clients do not come back at once."""
    ceiling = min(PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE)
    return random.uniform(ceiling / 2, ceiling)


def retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks for (a number or an HTTP date); None when it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
