"""Run something in a forked child under a seccomp filter, and see what came of it."""

import ctypes
import errno
import marshal
import os
import signal
from collections.abc import Callable
from typing import Any

from sandbox import linux
from sandbox.profile import calls, compile, language, load
from sandbox.profile.policy import Policy

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
MACHINE = calls.machine()


def default_policy() -> Policy:
    path, _ = load.find("default")
    return language.parse(path, load.read(path)).policy


def default_program() -> bytes:
    return compile.program(default_policy().oci(MACHINE))


def confine(program: bytes) -> None:
    """From here on this process and its children live under `program`."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    if program:
        linux.seccomp_load(program)


def call(number: int, *args: int | bytes | None) -> str:
    """The raw system call: "ok", or the name of its error."""
    ctypes.set_errno(0)
    converted = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in args]
    if _libc.syscall(ctypes.c_long(number), *converted) != -1:
        return "ok"
    return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))


def named(name: str, *args: int | bytes | None) -> str:
    number = calls.number(name, MACHINE)
    assert number is not None, name
    return call(number, *args)


def in_child(function: Callable[[], Any], program: bytes = b"", seconds: int = 10) -> Any:
    """What `function` returns (marshal's types) in a child under `program`; "signal N" or "exit N" if it did not."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.close(read)
            signal.alarm(seconds)
            if program:
                confine(program)
            os.write(write, marshal.dumps(function()))
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as file:
        result = file.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return marshal.loads(result) if result else f"exit {os.WEXITSTATUS(status)}"
