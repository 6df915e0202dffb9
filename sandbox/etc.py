"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: made per container, mounted over the image's.  (front, hot)"""

from sandbox.errors import EINVAL, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def hosts(hostname: str, network: str, added: "Sequence[str]") -> str:
    """Text of /etc/hosts; `added` are `--add-host NAME:ADDRESS` words."""
    own, gateway = "127.0.1.1", ""
    if network in ("slirp4netns", "pasta"):
        from sandbox import net_slirp

        own, gateway = net_slirp.ADDRESS, net_slirp.GATEWAY
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    if network == "host":
        lines.extend(_own_lines("/etc/hosts"))
    else:
        lines.append(f"{own}\t{hostname}")
    for word in added:
        name, colon, address = word.partition(":")
        if not colon or not name or not address or not word.isprintable() or " " in word:
            raise SandboxError("read --add-host", word, EINVAL, hint="the form is NAME:ADDRESS")
        if address == "host-gateway":
            if not gateway:
                raise SandboxError("read --add-host", word, EINVAL, detail=f"network {network} has no gateway")
            address = gateway
        lines.append(f"{address}\t{name}")
    return "\n".join(lines) + "\n"


def resolv_conf(network: str, servers: "Sequence[str]", search: "Sequence[str]", options: "Sequence[str]") -> str:
    """Text of /etc/resolv.conf; "" when there is nothing to ask (no network and no --dns)."""
    lines = []
    if network == "host" and not servers:
        lines = _own_lines("/etc/resolv.conf")
    elif servers:
        lines = [f"nameserver {server}" for server in servers]
    elif network in ("slirp4netns", "pasta"):
        from sandbox import net_slirp

        lines = [f"nameserver {net_slirp.NAMESERVER}"]
    if search and search[0] != ".":
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    if any(not line.replace("\t", " ").isprintable() for line in lines):
        raise SandboxError("read --dns", detail="a control character in it")
    return "".join(f"{line}\n" for line in lines)


def _own_lines(path: str) -> list[str]:
    """The host's own file, for --network host."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n").split("\n")
    except OSError:
        return []
