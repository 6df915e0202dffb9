"""A profile that extends another: what it may change, whom it may extend, and that `strict` never gets weaker."""

import functools
import json
import os
import random
import string
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sandbox import cache, caps, paths
from sandbox.errors import SandboxError
from sandbox.profile import load, schema
from sandbox.profile.groups import GROUPS
from sandbox.profile.kept import Profile
from sandbox.profile.policy import PERMISSIVE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "config/sbx/profiles"
    path.mkdir(parents=True)
    return path


def put(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.toml").write_text(text)
    return str(folder / f"{name}.toml")


def wrong(path: str) -> SandboxError:
    with pytest.raises(SandboxError) as caught:
        load.effective(path)
    return caught.value


# -- what a profile may change --

WEAKER = [
    ('[capabilities]\nkeep = ["CHOWN"]', "capabilities.keep", 4),
    ("[process]\nnoNewPrivileges = false", "process.noNewPrivileges", 4),
    ('[process]\nuser = "0"', "process.user", 4),
    ('[process]\numask = "022"', "process.umask", 4),
    ('[process]\ntimeout = "1h"', "process.timeout", 4),
    ("[rlimits]\nnofile = 4096", "rlimits.nofile", 4),
    ('[filesystem]\nuncovered = ["/proc/kcore"]', "filesystem.uncovered", 4),
    ("[filesystem]\nreadonly = false", "filesystem.readonly", 4),
    ('[[filesystem.mounts]]\nsource = "/etc"\ndestination = "/mnt"', "filesystem.mounts", 0),
    ('[devices]\nallow = ["null", "tty"]', "devices.allow", 4),
    ('[process]\nuser = "65534:0"', "process.user", 4),
    ('[process]\nuser = "65534"', "process.user", 4),
    ('[filesystem]\ntmpfs = ["/tmp:size=64m"]', "filesystem.tmpfs", 4),
    ('[filesystem]\ntmpfs = ["/var/./tmp/:noexec,size=1g"]', "filesystem.tmpfs", 4),
    ('[network]\nmode = "host"', "network.mode", 4),
    ('[environment]\npass = ["SECRET"]', "environment.pass", 4),
    ('[seccomp]\nallow = ["ptrace"]', "seccomp.allow", 4),
    ('[seccomp]\ndefaultAction = "SCMP_ACT_ALLOW"', "seccomp.defaultAction", 4),
    ('[[seccomp.syscalls]]\nnames = ["mount"]\naction = "SCMP_ACT_LOG"', "seccomp.syscalls", 0),
    ('[[seccomp.syscalls]]\nnames = ["socket"]\naction = "SCMP_ACT_ALLOW"\n'
     'args = [{ index = 0, op = "SCMP_CMP_EQ", value = 2 }]', "seccomp.syscalls", 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "line"), WEAKER)
def test_F04_weakening_takes_a_word(folder: Path, text: str, key: str, line: int) -> None:
    head = 'extends = "strict"\n\n'
    error = wrong(put(folder, "mine", head + text + "\n"))
    assert f"`{key}` weakens strict.toml" in error.detail
    assert "allow_weaken" in error.hint
    assert not line or error.subject.endswith(f"mine.toml:{line}")
    load.effective(put(folder, "mine", f"allow_weaken = true\n{head}{text}\n"))


def test_what_a_file_refuses_need_not_be_allowed_for_its_bases_sake(folder: Path) -> None:
    text = 'extends = "ci-build"\n[seccomp]\ndeny = ["ptrace"]\n[[test]]\ndeny = "call ptrace"\n[[test]]\nallow = "read ~/.ssh/id_rsa"\n'
    wishes = load.effective(put(folder, "mine", text))[0].settings["test"]
    assert [wish for wish in wishes if "call ptrace" in wish.values()] == [{"deny": "call ptrace"}]
    assert {"deny": "read ~/.ssh/id_rsa"} in wishes  # what the base refuses stays a wish


LIMITS = """extends = "default"
[namespaces]
user = "nomap"
[limits.pids]
limit = 100
[limits.cpu]
quota = 50000
[limits.memory]
limit = "64m"
"""


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[limits.pids]\nlimit = 0", "limits.pids.limit"),
        ("[limits.cpu]\nquota = 0", "limits.cpu.quota"),
        ("[limits.cpu]\nperiod = 1000", "limits.cpu.period"),
        ("[limits.cpu]\nquota = 40000\nperiod = 10000", "limits.cpu.period"),
        ('[limits.memory]\nlimit = "65m"', "limits.memory.limit"),
        ('[namespaces]\nuser = "keep-id"', "namespaces.user"),
        ('[namespaces]\nuser = "auto"', "namespaces.user"),
    ],
)
def test_F04_limits_that_only_look_lower(folder: Path, text: str, key: str) -> None:
    """0 is no limit; a part of a period is as much as the period is short."""
    put(folder, "base", LIMITS)
    error = wrong(put(folder, "mine", f'extends = "base"\n{text}\n'))
    assert f"`{key}` weakens base.toml" in error.detail
    load.effective(put(folder, "mine", f'allow_weaken = true\nextends = "base"\n{text}\n'))
    stricter = 'extends = "base"\n[limits.cpu]\nquota = 1000\nperiod = 2000\n[limits.pids]\nlimit = 10\n'
    load.effective(put(folder, "mine", stricter))


