"""Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go programs read them.  (cold)

Rules of golang.org/x/net/http/httpproxy, so that one setting serves every tool: upper case first, then lower; loopback
never goes through a proxy; NO_PROXY holds names (with their subdomains), `.name` (subdomains), addresses, CIDR blocks
and ports.
"""

import ipaddress
import os


def _variable(name: str) -> str:
    return os.environ.get(name, "") or os.environ.get(name.lower(), "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def loopback(host: str) -> bool:
    """Whether `host` (no port) is this machine by its very name: localhost or a loopback address."""
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def excluded(host: str, port: int, rules: str) -> bool:
    """Whether NO_PROXY, given as `rules`, names this host."""
    host = host.lower().rstrip(".")
    address = _address(host)
    for word in rules.split(","):
        rule = word.strip().lower()
        if not rule:
            continue
        if rule == "*":
            return True
        if "/" in rule:
            try:
                if address is not None and address in ipaddress.ip_network(rule, strict=False):
                    return True
            except ValueError:
                pass
            continue
        name, colon, number = rule.rpartition(":")
        if colon and number.isdigit() and (":" not in name or name.startswith("[")):
            if int(number) != port:
                continue
            rule = name
        if address is not None:
            if _address(rule) == address:
                return True
            continue
        rule = rule.removeprefix("*")
        if host == rule or host.endswith(rule if rule.startswith(".") else f".{rule}"):
            return True
    return False


def proxy_for(scheme: str, host: str, port: int) -> str:
    """The proxy's URL for a request to `host`, "" for none."""
    proxy = _variable("HTTPS_PROXY" if scheme == "https" else "HTTP_PROXY")
    if not proxy or loopback(host) or excluded(host, port, _variable("NO_PROXY")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"
