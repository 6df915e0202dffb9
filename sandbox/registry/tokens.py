"""Bearer tokens: where a challenge sends us, whether our password may go there, and how long an answer holds.  (cold)

Specification: distribution's "Token Authentication" (GET with basic authentication) and "OAuth2 Token Authentication"
(POST, for identity tokens).  A registry names its token server itself, so a hostile one could name anybody's and have
our password sent there, or use us to reach a machine of the local network: `trusted` and `reachable` decide.
"""

import os
import time
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sandbox.errors import SandboxError
from sandbox.image import jsonstrict
from sandbox.registry import proxies
from sandbox.registry.credentials import Credentials, basic
from sandbox.registry.faults import RegistryError
from sandbox.registry.urls import Url, at_home, leads_inward

if TYPE_CHECKING:  # `glance` asks for tokens without it
    from sandbox.registry.transport import Transport

TOKEN_BYTES = 1 << 20
_LONGEST = 64 << 10  # characters of one token
_LEAST_SECONDS = 60  # a shorter life is taken for a mistake, as the specification asks
_EARLY_SECONDS = 10
_STEP = "get token"
# Registries whose token server has a name of its own.
_PAIRS = {"docker.io": "auth.docker.io", "registry-1.docker.io": "auth.docker.io", "index.docker.io": "auth.docker.io"}
# What countries divide their domain into: co.uk, com.au, ac.jp.
_SECOND = frozenset(
    "ac ad art asn biz co com ed edu firm gen go gob gok gouv gov govt gv id in ind info int jus k12 lg ltd me mil mod muni "
    "ne net nhs nic nom or org pe plc police press priv pro sch school tm web".split()
)
# Anybody gets a name below these, several labels deep: only the same host is trusted there.
_SHARED = frozenset(
    "amazonaws.com azurecr.io azurewebsites.net azure.com cloudfront.net github.io gitlab.io googleapis.com herokuapp.com "
    "appspot.com run.app web.app pages.dev workers.dev netlify.app vercel.app fly.dev onrender.com ngrok.io ngrok.app "
    "ngrok-free.app cloudapp.net trafficmanager.net digitaloceanspaces.com ondigitalocean.app nip.io sslip.io duckdns.org "
    "dyndns.org no-ip.org".split()
)  # fmt: skip


class Question(NamedTuple):
    """How a token is asked for; `used` are the credentials that go along, `withheld` says that there were others."""

    method: str
    url: str
    headers: dict[str, str]
    private: dict[str, str]  # not for who has no business with it
    body: bytes
    used: Credentials | None
    withheld: bool


class Token(NamedTuple):
    text: str
    until: float  # of time.monotonic()

    def __repr__(self) -> str:
        return "Token(***)"


def _common_domain(one: str, other: str) -> str:
    """The longest common end of two host names, in whole labels."""
    labels: list[str] = []
    for a, b in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if a != b:
            break
        labels.insert(0, a)
    return ".".join(labels)


def trusted(registry: str, realm: str) -> bool:
    """Whether the password for host `registry` may be sent to host `realm` (no ports).

    Same host; a name below the same registered domain; a known pair, or one of SBX_TOKEN_HOSTS (`registry=host,...`).
    """
    registry, realm = registry.lower().rstrip("."), realm.lower().rstrip(".")
    if registry == realm or (proxies.loopback(registry) and proxies.loopback(realm)):
        return True
    if _PAIRS.get(registry) == realm:
        return True
    if f"{registry}={realm}" in os.environ.get("SBX_TOKEN_HOSTS", "").lower().replace(" ", "").split(","):
        return True
    if any(char.isdigit() for char in registry.rpartition(".")[2]) or ":" in registry:
        return False  # addresses have no domain
    domain = _common_domain(registry, realm)
    labels = domain.split(".")
    if len(labels) < 2 or any(f".{domain}".endswith(f".{shared}") for shared in _SHARED):
        return False
    return not (len(labels) == 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND)


def reachable(registry: str, home_host: str, realm: Url) -> None:
    """SandboxError when the token server is an address that only this machine or its link knows, and the registry is not."""
    if at_home(home_host, realm.host):
        return
    if leads_inward(realm):
        raise RegistryError(
            _STEP, registry, detail=f"its token server is at an address of this machine ({realm.netloc})"
        )


