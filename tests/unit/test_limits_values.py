"""Limits: from the words of the command line to OCI's linux.resources, and from there to files of cgroup v2."""

import pytest
from hypothesis import given, settings, strategies as st

from sandbox import cgroup, limits, scope, spec as oci
from sandbox.errors import SandboxError

MAPS = {"uid": [(0, 1000, 1)], "gid": [(0, 1000, 1)]}


@pytest.mark.parametrize(
    ("opts", "found", "written"),
    [
        (
            {"memory": "64m"},
            {"memory": {"limit": 64 << 20, "swap": 128 << 20}},
            [("memory.max", str(64 << 20)), ("memory.swap.max", str(64 << 20))],
        ),
        (
            {"memory": "64m", "memory_swap": "64m"},
            {"memory": {"limit": 64 << 20, "swap": 64 << 20}},
            [("memory.max", str(64 << 20)), ("memory.swap.max", "0")],
        ),
        (
            {"memory": "64m", "memory_swap": "-1"},
            {"memory": {"limit": 64 << 20, "swap": -1}},
            [("memory.max", str(64 << 20)), ("memory.swap.max", "max")],
        ),
        ({"memory_reservation": "1g"}, {"memory": {"reservation": 1 << 30}}, [("memory.low", str(1 << 30))]),
        ({"cpus": "1.5"}, {"cpu": {"quota": 150000, "period": 100000}}, [("cpu.max", "150000 100000")]),
        ({"cpu_quota": "5000"}, {"cpu": {"quota": 5000}}, [("cpu.max", "5000 100000")]),
        ({"cpu_shares": "1024"}, {"cpu": {"shares": 1024}}, [("cpu.weight", "39")]),
        ({"cpu_shares": "2"}, {"cpu": {"shares": 2}}, [("cpu.weight", "1")]),
        ({"cpu_shares": "262144"}, {"cpu": {"shares": 262144}}, [("cpu.weight", "10000")]),
        ({"cpu_shares": "0"}, {}, []),
        ({"cpuset_cpus": "0-2,4"}, {"cpu": {"cpus": "0-2,4"}}, [("cpuset.cpus", "0-2,4")]),
        ({"pids_limit": "20"}, {"pids": {"limit": 20}}, [("pids.max", "20")]),
        ({"pids_limit": "-1"}, {"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"pids_limit": "0"}, {"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"blkio_weight": "1000"}, {"blockIO": {"weight": 1000}}, [("io.weight", "default 10000")]),
        ({"blkio_weight": "10"}, {"blockIO": {"weight": 10}}, [("io.weight", "default 1")]),
        (
            {"memory": "64m", "cgroup_conf": ["memory.high=50M", "io.latency=8:0 target=1"]},
            {"memory": {"limit": 64 << 20, "swap": 128 << 20}, "unified": {"memory.high": "50M", "io.latency": "8:0 target=1"}},
            [
                ("memory.max", str(64 << 20)), ("memory.swap.max", str(64 << 20)), ("memory.high", "50M"), ("io.latency", "8:0 target=1")
            ],
        ),
    ],
)  # fmt: skip
def test_meaning(opts, found, written):
    assert limits.resources(opts, {}) == found
    assert cgroup.files(found) == written


def test_options_change_what_the_profile_says():
    base = {"memory": {"limit": 1 << 30}, "pids": {"limit": 100}}
    assert limits.resources({"pids_limit": "20"}, base) == {
        "memory": {"limit": 1 << 30, "swap": 2 << 30},
        "pids": {"limit": 20},
    }
    assert base == {"memory": {"limit": 1 << 30}, "pids": {"limit": 100}}


