"""Pools of connections to one origin: urllib3, with a proxy, TLS and a limit that http.client has not.  (cold)"""

import http.client
import ssl
import urllib.parse
from typing import Any

import urllib3
import urllib3.connection
from urllib3.exceptions import HTTPError

from sandbox.errors import SandboxError
from sandbox.registry import proxies
from sandbox.registry.urls import Url

CHUNK = 1 << 18  # bytes that are read or sent at once
AT_ONCE = 16  # idle connections that are kept for one origin
_INTERIM = 16  # answers of status 100 before the real one

urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # who says --tls-verify=false knows


class _Response(http.client.HTTPResponse):
    """http.client skips 100 Continue for as long as it comes: a server that sends nothing else would hold us for ever."""

    _interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # not in typeshed
        self._interim += 1
        if self._interim > _INTERIM:
            raise http.client.BadStatusLine("100 Continue without an end")
        return found


class _Plain(urllib3.connection.HTTPConnection):
    response_class = _Response


class _Secure(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


def pool(url: Url, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Connections to the origin of `url`, through the proxy that the environment names for it; `tls` for https."""
    settings: dict[str, Any] = {"num_pools": 2, "maxsize": AT_ONCE, "blocksize": CHUNK, "retries": False}
    if tls is not None:
        settings["ssl_context"] = tls
    proxy = proxies.proxy_for(url.scheme, url.host, url.port)
    made = _proxied(proxy, settings) if proxy else urllib3.PoolManager(**settings)
    made.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return made


def _proxied(proxy: str, settings: dict[str, Any]) -> urllib3.PoolManager:
    try:
        parts = urllib.parse.urlsplit(proxy)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError
        bare = urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
        user = ""
        if parts.username is not None:
            user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=user) if user else None
        return urllib3.ProxyManager(bare, proxy_headers=headers, **settings)
    except (ValueError, HTTPError):
        raise SandboxError(
            "use proxy",
            proxy.rpartition("@")[2],
            detail="a SOCKS proxy, which sbx does not speak to"
            if proxy.startswith("socks")
            else "not an http or https URL",
            hint="HTTP_PROXY and HTTPS_PROXY take an http or https proxy; NO_PROXY excepts hosts",
        ) from None