def question(
    registry: str, home_host: str, parameters: dict[str, str], scopes: list[str], found: Credentials | None, subject: str,
    *, insecure: bool,
) -> Question:  # fmt: skip
    """What to ask for a token by a Bearer challenge's parameters; RegistryError when that server must not be asked."""
    realm = Url(parameters.get("realm", ""), _STEP)
    if realm.scheme != "https" and not (insecure and at_home(home_host, realm.host)):
        raise RegistryError(_STEP, subject, detail=f"its token server speaks plain http ({realm.netloc})")
    reachable(registry, home_host, realm)
    withheld = found is not None and not (
        trusted(home_host, realm.host) and (realm.scheme == "https" or proxies.loopback(realm.host))
    )
    used = None if withheld else found
    fields = [("service", parameters["service"])] if parameters.get("service") else []
    if used is not None and used.identity_token:
        form = [
            ("grant_type", "refresh_token"), *fields, ("client_id", "sbx"), ("scope", " ".join(scopes)),
            ("refresh_token", used.identity_token),
        ]  # fmt: skip
        body = urllib.parse.urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
        return Question("POST", realm.text, headers, {}, body, used, withheld)
    fields += [("scope", scope) for scope in scopes]
    if used is not None and used.username:
        fields.append(("account", used.username))
    query = urllib.parse.urlencode(fields)
    url = realm.text + ("&" if "?" in realm.text else "?") + query if query else realm.text
    private = {"Authorization": basic(used)} if used is not None else {}
    return Question("GET", url, {}, private, b"", used, withheld)


def fetch(
    transport: "Transport", parameters: dict[str, str], scopes: list[str], found: Credentials | None, subject: str
) -> tuple[Token, bool]:
    """(a token for `scopes`, whether our credentials were withheld) by a Bearer challenge's parameters.

    RegistryError when the token server refuses, answers nonsense, or is somewhere it must not be.
    """
    asked = question(
        transport.registry, transport.home_host, parameters, scopes, found, subject, insecure=transport.insecure
    )
    answer = transport.request(
        asked.method, asked.url, asked.headers, step=_STEP, subject=subject, private=asked.private, follow=False,
        body=(lambda: asked.body) if asked.body else None, limit=TOKEN_BYTES,
    )  # fmt: skip
    if answer.status != 200:
        if 300 <= answer.status < 400:
            answer.drop()
            raise RegistryError(
                _STEP, subject, detail=f"its token server redirects (HTTP {answer.status})", status=answer.status
            )
        note = withheld_note(transport.home_host, answer.url.host) if asked.withheld else ""
        account = asked.used.source if asked.used else ""
        raise transport.status_error(answer, _STEP, subject, account=account, note=note)
    return token_in(answer.body, transport.secrets.add, subject), asked.withheld


def withheld_note(registry: str, realm: str) -> str:
    """The hint for a password that was not sent."""
    return (
        f"the password was not sent to {realm}, which is not of {registry}'s domain; "
        f"SBX_TOKEN_HOSTS={registry}={realm} allows it"
    )


def token_in(raw: bytes, secret: Callable[[str], None], subject: str) -> Token:
    """The token in a token server's answer, told to `secret` too; RegistryError when there is none that can be used."""
    bad = RegistryError(_STEP, subject, detail="the token server's answer holds no token that can be used")
    try:
        value = jsonstrict.loads(raw, "token")
    except SandboxError:
        raise bad from None
    if type(value) is not dict:
        raise bad
    text = value.get("token") or value.get("access_token")
    # A token becomes a header line: nothing but visible ASCII.
    if (
        type(text) is not str
        or not 0 < len(text) <= _LONGEST
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    ):
        raise bad
    secret(text)
    seconds = value.get("expires_in")
    if type(seconds) is not int or not _LEAST_SECONDS <= seconds <= 86400 * 365:
        seconds = _LEAST_SECONDS
    return Token(text, time.monotonic() + seconds - _EARLY_SECONDS)
