"""What `top` shows of the processes of a container, by podman's words for it.  (cold)"""

import grp
import os
import pwd
import time
from collections.abc import Callable
from typing import Any

from sandbox import caps, state, users
from sandbox.life.chosen import improper
from sandbox.life.processes import processes

DEFAULT = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")
# Words whose heading is another one
_HEADINGS = {"args": "COMMAND", "comm": "COMMAND", "pcpu": "%CPU", "etime": "ELAPSED", "nice": "NI"}
_SETS = {"capamb": "Amb", "capbnd": "Bnd", "capeff": "Eff", "capinh": "Inh", "capprm": "Prm"}
_FILTERS = {"0": "disabled", "1": "strict", "2": "filter"}


def heading(word: str) -> str:
    return _HEADINGS.get(word) or (f"{word[3:].upper()} CAPS" if word in _SETS else word.upper())


def lines(known: state.Known, words: tuple[str, ...]) -> list[list[str]]:
    """One line of cells for each process; SandboxError when it does not run."""
    if known.status != "running":
        raise improper("list processes of", known, "top can only be used on running containers")
    names = _Names(known)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    found = processes(known.state["pid"])
    for one in found:
        if known.about.get("pod_name") and one["host"] == known.state["pid"]:
            one["command"] = "pause"  # else it is the command line of who has made the pod
    return [[_cell(word, one, names, now) for word in words] for one in found]


class _Names:
    """The names that a container's users have in it, and here."""

    def __init__(self, known: state.Known) -> None:
        self.maps = known.about.get("maps", {})
        self.users: dict[int, str] = {0: "root"}
        self.groups: dict[int, str] = {0: "root"}
        try:
            root = os.open(f"/proc/{known.state['pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return  # it is not ours to look into
        try:
            self.users.update(users.names(root, "etc/passwd"))
            self.groups.update(users.names(root, "etc/group"))
        finally:
            os.close(root)

    def user(self, host: int) -> str:
        return self._inside(host, "uid", self.users)

    def group(self, host: int) -> str:
        return self._inside(host, "gid", self.groups)

    def _inside(self, host: int, kind: str, names: dict[int, str]) -> str:
        for inside, outside, length in self.maps.get(kind, ()):
            if outside <= host < outside + length:
                number = host - outside + inside
                return names.get(number, str(number))
        return "?"  # nobody's in there


def _of_host(find: Callable[[int], Any], number: int) -> str:
    try:
        return str(find(number)[0])
    except KeyError:
        return str(number)


def _cell(word: str, one: dict[str, Any], names: _Names, now: float) -> str:
    lived = max(0.01, now - one["started"])
    if word in _SETS:
        return _capabilities(one["caps"].get(_SETS[word], "0"))
    made: dict[str, Callable[[], str]] = {
        "args": lambda: str(one["command"]),
        "comm": lambda: str(one["name"]),
        "etime": lambda: clock(lived),
        "group": lambda: names.group(one["gid"]),
        "hgroup": lambda: _of_host(grp.getgrgid, one["gid"]),
        "hpid": lambda: str(one["host"]),
        "huser": lambda: _of_host(pwd.getpwuid, one["uid"]),
        "pcpu": lambda: f"{100 * one['cpu'] / lived:.3f}",
        "rgroup": lambda: names.group(one["rgid"]),
        "rss": lambda: str(one["memory"] // 1024),
        "ruser": lambda: names.user(one["ruid"]),
        "seccomp": lambda: _FILTERS.get(one["seccomp"], "?"),
        "stime": lambda: time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - lived)),
        "time": lambda: clock(one["cpu"]),
        "user": lambda: names.user(one["uid"]),
        "vsz": lambda: str(one["size"] // 1024),
    }
    return made[word]() if word in made else str(one[word])


def _capabilities(text: str) -> str:
    """As psgo has it: none, full, or their names."""
    bits = int(text, 16)
    found = [name.removeprefix("CAP_") for number, name in enumerate(caps.NAMES) if bits >> number & 1]
    return "full" if len(found) == len(caps.NAMES) else ",".join(found) or "none"


def clock(seconds: float) -> str:
    """ "2.500s", "42s", "3m5s", "1h2m3s"."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.3f}s" if seconds < 10 else f"{whole}s"
    return f"{whole // 3600}h{whole // 60 % 60}m{whole % 60}s" if whole >= 3600 else f"{whole // 60}m{whole % 60}s"
