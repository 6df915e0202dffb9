"""What `[[test]]` of a profile can ask: `deny = "read ~/.ssh/id_rsa"`.  (cold)

The same words are answered twice: on paper, from the profile (`paper`), and by a program inside a sandbox that really
tries (`PROGRAM`, handed to the Python of `host:`; one line of JSON comes back).
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.profile.kept import Profile

FORMS = (
    "call NAME [ARGUMENT...], capability NAME, read PATH, write PATH, list PATH, execute PATH, connect HOST:PORT, "
    "socket FAMILY TYPE, variable NAME"
)
_KINDS = ("call", "capability", "read", "write", "list", "execute", "connect", "socket", "variable")


def wrong(text: str) -> str:
    """What is wrong with a probe, or ""."""
    words = text.split()
    if not words or words[0] not in _KINDS:
        return "no such probe"
    if len(words) < 2 or (words[0] not in ("call", "socket") and len(words) != 2):
        return "one word must follow"
    if words[0] == "connect" and not words[1].rpartition(":")[2].isdecimal():
        return "the form is HOST:PORT"
    return ""


def argument(word: str) -> int | str:
    """A number in any of Python's forms, else the word itself: a string is handed to the kernel as a pointer."""
    try:
        return int(word, 0)
    except ValueError:
        return word


def is_below(path: str, above: str) -> bool:
    """Whether `path` is the folder `above`, or somewhere in it."""
    return f"{path.rstrip('/')}/".startswith(f"{above.rstrip('/')}/")


def paper(profile: "Profile", text: str) -> bool | None:
    """Whether the profile lets the probe through; None when only a real try can tell."""
    from sandbox.profile.policy import PERMISSIVE

    kind, *words = text.split()
    if kind in ("call", "socket"):
        name = "socket" if kind == "socket" else words[0]
        numbers = [n if isinstance(n := argument(w), int) else 1 for w in (words if kind == "socket" else words[1:])]
        arguments = tuple(n & (1 << 64) - 1 for n in [*numbers, 0, 0, 0, 0, 0, 0][:6])
        return profile.policy.answer(name, arguments).action in PERMISSIVE
    if kind == "capability":
        return f"CAP_{words[0].removeprefix('CAP_')}" in profile.capabilities
    if kind == "connect" and profile.settings.get("network.mode") == "none":
        return False
    if kind in ("read", "write", "list", "execute"):
        path = os.path.expanduser(words[0])
        linux = profile.fragment()["linux"]
        covered = linux["maskedPaths"] + (linux["readonlyPaths"] if kind == "write" else [])
        if any(f"{path}/".startswith(f"{above}/") for above in covered) and not path.startswith("/dev/"):
            return False
        allowed = profile.settings.get(f"landlock.{'read' if kind == 'list' else kind}")
        if allowed is not None and not any(is_below(path, above) for above in (*allowed, "/dev", "/proc")):
            return False
        if kind == "write" and profile.settings.get("filesystem.readonly"):
            memory = [text.partition(":")[0] for text in profile.settings.get("filesystem.tmpfs", ())]
            if not any(
                f"{path}/".startswith(f"{above}/") for above in (*memory, "/tmp", "/var/tmp", "/run", "/dev", "/proc")
            ):
                return False
    return None


PROGRAM = r"""
import ctypes, errno, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
REFUSED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT}

def call(number, *arguments):
    pid = os.fork()
    if pid == 0:
        words = [ctypes.c_long(a) if isinstance(a, int) else a.encode() for a in arguments]
        done = libc.syscall(ctypes.c_long(number), *words)
        os._exit(0 if done != -1 else ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code == 0 or (code > 0 and code not in REFUSED)

def read(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return len(os.read(fd, 1)) == 1

def write(path):
    new = not os.path.lexists(path)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600))
    if new:
        os.unlink(path)
    return True

def capability(number):
    for line in open("/proc/self/status"):
        if line.startswith("CapPrm:"):
            return bool(int(line.split()[1], 16) >> number & 1)

def connect(host, port):
    socket.create_connection((host, port), 2).close()
    return True

def a_socket(family, kind):
    socket.socket(family, kind).close()
    return True

TRIES = {"call": call, "read": read, "write": write, "list": lambda p: bool(os.listdir(p)),
         "execute": lambda p: os.access(p, os.X_OK), "capability": capability, "connect": connect, "socket": a_socket,
         "variable": lambda n: n in os.environ}
found = []
for kind, *words in json.loads(sys.argv[1]):
    try:
        found.append(TRIES[kind](*words))
    except OSError:
        found.append(False)
print(json.dumps(found))
"""


def wish(text: str) -> list[object]:
    """A probe as PROGRAM wants it: names of calls and capabilities as their numbers, `~` of the caller."""
    from sandbox import caps
    from sandbox.profile import calls

    kind, *words = text.split()
    if kind == "call":
        number = calls.table(calls.machine()).get(words[0])
        return ["call", -1 if number is None else number, *(argument(word) for word in words[1:])]
    if kind == "capability":
        return [kind, caps.NAMES.index(words[0].removeprefix("CAP_"))]
    if kind == "socket":
        return [kind, int(words[0]), int(words[1]) if len(words) > 1 else 1]
    if kind == "connect":
        host, _, port = words[0].rpartition(":")
        return [kind, host.strip("[]"), int(port)]
    return [kind, words[0] if kind == "variable" else os.path.expanduser(words[0])]
