"""`sbx unshare`: a command as container root on the host's own files."""

import os
import signal

import pytest

pytestmark = pytest.mark.requires("userns", "idmap")


def test_caller_is_root_with_the_ordinary_map(sbx, range_of, no_leftovers):
    done = sbx("unshare", "sh", "-c", "id -u; id -g; cat /proc/self/uid_map; grep CapEff /proc/self/status")
    assert (done.returncode, done.stderr) == (0, "")
    (first, count), own = range_of("/etc/subuid")[0], os.getuid()
    words = done.stdout.split()
    if own:
        assert words[:8] == [str(n) for n in (0, 0, 0, own, 1, 1, first, count)]
    else:
        assert words[:5] == [str(n) for n in (0, 0, 0, first, count)]
    assert int(words[-1], 16) != 0


def test_files_of_subordinate_ids_can_be_made_and_removed(sbx, tmp_path, range_of):
    assert (
        sbx(
            "unshare", "sh", "-c", "mkdir sub; touch sub/f; chown -R 1000:1000 sub; chmod 700 sub", cwd=tmp_path
        ).returncode
        == 0
    )
    assert (tmp_path / "sub").stat().st_uid == range_of("/etc/subuid")[0][0] + 1000 - (1 if os.getuid() else 0)
    if os.getuid():
        with pytest.raises(PermissionError):
            os.listdir(tmp_path / "sub")
    done = sbx("unshare", "rm", "-r", "sub", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path) == []


def test_environment_folder_and_standard_streams_are_the_callers(sbx, tmp_path):
    done = sbx(
        "unshare", "sh", "-c", "pwd; echo $OWN; cat; echo err >&2", cwd=tmp_path, env={"OWN": "x"}, input="typed\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}\nx\ntyped\n", "err\n")


def test_words_belong_to_the_command(sbx):
    assert sbx("unshare", "echo", "-n", "--help").stdout == "--help"
    assert sbx("unshare", "--", "echo", "--", "x").stdout == "-- x\n"


def test_shell_without_a_command(sbx):
    done = sbx("unshare", env={"SHELL": "/bin/sh"}, input="id -u\nexit 3\n")
    assert (done.returncode, done.stdout) == (3, "0\n")


@pytest.mark.parametrize("status", [0, 1, 42, 125])
def test_status(sbx, status):
    assert sbx("unshare", "sh", "-c", f"exit {status}").returncode == status


def test_killed(sbx):
    assert sbx("unshare", "sh", "-c", "kill -TERM $$").returncode == 143


def test_command_that_can_not_be(sbx, refused, tmp_path, no_leftovers):
    refused(sbx("unshare", "none-such"), "execute `none-such`: No such file or directory", 127, "looked up on the host")
    refused(sbx("unshare", "/etc/passwd"), "execute `/etc/passwd`: Permission denied", 126)
    (tmp_path / "text").write_text("words")
    (tmp_path / "text").chmod(0o755)
    refused(sbx("unshare", tmp_path / "text"), f"execute `{tmp_path}/text`: Exec format error", 126)


def test_mounts_stay_inside(sbx, tmp_path):
    """A mount namespace of its own."""
    (tmp_path / "m").mkdir()
    done = sbx("unshare", "sh", "-c", "mount -t tmpfs t m && touch m/x && ls m", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")
    assert os.listdir(tmp_path / "m") == []


def test_interrupt_reaches_the_command(sbx, no_leftovers):
    """From a terminal both get it; the cli waits, and reports what became of the command."""
    process = sbx.popen("unshare", "sh", "-c", "trap 'sleep 0.2; exit 9' INT; echo up; while :; do sleep 0.05; done")
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 9


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_signal_to_the_cli_is_one_to_the_command(sbx, no_leftovers, name):
    number = signal.Signals[f"SIG{name}"]
    process = sbx.popen("unshare", "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number
    process = sbx.popen("unshare", "sh", "-c", f"trap 'exit 8' {name}; echo up; while :; do sleep 0.05; done")
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 8


def test_killed_cli_takes_the_command_along(sbx, no_leftovers):
    process = sbx.popen("unshare", "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate(timeout=20)
    no_leftovers()


def test_signals_that_python_ignores_are_not(sbx):
    done = sbx("unshare", "grep", "SigIgn", "/proc/self/status")
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0