def test_F04_the_word_is_not_inherited(folder: Path) -> None:
    put(folder, "weak", 'extends = "strict"\nallow_weaken = true\n[capabilities]\nkeep = ["CHOWN"]\n')
    path = put(folder, "mine", 'extends = "weak"\n[capabilities]\nkeep = ["CHOWN", "FOWNER"]\n')
    assert "does not keep CAP_FOWNER" in wrong(path).detail
    assert load.effective(put(folder, "mine", 'extends = "weak"\n'))[0].capabilities == ("CAP_CHOWN",)


def test_stricter_is_free_and_denials_grow(folder: Path) -> None:
    path = put(folder, "mine", 'extends = "default"\n[capabilities]\ndrop = ["CHOWN"]\n[filesystem]\nmaskedPaths = ["/srv"]\n'
               'hidden = ["~/.ssh"]\n[seccomp]\ndeny = ["@debug"]\n')  # fmt: skip
    profile = load.effective(path)[0]
    default = load.effective("default")[0]
    assert set(default.masked_paths) < set(profile.masked_paths)
    assert "CAP_CHOWN" not in profile.capabilities and "CAP_FOWNER" in profile.capabilities
    assert str(profile.policy.answer("ptrace")) == "EPERM" and str(profile.policy.answer("read")) == "allow"
    assert os.path.expanduser("~/.ssh") in profile.fragment()["linux"]["maskedPaths"]


_NAMES = st.sampled_from(
    ["ptrace", "mount", "socket", "read", "bpf", "personality", "clone", "keyctl", "@mount", "@ipc"]
)
_RULES = st.fixed_dictionaries(
    {"names": st.lists(_NAMES, min_size=1, max_size=3, unique=True),
     "action": st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_KILL"])},
    optional={"args": st.lists(st.fixed_dictionaries(
        {"index": st.integers(0, 2), "op": st.sampled_from(["SCMP_CMP_EQ", "SCMP_CMP_NE"]),
         "value": st.sampled_from([0, 1, 2, 16, 0x10000000])}), min_size=1, max_size=1)},
)  # fmt: skip
_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "capabilities": st.fixed_dictionaries({}, optional={
            "keep": st.lists(st.sampled_from(caps.NAMES), max_size=3), "drop": st.lists(st.sampled_from(caps.NAMES), max_size=3)}),
        "process": st.fixed_dictionaries({}, optional={
            "noNewPrivileges": st.booleans(), "umask": st.sampled_from(["000", "022", "077", "777"]),
            "timeout": st.sampled_from(["1s", "10m", "20m"]), "user": st.sampled_from(["0", "1", "0:5", "65534", "65534:00", "7:8"])}),
        "namespaces": st.fixed_dictionaries({"user": st.sampled_from(["auto", "keep-id", "nomap", "single"])}),
        "limits": st.fixed_dictionaries({}, optional={
            "pids": st.fixed_dictionaries({"limit": st.sampled_from([0, 1, 100])}),
            "cpu": st.fixed_dictionaries({}, optional={"quota": st.sampled_from([0, 1000, 90000]), "period": st.sampled_from([1000, 200000])})}),
        "rlimits": st.dictionaries(st.sampled_from(["core", "nofile", "nproc", "fsize"]), st.integers(0, 5000), max_size=2),
        "filesystem": st.fixed_dictionaries({}, optional={
            "maskedPaths": st.lists(st.sampled_from(["/srv", "/proc/kcore"])), "readonly": st.booleans(), "hidepid": st.booleans(),
            "uncovered": st.lists(st.sampled_from(["/proc/kcore", "/sys", "/srv"])), "hidden": st.lists(st.just("/opt")),
            "tmpfs": st.lists(st.sampled_from(["/tmp", "/tmp/", "/tmp:noexec,size=64m", "/run:exec", "/new"]), max_size=2)}),
        "network": st.fixed_dictionaries({"mode": st.sampled_from(schema.NETWORKS)}),
        "devices": st.fixed_dictionaries({"allow": st.lists(st.sampled_from(schema.DEVICES))}),
        "lock": st.lists(st.sampled_from(["seccomp", "network"])),
        "seccomp": st.fixed_dictionaries({}, optional={
            "groups": st.lists(st.sampled_from(sorted(GROUPS)), max_size=2, unique=True), "deny": st.lists(_NAMES, max_size=2),
            "allow": st.lists(_NAMES, max_size=2), "absent": st.lists(_NAMES, max_size=2), "syscalls": st.lists(_RULES, max_size=2)}),
    },
)  # fmt: skip


