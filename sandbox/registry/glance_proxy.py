"""The proxy of the one question that `glance` asks.  (cold)"""

import base64
import urllib.parse

from sandbox.registry import proxies


def through(scheme: str, host: str, port: int) -> tuple[tuple[str, int] | None, list[tuple[str, str]]]:
    """((host, port) of the proxy for requests to `host`, or None; the header that it wants to see).

    ValueError for a proxy that is not asked by plain http: the full way knows what to do, or to say.
    """
    proxy = proxies.proxy_for(scheme, host, port)
    if not proxy:
        return None, []
    parts = urllib.parse.urlsplit(proxy)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError
    proved = []
    if parts.username is not None:
        user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        proved.append(("Proxy-Authorization", "Basic " + base64.b64encode(user.encode("latin-1")).decode()))
    return (parts.hostname, parts.port or 80), proved
