"""What option values mean: sizes, times, limits, variables, sysctls, capabilities, security options."""

import string

import pytest
from hypothesis import given, settings, strategies as st

from sandbox import caps, spec as oci, values
from sandbox.errors import SandboxError

MAPS = {"uid": [(0, 1000, 1)], "gid": [(0, 1000, 1)]}


@pytest.fixture
def spec():
    return oci.skeleton(MAPS)


# -- sizes --

UNITS = {"": 0, "b": 0, "k": 10, "kb": 10, "m": 20, "mb": 20, "g": 30, "gb": 30, "t": 40}


@settings(deadline=None)
@given(st.integers(0, 1 << 40), st.sampled_from(sorted(UNITS)), st.booleans())
def test_size_is_number_times_unit(number, unit, upper):
    text = f"{number}{unit}"
    assert values.size(text.upper() if upper else text, "--x") == number << UNITS[unit]


@settings(deadline=None)
@given(st.text(max_size=8))
def test_size_is_a_number_or_an_error_of_ours(text):
    try:
        assert values.size(text, "--shm-size") >= 0
    except SandboxError as error:
        assert (error.step, error.subject, error.errno) == ("read --shm-size", text, 22)


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5m", "1 m", "1p", "1mk", "0x10", "\u0661", "1e3", "+1"])
def test_sizes_that_are_none(text):
    with pytest.raises(SandboxError):
        values.size(text, "--x")


# -- times --


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("1m30s", 90), ("500ms", 0.5), ("-2h", -7200), ("1.5h", 5400), ("0", 0), ("1d1h1m1s1ms", 90061.001),
        ("+5s", 5), (".5", 0.5), ("2.", 2),
    ],
)  # fmt: skip
def test_seconds(text, seconds):
    assert values.seconds(text, "--x") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "-", "s", "1x", "1.2.3", ".", "1m 30s", "1m-30s", "m1", "1mm", "\u0661s", "inf", "nan", "1e3", "--1"],
)
def test_times_that_are_none(text):
    with pytest.raises(SandboxError) as caught:
        values.seconds(text, "--timeout")
    assert (caught.value.step, caught.value.subject) == ("read --timeout", text)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"])), min_size=1, max_size=5),
    st.booleans(),
)
def test_parts_of_a_time_add_up(parts, negative):
    factor = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    text = "-" * negative + "".join(f"{n}{unit}" for n, unit in parts)
    assert values.seconds(text, "--x") == pytest.approx((-1) ** negative * sum(n * factor[unit] for n, unit in parts))


@settings(deadline=None)
@given(st.text(alphabet=string.digits + "msh.-+ d", max_size=10))
def test_seconds_is_a_float_or_an_error_of_ours(text):
    try:
        assert isinstance(values.seconds(text, "--x"), float)
    except SandboxError as error:
        assert (error.step, error.errno) == ("read --x", 22)


def test_clock_offsets():
    both = {"secs": 60, "nanosecs": 0}
    assert values.clock_offsets("1m") == {"monotonic": both, "boottime": both}
    assert values.clock_offsets("monotonic=1.5,boottime=-0.25") == {
        "monotonic": {"secs": 1, "nanosecs": 500_000_000}, "boottime": {"secs": -1, "nanosecs": 750_000_000},
    }  # fmt: skip
    with pytest.raises(SandboxError):
        values.clock_offsets("realtime=1")


@settings(deadline=None)
@given(st.floats(-1e9, 1e9))
def test_clock_offset_has_nanoseconds_within_a_second(offset):
    found = values.clock_offsets(f"boottime={offset:.6f}")["boottime"]
    assert 0 <= found["nanosecs"] < 10**9
    assert found["secs"] + found["nanosecs"] / 1e9 == pytest.approx(offset, abs=1e-5)


# -- variables --


def test_environment_order(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_CALLER", "caller")
    monkeypatch.delenv("NOT_THERE", raising=False)
    (tmp_path / "one").write_text("A=1\n#B=1\nC=1\n")
    (tmp_path / "two").write_text("C=2\nFROM_CALLER\nNOT_THERE\n")
    values.environment(spec, ["A=3", "D=", "NOT_THERE"], [str(tmp_path / "one"), str(tmp_path / "two")])
    assert spec["process"]["env"] == ["C=2", "FROM_CALLER=caller", "A=3", "D="]


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("AB", min_size=1, max_size=2), st.text(max_size=3).filter(lambda v: "\0" not in v))))
def test_last_value_wins_and_names_are_unique(entries):
    spec = oci.skeleton(MAPS)
    values.environment(spec, [f"{name}={value}" for name, value in entries], [])
    assert dict(entry.split("=", 1) for entry in spec["process"]["env"]) == dict(entries)
    assert len(spec["process"]["env"]) == len(dict(entries))


@pytest.mark.parametrize("entry", ["", "=", "=x", "A=\0"])
def test_variables_that_are_none(spec, entry):
    with pytest.raises(SandboxError):
        values.environment(spec, [entry], [])


# -- limits --


def test_limits_replace_the_profiles(spec):
    spec["process"]["rlimits"] = [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},
    ]
    values.limits(spec, ["nofile=5:6", "CPU=7", "rlimit_stack=-1", "nofile=8:9"])
    assert spec["process"]["rlimits"] == [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CPU", "soft": 7, "hard": 7},
        {"type": "RLIMIT_STACK", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1},
        {"type": "RLIMIT_NOFILE", "soft": 8, "hard": 9},
    ]