def toml(document: dict[str, Any]) -> str:
    """`document` as TOML: JSON's values are TOML's, tables inline."""

    def value(item: Any) -> str:
        if isinstance(item, dict):
            return "{ " + ", ".join(f"{key} = {value(one)}" for key, one in item.items()) + " }"
        return f"[{', '.join(value(one) for one in item)}]" if isinstance(item, list) else json.dumps(item)

    return "\n".join(f"{key} = {value(item)}" for key, item in document.items()) + "\n"


@functools.cache
def _strict() -> Profile:
    return load.effective("strict")[0]


_ARGUMENTS = [
    (0, 0, 0),
    (1, 1, 0),
    (2, 1, 0),
    (2, 3, 0),
    (16, 3, 0),
    (16, 3, 9),
    (0x10000000, 0, 0),
    (17, 2, 16),
    (40, 1, 2),
]


def assert_no_weaker(profile: Profile, base: Profile) -> None:
    assert set(profile.capabilities) <= set(base.capabilities)
    assert profile.no_new_privileges >= base.no_new_privileges
    mine = {kind: pair for kind, *pair in profile.rlimits}
    assert all(mine[kind][0] <= soft and mine[kind][1] <= hard for kind, soft, hard in base.rlimits)
    for field in ("maskedPaths", "readonlyPaths"):
        assert set(base.fragment()["linux"][field]) <= set(profile.fragment()["linux"][field])
    a, b = profile.settings, base.settings
    assert schema.NETWORKS.index(a["network.mode"]) <= schema.NETWORKS.index(b["network.mode"])
    assert a["process.timeout"] <= b["process.timeout"] and not b["process.umask"] & ~a["process.umask"]
    assert a["process.user"].partition(":")[0] != "0" and a["filesystem.readonly"] and a["filesystem.hidepid"]
    assert a["process.user"].partition(":")[2].strip("0")  # strict has a group
    places = [os.path.normpath(text.partition(":")[0]) for text in b["filesystem.tmpfs"]]
    assert [text for text in a["filesystem.tmpfs"] if os.path.normpath(text.partition(":")[0]) in places] == list(
        b["filesystem.tmpfs"]
    )
    assert set(b["lock"]) <= set(a["lock"]) and set(b["require"]) <= set(a["require"])
    for name in {*profile.policy.rows, *base.policy.rows}:
        for some in _ARGUMENTS:
            if profile.policy.answer(name, (*some, 0, 0, 0)).action in PERMISSIVE:
                assert base.policy.answer(name, (*some, 0, 0, 0)).action in PERMISSIVE, (name, some)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=_DOCUMENTS)
def test_F04_merged_with_anything_strict_never_gets_weaker(folder: Path, document: dict[str, Any]) -> None:
    path = put(folder, "any", 'extends = "strict"\n' + toml(document))
    try:
        profile = load.effective(path)[0]
    except SandboxError as error:
        assert error.step == "read profile" and error.detail
        return
    assert_no_weaker(profile, _strict())


# -- whom it may extend --


def test_F03_loops(folder: Path) -> None:
    assert "extends itself" in wrong(put(folder, "me", 'extends = "me"\n')).detail
    put(folder, "a", 'extends = "b"\n')
    error = wrong(put(folder, "b", '# b\nextends = "a"\n'))
    assert "extends itself" in error.detail and ".toml:" in error.subject
    assert "extends itself" in wrong(put(folder, "c", 'extends = "./c.toml"\n')).detail
    (folder / "link.toml").symlink_to("d.toml")
    assert "extends itself" in wrong(put(folder, "d", 'extends = "./link.toml"\n')).detail


