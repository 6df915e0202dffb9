"""--ipc, --uts, --pid: what is shared with this machine, and what never is."""

import os
import socket

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


def test_host_name_of_the_machine(sbx_in):
    assert sbx_in.out("run", "--uts", "host", sbx_in.image, "hostname") == f"{socket.gethostname()}\n"
    done = sbx_in("run", "--uts", "host", sbx_in.image, "hostname", "other", code=1)
    assert "Operation not permitted" in done.stderr
    done = sbx_in("run", "--uts", "host", "--hostname", "x", sbx_in.image, "true", code=125)
    assert done.stderr.startswith("sbx: read --hostname `x`: with --uts host")


def test_shared_memory_of_the_machine(sbx_in):
    path = f"/dev/shm/test-{os.getpid()}"
    with open(path, "w", encoding="ascii") as file:
        file.write("shared")
    try:
        assert sbx_in.out("run", "--ipc", "host", sbx_in.image, "cat", path) == "shared"
        sbx_in("run", "--ipc", "private", sbx_in.image, "cat", path, code=1)
    finally:
        os.unlink(path)
    own = os.readlink("/proc/self/ns/ipc")
    assert sbx_in.out("run", "--ipc", "host", sbx_in.image, "readlink", "/proc/self/ns/ipc") == f"{own}\n"
    assert sbx_in.out("run", sbx_in.image, "readlink", "/proc/self/ns/ipc") != f"{own}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--pid", "container:x"), "find container `x`: no container with name or ID"),
        (("--ipc", "ns:/proc/1/ns/ipc"), "open namespace `/proc/1/ns/ipc`: Permission denied"),
        (("--uts", "nonsense"), "share uts namespace `nonsense`: no such mode"),
    ],
)
def test_what_is_not_shared(sbx_in, words, message):
    done = sbx_in("run", *words, sbx_in.image, "true", code=125)
    assert done.stderr.startswith(f"sbx: {message}")
