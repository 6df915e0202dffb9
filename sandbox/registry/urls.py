"""URLs that a registry may send us to, in parts that can be compared.  (cold)"""

import ipaddress
import re
import socket
import urllib.parse

from sandbox.registry import proxies
from sandbox.registry.faults import RegistryError


def _shown(text: str) -> str:
    """A URL as messages may show it: a query may be a signature, and what stands before an @ a password."""
    return re.sub(r"//[^/]*@", "//***@", re.split(r"[?#]", text)[0])[:200]


class Url:
    """An absolute http(s) URL in parts that may be compared; SandboxError for any other."""

    def __init__(self, text: str, step: str) -> None:
        try:
            if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
                raise ValueError
            parts = urllib.parse.urlsplit(text)
            port = parts.port
        except ValueError:
            raise RegistryError(step, _shown(text), detail="not a URL that can be used") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise RegistryError(step, _shown(text), detail="not an http or https URL without a user")
        self.text = urllib.parse.urlunsplit(parts._replace(fragment=""))
        self.scheme = parts.scheme
        self.host = parts.hostname
        self.port = port or (443 if parts.scheme == "https" else 80)
        self.netloc = parts.netloc
        self.target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))  # as a request names it
        self.shown = f"{parts.scheme}://{parts.netloc}{parts.path}"  # a query may be a signature

    def join(self, target: str, step: str) -> "Url":
        """Where a Location or Link of this URL's answer leads."""
        try:
            return Url(urllib.parse.urljoin(self.text, target), step)
        except ValueError:
            raise RegistryError(step, _shown(target), detail="not a URL that can be used") from None

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


def at_home(home: str, host: str) -> bool:
    """Whether `host` is the registry's own host `home`, or both are this machine."""
    return host == home or (proxies.loopback(host) and proxies.loopback(home))


def inward(host: str) -> bool:
    """Whether `host` is this machine or an address that only the link knows (cloud metadata), by name or number."""
    if proxies.loopback(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.endswith((".localhost", ".internal"))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast)


def leads_inward(url: Url) -> bool:
    """As `inward`, and with the addresses that the name resolves to (127.1, a DNS entry); not when a proxy resolves it."""
    if inward(url.host):
        return True
    if proxies.proxy_for(url.scheme, url.host, url.port):
        return False
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # labels that IDNA does not take
        return False  # connecting will say so
    return any(inward(str(entry[4][0])) for entry in found)
