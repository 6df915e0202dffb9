"""What the caller's own standard descriptors are good for inside: his terminal and his files stay his."""

import os
import shlex
import stat
import subprocess
import termios
import time
import types

import pytest
from test_run_terminal import Terminal

pytestmark = pytest.mark.requires("userns", "idmap", "store", "tty")

# Tries all that a descriptor could be used for but to write to it: one word each on stdout.
ABUSE = "chmod 666 /proc/self/fd/1; chmod 666 /dev/stderr; exec 9<>/proc/self/fd/1; chmod 666 /proc/self/fd/9"
KINDS = ("run", "exec", "wrap")


@pytest.fixture
def started(own_box, no_leftovers, tmp_path):
    """`started(kind, script, *options, **ends)`: a shell on a terminal, by run, exec or wrap, that was not asked for one."""
    opened, lived = [], []

    def start(kind, script, *options, **ends):
        rootfs = f"rootfs:{own_box.rootfs}"
        words = ["run", *options, rootfs, "sh", "-c", script]
        if kind == "exec":
            own_box.sbx("run", "-d", "--name", "c", rootfs, "sleep", "100")
            lived.append("c")
            words = ["exec", *options, "c", "sh", "-c", script]
        elif kind == "wrap":
            words = ["wrap", "-w", tmp_path, "--", "sh", "-c", script]
        opened.append(Terminal(own_box, *words, **ends))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
    for name in lived:
        own_box.sbx("rm", "-f", name)


@pytest.mark.parametrize("kind", KINDS)
def test_R14_terminal_of_the_caller_without_t(started, kind):
    """It keeps its mode and its settings, and is still one for what runs inside; /dev/stderr can be opened by name."""
    t = started(
        kind, f"test -t 1 && test -t 2 && echo terminal; {ABUSE}; echo x > /dev/stderr; stty raw -echo <&2; exit 3"
    )
    before = os.fstat(t.slave)
    assert t.end() == 3
    assert t.seen.split() == ["terminal", "x"]
    after = os.fstat(t.slave)
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) & 0o006 == 0


@pytest.mark.parametrize("kind", ["run", "exec"])
def test_R14_what_is_typed_without_i_stays_the_callers(started, kind):
    """Opened once more, the descriptor of what is printed to would give what is typed for somebody else."""
    t = started(kind, "exec 9<>/proc/self/fd/1; echo up; read -t 1 x <&9 || echo nothing; exit 4")
    t.expect("up")
    t.type("secret\r")
    assert t.end() == 4
    assert t.seen.split() == ["secret", "nothing"]  # the first is the echo of the caller's own terminal
    os.set_blocking(t.slave, False)
    assert os.read(t.slave, 100) == b"secret\n"


@pytest.mark.parametrize("kind", KINDS)
def test_R14_terminal_beside_a_file(started, kind, tmp_path):
    """What goes to a file still does; each terminal is replaced."""
    with open(tmp_path / "out", "wb") as out:
        t = started(kind, f"test -t 1 || echo file; {ABUSE} 2>/dev/null; echo shown >&2; exit 5", stdout=out)
        mode = os.fstat(t.slave).st_mode
        assert t.end() == 5
    assert (t.seen, (tmp_path / "out").read_text()) == ("shown\r\n", "file\n")
    assert os.fstat(t.slave).st_mode == mode


@pytest.mark.parametrize("kind", ["run", "exec"])
def test_lines_are_typed_with_i(started, kind):
    """As with podman: lines, their echo by the caller's own terminal, and Ctrl-D as the end."""
    t = started(kind, "echo up; read x; echo got:$x; cat; echo over; exit 6", "-i")
    t.expect("up\r\n")
    t.type("one\r")
    t.expect("got:one\r\n")
    t.type("two\r\x04")
    assert t.end() == 6
    assert t.seen.split()[-2:] == ["two", "over"]


def test_all_that_is_printed_comes_through_as_it_is(started):
    t = started("run", "seq 20000; printf 'a\\033[1mb\\tc\\nd'; exit 7")
    assert t.end() == 7
    assert t.seen == "".join(f"{n}\r\n" for n in range(1, 20001)) + "a\x1b[1mb\tc\r\nd"


def test_window_of_the_caller(started):
    t = started(
        "run", "stty size <&1; echo up; while :; do sleep 0.05; stty size <&1; done", "--init", rows=33, columns=99
    )
    assert t.expect("up") == "33 99\r\n"
    t.resize(50, 132)
    t.expect("50 132")
    t.type("\x03")
    assert t.end() == 130


