"""`sbx run`: how a container starts and ends: exit codes, signals, --init, --timeout, standard input, what is left."""

import os
import signal
import subprocess
import sys
import time

import pytest
import support

pytestmark = pytest.mark.requires("userns", "idmap", "store")


# -- exit codes --


@pytest.mark.parametrize("status", [0, 1, 42, 124, 125, 255])
def test_status_is_the_payloads(box, status):
    done = box(f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("number", [1, 6, 9, 11, 15])
def test_payload_that_is_killed(box, number):
    """By itself: pid 1 of a namespace is not killed by its own signals, so a child of it is."""
    done = box(f"sh -c 'kill -{number} $$'; exit $?")
    assert done.returncode == 128 + number
    done = box(f"exec sh -c 'kill -{number} $$'", "--init")
    assert done.returncode == 128 + number


def test_command_that_is_not_there(own_box, refused, no_leftovers):
    image = f"rootfs:{own_box.rootfs}"
    run = own_box.sbx
    refused(run("run", image, "none"), "execute `none`: No such file or directory", 127, "not in the image")
    refused(run("run", image, "/bin/none"), "execute `/bin/none`: No such file or directory", 127)
    refused(run("run", image, "/etc/passwd/x"), "execute `/etc/passwd/x`: No such file or directory", 127)
    refused(run("run", image, "./none"), "execute `./none`: No such file or directory", 127)


def test_command_that_is_not_executable(own_box, refused, no_leftovers):
    image = f"rootfs:{own_box.rootfs}"
    run = own_box.sbx
    refused(
        run("run", image, "/etc/passwd"),
        "execute `/etc/passwd`: Permission denied",
        126,
        "not executable for this user",
    )
    refused(run("run", image, "/etc"), "execute `/etc`: Permission denied", 126)
    refused(
        run("run", "-v", f"{own_box.rootfs}/bin:/t:noexec", image, "/t/true"),
        "execute `/t/true`: Permission denied",
        126,
    )


def test_command_without_its_interpreter(own_box, rootfs, refused, no_leftovers):
    (rootfs / "bin/script").write_text("#!/none/such\n")
    (rootfs / "bin/script").chmod(0o755)
    done = own_box.sbx("run", f"rootfs:{rootfs}", "script")
    refused(done, "execute `script`: No such file or directory", 127, "the interpreter it names")


def test_program_of_another_architecture(own_box, rootfs, refused, no_leftovers):
    foreign = {"x86_64": 183, "aarch64": 62}[os.uname().machine]
    program = bytearray((rootfs / "bin/busybox").read_bytes())
    program[18:20] = foreign.to_bytes(2, "little")
    (rootfs / "bin/foreign").write_bytes(program)
    (rootfs / "bin/foreign").chmod(0o755)
    done = own_box.sbx("run", f"rootfs:{rootfs}", "foreign")
    refused(done, "execute `foreign`: Exec format error", 126, "architecture")


def test_text_without_a_first_line(own_box, rootfs, refused):
    (rootfs / "bin/text").write_text("echo x\n")
    (rootfs / "bin/text").chmod(0o755)
    refused(own_box.sbx("run", f"rootfs:{rootfs}", "text"), "execute `text`: Exec format error", 126, "no `#!` line")


def test_command_is_found_in_the_images_path(box, rootfs):
    (rootfs / "opt").mkdir()
    (rootfs / "opt/tool").write_text("#!/bin/sh\necho tool\n")
    (rootfs / "opt/tool").chmod(0o755)
    (rootfs / "usr/bin/tool").write_text("not executable")
    image = f"rootfs:{rootfs}"
    done = box.sbx("run", "-e", "PATH=/usr/bin:/opt:/bin", image, "tool")
    assert (done.returncode, done.stdout, done.stderr) == (0, "tool\n", "")
    done = box.sbx("run", "-e", "PATH=/usr/bin:/bin", image, "tool")
    assert done.returncode == 126


def test_no_command_and_no_image(own_box, no_leftovers):
    for arguments in ((), ("--rm",)):
        done = own_box.sbx("run", *arguments)
        assert (done.returncode, done.stdout) == (125, "")
        assert "Traceback" not in done.stderr and "IMAGE" in done.stderr
    done = own_box.sbx("run", "--entrypoint", "", f"rootfs:{own_box.rootfs}", "")
    assert done.returncode == 125
    assert done.stderr.startswith("sbx: run: no command given")


# -- signals --


def start(box, script, *options, **rest):
    process = box.popen(script, *options, **rest)
    assert process.stdout.readline() == "up\n"
    return process


def wait_for(words):
    """Until a process with this command line runs: a shell in between has handlers of its own."""
    wanted = "".join(f"{word}\0" for word in words).encode()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if file.read() == wanted:
                        return
            except OSError:
                continue
        time.sleep(0.01)
    pytest.fail(f"{words} does not run")


@pytest.mark.parametrize("options", [[], ["--init"]])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signal_ends_what_does_not_handle_it(own_box, no_leftovers, name, options):
    """`sleep` is pid 1 inside, where the kernel ignores what has no handler: it ends all the same."""
    number = signal.Signals[f"SIG{name}"]
    words = ("sleep", f"60.{os.getpid()}{number}")
    process = own_box.sbx.popen("run", *options, f"rootfs:{own_box.rootfs}", *words)
    wait_for(words)
    process.send_signal(number)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 128 + number


@pytest.mark.parametrize("options", [[], ["--init"]])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "USR2", "ALRM"])
def test_signal_reaches_a_handler(own_box, no_leftovers, name, options):
    process = start(own_box, f"trap 'echo got; exit 7' {name}; echo up; while :; do sleep 0.05; done", *options)
    process.send_signal(signal.Signals[f"SIG{name}"])
    assert process.communicate(timeout=20) == ("got\n", "")
    assert process.returncode == 7


