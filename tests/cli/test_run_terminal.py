"""`sbx run -t`: a terminal inside, the user's own in raw mode meanwhile; through a pty as a user has it."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from support import descendants, until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "tty")


class Terminal:
    """`sbx ARGUMENTS` on a terminal of its own, as a login shell would start it."""

    def __init__(self, box, *arguments, rows=24, columns=80, **options):
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        ends = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, **options}
        self.process = box.sbx.popen(*arguments, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **ends)
        self.seen = ""

    def expect(self, text, seconds=20.0):
        """Read until `text` was shown; gives what came before it."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"waited for {text!r}, saw {self.seen!r}"
            try:
                chunk = os.read(self.master, 4096)
            except OSError:
                chunk = b""
            assert chunk, f"the end came before {text!r}, saw {self.seen!r}"
            self.seen += chunk.decode()
        head, _, self.seen = self.seen.partition(text)
        return head

    def type(self, text):
        os.write(self.master, text.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, seconds=20.0):
        """Its exit status, after all that is shown was read; the terminal is as it was before."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end, saw {self.seen!r}"
            self.drain(0.05)
        self.drain(0.0)
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def drain(self, seconds):
        while select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 4096).decode()
            seconds = 0.0

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(own_box, no_leftovers):
    """`terminal(script, *options)`: a container with -it, in busybox."""
    opened = []

    def start(script, *options, flags="-it", **rest):
        opened.append(Terminal(own_box, "run", flags, *options, f"rootfs:{own_box.rootfs}", "sh", "-c", script, **rest))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_terminal_inside(terminal):
    t = terminal(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; ls -l /dev/pts/0 /dev/console | awk '{print $1, $3}'; echo $TERM",
        env={"TERM": "vt220"},
    )
    assert t.end() == 0
    assert t.seen == "/dev/pts/0\r\nall\r\ncrw--w---- root\r\ncrw--w---- root\r\nvt220\r\n"


def test_terminal_belongs_to_the_user(terminal):
    t = terminal("stat -c %u /dev/pts/0; echo x >/dev/tty; echo y >/dev/console", "-u", "1000")
    assert (t.end(), t.seen) == (0, "1000\r\nx\r\ny\r\n")


def test_exit_status_and_raw_mode_undone(terminal):
    t = terminal("echo up; read x; exit $x")
    t.expect("up")
    time.sleep(0.1)
    mode = termios.tcgetattr(t.slave)
    assert not mode[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    t.type("7\r")
    assert t.end() == 7


def test_what_is_typed_is_echoed_once(terminal):
    """By the terminal inside; the user's own is raw."""
    t = terminal("echo up; read line; echo got:$line")
    t.expect("up\r\n")
    time.sleep(0.1)
    t.type("words\r")
    assert t.end() == 0
    assert t.seen == "words\r\ngot:words\r\n"


def test_window_size_and_its_changes(terminal):
    t = terminal(
        "trap 'stty size; exit 0' WINCH; stty size; echo up; while :; do sleep 0.05; done", rows=33, columns=99
    )
    assert t.expect("up") == "33 99\r\n"
    t.resize(50, 132)
    assert t.end() == 0
    assert t.seen.split() == ["50", "132"]


def test_ctrl_c_interrupts_what_runs_inside(terminal):
    t = terminal("trap 'echo int; exit 5' INT; echo up; while :; do sleep 0.05; done")
    t.expect("up")
    time.sleep(0.1)
    t.type("\x03")
    assert t.end() == 5
    assert "int\r\n" in t.seen


def test_ctrl_c_with_init(terminal):
    t = terminal("echo up; exec sleep 60", "--init")
    t.expect("up")
    time.sleep(0.1)
    t.type("\x03")
    assert t.end() == 130


def test_ctrl_d_is_the_end_of_input(terminal):
    t = terminal("echo up; cat; echo over")
    t.expect("up")
    time.sleep(0.1)
    t.type("line\r\x04")
    assert t.end() == 0
    assert t.seen.endswith("over\r\n")


def test_signal_to_the_cli(terminal):
    t = terminal("echo up; exec sleep 60")
    t.expect("up")
    t.process.send_signal(signal.SIGTERM)
    assert t.end() == 143


