"""`sbx exec`: a further process in a running container, and what `run -d` and `run --name` leave for it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import descendants, leftovers, until

from sandbox import channel
from sandbox.errors import SandboxError


class Lived:
    """One container that sleeps."""

    def __init__(self, box: Any, *options: str) -> None:
        self.sbx = box.sbx
        done = box("echo up; exec sleep 1000", "-d", "--rm", *options)
        assert (done.returncode, done.stderr) == (0, ""), done
        self.id = done.stdout.strip()
        assert len(self.id) == 64

    def __call__(self, *words: str | Path, **rest: Any) -> subprocess.CompletedProcess[str]:
        return self.sbx("exec", *words, **rest)

    def out(self, *words: str, **rest: Any) -> str:
        done = self(*words, **rest)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def signal(self, number: int) -> None:
        sock = channel.connect(f"{self.sbx.store}/containers/{self.id}")
        channel.send(sock, "signal", {"number": int(number)})
        assert channel.receive(sock)[0] == "done"
        sock.close()


@pytest.fixture
def live(own_box: Any) -> Iterator[Callable[..., Lived]]:
    """Start a container; at the end of the test it is killed, and nothing of it may be left."""
    made: list[Lived] = []

    def start(*options: str) -> Lived:
        made.append(Lived(own_box, *options))
        return made[-1]

    yield start
    for lived in made:
        with contextlib.suppress(SandboxError, AssertionError):  # some tests end it themselves
            lived.signal(signal.SIGKILL)
    if made:
        until(lambda: not [pid for pid, line in descendants().items() if "sandbox" in line])
        # keep-id: its keeper may not remove the folder, the next command does
        own_box.out("true")
        until(lambda: not leftovers(made[0].sbx.store))


def test_status_and_streams(live):
    box = live()
    done = box(box.id, "sh", "-c", "cat; echo out; echo err >&2; exit 7", "-i")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert box.out("-i", box.id, "cat", input="typed\n") == "typed\n"
    assert box.out(box.id, "cat", input="not passed on\n") == ""


@pytest.mark.parametrize("userns", ["auto", "keep-id", "single"])
def test_same_namespaces_as_the_command(live, userns):
    box = live("--userns", userns)
    script = "for n in mnt pid net ipc uts cgroup user; do readlink /proc/{}/ns/$n; done"
    assert box.out(box.id, "sh", "-c", script.format("self")) == box.out(box.id, "sh", "-c", script.format("1"))
    fields = "grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|Uid|Gid)' /proc/{}/status"
    assert box.out(box.id, "sh", "-c", fields.format("self")) == box.out(box.id, "sh", "-c", fields.format("1"))


def test_names_and_beginnings_of_ids(live):
    box = live("--name", "sleeper")
    for word in ("sleeper", box.id, box.id[:12], box.id[:5]):
        assert box.out(word, "echo", "here") == "here\n"


def test_environment_directory_user(live):
    box = live("-e", "A=container", "-e", "B=container")
    script = "echo $A $B $PWD $(id -u):$(id -g)"
    told = box.out("-e", "B=exec", "-w", "/etc", "-u", "1000:100", box.id, "sh", "-c", script)
    assert told == "container exec /etc 1000:100\n"
    assert box.out("-u", "1000", box.id, "sh", "-c", "grep CapEff /proc/self/status").split()[1] == "0" * 16


@pytest.mark.parametrize(
    ("words", "line", "code"),
    [
        (["nosuch"], "execute `nosuch`: No such file or directory", 127),
        (["/etc"], "execute `/etc`: Permission denied", 126),
        (["-w", "/nosuch", "true"], "change directory `/nosuch`: No such file or directory", 125),
        (["-u", "nobodyhere", "true"], "find user `nobodyhere`: no such user in the image's /etc/passwd", 125),
    ],
)
def test_what_can_not_be_started(live, words, line, code):
    box = live()
    options, command = words[:-1], words[-1]
    done = box(*options, box.id, command)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (code, "", f"sbx: {line}")
    assert box.out(box.id, "echo", "still there") == "still there\n"


def test_no_such_container(own_box, refused):
    refused(
        own_box.sbx("exec", "nosuch", "true"),
        'find container `nosuch`: no container with name or ID "nosuch" found: no such container',
        125,
        "`sbx ps -a`",
    )


def test_container_that_has_ended(own_box, refused):
    own_box("true", "--name", "over")
    told = "it is exited; can only create exec sessions on running containers: container state improper"
    refused(own_box.sbx("exec", "over", "true"), f"execute in container `over`: {told}", 255, "sbx start over")


def test_signals_reach_the_process(live):
    box = live()
    process = box.sbx.popen(
        "exec", box.id, "sh", "-c", "trap 'echo got it; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (3, "got it\n", "")


def test_killed_client_takes_its_process_along(live):
    box = live()
    process = box.sbx.popen("exec", box.id, "sh", "-c", "echo up; exec sleep 999")
    assert process.stdout.readline() == "up\n"
    process.kill()
    process.communicate()
    until(lambda: "sleep 999" not in box.out(box.id, "ps"))
    assert box.out(box.id, "echo", "still there") == "still there\n"


def test_detached_process_outlives_its_client(live):
    box = live()
    assert box.out("-d", box.id, "sh", "-c", "sleep 0.3; echo done > /tmp-done; exec sleep 500") == ""
    until(lambda: box(box.id, "cat", "/tmp-done").stdout == "done\n")
    assert "sleep 500" in box.out(box.id, "ps")


def test_end_of_the_container_ends_the_process(live):
    box = live()
    process = box.sbx.popen("exec", box.id, "sh", "-c", "echo up; exec sleep 999")
    assert process.stdout.readline() == "up\n"
    box.signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=10)
    assert process.returncode in (125, 137)
    assert out == ""


def test_long_command_line(live):
    """Longer than a record of the socket can be."""
    box = live()
    word = "x" * 100_000
    assert box.out(box.id, "sh", "-c", "echo $#", "sh", *[word] * 5) == "5\n"


def test_descriptors(live):
    """Only what was asked for; under the number it had."""
    box = live()
    read, write = os.pipe()
    try:
        script = "ls /proc/self/fd | tr '\\n' ' '; echo hello >&3"
        done = box.sbx.popen(
            "exec", "--preserve-fds", "1", box.id, "sh", "-c", script,
            preexec_fn=lambda: os.dup2(write, 3), pass_fds=[3, write],
        )  # fmt: skip
        out, err = done.communicate(timeout=10)
        assert (done.returncode, err) == (0, "")
        assert out.split()[:4] == ["0", "1", "2", "3"]
        assert os.read(read, 100) == b"hello\n"
    finally:
        os.close(read)
        os.close(write)


def test_many_at_once(live):
    box = live()
    processes = [box.sbx.popen("exec", box.id, "sh", "-c", f"sleep 0.1; exit {n}") for n in range(20)]
    assert [process.wait(20) for process in processes] == list(range(20))
    for process in processes:
        process.communicate()


def test_the_store_is_not_in_its_parent(own_box):
    """A volume that holds the store shows it empty: no socket of a keeper, no layer of another image."""
    script = f"ls -A /mnt/{own_box.sbx.store.name}; echo $?"
    assert own_box.out(script, "-v", f"{own_box.sbx.store.parent}:/mnt") == "0\n"


def test_namespaces_are_the_containers_whatever_the_command_has_done(own_box: Any, no_leftovers: None) -> None:
    """A command that unshares at once: who comes later is in the namespaces that were made for the container."""
    process = own_box.popen("exec unshare -Un sleep 100", "--profile", "nested")
    try:
        until(lambda: own_box.sbx("exec", "-l", "true").returncode == 0)
        script = "readlink /proc/self/ns/net; readlink /proc/1/ns/net"
        own, command = own_box.sbx("exec", "-l", "sh", "-c", script).stdout.split()
        assert own != command
    finally:
        process.terminate()
        process.communicate(timeout=20)
