"""`sbx run --network`: what is reachable, and that the host's own loopback is not; nothing else on the net is contacted."""

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support import Sbx

pytestmark = pytest.mark.requires("userns", "idmap", "store", "netns")

SLIRP = pytest.param("slirp4netns", marks=pytest.mark.requires("slirp"))
PASTA = pytest.param("pasta", marks=pytest.mark.requires("pasta"))
# How they call themselves: pasta is passt.avx2 where the processor has that.
HELPERS = {"slirp4netns": "slirp4netns", "pasta": ("pasta", "passt")}
BOTH = pytest.mark.parametrize("network", [SLIRP, PASTA])


class Listener:
    """A server on the host's 127.0.0.1 that answers `reached` to whoever connects, and counts."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.count = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            connection.sendall(b"reached\n")
            connection.close()


@pytest.fixture
def listener():
    server = Listener()
    yield server
    server.socket.shutdown(socket.SHUT_RDWR)
    server.socket.close()


# -- none, host --


def test_none_has_loopback_only(box, listener):
    script = (
        f"ls /sys/class/net; ip -o -4 addr | awk '{{print $2, $4}}'; ip route; nc -w 1 127.0.0.1 {listener.port} 2>&1"
    )
    done = box(script)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "lo\nlo 127.0.0.1/8\nnc: can't connect to remote host (127.0.0.1): Connection refused\n"
    assert listener.count == 0


def test_none_is_what_is_without_an_option(box):
    assert box.out("ls /sys/class/net") == box.out("ls /sys/class/net", "--network=none") == "lo\n"


def test_default_by_variable(box):
    assert box.out("readlink /proc/self/ns/net", env={"SBX_NETWORK": "host"}).strip() == os.readlink(
        "/proc/self/ns/net"
    )


def test_R28_abstract_sockets_of_the_host_are_out_of_reach(session_sbx):
    name = f"sbx-test-{os.getpid()}"
    program = f"import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n  s.connect('\\0{name}')\nexcept OSError as e:\n  print(e.errno)"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        done = session_sbx("run", "host:", "python3", "-c", program)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "111\n")


def test_host(box, listener):
    assert box.out("readlink /proc/self/ns/net", "--network=host").strip() == os.readlink("/proc/self/ns/net")
    assert box.out(f"nc -w 1 127.0.0.1 {listener.port} </dev/null", "--network=host") == "reached\n"
    assert listener.count == 1
    done = box("ip link add dummy0 type dummy 2>&1", "--network=host", "--cap-add=NET_ADMIN")
    assert (done.returncode, done.stdout) == (2, "ip: RTNETLINK answers: Operation not permitted\n")


def test_no_such_network(own_box, no_leftovers):
    done = own_box("true", "--network=bridge")
    assert (done.returncode, done.stdout) == (125, "")
    assert "bridge" in done.stderr and "slirp4netns" in done.stderr
    done = own_box("true", env={"SBX_NETWORK": "bridge"})
    assert done.stderr.startswith("sbx: choose network `bridge`: no such mode\nhint: one of none, host")
    assert done.returncode == 125


# -- slirp4netns, pasta --


@BOTH
def test_address_route_and_resolver(own_box, network, no_leftovers):
    script = """
        ip -o -4 addr show tap0 | awk '{print $4}'; ip route | awk '/^default/ {print $3, $5}'
        cat /sys/class/net/tap0/mtu /etc/resolv.conf; grep -c "^10.0.2.100.*$(hostname)$" /etc/hosts
    """
    done = own_box(script, f"--network={network}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "10.0.2.100/24\n10.0.2.2 tap0\n65520\nnameserver 10.0.2.3\n1\n"


@BOTH
def test_the_hosts_loopback_is_out_of_reach(own_box, network, listener, no_leftovers):
    """Neither as the gateway's address nor as the container's own; what the helper says of a refusal is its own."""
    for address in ("10.0.2.2", "10.0.2.3", "10.0.2.100", "127.0.0.1"):
        done = own_box(f"nc -w 1 {address} {listener.port} </dev/null 2>&1", f"--network={network}")
        assert done.stdout.startswith("nc: "), done
        assert "reached" not in done.stdout
    assert listener.count == 0


@BOTH
def test_no_port_of_the_container_is_open_on_the_host(own_box, network, no_leftovers):
    """A server inside is not found on the host's loopback."""
    process = own_box.popen(
        "nc -l -p 45678 -e true & echo up; read x", "-i", f"--network={network}", stdin=subprocess.PIPE
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.1)
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", 45678)) == 111
    process.communicate("\n")
    assert process.returncode == 0