@pytest.mark.limit(60)
def test_terminal_is_restored_when_the_keeper_dies(terminal, own_box):
    t = terminal("echo up; exec sleep 60")
    t.expect("up")
    time.sleep(0.1)
    with open(f"/proc/{t.process.pid}/task/{t.process.pid}/children") as file:
        (keeper,) = file.read().split()
    os.kill(int(keeper), signal.SIGKILL)
    assert t.end() == 125
    assert "killed by signal 9" in t.seen
    own_box.out("true")


def test_restored_after_a_failed_start(terminal, own_box):
    t = terminal("true", "-u", "ghost")
    assert t.end() == 125
    assert t.seen.startswith("sbx: find user `ghost`: no such user")
    t = terminal("true", "--entrypoint", "none")
    assert t.end() == 127


def test_output_to_a_pipe(own_box, no_leftovers):
    """`sbx run -t ... | cat`: what is shown comes as a terminal shows it."""
    done = own_box("echo a; test -t 1 && echo terminal; exit 3", "-t")
    assert (done.returncode, done.stdout, done.stderr) == (3, "a\nterminal\n", "") or done.stdout == "a\r\nterminal\r\n"


def test_input_from_a_pipe(own_box, no_leftovers):
    done = own_box("cat; echo over", "-it", input="one\ntwo\n")
    assert done.returncode == 0
    assert done.stdout.replace("\r\n", "\n").endswith("one\ntwo\nover\n")


def test_much_output(terminal):
    t = terminal("seq 20000; exit 4")
    assert t.end() == 4
    assert t.seen == "".join(f"{n}\r\n" for n in range(1, 20001))


def test_without_i_nothing_that_is_typed_comes_in(terminal):
    """As with podman: what is inside has a terminal, but nobody types there."""
    t = terminal("test -t 0 && echo terminal; echo up; read -t 1 x || echo nothing; exit 6", flags="-t")
    assert t.expect("up").split() == ["terminal"]
    t.type("words\r")
    assert t.end() == 6
    assert t.seen.split() == ["words", "nothing"]  # the first is the echo of the caller's own terminal


def test_without_i_ctrl_c_is_a_signal_to_the_cli(terminal):
    t = terminal("trap 'echo int; exit 5' INT; echo up; while :; do sleep 0.05; done", flags="-t")
    t.expect("up")
    t.type("\x03")
    assert t.end() == 5


def test_terminal_of_the_caller_is_out_of_reach(terminal):
    """Typing into it (TIOCSTI) would be commands of the caller's shell (CVE-2017-5226): another session, another tty."""
    t = terminal("cat /proc/self/stat | cut -d' ' -f6,7; readlink /proc/$$/fd/0")
    assert t.end() == 0
    session, tty, path = t.seen.split()
    assert session == "1"
    assert path == "/dev/pts/0"
    assert int(tty) != os.fstat(t.slave).st_rdev or os.path.basename(os.ttyname(t.slave)) == "0"


def test_no_terminal_and_no_way_to_the_callers(own_box, no_leftovers):
    """Without -t: a session of one's own, /dev/tty can not be opened."""
    t = Terminal(
        own_box, "run", f"rootfs:{own_box.rootfs}", "sh", "-c", "cut -d' ' -f6,7 /proc/self/stat; echo x >/dev/tty"
    )
    try:
        assert t.end() == 1
        assert t.seen == "1 0\r\nsh: can't create /dev/tty: No such device or address\r\n"
    finally:
        t.close()


@pytest.mark.root
def test_root_has_a_terminal_too(terminal):
    t = terminal("tty; stat -c %u /dev/pts/0")
    assert (t.end(), t.seen) == (0, "/dev/pts/0\r\n0\r\n")


# -- a terminal that takes nothing --


def test_time_limit_with_output_that_nobody_reads(terminal):
    t = terminal("yes", "--timeout", "1")
    assert t.process.wait(20) == 124


def test_signal_with_output_that_nobody_reads(terminal):
    t = terminal("echo up; yes")
    t.expect("up")
    time.sleep(0.5)
    os.kill(t.process.pid, signal.SIGTERM)
    assert t.process.wait(20) == 128 + signal.SIGTERM


