"""Requests to one registry as somebody: which scheme, which challenge, which token.  (cold)"""

import copy
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from urllib3.exceptions import HTTPError

from sandbox.errors import SandboxError
from sandbox.registry import challenge, credentials, proxies, tokens
from sandbox.registry.access import ORDINARY, Access
from sandbox.registry.answers import Answer
from sandbox.registry.credentials import Credentials
from sandbox.registry.faults import RegistryError
from sandbox.registry.names import Endpoint
from sandbox.registry.tokens import Token
from sandbox.registry.transport import Body, Transport
from sandbox.registry.urls import Url

# Names that are not where they say: docker.io's registry.
_API_HOST = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
PULL, PUSH = "pull", "pull,push"


class Session:
    """One registry's API: `request` adds what the registry wants to see.  Safe for several threads."""

    def __init__(self, endpoint: Endpoint, access: Access = ORDINARY) -> None:
        self.endpoint = endpoint
        self.host = endpoint.host
        self.repository = endpoint.path
        insecure = endpoint.insecure if access.tls_verify is None else not access.tls_verify
        self.transport = Transport(
            _API_HOST.get(self.host, self.host), insecure=insecure, cert_dir=access.cert_dir, retries=access.retries
        )
        self._access = access
        self._found: Credentials | None = None
        self._searched = False
        self._base = ""
        self._scheme: challenge.Challenge | None = None  # the last challenge that was answered
        self._tokens: dict[tuple[str, ...], Token] = {}
        self._withheld = False
        self._lock = threading.RLock()

    def close(self) -> None:
        self.transport.close()

    def forked(self) -> "Session":
        """The same for a forked child, who need not ask for a token again."""
        other = copy.copy(self)
        other.transport, other._tokens, other._lock = self.transport.forked(), dict(self._tokens), threading.RLock()
        return other

    @property
    def asked(self) -> bool:
        """Whether the registry wanted to know who we are."""
        return self._scheme is not None

    def place(self, step: str, subject: str) -> dict[str, Any]:
        """What `glance` has to know to ask the same again; nothing of it is secret."""
        return {
            "origin": self.base(step, subject), "verify": not self.transport.insecure, "host": self.host,
            "path": self.repository, "mirror": self.endpoint.mirror,
            "login": (self._scheme.scheme, dict(self._scheme.parameters)) if self._scheme else None,
        }  # fmt: skip

    @property
    def withheld(self) -> str:
        """Why the password was kept from the token server, with the way to allow it; "" when it was not."""
        if not self._withheld or self._scheme is None:
            return ""
        host = urllib.parse.urlsplit(self._scheme.parameters.get("realm", "")).hostname or ""
        return tokens.withheld_note(self.transport.home_host, host)

    # -- who we are --

    @property
    def credentials(self) -> Credentials | None:
        """What is known for this registry and repository; looked up when first asked for it."""
        with self._lock:
            if not self._searched:
                if self._access.creds:
                    user, colon, password = self._access.creds.partition(":")
                    if not user or not colon:  # what was given is not shown: it may be the password alone
                        raise SandboxError("read credentials", "--creds", detail="not USER:PASSWORD")
                    self._found = Credentials(user, password, "", "--creds")
                else:
                    self._found = credentials.find(self.host, self.repository, self._access.authfile)
                self._searched = True
                if self._found is not None:
                    self.transport.secrets |= {self._found.password, self._found.identity_token} - {""}
                    self.transport.secrets.add(credentials.basic(self._found).partition(" ")[2])
            return self._found

    def _authorization(self, scopes: list[str], subject: str) -> dict[str, str]:
        """The header for what the registry last asked for; {} before it asked, or when we are nobody."""
        with self._lock:
            if self._scheme is None:
                return {}
            if self._scheme.scheme == "basic":
                found = self.credentials
                if found is None or found.identity_token:
                    return {}
                if self._base.startswith("http:") and not proxies.loopback(self.transport.home_host):
                    raise RegistryError(
                        "log in", self.host, detail="it speaks plain http, and a password is not sent over that",
                        hint="give the registry a certificate",
                    )  # fmt: skip
                return {"Authorization": credentials.basic(found)}
            asked = self._scheme.parameters.get("scope", "")
            key = tuple(scopes) or tuple(asked.split())
            token = self._tokens.get(key)
            if token is None or token.until < time.monotonic():
                # One thread asks, the others wait for its answer.
                token, self._withheld = tokens.fetch(
                    self.transport, self._scheme.parameters, list(key), self.credentials, subject
                )
                self._tokens[key] = token
            plain = self._base.startswith("http:") and not proxies.loopback(self.transport.home_host)
            if plain and self.credentials is not None:
                raise RegistryError(
                    "log in", self.host, detail="it speaks plain http, and a token is not sent over that"
                )
            return {"Authorization": f"Bearer {token.text}"}

    def _challenged(self, answer: Answer, scopes: list[str]) -> bool:
        """Take the challenge of a 401 in; whether there is an answer to it."""
        found = {entry.scheme: entry for entry in reversed(challenge.parse(answer.challenges))}
        with self._lock:
            best = found.get("bearer") or found.get("basic")
            if best is None:
                return False
            self._scheme = best
            self._tokens.pop(tuple(scopes) or tuple(best.parameters.get("scope", "").split()), None)
            return best.scheme == "bearer" or self.credentials is not None

    # -- requests --

    def base(self, step: str, subject: str) -> str:
        """`https://host`, or `http://host` when that is allowed and TLS is not spoken there."""
        with self._lock:
            if not self._base:
                self._base = self._find_base(step, subject)
            return self._base

    def _find_base(self, step: str, subject: str) -> str:
        https = f"https://{self.transport.registry}"
        if not self.transport.insecure:
            return https
        url = Url(f"{https}/v2/", step)
        for attempt in range(self.transport.retries + 1):
            try:
                self.transport.once("GET", url, {}, None, step, subject).done()
                return https
            except (HTTPError, OSError) as error:
                if attempt == 0:  # whatever it is: a proxy that connects to no port 443, a firewall that drops
                    try:
                        http = Url(f"http://{self.transport.registry}/v2/", step)
                        self.transport.once("GET", http, {}, None, step, subject).done()
                        return f"http://{self.transport.registry}"
                    except (HTTPError, OSError):
                        pass
                pause = self.transport.pause_after(error, attempt)
                if pause < 0:
                    raise self.transport.failure(error, step, subject, url) from None
                self.transport.wait(pause)
        return https

    def scopes(self, actions: str, more: tuple[str, ...] = ()) -> list[str]:
        """Token scopes for `actions` on this repository, and `more`."""
        own = [f"repository:{self.repository}:{actions}"] if self.repository else []
        return sorted({*own, *more})

    def request(
        self, method: str, path: str, *, step: str, subject: str, scopes: list[str], headers: Mapping[str, str] | None = None,
        body: Body | None = None, retry: bool = True, follow: bool = True, limit: int = 0,
    ) -> Answer:  # fmt: skip
        """The answer to `path` (below /v2/, or an absolute URL that the registry gave), with a login when it is asked for."""
        base = self.base(step, subject)
        url = path if "://" in path else f"{base}/v2/{path}"
        home = Url(url, step).origin == Url(base + "/", step).origin
        if not home:
            self.transport.refuse_inward(Url(url, step), step, subject, "sends us")
        for attempt in range(3):
            private = self._authorization(scopes, subject) if home else {}
            answer = self.transport.request(
                method, url, headers or {}, step=step, subject=subject, body=body, private=private, retry=retry, follow=follow,
                limit=limit,
            )  # fmt: skip
            # A 401 of another host, after a redirect, is not a question to us.
            if answer.status != 401 or answer.url.origin != Url(url, step).origin or not home or attempt == 2:
                return answer
            if private and self._scheme is not None and (self._scheme.scheme == "basic" or attempt):
                return answer
            if not self._challenged(answer, scopes):
                return answer
            answer.done()
        raise AssertionError("not reached")

    def error(self, answer: Answer, step: str, subject: str, note: str = "") -> RegistryError:
        """The error for an answer that is no success; `note` is its hint."""
        note = (self.withheld if answer.status in (401, 403) else "") or note
        found = None
        try:
            found = self.credentials if self._searched else None
        except SandboxError:
            pass
        return self.transport.status_error(answer, step, subject, account=found.source if found else "", note=note)

    def ping(self, step: str, scopes: list[str] | None = None) -> Answer:
        """GET /v2/ as who we are."""
        return self.request("GET", "", step=step, subject=self.host, scopes=scopes or [])
