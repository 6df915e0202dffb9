"""Who we are, for the one question that `glance` asks: what `session` does, without an HTTP library.  (cold)

The rules are those of `tokens`: which token server may be asked, and whether our password may go there.  What those keep
back, or a login that there is none for, is a ValueError here: the full way has the words for it.
"""

from typing import Any

from sandbox.errors import SandboxError
from sandbox.registry import certificates, credentials, glance, proxies
from sandbox.registry.credentials import Credentials
from sandbox.registry.urls import Url

_STEP = "get token"


def authorization(place: dict[str, Any], cert_dir: str, authfile: str, end: float) -> str:
    """The Authorization header for a place that wanted one (`Session.place`).  OSError, ValueError, SandboxError."""
    scheme, parameters = place["login"]
    found = credentials.find(place["host"], place["path"], authfile)
    home = Url(f"{place['origin']}/", _STEP)
    if home.scheme != "https" and found is not None and not proxies.loopback(home.host):
        raise ValueError
    if scheme == "basic":
        if found is None or found.identity_token:
            raise ValueError
        return credentials.basic(found)
    return f"Bearer {_token(place, parameters, found, home, cert_dir, end)}"


def _token(
    place: dict[str, Any], parameters: dict[str, str], found: Credentials | None, home: Url, cert_dir: str, end: float
) -> str:
    from sandbox.registry import tokens  # 4 ms, and many registries want a password only

    scopes = [f"repository:{place['path']}:pull"]
    asked = tokens.question(
        home.netloc, home.host, parameters, scopes, found, place["host"], insecure=not place["verify"]
    )
    if asked.withheld:
        raise ValueError
    url = Url(asked.url, _STEP)
    if proxies.proxy_for(url.scheme, url.host, url.port):
        raise ValueError
    # As `transport` does it: the registry's CAs count for its token server, its client certificate does not.
    folder, more = cert_dir or certificates.folder_of(home.netloc), ""
    if url.netloc != home.netloc and url.host != home.host:
        folder, more = certificates.folder_of(url.netloc), folder
    status, _, body = glance.exchange(
        asked.method, f"{url.scheme}://{url.netloc}", url.target, [*asked.headers.items(), *asked.private.items()], end,
        folder, verify=place["verify"], more=more, body=asked.body, most=tokens.TOKEN_BYTES,
    )  # fmt: skip
    if status != 200:
        raise SandboxError(_STEP, home.netloc, detail=f"HTTP {status}")
    return tokens.token_in(body, lambda secret: None, place["host"]).text
