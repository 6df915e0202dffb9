"""Which file a profile name means, whose files are trusted, and when a cached result is stale."""

import json
import marshal
import os
from pathlib import Path

import pytest

from sandbox import cache, paths
from sandbox.cli import profile as verb
from sandbox.errors import SandboxError, UsageError
from sandbox.profile import calls, compile, load

SMALL = """\
description = "{}"
[capabilities]
keep = ["KILL"]
[filesystem]
maskedPaths = []
readonlyPaths = []
[seccomp]
defaultAction = "SCMP_ACT_ERRNO"
defaultErrnoRet = "EPERM"
groups = ["@file-io", "@process"]
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "config/sbx/profiles").mkdir(parents=True)
    return tmp_path


def own(home: Path, name: str, text: str = "") -> Path:
    path = home / f"config/sbx/profiles/{name}.toml"
    path.write_text(text or SMALL.format(name))
    path.chmod(0o644)
    return path


def cached(name: str, seccomp: str = "") -> object:
    return cache.get(f"{paths.cache()}/profiles", f"{name}|{seccomp}")


def test_default_profile_has_the_shape_of_the_contract(home: Path) -> None:
    result = load.load("default", "")
    assert set(result) == {"fragment", "bpf", "files"}
    assert result["fragment"]["process"] == {
        "capabilities": [f"CAP_{c}" for c in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
                                              "SYS_CHROOT", "SETFCAP")],
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                    {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1048576}],
        "noNewPrivileges": True,
    }  # fmt: skip
    linux = result["fragment"]["linux"]
    assert set(linux) == {"seccomp", "maskedPaths", "readonlyPaths"}
    assert {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/sys/firmware",
            "/sys/devices/virtual/powercap"} <= set(linux["maskedPaths"])  # fmt: skip
    assert {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} <= set(linux["readonlyPaths"])
    rules = marshal.loads(linux["seccomp"])
    assert rules["architectures"] == [calls.MACHINES[calls.machine()][1]]
    assert result["bpf"] and len(result["bpf"]) % 8 == 0 and len(result["bpf"]) <= 8 * 4096
    assert result["bpf"] == compile.program(rules)
    assert cached("default") == result


def test_unconfined_has_no_filter(home: Path) -> None:
    for name, seccomp in (("unconfined", ""), ("default", "unconfined")):
        result = load.load(name, seccomp)
        assert result["bpf"] == b""
        assert "seccomp" not in result["fragment"]["linux"]
        assert cached(name, seccomp) == result
    assert load.load("default", "unconfined")["fragment"]["process"]["noNewPrivileges"] is True


def test_the_users_own_profile_wins_and_its_appearance_makes_the_cache_stale(home: Path) -> None:
    assert len(load.load("default", "")["fragment"]["process"]["capabilities"]) == 9
    assert cached("default") is not None
    path = own(home, "default")
    assert cached("default") is None
    assert load.load("default", "")["fragment"]["process"]["capabilities"] == ["CAP_KILL"]
    path.unlink()
    assert cached("default") is None


def test_a_json_profile_is_part_of_what_the_result_depends_on(home: Path) -> None:
    path = home / "docker.json"
    path.write_text(
        '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}'
    )
    result = load.load("default", str(path))
    assert str(path) in result["files"]
    assert marshal.loads(result["fragment"]["linux"]["seccomp"])["syscalls"] == [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    ]
    assert cached("default", str(path)) == result
    path.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert cached("default", str(path)) is None
    assert load.load("default", str(path))["bpf"] == b""


def test_a_path_is_taken_as_it_is_and_a_relative_one_is_not_cached(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, description in (("a", "first"), ("b", "second")):
        (home / folder).mkdir()
        (home / folder / "x.toml").write_text(
            SMALL.format(description).replace("KILL", "CHOWN" if folder == "b" else "KILL")
        )
        monkeypatch.chdir(home / folder)
        result = load.load("./x.toml", "")
        assert result["fragment"]["process"]["capabilities"] == ["CAP_KILL" if folder == "a" else "CAP_CHOWN"]
    assert cached("./x.toml") is None
    load.load(f"{home}/a/x.toml", "")
    assert cached(f"{home}/a/x.toml") is not None


@pytest.mark.parametrize("name", ["", ".", "..", "-x", ".hidden", "a b", "x\n", "n" * 65, "é"])
def test_a_name_is_not_a_path(home: Path, name: str) -> None:
    with pytest.raises(SandboxError) as caught:
        load.load(name, "")
    assert (caught.value.step, caught.value.errno) == ("find profile", 22)


def test_an_unknown_name_gets_the_nearest_one(home: Path) -> None:
    own(home, "build-java")
    with pytest.raises(SandboxError) as caught:
        load.load("build-jav", "")
    assert (caught.value.step, caught.value.errno) == ("find profile", 2)
    assert "`build-java`" in caught.value.hint
    with pytest.raises(SandboxError) as caught:
        load.load("defualt", "")
    assert "did you mean `default`?" in caught.value.hint


@pytest.mark.parametrize("seccomp", ["default", "x.json", "Unconfined"])
def test_seccomp_is_unconfined_or_an_absolute_path(home: Path, seccomp: str) -> None:
    with pytest.raises(SandboxError) as caught:
        load.load("default", seccomp)
    assert "neither `unconfined` nor an absolute path" in caught.value.detail


def test_F07_files_that_others_can_change_are_refused(home: Path) -> None:
    path = own(home, "open")
    path.chmod(0o666)
    with pytest.raises(SandboxError, match="everybody may write") as caught:
        load.load("open", "")
    assert "chmod o-w" in caught.value.hint
    if os.geteuid() == 0:
        path.chmod(0o644)
        os.chown(path, 12345, 12345)
        with pytest.raises(SandboxError, match="belongs to uid 12345"):
            load.load("open", "")


def test_things_that_are_no_files(home: Path) -> None:
    os.mkfifo(home / "config/sbx/profiles/fifo.toml")
    with pytest.raises(SandboxError, match="not a regular file"):
        load.load("fifo", "")
    (home / "config/sbx/profiles/folder.toml").mkdir()
    with pytest.raises(SandboxError):
        load.load("folder", "")
    (home / "config/sbx/profiles/gone.toml").symlink_to("/nonexistent/x")
    with pytest.raises(SandboxError, match="No such file"):
        load.load("gone", "")
    (home / "config/sbx/profiles/bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SandboxError, match="not UTF-8 at byte 0"):
        load.load("bytes", "")
    own(home, "big", "#" * ((1 << 20) + 1))
    with pytest.raises(SandboxError, match="larger than"):
        load.load("big", "")


def test_verb_list_and_show(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own(home, "mine", SMALL.format("evil \\u001b[2J name"))
    own(home, "broken", "x = 1\n")
    assert verb.main({}, ["list"]) == 0
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()}
    ready = {"ci-build", "debug", "default", "nested", "no-network", "podman", "privileged", "strict", "unconfined"}
    assert set(lines) == {*ready, "mine", "broken"}
    assert lines["mine"] == [f"{home}/config/sbx/profiles/mine.toml", "evil \\x1b[2J name"]
    assert "unknown key `x`" in lines["broken"][1]
    assert verb.main({"json": True}, ["list"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == sorted({*ready, "mine", "broken"})
    assert verb.main({}, ["show", "default"]) == 0
    out = capsys.readouterr().out
    assert "seccomp         EPERM         ioctl if argument 1 == 0x5412 or 0x541c or 0x5423\n" in out
    assert "group           @sync: futex futex_requeue futex_wait futex_waitv futex_wake\n" in out
    assert verb.main({"json": True}, ["show"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"process", "linux"}
    for operands in ([], ["shwo"], ["list", "x"], ["show", "a", "b"]):
        with pytest.raises(UsageError):
            verb.main({}, operands)