def test_killed_cli_with_output_that_nobody_reads(terminal, own_box):
    t = terminal("echo up; yes")
    t.expect("up")
    time.sleep(0.5)
    os.kill(t.process.pid, signal.SIGKILL)
    assert t.process.wait(20) == -signal.SIGKILL
    until(descendants, lambda found: not found)
    assert own_box("true").returncode == 0  # removes the folder


def test_last_output_waits_for_a_slow_reader(terminal):
    t = terminal("seq 1 20000")
    time.sleep(1)
    assert t.end() == 0
    assert t.seen.split() == [str(n) for n in range(1, 20001)]


def test_output_that_lost_its_reader(own_box, no_leftovers):
    """As a terminal that hangs up."""
    read, write = os.pipe()
    process = own_box.popen("yes", "-t", stdout=write)
    os.close(write)
    assert os.read(read, 1) == b"y"
    os.close(read)
    assert process.wait(20) == 128 + signal.SIGHUP
    assert process.stderr.read() == ""
    process.stderr.close()


def test_terminal_that_hangs_up(own_box, no_leftovers):
    t = Terminal(own_box, "run", "-it", f"rootfs:{own_box.rootfs}", "sh", "-c", "echo up; sleep 100")
    t.expect("up")
    os.close(t.slave)
    os.close(t.master)
    assert t.process.wait(20) == 128 + signal.SIGHUP


def test_input_that_nobody_reads_is_not_kept(own_box, no_leftovers):
    """What was typed too early waits in its pipe, not in the keeper's memory."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = own_box.popen("sleep 2", "-it", stdin=read, stdout=subprocess.DEVNULL)
    os.close(read)
    taken = 0
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        try:
            taken += os.write(write, b"x\n" * (1 << 15))
        except BlockingIOError:
            time.sleep(0.01)
    os.close(write)
    assert process.wait(20) == 0
    assert taken < 1 << 20
    process.stderr.close()


def test_input_that_ends_within_a_line(own_box, no_leftovers):
    done = own_box("cat", "-it", input="abc")
    assert (done.returncode, done.stdout) == (0, "abcabc")


def test_terminal_outlives_a_command_that_closes_it(own_box, no_leftovers):
    done = own_box("exec <&- >&- 2>&-; sleep 0.3; echo still >/dev/console", "-t")
    assert (done.returncode, done.stdout) == (0, "still\n")


def test_interrupt_with_init_comes_once(terminal):
    """From the terminal to its foreground process group; what the keeper passes on comes by way of pid 1."""
    t = terminal("trap 'echo int' INT; echo up; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; echo $$ end", "--init")
    t.expect("up")
    t.type("\x03")
    assert t.end() == 0
    assert t.seen.count("int") == 1, t.seen


def test_interrupt_ends_a_plain_command_with_init(terminal):
    t = terminal("echo up; exec sleep 100", "--init")
    t.expect("up")
    t.type("\x03")
    assert t.end() == 128 + signal.SIGINT


def test_job_control_with_init(terminal):
    """Ctrl-Z stops nothing that nobody could continue."""
    t = terminal("echo up; sleep 0.5; echo on", "--init")
    t.expect("up")
    t.type("\x1a")
    assert t.end() == 0


def test_input_without_end(own_box, no_leftovers):
    """What is typed when the command has ended is not echoed for ever."""
    with open("/dev/zero", "rb") as endless:
        process = own_box.popen("echo done", "-it", stdin=endless)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert "done\n" in out


def test_user_that_is_not_mapped(own_box, refused, no_leftovers):
    refused(
        own_box("true", "-t", "-u", "70000"),
        "set user `70000:0`: Invalid argument",
        125,
        "the id is outside the id map",
    )


def test_output_that_can_not_be_written(own_box, no_leftovers):
    with open("/dev/full", "wb") as full:
        process = own_box.popen("yes", "-t", stdout=full)
        assert process.wait(20) == 128 + signal.SIGHUP
    assert process.stderr.read() == "sbx: write `standard output`: No space left on device\n"
    process.stderr.close()