def test_F03_depth(folder: Path) -> None:
    put(folder, "p0", 'extends = "default"\n')
    for n in range(1, 8):
        put(folder, f"p{n}", f'extends = "p{n - 1}"\n')
    load.effective("p3")
    assert "more than 4 profiles" in wrong("p7").detail


@pytest.mark.parametrize("word", ["../../x", "./../x.toml", "/etc/x.toml", "a/b", ".", "", "./", "~/x", "x\\u0000y"])
def test_F03_escapes(folder: Path, word: str) -> None:
    error = wrong(put(folder, "me", f'extends = "{word}"\n'))
    assert error.step == "read profile" and "me.toml" in error.subject


def test_F03_a_link_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    put(tmp_path, "outside", 'extends = "default"\n')
    (folder / "inside.toml").symlink_to(tmp_path / "outside.toml")
    assert "outside of the folder" in wrong(put(folder, "me", 'extends = "./inside.toml"\n')).detail


def test_F07_what_is_extended_is_trusted_by_the_same_rules(folder: Path) -> None:
    os.chmod(put(folder, "open", 'extends = "default"\n'), 0o666)
    assert "everybody may write" in wrong(put(folder, "me", 'extends = "./open.toml"\n')).detail


def test_a_profile_of_ones_own_extends_the_one_of_its_name(folder: Path) -> None:
    profile = load.effective("strict")[0]
    put(folder, "strict", 'extends = "strict"\n[process]\ntimeout = "1m"\n')
    mine = load.effective("strict")[0]
    assert (mine.settings["process.timeout"], profile.settings["process.timeout"]) == (60, 600)
    assert len(mine.files) == 3


def test_a_changed_file_below_makes_the_cached_result_stale(folder: Path) -> None:
    put(folder, "base", 'extends = "default"\n')
    put(folder, "top", 'extends = "base"\n')
    load.load("top")
    assert cache.get(f"{paths.cache()}/profiles", "top|") is not None
    put(folder, "base", 'extends = "default"\n[capabilities]\nkeep = []\n')
    assert cache.get(f"{paths.cache()}/profiles", "top|") is None
    assert load.load("top")["fragment"]["process"]["capabilities"] == []
    put(folder, "default", 'extends = "default"\n')  # appears in front of the built-in one
    assert cache.get(f"{paths.cache()}/profiles", "top|") is None


def test_F06_what_is_required_and_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.linux_rare.landlock_abi", lambda: 1)
    with pytest.raises(SandboxError, match="it requires landlock>=6: the kernel has version 1"):
        load.load("strict")


# -- much, and nonsense --


def test_10000_rules_are_refused_at_once(folder: Path) -> None:
    rules = "".join(f'[[seccomp.syscalls]]\nnames = ["ioctl"]\naction = "SCMP_ACT_ERRNO"\nerrnoRet = 1\n'
                    f'args = [{{ index = 1, op = "SCMP_CMP_EQ", value = {n} }}]\n' for n in range(10000))  # fmt: skip
    path = put(folder, "many", 'extends = "default"\n' + rules)
    started = time.monotonic()
    detail = wrong(path).detail
    assert "10000 rules" in detail or "larger than" in detail
    assert time.monotonic() - started < 10


def test_fuzz_of_the_loader(folder: Path) -> None:
    """Whatever is done to a profile's text: an error in our words or a profile, and never anything else."""
    base = (Path(paths.package_data("profiles")) / "strict.toml").read_text()
    generator = random.Random(5)
    ended = time.monotonic() + 5
    errors = rounds = 0
    while time.monotonic() < ended and rounds < 300:
        rounds += 1
        text = list(base)
        for _ in range(generator.randint(1, 6)):
            at = generator.randrange(len(text))
            action = generator.randrange(3)
            if action == 0:
                del text[at : at + generator.randint(1, 40)]
            elif action == 1:
                text[at] = generator.choice(string.printable)
            else:
                start = generator.randrange(len(text))
                text[at:at] = text[start : start + 60]
        path = put(folder, "fuzz", "".join(text))
        try:
            load.effective(path)
        except SandboxError as error:
            errors += 1
            assert error.step == "read profile"
    assert errors > rounds / 4
