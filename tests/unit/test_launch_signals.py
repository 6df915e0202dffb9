"""The cli between the keeper's records: a signal that comes while one is in hand."""

import marshal
import os
import signal
import socket
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from sandbox import launch, linux


def test_a_signal_while_started_is_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs already and has told the sender: the signal is its, and must not end the start."""
    keeper, cli = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = {number: signal.getsignal(number) for number in launch._FORWARDED}
    child = subprocess.Popen(["sleep", "60"])
    try:
        container: Any = SimpleNamespace(pidfile="")
        attendance = launch._Attendance(child.pid, cli.fileno(), container)
        receive = linux.receive

        def interrupted(fd: int) -> bytes:
            message = receive(fd)
            os.kill(os.getpid(), signal.SIGTERM)
            return message

        monkeypatch.setattr(launch.linux, "receive", interrupted)
        keeper.send(marshal.dumps(("started", 7)))
        assert attendance._take_records(block=True)
        assert attendance.started and not attendance.interrupted and child.poll() is None
        keeper.settimeout(5)
        assert marshal.loads(keeper.recv(100)) == ("signal", signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        child.kill()
        child.wait()
        keeper.close()
        cli.close()