def test_signal_that_is_ignored_inside(own_box, no_leftovers):
    process = start(own_box, "trap '' TERM; echo up; read x; echo done", "-i", stdin=subprocess.PIPE)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    assert process.communicate("\n", timeout=20) == ("done\n", "")
    assert process.returncode == 0


def test_signals_start_from_their_defaults(box):
    """Python ignores SIGPIPE and a caller may ignore and block others: the payload does not inherit that."""

    def spoil():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    command = ("run", f"rootfs:{box.rootfs}", "grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status")
    done = box.sbx(*command, preexec_fn=spoil)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"Sig{name}:\t{0:016}\n" for name in ("Blk", "Ign", "Cgt"))


def test_S04_killed_cli_leaves_nothing(own_box, no_leftovers):
    """The keeper ends the payload; what it could not remove itself the next command does."""
    process = start(own_box, "echo up; sleep 61 & sleep 62")
    process.kill()
    process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        own_box.out("true")
        if not os.listdir(own_box.sbx.store / "containers"):
            break


# -- init --


def test_payload_is_pid_one(box):
    assert box.out("echo $$") == "1\n"


def test_init_is_pid_one_and_reaps(box):
    """Orphans become children of pid 1; with --init none of them stays a zombie."""
    script = """
        echo $$
        for i in 1 2 3; do (sh -c 'sleep 0.05 & exit'); done
        sleep 0.4
        cat /proc/[0-9]*/stat | grep -c ' Z '
    """
    done = box(script, "--init")
    own, zombies = done.stdout.split()
    assert int(own) > 1
    assert zombies == "0"


def test_init_passes_the_status_on(box):
    assert box("exit 3", "--init").returncode == 3


def test_init_has_nothing_open(box):
    out = box.out(
        "ls /proc/1/fd 2>/dev/null | wc -l; cat /proc/1/status | grep -E 'CapEff|NoNew|Seccomp:'", "--init", "-u", "0"
    )
    assert out.split()[0] == "0"


def test_init_says_what_it_can_not_execute(own_box, refused, no_leftovers):
    done = own_box.sbx("run", "--init", f"rootfs:{own_box.rootfs}", "none")
    refused(done, "execute `none`: No such file or directory", 127)


def test_everything_ends_with_pid_one(own_box, no_leftovers):
    started = time.monotonic()
    done = own_box("(trap '' TERM HUP; setsid sleep 60) & sleep 60 & exit 5")
    assert done.returncode == 5
    assert time.monotonic() - started < 10


# -- timeout --


