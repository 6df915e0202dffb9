"""The keeper where it shares namespaces, see spaces.py: who is in its container, and the end of all of them.  (launch, hot)"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal  # the same names, with types; importing it costs 4 ms
else:
    import _signal

_ROUNDS = 100  # of looking for processes to end: each ends all that were there


def mounts_of(pid: int) -> str:
    """The mount namespace of a process, as /proc names it; "" when it cannot be looked at."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def same_users(pid: int) -> bool:
    """Whether a process is in our user namespace, by its id map, which everybody may read; True when there is doubt."""
    try:
        with open(f"/proc/{pid}/uid_map", "rb") as other, open("/proc/self/uid_map", "rb") as own:
            return other.read() == own.read()
    except OSError:
        return True


def end_all(space: str) -> None:
    """End every process in the mount namespace `space`; there is no pid namespace to do it."""
    for _ in range(_ROUNDS):
        found = [int(name) for name in os.listdir("/proc") if name.isdecimal() and space == mounts_of(int(name))]
        if not found or not space:
            return
        for pid in found:
            try:
                # Serves as a pidfd; pidfd_open takes numbers of our own pid namespace, which /proc does not show.
                fd = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    if mounts_of(pid) == space:
                        _signal.pidfd_send_signal(fd, 9)
                finally:
                    os.close(fd)
            except OSError:
                pass  # it has ended


def end_children(but: "set[int]") -> None:
    """End our children, and theirs, which become ours: those that have left the mount namespace, or hide it, too.

    For a subreaper in the pid namespace that /proc shows.  `but`: numbers of those that are to stay.
    """
    for _ in range(_ROUNDS):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                found = [pid for pid in map(int, file.read().split()) if pid not in but]
        except OSError:
            return  # a kernel without CONFIG_PROC_CHILDREN
        if not found:
            return
        for pid in found:
            os.kill(pid, 9)
        for pid in found:
            os.waitpid(pid, 0)
