"""The ready profiles in sandboxes: their own [[test]] tables by real tries, their locks, and what can be asked about them."""

import json
from pathlib import Path

import pytest
from support import Sbx

READY = ("default", "strict", "ci-build", "no-network", "nested", "debug", "podman", "privileged", "unconfined")


@pytest.mark.requires("seccomp")
@pytest.mark.parametrize("name", ["strict", "ci-build", "no-network", "nested", "debug", "podman"])
def test_every_probe_comes_out_as_the_profile_says(session_sbx: Sbx, name: str) -> None:
    done = session_sbx("profile", "test", name)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) > 3 and all(line.startswith("ok ") for line in lines)


@pytest.mark.requires("seccomp")
def test_a_probe_that_does_not_come_out(session_sbx: Sbx, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "default"\n[[test]]\ndeny = "write /tmp/x"\n[[test]]\nallow = "call mount a /b c 0 0"\n')
    done = session_sbx("profile", "test", path)
    assert done.returncode == 1
    assert done.stdout == "FAILED deny write /tmp/x: allowed\nFAILED allow call mount a /b c 0 0: refused\n"


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [
        ("--cap-add", "CHOWN", "capabilities.keep"),
        ("--security-opt", "seccomp=unconfined", "seccomp"),
        ("--security-opt", "no-new-privileges=false", "process.noNewPrivileges"),
        ("--security-opt", "unmask=ALL", "filesystem.readonlyPaths"),
        ("--security-opt", "landlock=unconfined", "landlock.scoped"),
        ("--network", "host", "network.mode"),
        ("--user", "0", "process.user"),
        ("--timeout", "1h", "process.timeout"),
        ("--ulimit", "nofile=4096", "rlimits"),
        ("--userns", "keep-id", "namespaces.user"),
        ("--group-add", "0", "process.user"),
        ("--pid", "host", "namespaces"),
        ("--ipc", "host", "namespaces"),
        ("--uts", "host", "namespaces"),
        ("--pod", "p", "namespaces"),
        ("--device", "/dev/tty", "devices.allow"),
    ],
)
def test_F08_locked_keys(session_sbx: Sbx, option: str, value: str, key: str) -> None:
    done = session_sbx("run", "--profile", "strict", option, value, "host:", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert f"`{key}`" in done.stderr and "locks it" in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--cgroup-conf", "memory.max=max"), ("--allow-degraded", "limits"), ("--memory", "1g"), ("--pids-limit", "-1")],
)
def test_F08_locked_limits(session_sbx: Sbx, tmp_path: Path, option: str, value: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "default"\nlock = ["limits"]\n[limits.memory]\nlimit = "64m"\n[limits.pids]\nlimit = 10\n'
    )
    done = session_sbx("run", "--profile", path, option, value, "host:", "true")
    assert (done.returncode, done.stdout) == (125, "") and "the profile locks it" in done.stderr


def test_what_may_be_stricter_is_free(session_sbx: Sbx) -> None:
    done = session_sbx(
        "run", "--profile", "strict", "--network", "none", "--pid", "private", "--read-only", "host:", "id", "-u"
    )
    assert (done.returncode, done.stdout) == (0, "65534\n")


def test_strict_from_inside(session_sbx: Sbx) -> None:
    script = "grep -E '^(CapBnd|CapEff|Seccomp|NoNewPrivs):' /proc/self/status; umask; ls /sys | wc -l; ulimit -n; stat -c %t,%T /dev/tty"
    done = session_sbx("run", "--profile", "strict", "host:", "sh", "-c", script)
    words = done.stdout.split()
    assert words == [
        "CapEff:",
        "0" * 16,
        "CapBnd:",
        "0" * 16,
        "NoNewPrivs:",
        "1",
        "Seccomp:",
        "2",
        "0077",
        "0",
        "1024",
        "1,3",
    ]


def test_environment_of_ci_build(session_sbx: Sbx) -> None:
    done = session_sbx("run", "--profile", "ci-build", "-e", "LANG=de", "host:", "sh", "-c", "echo $CI $LANG")
    assert done.stdout == "1 de\n"


def test_wrap_takes_what_it_can(session_sbx: Sbx, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "default"\n[process]\numask = "077"\n[environment]\nset = { A = "b" }\n')
    done = session_sbx("wrap", "--profile", path, "-w", tmp_path, "--", "sh", "-c", "umask; echo $A")
    assert (done.returncode, done.stdout) == (0, "0077\nb\n")
    path.write_text('extends = "default"\n[namespaces]\ntime = true\n')
    done = session_sbx("wrap", "--profile", path, "-w", tmp_path, "--", "true")
    assert done.returncode == 125 and "can not do what the profile asks for" in done.stderr


def test_F07_a_profile_in_the_working_directory_is_not_obeyed(session_sbx: Sbx, tmp_path: Path) -> None:
    for name in ("default.toml", ".sbx.toml", "profiles/default.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('extends = "unconfined"\n')
    done = session_sbx("run", "host:", "grep", "Seccomp:", "/proc/self/status", cwd=tmp_path)
    assert done.stdout == "Seccomp:\t2\n"


# -- what can be asked --


def test_show_and_check(session_sbx: Sbx) -> None:
    own = session_sbx("profile", "show", "strict").stdout
    assert 'extends = "default"' in own
    whole = session_sbx("profile", "show", "strict", "--effective").stdout
    assert "extends         " in whole and "network.mode    none\n" in whole
    assert "process.umask   077\n" in whole and "process.timeout 600s\n" in whole
    assert "test            deny read ~/.ssh/id_rsa\n" in whole
    for name in READY:
        done = session_sbx("profile", "check", name)
        assert done.returncode == 0 and ": right, " in done.stdout


def test_explain(session_sbx: Sbx) -> None:
    assert session_sbx("profile", "explain", "ptrace").stdout.startswith("ptrace: allow, by default.toml:")
    assert "EPERM, by strict.toml:" in session_sbx("profile", "explain", "ptrace", "--profile", "strict").stdout
    lines = session_sbx("profile", "explain", "ioctl", "0", "0x5412").stdout.splitlines()
    assert len(lines) == 1 and "EPERM" in lines[0] and "TIOCSTI" in lines[0]
    done = session_sbx("profile", "explain", "ptrac")
    assert done.returncode == 125 and "did you mean `ptrace`?" in done.stderr


def test_diff(session_sbx: Sbx) -> None:
    done = session_sbx("profile", "diff", "default", "debug")
    assert done.returncode == 1
    assert "+ capability CAP_SYS_PTRACE\n" in done.stdout and "personality" in done.stdout
    assert session_sbx("profile", "diff", "default", "default").returncode == 0
    assert "~ process.umask not said -> 077\n" in session_sbx("profile", "diff", "default", "strict").stdout


def test_score_orders_the_ready_profiles(session_sbx: Sbx) -> None:
    scores = {name: json.loads(session_sbx("profile", "score", name, "--json").stdout)["score"] for name in READY}
    assert scores["strict"] < scores["no-network"] < scores["default"] < scores["debug"] < scores["nested"]
    assert scores["nested"] < scores["podman"] < scores["privileged"]
    assert session_sbx("profile", "score", "strict", "--threshold", "20").returncode == 0
    assert session_sbx("profile", "score", "privileged", "--threshold", "20").returncode == 1


def test_schema(session_sbx: Sbx) -> None:
    assert "properties" in json.loads(session_sbx("profile", "schema").stdout)