@pytest.mark.parametrize("options", [[], ["--init"]])
def test_timeout(own_box, no_leftovers, options):
    started = time.monotonic()
    done = own_box("trap '' TERM INT; echo up; while :; do sleep 1; done", "--timeout=500ms", *options)
    assert (done.returncode, done.stdout) == (124, "up\n")
    assert 0.4 < time.monotonic() - started < 10


def test_timeout_that_is_not_reached(box):
    assert box("exit 4", "--timeout=1m").returncode == 4


@pytest.mark.parametrize("text", ["x", "-1s", "1y", "1.2.3s", "s", ""])
def test_timeout_that_is_none(own_box, no_leftovers, text):
    done = own_box("true", f"--timeout={text}")
    if text == "":
        assert done.returncode in (0, 125)
        return
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"sbx: read --timeout `{text}`: ")


# -- standard input and output --


def test_stdin_only_with_i(box):
    assert box.out("cat; readlink /proc/self/fd/0", input="typed") == "/dev/null\n"
    assert box.out("cat", "-i", input="typed") == "typed"


def test_much_through_the_pipes(box):
    text = "0123456789abcdef" * (1 << 16)
    assert box.out("cat", "-i", input=text) == text


def test_output_goes_where_it_belongs(box):
    done = box("echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_reader_that_goes_away(own_box, no_leftovers):
    """`sbx run ... yes | head -1`: SIGPIPE ends the payload."""
    process = own_box.popen("yes; exit $?")
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    process.stdout = None
    process.wait(20)
    process.stderr.close()
    assert process.returncode == 141


def test_closed_standard_descriptors(box):
    """Started with 0, 1, 2 closed: nothing that is opened, by sbx or by the command, becomes standard output."""
    read, write = os.pipe()
    script = f"l=$(readlink /proc/$$/fd/0; readlink /proc/$$/fd/2); echo $l >&{write}; ls /proc/$$/fd | tr '\\n' ' ' >&{write}"
    pid = os.fork()
    if pid == 0:
        try:
            os.set_inheritable(write, True)
            for fd in (0, 1, 2):
                os.close(fd)
            command = box.sbx.command("run", f"--preserve-fd={write}", f"rootfs:{box.rootfs}", "sh", "-c", script)
            os.execve(command[0], command, {**box.sbx.environment, "SBX_STORE": str(box.sbx.store)})
        finally:
            os._exit(99)
    os.close(write)
    with open(read) as file:
        links, _, fds = file.read().partition("\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert links == "/dev/null /dev/null"
    assert {"0", "1", "2", str(write)} <= set(fds.split())


# -- many at once --


def test_eight_at_once(own_box, no_leftovers):
    processes = [own_box.popen(f"sleep 0.2; echo {n}") for n in range(8)]
    results = [process.communicate(timeout=60) for process in processes]
    assert results == [(f"{n}\n", "") for n in range(8)]
    assert [process.returncode for process in processes] == [0] * 8


# -- what the caller hands on --


@pytest.mark.parametrize("state", ["blocked", "ignored"])
def test_caller_that_does_not_hear_of_children(own_box, no_leftovers, state):
    """SIGCHLD comes as the caller had it: blocked the keeper would never wake, ignored nobody has an exit status."""

    def spoil():
        if state == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    # Without the launcher: a shell undoes one of the two.
    own_box.sbx.launcher = sys.executable
    tree = [f"{support.TREE}/sandbox/__main__.py"]
    process = own_box.sbx.popen(
        "-IS", *tree, "run", f"rootfs:{own_box.rootfs}", "sh", "-c", "sleep 0.5; exit 7", preexec_fn=spoil
    )
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (7, "", "")


def test_words_too_long_for_a_record(box, refused):
    """They are told, cut, with the right exit status."""
    word = "./" + "a" * 120_000
    done = box.sbx("run", f"rootfs:{box.rootfs}", word)
    assert done.returncode == 126
    assert done.stderr.startswith(f"sbx: execute `{word[:4096]}...`: File name too long\n")
    done = box("true", "-w", "/" + "a" * 120_000)
    assert done.returncode == 125
    assert done.stderr.startswith("sbx: change directory `/aaa")


def test_time_limit_beyond_all_clocks(box):
    assert box("sleep 0.2; exit 3", "--timeout", "9" * 11).returncode == 3