@pytest.mark.parametrize(
    ("opts", "step"),
    [
        ({"memory": "64x"}, "read --memory"),
        ({"memory": "1k"}, "read --memory"),
        ({"memory_swap": "64m"}, "read --memory-swap"),
        ({"memory": "64m", "memory_swap": "32m"}, "read --memory-swap"),
        ({"cpus": "0"}, "read --cpus"),
        ({"cpus": "nan"}, "read --cpus"),
        ({"cpus": "two"}, "read --cpus"),
        ({"cpus": "1", "cpu_quota": "5000"}, "read --cpus"),
        ({"cpuset_cpus": "a"}, "read --cpuset-cpus"),
        ({"pids_limit": "-2"}, "read --pids-limit"),
        ({"pids_limit": "--1"}, "read --pids-limit"),
        ({"blkio_weight": "5"}, "read --blkio-weight"),
        ({"cgroup_conf": ["memory.high"]}, "read --cgroup-conf"),
        ({"cgroup_conf": ["../memory.high=1"]}, "read --cgroup-conf"),
        ({"cgroup_conf": ["cgroup.procs=1"]}, "read --cgroup-conf"),
        ({"cgroup_conf": ["memory.high=1\n2"]}, "read --cgroup-conf"),
        ({"blkio_weight_device": ["/dev/null:20"]}, "read --blkio-weight-device"),
        ({"device_read_bps": ["sda:1m"]}, "read --device-read-bps"),
        ({"device_write_iops": ["/dev/null:1"]}, "read --device-write-iops"),
    ],
)
def test_refused(opts, step):
    with pytest.raises(SandboxError) as caught:
        limits.resources(opts, {})
    assert caught.value.step == step


@settings(deadline=None)
@given(
    st.sampled_from(["memory", "cpus", "pids_limit", "cpu_shares", "blkio_weight", "cpuset_cpus"]), st.text(max_size=8)
)
def test_any_text_is_a_limit_or_an_error_of_ours(name, text):
    try:
        found = limits.resources({name: text}, {})
    except SandboxError as error:
        assert error.step == "read --" + name.replace("_", "-")
    else:
        assert all(value.isprintable() for _, value in cgroup.files(found))


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({"memory": {"limit": 1}}, {"memory"}),
        ({"cpu": {"shares": 5, "cpus": "0"}}, {"cpu", "cpuset"}),
        ({"cpu": {"mems": "0"}}, {"cpuset"}),
        ({"blockIO": {"weight": 10}, "pids": {"limit": 1}}, {"io", "pids"}),
        ({"unified": {"memory.high": "1", "io.latency": ""}}, {"memory", "io"}),
        ({}, set()),
    ],
)
def test_controllers(resources, wanted):
    assert cgroup.controllers(resources) == wanted


def test_what_stands_in_for_limits(capfd):
    spec = oci.skeleton(MAPS)
    limits._degrade(spec, {"memory": {"limit": 1 << 20}, "pids": {"limit": 5}, "cpu": {"quota": 1}}, "why")
    assert spec["process"]["rlimits"] == [
        {"type": "RLIMIT_AS", "soft": 1 << 20, "hard": 1 << 20},
        {"type": "RLIMIT_NPROC", "soft": 5, "hard": 5},
    ]
    assert "cpu: no limit" in spec["annotations"]["dev.sbx.degraded"]
    assert capfd.readouterr().err.startswith("sbx: limits are weaker than asked for (why): memory: 1048576 bytes")


def test_call_in_the_wire_format():
    """As busctl and dbus-monitor read it; by hand from the specification."""
    body = scope._transient("a.scope", [("PIDs", "au", [7]), ("Delegate", "b", True)])
    message = scope._call("StartTransientUnit", "ssa(sv)a(sa(sv))", body, 3)
    assert message[:4] == b"l\1\0\1"
    assert int.from_bytes(message[4:8], "little") == len(body)
    assert int.from_bytes(message[8:12], "little") == 3
    fields = int.from_bytes(message[12:16], "little")
    assert len(message) == 16 + fields + -fields % 8 + len(body)
    assert scope._fields(message[16 : 16 + fields]) == {
        1: "/org/freedesktop/systemd1", 2: "org.freedesktop.systemd1.Manager", 3: "StartTransientUnit",
        6: "org.freedesktop.systemd1",
    }  # fmt: skip
    assert body == b"".join((
        b"\7\0\0\0a.scope\0", b"\4\0\0\0fail\0", bytes(3), b"\x2c\0\0\0", bytes(4),
        b"\4\0\0\0PIDs\0", b"\2au\0", bytes(3), b"\4\0\0\0\7\0\0\0",
        b"\x08\0\0\0Delegate\0", b"\1b\0", b"\1\0\0\0",
        bytes(4),
    ))  # fmt: skip


def test_update_is_not_told_of_an_option_that_it_has_not(tmp_path):
    with pytest.raises(SandboxError) as caught:
        cgroup.hand_on(str(tmp_path / "gone"), {"memory": {"limit": 1 << 20}})
    assert caught.value.hint == "`sbx doctor cgroup` says why and names the fix"