@pytest.mark.parametrize(
    "entry", ["", "nofile", "nofile=", "nofile=-2", "nofile=1:", "nofile=2:1", "x=1", "nofile=\u0661", "nofile=-1:5"]
)
def test_limits_that_are_none(spec, entry):
    if entry == "nofile=1:":
        values.limits(spec, [entry])  # as podman: the hard limit is the soft one
        assert spec["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}]
        return
    with pytest.raises(SandboxError) as caught:
        values.limits(spec, [entry])
    assert (caught.value.step, caught.value.subject) == ("read --ulimit", entry)


# -- sysctls --


@pytest.mark.parametrize(
    "key", ["net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname", "net/core/somaxconn"]
)
def test_sysctls_of_a_namespace(spec, key):
    values.sysctls(spec, [f"{key}=1"])
    assert spec["linux"]["sysctl"] == {key.replace("/", "."): "1"}


@pytest.mark.parametrize(
    "entry",
    ["kernel.core_pattern=x", "vm.overcommit_memory=1", "fs.file-max=1", "kernel.hostname=x", "net=1", "user.max_user_namespaces=1",
     "net/../kernel/core_pattern=x", "net..x=1", "net.ipv4.ip_forward", "kernel.shmmax2=1", "=1"],
)  # fmt: skip
def test_sysctls_of_the_host(spec, entry):
    with pytest.raises(SandboxError):
        values.sysctls(spec, [entry])
    assert spec["linux"]["sysctl"] == {}


def test_sysctls_need_the_namespace(spec):
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
    with pytest.raises(SandboxError):
        values.sysctls(spec, ["net.ipv4.ip_forward=1"])


# -- capabilities --

NAMES = [f"CAP_{name}" for name in caps.NAMES]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(NAMES)),
    st.lists(st.sampled_from([*NAMES, "all"])),
    st.lists(st.sampled_from([*NAMES, "ALL"])),
    st.integers(0, 1),
)
def test_capabilities_of_every_user(kept, added, dropped, uid):
    """drop first, then add; root holds the sum in three sets, another user what was added in all five, nothing else."""
    spec = oci.skeleton(MAPS)
    spec["process"]["user"]["uid"] = uid
    values.capabilities(spec, kept, added, dropped)
    named = set(NAMES if "all" in added else added)
    rest = set() if "ALL" in dropped else set(kept) - set(dropped)
    sets = {kind: set(found) for kind, found in spec["process"]["capabilities"].items()}
    if uid:
        assert set(map(frozenset, sets.values())) == {frozenset(named)}
    else:
        assert sets == {
            **dict.fromkeys(("bounding", "effective", "permitted"), rest | named),
            "inheritable": set(),
            "ambient": set(),
        }
    assert list(sets) == list(caps.SETS) or set(sets) == set(caps.SETS)


@settings(deadline=None)
@given(st.sampled_from(caps.NAMES), st.booleans(), st.booleans())
def test_capability_names(name, lower, prefix):
    word = ("CAP_" if prefix else "") + name
    assert caps.canonical(word.lower() if lower else word) == f"CAP_{name}"


@settings(deadline=None)
@given(st.sets(st.sampled_from(NAMES)))
def test_capability_masks(names):
    mask = caps.mask(names)
    assert {NAMES[n] for n in range(64) if mask >> n & 1} == names


# -- security options --


def test_security_options(spec):
    linux = spec["linux"]
    linux["maskedPaths"], linux["readonlyPaths"] = ["/proc/a", "/proc/b"], ["/proc/c"]
    values.security(
        spec, ["mask=/x:/y", "unmask=/proc/a:/proc/c", "label=disable", "apparmor:unconfined", "no-new-privileges"]
    )
    assert linux["maskedPaths"] == ["/proc/b", "/x", "/y"]
    assert linux["readonlyPaths"] == []
    assert spec["process"]["noNewPrivileges"] is True
    values.security(spec, ["no-new-privileges:false", "unmask=all"])
    assert (spec["process"]["noNewPrivileges"], linux["maskedPaths"]) == (False, [])


@pytest.mark.parametrize("entry", ["", "x", "no-new-privileges=yes", "apparmor=x", "systempaths=x", "mask2=/x"])
def test_security_options_that_are_none(spec, entry):
    with pytest.raises(SandboxError) as caught:
        values.security(spec, [entry])
    assert (caught.value.step, caught.value.subject) == ("read --security-opt", entry)


def test_seccomp_choice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert values.seccomp([]) == ""
    assert values.seccomp(["seccomp=unconfined"]) == "unconfined"
    assert values.seccomp(["label=x", "seccomp=a:b=c.json"]) == f"{tmp_path}/a:b=c.json"
    assert values.seccomp(["seccomp:x", "seccomp=/y"]) == "/y"


# -- paths --


@settings(deadline=None)
@given(st.text(alphabet="/ab.", max_size=12))
def test_absolute_paths_are_normal(text):
    if not text.startswith("/"):
        with pytest.raises(SandboxError):
            values.absolute(text, "--x")
        return
    path = values.absolute(text, "--x")
    assert path.startswith("/") and not path.startswith("//")
    assert not {"", ".", ".."} & set(path[1:].split("/")) or path == "/"
    assert values.absolute(path, "--x") == path


def test_numbers_longer_than_python_reads():
    many = "9" * 5000
    for call in (
        lambda: values.size(many, "--x"),
        lambda: values.seconds(many, "--x"),
        lambda: values.limits(oci.skeleton({"uid": [], "gid": []}), [f"nofile={many}"]),
    ):
        with pytest.raises(SandboxError, match="read --"):
            call()
