"""What scripts that were written for podman rely on: states, exit codes, times, the order of things."""

import os
import re
import signal
import threading
import time

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

TICKS = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"


# -- start, stop, wait, rm --


def test_start_attached_of_one_that_runs(sbx_in):
    sbx_in.live(script="echo up; sleep 0.5; echo more; exit 4")
    sbx_in.until("c", "up")
    assert "more\n" in sbx_in.out("start", "-a", "c", code=4)
    assert sbx_in.out("logs", "c") == "up\nmore\n"  # it was not started again


def test_wait_for_one_that_was_never_started(sbx_in):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    assert sbx_in.out("wait", "c") == "0\n"


def test_stop_without_time_does_not_ask(sbx_in):
    sbx_in.live()
    sbx_in.until("c", "up")
    sbx_in("stop", "-t", "0", "c")
    assert sbx_in.out("wait", "c") == "137\n" and sbx_in.out("logs", "c") == "up\n"


def test_stop_of_one_that_is_to_be_started_again(sbx_in):
    """While --restart waits, nothing runs: it must not come back all the same."""
    sbx_in("run", "-d", "--restart", "always", "--name", "c", sbx_in.image, "false")
    deadline = time.monotonic() + 10
    while sbx_in.column("State") != ["exited"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sbx_in("stop", "c")
    count = sbx_in.out("inspect", "-f", "{{.RestartCount}}", "c")
    time.sleep(2)
    assert sbx_in.out("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "c") == f"{count.strip()} exited\n"


def test_restarted_one_is_minded_on(sbx_in):
    sbx_in.live("--restart", "always", script="echo up; sleep 1000")
    for count in (1, 2):
        sbx_in("restart", "-t", "0", "c")
        os.kill(int(sbx_in.out("inspect", "-f", "{{.State.Pid}}", "c")), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while sbx_in.out("logs", "c").count("up") <= 2 * count:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_removed_while_it_is_started_again_and_again(sbx_in):
    for _ in range(5):
        sbx_in("run", "-d", "--restart", "always", "--name", "c", sbx_in.image, "true")
        sbx_in("rm", "-f", "c")
        assert sbx_in.column("Names") == []


def test_started_and_stopped_by_several_at_once(sbx_in):
    """Who comes while another command starts it waits for that; nobody fails."""
    sbx_in("create", "--name", "c", sbx_in.image, "sleep", "1000")
    done = []

    def ask(*words):
        done.append(sbx_in.sbx(*words))

    for words in (("start", "c"), ("stop", "-t", "0", "c")):
        threads = [threading.Thread(target=ask, args=words) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 12
    assert sbx_in.column("State") == ["exited"]


def test_names_of_the_dead_do_not_pile_up(sbx_in):
    """A keeper that removes its container can not reach the folder of names."""
    for name in ("a", "b", "c"):
        sbx_in("run", "-d", "--rm", "--name", name, sbx_in.image, "true")
        sbx_in.sbx("wait", name)
    deadline = time.monotonic() + 10
    while sbx_in.column("Names"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sbx_in("run", sbx_in.image, "true")
    assert os.listdir(sbx_in.sbx.store / "containers/.names") == []


def test_who_writes_on_does_not_keep_an_ended_container_alive(sbx_in):
    """In another's pid namespace the kernel does not end what the command leaves behind before its output is read."""
    sbx_in.live(script="sleep 1000", name="a")
    sbx_in.live("--pid", "container:a", script="yes & sleep 0.2; exit 3", name="b")
    assert sbx_in.out("wait", "b", timeout=20) == "3\n"


# -- logs --


def test_until_a_duration_is_from_now_on(sbx_in):
    sbx_in.live(script=TICKS)
    sbx_in.until("c", "2")
    begun = time.monotonic()
    assert len(sbx_in.out("logs", "-f", "--until", "1s", "c").split()) >= 8
    assert 0.9 < time.monotonic() - begun < 6
    assert "2" in sbx_in.out("logs", "--until", "1s", "c") and sbx_in.out("logs", "--until", "-1h", "c") == ""


def test_following_one_that_says_nothing_until_a_time(sbx_in):
    sbx_in.live(script="echo up; sleep 1000")
    sbx_in.until("c", "up")
    assert sbx_in.out("logs", "-f", "--until", "500ms", "c", timeout=20) == "up\n"


def test_logs_of_several(sbx_in):
    ids = [sbx_in.live(script=f"echo {name}1; sleep 0.3; echo {name}2; exit", name=name) for name in "ab"]
    done = sbx_in.out("logs", "-f", "a", "b")
    assert sorted(done.splitlines()) == sorted(f"{id_[:12]} {n}{i}" for id_, n in zip(ids, "ab") for i in "12")
    assert sorted(sbx_in.out("logs", "--names", "--tail", "1", "a", "b").splitlines()) == ["a a2", "b b2"]
    assert sbx_in.out("logs", "--names", "a") == "a1\na2\n"  # of one there is nothing to tell apart


def test_times_stand_at_the_beginning_of_lines_only(sbx_in):
    sbx_in.live(script="printf one; sleep 0.3; echo ' line'; exit")
    sbx_in("wait", "c")
    assert re.fullmatch(r"[-0-9T:.]+Z one line\n", sbx_in.out("logs", "-t", "c"))


def test_nobody_reads_the_log(sbx_in):
    sbx_in.live(script=TICKS)
    sbx_in.until("c", "1")
    process = sbx_in.sbx.popen("logs", "-f", "c")
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.wait(timeout=10) == 141 and process.stderr.read() == ""
    with open("/dev/full", "wb") as full:
        told = sbx_in("logs", "c", code=125, stdout=full).stderr
    assert told == "sbx: write `standard output`: No space left on device\n"
