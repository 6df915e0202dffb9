"""systemd over a bus, where its own socket is not to be had: a real dbus-daemon, and one who stands in for systemd on it.

That systemd makes the scope is shown in tests/vm.
"""

import os
import shutil
import subprocess
import sys
import time

import pytest
from support import TREE

from sandbox import scope
from sandbox.errors import SandboxError

pytestmark = [
    pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="dbus-daemon is not installed"),
    pytest.mark.skipif(scope.address() != "", reason="a systemd of this user answers here"),
]
# Takes the name, answers a ping, and the next call to it with an error that repeats what was asked.
STAND_IN = """
import sys, time
from sandbox import scope
sock = scope._connected(sys.argv[1], bus=True)
body = scope._Writer()
body.text(scope._NAME)
body.number(0)
sock.sendall(scope._call("RequestName", "su", bytes(body.data), 2, scope._BUS))
assert scope._answer(sock, 2) == ""
print("ready", flush=True)
sock.settimeout(20)

def asked():
    while True:
        fixed = scope._exactly(sock, 16)
        length, fields = (int.from_bytes(fixed[at:at + 4], "little") for at in (4, 12))
        rest = scope._exactly(sock, fields + -fields % 8 + length)
        if fixed[1] == 1:
            return scope._fields(rest[:fields]), rest[fields + -fields % 8:], int.from_bytes(fixed[8:12], "little")

def answer(known, serial, words):
    body = scope._Writer()
    head = scope._Writer()
    fields = [(5, "u", serial), (6, "s", known[7])]
    if words:
        body.text(words)
        fields.append((4, "s", "org.x.No"))
    head.data += b"l" + bytes((3 if words else 2, 0, 1)) + len(body.data).to_bytes(4, "little") + (3).to_bytes(4, "little")
    mark = head.begin(8)
    for code, kind, value in fields:
        head.align(8)
        head.data.append(code)
        head.variant(kind, value)
    if words:
        head.align(8)
        head.data.append(8)
        head.signature("g")
        head.signature("s")
    head.end(mark)
    head.align(8)
    sock.sendall(bytes(head.data + body.data))

known, _, serial = asked()
assert known[3] == "Ping"
answer(known, serial, "")
known, text, serial = asked()
found = b" ".join(word for word in (b"t.scope", b"Delegate", b"build.slice") if word in text).decode()
answer(known, serial, f"{known[3]} {known[1]} {found}")
time.sleep(1)
"""


@pytest.fixture
def bus(tmp_path, monkeypatch):
    """Path of the socket of a bus, whose address is in the environment."""
    path = f"{tmp_path}/bus"
    configuration = tmp_path / "bus.conf"
    configuration.write_text(
        f"<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth><policy context='default'>"
        "<allow send_destination='*'/><allow own='*'/><allow eavesdrop='false'/></policy></busconfig>"
    )
    daemon = subprocess.Popen(["dbus-daemon", f"--config-file={configuration}", "--nofork"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not os.path.exists(path):
        assert time.monotonic() < deadline and daemon.poll() is None
        time.sleep(0.02)
    variable = "DBUS_SESSION_BUS_ADDRESS" if os.getuid() else "DBUS_SYSTEM_BUS_ADDRESS"
    monkeypatch.setenv(variable, f"tcp:host=nowhere,port=1;unix:path={path.replace('-', '%2d')},guid=0123")
    monkeypatch.setattr(scope, "_found", {})
    yield path
    daemon.terminate()
    daemon.wait()


def test_a_bus_without_systemd_is_none(bus):
    assert scope.address() == ""


def test_systemd_is_asked_over_the_bus(bus):
    process = subprocess.Popen(
        [sys.executable, "-c", STAND_IN, bus],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TREE)},
    )
    try:
        assert process.stdout.readline() == "ready\n"
        assert scope.address() == f"bus:{bus}"
        with pytest.raises(SandboxError) as caught:
            scope.start(scope.address(), "t.scope", os.getpid(), "build.slice")
        assert (
            caught.value.detail == "systemd: StartTransientUnit /org/freedesktop/systemd1 t.scope Delegate build.slice"
        )
    finally:
        assert process.wait(10) == 0
        process.stdout.close()


def test_a_socket_that_nobody_listens_on(tmp_path, monkeypatch):
    (tmp_path / "bus").touch()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    monkeypatch.setattr(scope, "_found", {})
    assert scope.address() == ""
    with pytest.raises(SandboxError, match="Connection refused"):
        scope.start(f"bus:{tmp_path}/bus", "t.scope", 1)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""), ("unix:path=/a/bus", "/a/bus"), ("unix:abstract=/tmp/x,guid=1", "\0/tmp/x"), ("unix:tmpdir=/tmp;unix:path=/b", "/b"),
        ("unix:path=/a%2fb%20c", "/a/b c"), ("unix:path=/a%zz", ""), ("nonsense", ""), ("unixexec:path=/bin/sh", ""),
    ],
)  # fmt: skip
def test_addresses(text, path):
    assert scope._socket_of(text) == path


def test_a_slice_is_a_slice():
    with pytest.raises(SandboxError) as caught:
        scope.start("/nowhere", "t.scope", 1, "build")
    assert caught.value.step == "read --cgroup-parent"


@pytest.mark.requires("userns", "idmap", "store")
def test_a_parent_alone_wants_a_group_too(sbx, busybox_rootfs):
    done = sbx("run", "--cgroup-parent", "build.slice", f"rootfs:{busybox_rootfs}", "true")
    if done.returncode:  # no delegation here: said, and never ignored
        assert done.returncode == 125 and done.stderr.startswith("sbx: set limits: ")
    done = sbx("run", "--cgroup-parent", "a.slice", "--cgroups", "disabled", f"rootfs:{busybox_rootfs}", "true")
    assert done.returncode == 125 and "limits and --cgroup-parent need control groups" in done.stderr
    done = sbx("run", "--cgroup-parent", "a.slice", "--allow-degraded=limits", f"rootfs:{busybox_rootfs}", "true")
    assert done.returncode == 0 and "no control group" in done.stderr
