"""Published ports, asked over real sockets through slirp4netns and pasta; what can not be published."""

import os
import socket
import sys
import time

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

HELPERS = [
    pytest.param("slirp4netns", marks=pytest.mark.requires("slirp")),
    pytest.param("pasta", marks=pytest.mark.requires("pasta")),
]
SERVER = "while :; do echo hello | nc -l -p 80; done"
ECHO = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 53))
while True:
    data, sender = sock.recvfrom(100)
    sock.sendto(data, sender)
"""


def free(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ask(port, address="127.0.0.1"):
    """What is said on a TCP port of ours, within five seconds."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with socket.create_connection((address, port), 2) as sock:
                if answer := sock.recv(100):
                    return answer
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("network", HELPERS)
def test_tcp(sbx_in, network):
    port = free()
    sbx_in.live("--network", network, "-p", f"127.0.0.1:{port}:80", script=SERVER)
    assert ask(port) == b"hello\n"
    assert sbx_in.out("port", "c") == f"80/tcp -> 127.0.0.1:{port}\n"
    assert sbx_in.out("port", "c", "80") == f"127.0.0.1:{port}\n"
    assert sbx_in.column("Ports") == [f"127.0.0.1:{port}->80/tcp"]
    done = sbx_in("port", "c", "81", code=125)
    assert done.stderr == "sbx: find port `81/tcp`: no published port of c\n"
    sbx_in("stop", "-t", "0", "c")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2)
    sbx_in("start", "c")
    assert ask(port) == b"hello\n"


def own_address():
    """An address of this machine that is not its loopback: from there both helpers answer to no UDP sender."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return sock.getsockname()[0]


@pytest.mark.parametrize("network", HELPERS)
def test_udp(sbx_in, network):
    address = own_address()
    port = free(socket.SOCK_DGRAM)
    words = ("run", "-d", "--name", "c", "--network", network, "-p", f"{port}:53/udp")
    sbx_in(*words, "host:", os.path.realpath(sys.executable), "-c", ECHO)  # no other image has a server
    deadline = time.monotonic() + 5
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.3)
        while True:
            try:
                sock.sendto(b"ping", (address, port))
                assert sock.recv(100) == b"ping"
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.mark.parametrize("network", HELPERS)
def test_range_and_free_ports(sbx_in, network):
    first = free()
    words = ("-p", f"{first}-{first + 1}:79-80", "-p", "80", "--expose", "81/udp", "-P")
    sbx_in.live("--network", network, *words, script=SERVER)
    assert ask(first + 1) == b"hello\n"
    lines = sbx_in.out("port", "c").splitlines()
    assert lines[:2] == [f"79/tcp -> 0.0.0.0:{first}", f"80/tcp -> 0.0.0.0:{first + 1}"]
    assert [line.partition(" ")[0] for line in lines[2:]] == ["80/tcp", "81/udp"]
    assert ask(int(lines[2].rpartition(":")[2])) == b"hello\n"


@pytest.mark.parametrize("network", HELPERS)
def test_port_in_use(sbx_in, network):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = sbx_in("run", "--network", network, "-p", f"127.0.0.1:{port}:80", sbx_in.image, "echo", "ran", code=125)
        assert done.stdout == ""
        assert done.stderr.startswith(f"sbx: publish port `127.0.0.1:{port}/tcp`: Address already in use\nhint: ")
        sbx_in("create", "--name", "c", "--network", network, "-p", f"127.0.0.2:{port}:80", sbx_in.image, "true")
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))
            other.listen()
            done = sbx_in("start", "c", code=125)
            assert f"publish port `127.0.0.2:{port}/tcp`: Address already in use" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_port_for_root(sbx_in):
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
        start = int(file.read())
    if start < 2:
        pytest.skip("every port is for everybody here")
    done = sbx_in("run", "--network", "pasta", "-p", "1:80", sbx_in.image, "true", code=125)
    assert done.stderr.startswith(
        f"sbx: publish port `0.0.0.0:1/tcp`: ports below {start} are for root, which the network helper is not\nhint: publish one of {start}"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-p", "80:80:80:80"), "read --publish `80:80:80:80`: "),
        (("-p", "0:80"), "read --publish `0:80`: `0` is no port"),
        (("-p", "65536"), "read --publish `65536`: `65536` is no port"),
        (("-p", "80/sctp"), "read --publish `80/sctp`: "),
        (("-p", "1-3:1-2"), "read --publish `1-3:1-2`: the ranges are not of one length"),
        (("-p", "3-1"), "read --publish `3-1`: the range is empty"),
        (("-p", "host:1:1"), "read --publish `host:1:1`: `host` is no IPv4 address"),
        (("-p", "[::1]:1:1"), "read --publish `[::1]:1:1`: only IPv4"),
        (("-p", "8000:80", "-p", "8000:81"), "publish port `0.0.0.0:8000`: it is given twice"),
        (("--network", "none", "-p", "8000:80"), "publish port `80`: the container has no network"),
        (("-p", "192.0.2.1:8000:80"), "publish port `192.0.2.1:8000/tcp`: Cannot assign requested address"),
    ],
)
def test_what_can_not_be_published(sbx_in, words, message):
    done = sbx_in("run", "--network", "pasta", *words, sbx_in.image, "true", code=125)
    assert done.stderr.startswith(f"sbx: {message}")