def test_wrap_on_a_terminal_has_job_control(started):
    t = started("wrap", "tty; echo up; read x; echo got:$x")
    assert t.expect("up\r\n") == "/dev/pts/0\r\n"
    time.sleep(0.1)
    assert not termios.tcgetattr(t.slave)[3] & termios.ECHO
    t.type("words\r")
    t.expect("got:words")
    assert t.end() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_R02_a_file_that_is_read_can_not_be_written(own_box, no_leftovers, kind, tmp_path):
    """`sbx run -i ... <file`: root inside is the caller, whose file it is; it is not opened once more to be changed."""
    path = tmp_path / "file"
    path.write_text("one\ntwo\nthree\n")
    path.chmod(0o600)
    script = (
        "read x; echo $x; chmod 666 /proc/self/fd/0; echo evil > /proc/self/fd/0; truncate -s 0 /dev/stdin; touch /dev/stdin;"
        " head -n 1 /dev/stdin"
    )
    rootfs = f"rootfs:{own_box.rootfs}"
    words = {"run": ["run", "-i", rootfs], "exec": ["exec", "-i", "c"], "wrap": ["wrap", "-w", tmp_path, "--"]}[kind]
    if kind == "exec":
        own_box.sbx("run", "-d", "--name", "c", rootfs, "sleep", "100")
    try:
        with open(path, "rb") as file:
            process = own_box.sbx.popen(*words, "sh", "-c", script, stdin=file)
            out, err = process.communicate(timeout=60)
            assert file.read() == b"two\nthree\n"  # it was read up to there, by the caller's own descriptor
    finally:
        if kind == "exec":
            own_box.sbx("rm", "-f", "c")
    assert out == "one\none\n" and err.count("Read-only file system") == 4, (out, err)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("one\ntwo\nthree\n", 0o600)


def test_a_file_without_a_name_is_read_all_the_same(own_box, no_leftovers, tmp_path):
    path = tmp_path / "file"
    path.write_text("words\n")
    with open(path, "rb") as file:
        path.unlink()
        done = subprocess.run(
            own_box.sbx.command("run", "-i", f"rootfs:{own_box.rootfs}", "cat"), stdin=file, capture_output=True, text=True,
            env={**own_box.sbx.environment, "SBX_STORE": str(own_box.sbx.store)}, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "words\n")


@pytest.fixture
def shell(own_box, no_leftovers):
    """`shell(script)`: bash on a terminal; `sbx` in it stands for sbx run -i ROOTFS."""
    opened = []

    def start(script):
        words = shlex.join(map(str, own_box.sbx.command("run", "-i", f"rootfs:{own_box.rootfs}")))
        environment = {**own_box.sbx.environment, "SBX_STORE": str(own_box.sbx.store)}

        def popen(*arguments, **options):
            return subprocess.Popen(arguments, env=environment, start_new_session=True, text=True, **options)

        box = types.SimpleNamespace(sbx=types.SimpleNamespace(popen=popen))
        opened.append(Terminal(box, "bash", "-c", script.replace("sbx", words)))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_what_is_typed_for_another_job_is_no_end_of_the_input(shell):
    """As after Ctrl-Z or `&`: who is in front reads, and the command goes on to be typed to when it is there again."""
    t = shell("set -m; sbx sh -c 'echo up; cat' & sleep 2; read x; echo shell:$x; fg >/dev/null; echo code:$?")
    t.expect("up\r\n")
    t.type("one\r")
    t.expect("shell:one\r\n")
    time.sleep(0.5)
    t.type("two\r")
    t.expect("two\r\ntwo\r\n")
    t.type("\x04")
    t.expect("code:0")
    assert t.end() == 0


def test_terminal_by_the_name_dev_tty_is_the_same(shell):
    t = shell("sbx stat -L -c %t /proc/self/fd/0 </dev/tty")
    assert t.end() == 0
    assert t.seen == "88\r\n"  # a terminal of a devpts, not 5:0


def test_what_was_typed_as_it_is_stays_as_it_is(started):
    """Ctrl-V before what would erase: the caller's terminal has edited the line, nobody else does."""
    t = started("run", 'echo up; read -r x; printf %s "$x" | wc -c', "-i")
    t.expect("up\r\n")
    t.type("ab\x16\x7fcd\x16\x15e\r")
    assert t.end() == 0
    assert t.seen.split()[-1] == "7"


@pytest.mark.parametrize("kind", ["run", "exec"])
def test_last_output_waits_for_a_slow_reader(started, kind):
    t = started(kind, "seq 1 20000; exit 3")
    time.sleep(1)
    assert t.end() == 3
    assert t.seen.split() == [str(n) for n in range(1, 20001)]


def test_user_that_is_not_mapped(started):
    t = started("run", "true", "-u", "70000")
    assert t.end() == 125
    assert t.seen.startswith("sbx: set user `70000:0`: Invalid argument")
