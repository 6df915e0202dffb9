"""sbx doctor: its rows, its output forms, and the cause it names for faults that are made for real."""

import json
import os
import pwd
import subprocess
import time
from pathlib import Path

import pytest

from sandbox.doctor.login import lingering
from sandbox.doctor.probe import DEADLINE, MISSING, WEAKER, WORKS, Probe, Row, Scratch, Verdict, look
from sandbox.doctor.table import NAMES, PROBES, run_works, stops_run
from sandbox.verbs import VERBS


def row_of(done: subprocess.CompletedProcess[str], name: str) -> dict[str, str]:
    return next(row for row in json.loads(done.stdout) if row["name"] == name)


# -- output --


def test_json_has_a_row_per_probe_and_the_status_agrees(sbx):
    done = sbx("doctor", "--json")
    found = json.loads(done.stdout)
    assert [row["name"] for row in found] == list(NAMES)
    assert all(set(row) == {"name", "title", "status", "cause", "fix", "needed"} for row in found)
    works = run_works([Row(**row) for row in found], root=os.geteuid() == 0)
    assert done.returncode == (0 if works else 1)
    assert done.stderr == ""


def test_table_is_aligned_and_plain_without_a_terminal(sbx):
    done = sbx("doctor")
    lines = done.stdout.splitlines()
    assert "\033" not in done.stdout
    width = max(len(probe.title) for probe in PROBES)
    for probe in PROBES:
        line = next(line for line in lines if line.startswith(probe.title))
        assert line[width + 2 :].split()[0] in (WORKS, WEAKER, MISSING)
    assert lines[-1] in ("sbx run works on this machine", "sbx run does not work on this machine")


