"""Create user namespaces and write their id maps, by newuidmap and newgidmap where more than one id is mapped.  (mechanism, hot)

parent                       child (first process of the namespace)
  clone(NEWUSER|...)  ------>  waits: read(go) blocks
  newuidmap PID ...  \\ side
  newgidmap PID ...  / by side
  write(go, "1")      ------>  setgroups, setresgid, setresuid to 0; works
  end of file on go   ------>  the parent died or could not map: exits, never runs unmapped
"""

import os
import sys

from sandbox import linux
from sandbox.errors import ENOENT, EPERM, SandboxError
from sandbox.results import in_child, receive_result, send_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PATH = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"
_INSTALL = {"newuidmap": "install the package uidmap (Debian, Ubuntu) or shadow-utils; `sbx doctor` checks it"}


def find(program: str) -> str:
    """Full path of a set-uid or helper program, from the system's folders first and then PATH; "" when missing."""
    for folder in f"{_PATH}:{os.environ.get('PATH', '')}".split(":"):
        path = f"{folder}/{program}"
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    return ""


def _spawn_mapper(program: str, pid: int, entries: "list[tuple[int, int, int]]") -> tuple[int, int]:
    """Start newuidmap or newgidmap for `pid`; returns (its pid, descriptor of its stderr)."""
    path = find(program)
    if not path:
        raise SandboxError("find program", program, ENOENT, hint=_INSTALL["newuidmap"])
    read, write = os.pipe()
    arguments = [program, str(pid), *[str(number) for entry in entries for number in entry]]
    try:
        child = os.posix_spawn(path, arguments, {}, file_actions=[(os.POSIX_SPAWN_DUP2, write, 2)])
    except OSError as error:
        os.close(read)
        raise SandboxError.of("start program", path, error) from None
    finally:
        os.close(write)
    return child, read


def _await_mapper(step: str, program: str, child: tuple[int, int]) -> None:
    pid, stderr = child
    with open(stderr, encoding="utf-8", errors="replace") as file:
        said = file.read().strip()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise SandboxError(step, program, EPERM, detail=said.split("\n")[-1] or f"exit status {status}")


def _write_single(pid: int, maps: "dict[str, Any]") -> None:
    """One id needs no helper; setgroups must be denied first (CVE-2014-8989: dropping groups can gain access)."""
    for name, text in (
        ("setgroups", "deny"),
        ("gid_map", " ".join(map(str, maps["gid"][0]))),
        ("uid_map", " ".join(map(str, maps["uid"][0]))),
    ):
        path = f"/proc/{pid}/{name}"
        try:
            linux.write_file(path, text)
        except OSError as error:
            raise SandboxError.of("map user ids", name, error) from None


def write_maps(pid: int, maps: "dict[str, Any]", meanwhile: "Callable[[], None] | None" = None) -> None:
    """Give process `pid`, alone in a new user namespace, the id maps `maps` (see idmap.py).

    `meanwhile` is called while there are programs to wait for.
    """
    if maps["mode"] == "single":
        _write_single(pid, maps)
        return
    uid = _spawn_mapper("newuidmap", pid, maps["uid"])
    gid = None
    try:
        gid = _spawn_mapper("newgidmap", pid, maps["gid"])
        if meanwhile:
            meanwhile()
    finally:
        _await_mapper("map user ids", "newuidmap", uid)
        if gid:
            _await_mapper("map group ids", "newgidmap", gid)


def become_root(*, groups: bool) -> None:
    """Be uid 0 and gid 0 of the new namespace, without supplementary groups where setgroups is allowed.

    A full set of capabilities in the namespace is kept: it came with the namespace, and the ids change to 0.
    """
    if groups:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def clone(flags: int, step: str = "create user namespace") -> int:
    """linux.clone with a user namespace; 0 in the child."""
    try:
        return linux.clone(linux.CLONE_NEWUSER | flags)
    except OSError as error:
        raise SandboxError.of(step, "", error) from None


def _as_root(
    made: int, go: int, maps: "dict[str, Any]", function: "Callable[[], Any]", opening: "Callable[[], None] | None"
) -> "Any":
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    except OSError as error:
        raise SandboxError.of("create user namespace", "", error) from None
    os.write(made, b"1")
    if opening:
        opening()
    if not os.read(go, 1):
        os._exit(1)  # the ids could not be mapped; our parent knows why
    become_root(groups=maps["mode"] != "single")
    # Changing ids clears the parent-death signal.
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    return function()


def enter(pid: int, maps: "dict[str, Any]", function: "Callable[[], Any]") -> "Any":
    """Run `function` as root of the user namespace of process `pid`, in a child; returns its result, as `call` does."""
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)

    def inside() -> "Any":
        linux.setns(namespace, linux.CLONE_NEWUSER)
        if any(first == 0 for first, _, _ in maps["uid"]):
            become_root(groups=maps["mode"] != "single")
        return function()

    try:
        return in_child(inside)
    finally:
        os.close(namespace)


def call(maps: "dict[str, Any]", function: "Callable[[], Any]", opening: "Callable[[], None] | None" = None) -> "Any":
    """Run `function` as root of a new user and mount namespace with `maps`, in a child; returns its result.

    `opening` is run there before, with the caller's own ids: what root of the namespace could not reach is opened then.

    The result must be of marshal's types.  A SandboxError of the function is raised here again; its other exceptions
    become a SandboxError that names them.  The child dies with the caller.  It is made by fork(2), which other threads
    may survive: a raw clone could copy the interpreter's lock just when one of them has it.
    """
    made_read, made_write = os.pipe()
    go_read, go_write = os.pipe()
    out_read, out_write = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(made_read)
            os.close(go_write)
            os.close(out_read)
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            send_result(out_write, lambda: _as_root(made_write, go_read, maps, function, opening))
            code = 0
        finally:
            os._exit(code)
    os.close(made_write)
    os.close(go_read)
    os.close(out_write)
    try:
        if os.read(made_read, 1):
            write_maps(pid, maps)
            try:
                os.write(go_write, b"1")
            except BrokenPipeError:
                pass  # it has failed already, and says why
        return receive_result(out_read)
    finally:
        os.close(made_read)
        os.close(go_write)
        os.close(out_read)
        os.waitpid(pid, 0)