@BOTH
def test_host_gateway(own_box, network):
    assert (
        own_box.out("tail -n 1 /etc/hosts", f"--network={network}", "--add-host=host:host-gateway")
        == "10.0.2.2\thost\n"
    )


@BOTH
def test_whatever_the_caller_has_open(own_box, network, no_leftovers):
    """Each shifts the numbers of our own descriptors, two of which the helper has under fixed ones."""
    shell = Sbx(own_box.sbx.store, own_box.sbx.environment, "/bin/sh")
    words = ("run", f"--network={network}", f"rootfs:{own_box.rootfs}", "ls", "/sys/class/net/tap0/mtu")
    for count in range(7):
        opened = " ".join(f"{fd}</dev/null" for fd in range(3, 3 + count))
        done = shell("-c", f'exec "$0" "$@" {opened}', own_box.sbx.launcher, *words, timeout=20)
        assert (done.returncode, done.stdout, done.stderr) == (0, "/sys/class/net/tap0/mtu\n", ""), count


@BOTH
def test_network_and_a_user(own_box, network):
    """The helper is outside of the payload's reach."""
    out = own_box.out(
        "id -u; ls /proc | grep -c '^[0-9]*$'; ls /sys/class/net | tr '\\n' ' '", f"--network={network}", "-u", "1000"
    )
    assert out == "1000\n3\nlo tap0 "


@BOTH
@pytest.mark.parametrize("userns", ["keep-id", "single"])
def test_network_under_other_maps(own_box, network, userns, no_leftovers):
    assert own_box.out("ls /sys/class/net | tr '\\n' ' '", f"--network={network}", f"--userns={userns}") == "lo tap0 "


def helper_of(pid, name):
    """Host pid of the process `name` below `pid`."""
    children = {}
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        head, _, tail = stat.rpartition(")")
        children.setdefault(int(tail.split()[1]), []).append((int(entry), head.partition("(")[2]))
    found, todo = [], [pid]
    while todo:
        for child, comm in children.get(todo.pop(), []):
            todo.append(child)
            if comm.startswith(name):
                found.append(child)
    return found


@BOTH
def test_helper_that_dies_ends_the_container(own_box, network, no_leftovers):
    process = own_box.popen("echo up; sleep 60", f"--network={network}")
    assert process.stdout.readline() == "up\n"
    (helper,) = helper_of(process.pid, HELPERS[network])[-1:]
    os.kill(helper, signal.SIGKILL)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 125
    assert out == ""
    said = err.splitlines()
    assert said[0].startswith("sbx: connect network `") and "status -9" in said[0]
    assert said[1].startswith("hint: the container is ended with it")
    assert len(said) == 2
    no_leftovers()
    assert own_box.out("ls /sys/class/net | wc -l", f"--network={network}") == "2\n"


@BOTH
def test_helper_goes_with_a_killed_cli(own_box, network, no_leftovers):
    process = own_box.popen("echo up; sleep 60", f"--network={network}")
    assert process.stdout.readline() == "up\n"
    helpers = helper_of(process.pid, HELPERS[network])
    assert helpers
    process.kill()
    process.communicate(timeout=20)
    own_box.out("true")  # the next command removes the folder
    no_leftovers()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in helpers)


@pytest.mark.root
@BOTH
def test_root_has_the_same_network(own_box, network, no_leftovers, listener):
    script = f"ip -o -4 addr show tap0 | awk '{{print $4}}'; nc -w 1 10.0.2.2 {listener.port} </dev/null 2>/dev/null || echo closed"
    assert own_box.out(script, f"--network={network}") == "10.0.2.100/24\nclosed\n"
    assert listener.count == 0
