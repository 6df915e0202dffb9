"""A function in a process of its own, at the other end of a pipe.  (cold)"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from sandbox import linux
from sandbox.errors import EPIPE, SandboxError
from sandbox.results import receive_result, send_result


@contextlib.contextmanager
def writer(function: Callable[[int], Any]) -> Iterator[int]:
    """The read end of a pipe that `function(write end)` fills meanwhile; its SandboxError is raised at the end."""
    read, write = os.pipe()
    with _running(lambda: function(write), read):
        os.close(write)
        try:
            yield read
        finally:
            os.close(read)


@contextlib.contextmanager
def reader(function: Callable[[int], Any]) -> Iterator[int]:
    """The write end of a pipe that `function(read end)` empties meanwhile; its SandboxError is raised at the end."""
    read, write = os.pipe()
    with _running(lambda: function(read), write):
        os.close(read)
        try:
            yield write
        finally:
            os.close(write)


@contextlib.contextmanager
def _running(function: Callable[[], Any], other: int) -> Iterator[None]:
    said, say = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(said)
            os.close(other)
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            send_result(say, function)
        finally:
            os._exit(0)
    os.close(say)
    try:
        try:
            yield
        except (OSError, SandboxError):
            # Who reads sees the end of what the other could not write, and who writes that nobody reads: the other knows why.
            try:
                receive_result(said)
            except SandboxError as failed:
                if failed.errno != EPIPE:
                    raise
            raise
        receive_result(said)
    finally:
        os.close(said)
        os.waitpid(pid, 0)
