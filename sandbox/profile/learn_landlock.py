"""What was seen of files and ports -> the [landlock] table of a learned profile.  (cold)

Landlock allows a file, or a folder with all that is below it.  So what was made or removed stands for its folder, and a
folder that was listed is open as a whole; where that would take in something protected, the right is left as it is.
"""

import os

from sandbox.profile import learn_paths, load
from sandbox.profile.kept import Profile
from sandbox.profile.learn_record import Record
from sandbox.profile.probes import is_below

_VERSION = "landlock>=4"
_RIGHTS = (("read", 4 | 1), ("write", 2), ("execute", 1))  # the kernel opens for reading what it runs
_PORTS = (("connectTcp", "connect"), ("bindTcp", "bind"))
_ALWAYS = ("/dev", "/proc")
_EPHEMERAL = 32768  # from here on the kernel gives out ports that differ each time


def lines(base: Profile, seen: Record) -> str:
    """The table's text, or a comment where this machine can not enforce it."""
    missing = load.lacking(_VERSION)
    if missing:
        return f"# Files and ports are not confined, because this machine can not: {missing}\n"
    made = "".join(_paths(key, bit, base, seen) for key, bit in _RIGHTS)
    made += "".join(_ports(key, seen.ports.get(word, []), base) for key, word in _PORTS)
    return f"[landlock]\n{made}"


def _paths(key: str, bit: int, base: Profile, seen: Record) -> str:
    found: dict[str, str] = {}
    for place in seen.places:
        folder = place.folder
        while not folder.isprintable():  # it can not be written down, or would be more than one line somewhere
            folder = os.path.dirname(folder)
        if not place.rights & bit or any(is_below(folder, path) for path in _ALWAYS):
            continue
        if folder == "/" or learn_paths.holds_protected(folder):
            why = "everything" if folder == "/" else "something that is never proposed"
            return f"# `{key}` is left as it is: `{printed(place.pattern)}` was used, and `{folder}` has {why} in it.\n"
        found.setdefault(folder, place.reason if folder == place.folder else "made or removed in it")
    before = base.settings.get(f"landlock.{key}")
    chosen = {
        path: reason for path, reason in sorted(found.items())
        if not any(other != path and is_below(path, other) for other in found)
        and (before is None or any(is_below(path, above) for above in before))
    }  # fmt: skip
    rows = "".join(f"  {quoted(path)},  # {reason}\n" for path, reason in chosen.items())
    return f"{key} = [\n{rows}]\n" if rows else f"{key} = []\n"


def _ports(key: str, ports: list[int], base: Profile) -> str:
    if any(port >= _EPHEMERAL for port in ports):
        return f"# `{key}` is left as it is: the ports were {', '.join(map(str, ports))}, which may differ each time.\n"
    before = base.settings.get(f"landlock.{key}")
    return f"{key} = {[port for port in ports if before is None or port in before]}\n"


def quoted(text: str) -> str:
    """A TOML string, without control characters."""
    plain = printed(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def printed(text: str) -> str:
    """For a comment: TOML has no control characters in them."""
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xFF:02x}" for c in text)
