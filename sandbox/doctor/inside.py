"""Enter fresh namespaces in a probe's own process, or hold them in a child for a helper to join.  (cold)"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator

from sandbox import linux
from sandbox.doctor.probe import step
from sandbox.errors import SandboxError


def enter(kinds: int) -> None:
    """Move this process into a new user namespace (one id: the caller is 0) and new namespaces `kinds`.

    With CLONE_NEWPID only children are inside.  Errors: SandboxError of step "create user namespace", "create
    namespaces" or "map user ids".
    """
    uid, gid = os.geteuid(), os.getegid()
    with step("create user namespace"):
        linux.unshare(linux.CLONE_NEWUSER)
    with step("map user ids"):
        linux.write_file("/proc/self/setgroups", "deny")
        linux.write_file("/proc/self/gid_map", f"0 {gid} 1")
        linux.write_file("/proc/self/uid_map", f"0 {uid} 1")
    if kinds:
        with step("create namespaces"):
            linux.unshare(kinds)
    if kinds & linux.CLONE_NEWNS:
        with step("make mounts private", "/"):
            linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    # New credentials clear the parent-death signal.
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def held(kinds: int) -> Iterator[int]:
    """A child that sits in new namespaces (as `enter` makes them) for as long as the block runs; gives its pid."""
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready_read)
            enter(kinds)
            # Helpers look into /proc/PID: it must stay open for the caller's own processes.
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
            os.write(ready_write, b"1")
            signal.pause()
        except SandboxError as error:
            os.write(ready_write, f"0{error.step}\n{error.subject}\n{error.errno}".encode())
        finally:
            os._exit(0)
    os.close(ready_write)
    try:
        answer = os.read(ready_read, 4096).decode()
        os.close(ready_read)
        if answer != "1":
            name, subject, number = (answer[1:] or "create namespaces\n\n0").split("\n")
            raise SandboxError(name, subject, int(number))
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def bare() -> Iterator[int]:
    """A child in a new user namespace that has no id map yet; gives its pid."""
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ready_read)
            linux.unshare(linux.CLONE_NEWUSER)
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.write(ready_write, b"1")
            signal.pause()
        finally:
            os._exit(0)
    os.close(ready_write)
    try:
        answer = os.read(ready_read, 1)
        os.close(ready_read)
        if not answer:
            raise SandboxError("create user namespace", errno=1)
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Helper:
    """A helper program in the background; its stderr is kept for the cause."""

    def __init__(self, arguments: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        self.name = os.path.basename(arguments[0])
        with step("start program", arguments[0]):
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=pass_fds,
            )

    def last_words(self) -> str:
        """The last line that says something of what it wrote to stderr, once it has ended; "" else."""
        if self.process.poll() is None:
            return ""
        assert self.process.stderr
        lines = self.process.stderr.read().decode("utf-8", "replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        # slirp4netns closes with a farewell that says less than the line before.
        telling = [w for w in words if not w.startswith(("do_slirp", "child failed", "Usage", "WARNING"))]
        return (telling or words or [f"exit status {self.process.returncode}"])[-1]

    def stop(self) -> None:
        """End it, and wait for that."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


def readable(fd: int, seconds: float) -> bool:
    """Whether `fd` has something to read, or its end, within `seconds`."""
    return bool(select.select([fd], [], [], seconds)[0])


def until(seconds: float) -> Iterator[None]:
    """Loop body runs every 5 ms for at most `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.005)