@pytest.mark.parametrize(
    ("env", "colour"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_only_on_a_terminal_that_wants_it(sbx, env, colour):
    master, slave = os.openpty()
    process = sbx.popen("doctor", env=env, stdout=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # EIO: the other end is closed
            break
        seen += chunk
    process.communicate()
    os.close(master)
    assert (b"\033[" in seen) == colour


@pytest.mark.requires("userns", "mount", "proc", "netns", "seccomp", "tty", "store", "idmap")
def test_quiet_is_silent_where_run_works(sbx):
    done = sbx("doctor", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_single_rows_are_asked_for_by_name(sbx):
    assert VERBS["doctor"].words == NAMES
    done = sbx("doctor", "cgroup", "store", "--json")
    assert [row["name"] for row in json.loads(done.stdout)] == ["cgroup", "store"]
    assert "own terminal" not in sbx("doctor", "store").stdout
    for words in (("cgruop",), ("store", "cgruop")):
        wrong = sbx("doctor", *words)
        assert wrong.returncode == 125 and "cgruop" in wrong.stderr and "cgroup" in wrong.stderr


def test_takes_less_than_three_seconds_and_leaves_nothing(sbx, no_leftovers):
    start = time.monotonic()
    sbx("doctor")
    assert time.monotonic() - start < 3
    no_leftovers()
    assert not sbx.store.exists()
    assert list(sbx.store.parent.glob(".sbx-doctor-*")) == []


# -- the exit status --


def _row(name: str, status: str) -> Row:
    probe = next(probe for probe in PROBES if probe.name == name)
    return Row(name, probe.title, status, "", "", probe.needed)


@pytest.mark.parametrize("name", NAMES)
def test_only_rows_without_a_fallback_stop_run(name):
    stops = name in {"userns", "mount", "proc", "netns", "seccomp", "tty", "store"}
    assert stops_run(_row(name, MISSING), root=False) == stops
    assert stops_run(_row(name, MISSING), root=True) == (stops or name == "idmap")
    assert not stops_run(_row(name, WEAKER), root=True)


# -- the harness --


def _fork_and_hang(scratch: Scratch) -> Verdict:
    if os.fork() == 0:
        os.setsid()
    time.sleep(60)
    return Verdict(WORKS)


def _die(scratch: Scratch) -> Verdict:
    os._exit(3)


def _use_folder(scratch: Scratch) -> Verdict:
    folder = scratch.folder("mine")
    os.mkdir(f"{folder}/closed", 0)
    return Verdict(WORKS, folder)


def test_probe_that_hangs_is_told_and_ended_with_what_it_started(no_leftovers):
    start = time.monotonic()
    (row,) = look([Probe("x", "x", _fork_and_hang)])
    assert (row.status, row.cause) == (MISSING, f"did not answer within {DEADLINE} s")
    assert time.monotonic() - start < 3.2
    no_leftovers()


def test_probe_that_dies_is_a_row():
    (row,) = look([Probe("x", "x", _die)])
    assert (row.status, row.cause) == (MISSING, "the probe died without an answer")


def test_probe_with_a_bug_is_a_row():
    (row,) = look([Probe("x", "x", lambda scratch: 1 / 0)])
    assert (row.status, row.cause) == (MISSING, "the probe failed: ZeroDivisionError: division by zero")


def test_scratch_folder_is_next_to_the_store_and_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("SBX_STORE", str(tmp_path / "not" / "there"))
    (row,) = look([Probe("x", "x", _use_folder)])
    assert row.cause.startswith(f"{tmp_path}/.sbx-doctor-")
    assert list(tmp_path.iterdir()) == []


def test_row_that_stands_on_a_missing_one_is_not_tried():
    lame = Probe("a", "a", lambda scratch: Verdict(MISSING, "gone"))
    rows = look([lame, Probe("b", "b", _die, needs=("a",))])
    assert rows[1].cause == "not tried: it needs the row `a`"


# -- faults, made for real, by an ordinary user --


@pytest.mark.requires("userns")
def test_no_more_user_namespaces(sbx):
    # The limit is one of each namespace: its own root may set it.
    script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", script, "sh", *sbx.command("doctor", "--json")],
        env={**sbx.environment, "SBX_STORE": str(sbx.store)}, capture_output=True, text=True,
    )  # fmt: skip
    row = row_of(done, "userns")
    assert (done.returncode, row["status"], row["cause"]) == (1, MISSING, "user.max_user_namespaces is 0")
    assert "sysctl -w user.max_user_namespaces=" in row["fix"]
    assert row_of(done, "overlay")["cause"] == "not tried: it needs the row `userns`"
    assert row_of(done, "seccomp")["status"] == WORKS


@pytest.mark.requires("idmap")
@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no set-uid helper")
def test_no_new_privs_is_told_apart(sbx):
    done = subprocess.run(
        ["setpriv", "--no-new-privs", *sbx.command("doctor", "--json")],
        env={**sbx.environment, "SBX_STORE": str(sbx.store)}, capture_output=True, text=True,
    )  # fmt: skip
    row = row_of(done, "idmap")
    assert row["status"] == MISSING
    assert row["cause"].startswith("no_new_privs is set on this shell")
    assert done.returncode == 0  # one id is the fallback


def test_store_that_can_not_be_written(sbx, tmp_path):
    if os.geteuid() == 0:
        place = "/proc/sbx"
    else:
        (tmp_path / "closed").mkdir(0o500)
        place = str(tmp_path / "closed" / "store")
    done = sbx("doctor", "--json", env={"SBX_STORE": place})
    row = row_of(done, "store")
    assert (done.returncode, row["status"]) == (1, MISSING)
    assert row["fix"].startswith("export SBX_STORE=")


def test_runtime_directory_is_not_needed(sbx):
    done = sbx("doctor", "--json", env={"XDG_RUNTIME_DIR": None})
    assert row_of(done, "runtime")["cause"] == "not set, and not needed"


# -- faults that root must make: in a mount namespace of their own, doctor runs there as an ordinary user --


@pytest.mark.root
@pytest.mark.parametrize(
    ("script", "name", "cause", "fix"),
    [
        ("mount --bind /dev/null /usr/bin/newuidmap", "idmap", "the program newuidmap is missing", "uidmap"),
        ("mount --bind /usr/bin /usr/bin && mount -o remount,bind,nosuid /usr/bin", "idmap", "mounted nosuid", "remount,suid /usr/bin"),
        ("cp -p /usr/bin/newuidmap $T/n && chmod 755 $T/n && mount --bind $T/n /usr/bin/newuidmap", "idmap", "not set-uid root", "chmod u+s"),
        ("mount --bind /dev/null /etc/subuid", "idmap", "no subordinate uid range for nobody in /etc/subuid", "--add-subuids"),
        ("mount --bind /dev/null /etc/subgid", "idmap", "no subordinate gid range for nobody in /etc/subgid", "--add-subgids"),
        ("echo nobody:500000:1000 >$T/s && mount --bind $T/s /etc/subuid", "idmap", "only 1000 subordinate ids", "--add-subuids"),
        ("echo 65534:500000:65536 >$T/s && mount --bind $T/s /etc/subuid", "idmap", "65536 ids from 500000", ""),
        ("mount --bind /dev/null /usr/bin/slirp4netns", "slirp", "the program slirp4netns is missing", "slirp4netns"),
        ("mount --bind /dev/null /usr/bin/fuse-overlayfs", "fuse", "the program fuse-overlayfs is missing", "fuse-overlayfs"),
        ("mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3", "fuse", "there is no /dev/fuse", "fuse"),
        ("mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 600 /dev/fuse c 10 229", "fuse", "not readable and writable", "chmod 666 /dev/fuse"),
        ("mkdir /dev/shm/t && mount --bind /dev/shm/t /dev/net", "slirp", "there is no /dev/net/tun", "tun"),
        ("mount -t tmpfs none /proc/sys", "proc", "part of /proc is covered", "systempaths=unconfined"),
    ],
)  # fmt: skip
def test_fault_has_its_cause_and_fix(sbx, tmp_path_factory, script, name, cause, fix):
    folder = tmp_path_factory.mktemp("fault")
    lists = "for f in uid gid; do echo nobody:500000:65536 >$T/sub$f; mount --bind $T/sub$f /etc/sub$f; done;"
    as_nobody = "exec setpriv --reuid 65534 --regid 65534 --clear-groups"
    (home := Path(f"/var/tmp/sbx-test-{os.getpid()}")).mkdir(mode=0o777)
    home.chmod(0o777)
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-euc", f'{lists} {script}; {as_nobody} "$@"', "sh", *sbx.command("doctor", "--json")],
            env={**sbx.environment, "T": str(folder), "HOME": str(home), "SBX_STORE": f"{home}/store"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        home.rmdir()  # doctor left nothing in it
        Path("/dev/shm/t").rmdir() if Path("/dev/shm/t").exists() else None
    assert done.stdout, done.stderr
    row = row_of(done, name)
    assert cause in row["cause"], row
    assert fix in row["fix"]
    assert row["status"] == (WEAKER if "only" in cause else WORKS if not fix else MISSING)


# -- the end of a login --


@pytest.mark.skipif(os.geteuid() == 0, reason="root's containers stay in any case")
def test_lingering(tmp_path):
    """By files as systemd has them: whether it runs, who lingers, what logind.conf says."""
    booted, lingers, first, second = (tmp_path / name for name in ("booted", "linger", "logind.conf", "logind.conf.d"))
    lingers.mkdir()
    second.mkdir()
    user = pwd.getpwuid(os.getuid()).pw_name

    def look() -> Verdict:
        return lingering(Scratch(""), booted=str(booted), lingers=str(lingers), files=(str(first), f"{second}/*.conf"))

    assert look() == Verdict(WORKS, "no systemd here that ends containers with a login")
    booted.mkdir()
    found = look()
    assert (found.status, found.fix) == (
        WEAKER,
        "loginctl enable-linger",
    ) and "containers with limits end" in found.cause
    first.write_text("[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n")
    assert "all containers end with the login" in look().cause
    (second / "own.conf").write_text(f"[Login]\nKillExcludeUsers=root {user}\n")
    assert "containers with limits end" in look().cause
    (lingers / user).touch()
    assert look() == Verdict(WORKS, f"on for {user}: containers outlive the login")
