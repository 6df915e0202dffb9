"""create, start, stop, kill, wait, restart, rm, rename, prune: the verbs that change containers that live on."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import descendants, until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


def test_from_creation_to_removal(sbx_in):
    id_ = sbx_in.out("create", "--name", "c", sbx_in.image, "sh", "-c", "echo out; echo err >&2; exit 4").strip()
    assert sbx_in.column("State") == ["created"] and sbx_in.out("ps", "-q") == ""
    assert sbx_in.out("start", "c") == "c\n"
    assert sbx_in.out("wait", "c") == "4\n"
    assert sbx_in.column("ID", "--no-trunc") == [id_]
    assert sbx_in.column("Status")[0].startswith("Exited (4) ")
    done = sbx_in("logs", "c")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    done = sbx_in("start", "-a", "c", code=4)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert sbx_in.out("logs", "c") == "out\nout\n"
    assert sbx_in.out("rm", id_[:10]) == f"{id_[:10]}\n"
    assert sbx_in.column("ID") == []


def test_what_is_written_stays_until_removal(sbx_in):
    script = "test -e /mark && echo again; echo >/mark"
    sbx_in.out("create", "--name", "c", sbx_in.image, "sh", "-c", script)
    for _ in range(2):
        sbx_in.out("start", "c")
        sbx_in.out("wait", "c")
    assert sbx_in.out("logs", "c") == "again\n"


def test_stop_asks_first(sbx_in):
    sbx_in.live()
    sbx_in.until("c", "up")
    begun = time.monotonic()
    assert sbx_in.out("stop", "c") == "c\n"
    assert time.monotonic() - begun < 5
    assert sbx_in.out("wait", "c") == "3\n"
    assert sbx_in.out("logs", "c") == "up\nbye\n"
    assert sbx_in.out("stop", "c") == "c\n"  # as often as one likes


def test_stop_kills_who_does_not_listen(sbx_in):
    sbx_in.live(script="trap '' TERM; echo up; while :; do sleep 0.05; done")
    sbx_in.until("c", "up")
    sbx_in("stop", "-t", "0.2", "c")
    assert sbx_in.out("wait", "c") == "137\n"


def test_stop_signal_and_timeout_of_the_container(sbx_in):
    sbx_in.live(
        "--stop-signal",
        "USR1",
        "--stop-timeout",
        "0",
        script="trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done",
    )
    sbx_in.until("c", "up")
    sbx_in("stop", "-t", "10", "c")
    assert sbx_in.out("wait", "c") == "9\n"


@pytest.mark.parametrize(
    ("words", "status"), [((), 137), (("-s", "TERM"), 3), (("-s", "15"), 3), (("--signal", "SIGHUP"), 129)]
)
def test_kill(sbx_in, words, status):
    sbx_in.live()
    sbx_in.until("c", "up")
    assert sbx_in.out("kill", *words, "c") == "c\n"
    assert sbx_in.out("wait", "c") == f"{status}\n"
    done = sbx_in("kill", "c", code=125)
    assert done.stderr.startswith("sbx: send signal to container `c`: it is exited; can only kill running containers")


def test_signal_that_is_none(sbx_in):
    done = sbx_in("kill", "-s", "NOPE", "c", code=125)
    assert done.stderr.startswith("sbx: read signal `NOPE`: no such signal\nhint: ")
    for text in ("65", "9" * 5000, "RTMIN+31", "RTMIN+" + "9" * 5000):
        assert "no such signal" in sbx_in("kill", "-s", text, "c", code=125).stderr


def test_rm_of_one_that_runs(sbx_in):
    sbx_in.live()
    keeper = sbx_in.keeper("c")
    done = sbx_in("rm", "c", code=2)
    assert done.stderr.startswith("sbx: remove container `c`: it is running; ")
    assert done.stderr.endswith("\nhint: `sbx stop c` first, or --force\n")
    assert sbx_in.out("rm", "-f", "c") == "c\n"
    assert sbx_in.column("ID") == []
    until(lambda: keeper not in descendants())  # it has answered, and ends


def test_replaced_by_several_at_once(sbx_in):
    """Each removes who has the name when it comes; none is turned away because another was faster."""
    words = ("run", "-d", "--replace", "--name", "c", sbx_in.image, "sleep", "60")
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: sbx_in.sbx(*words), range(8)))
    assert not [one.stderr for one in done if "already in use" in one.stderr]
    assert sbx_in.column("Names") == ["c"]


def test_names(sbx_in):
    first = sbx_in.live()
    done = sbx_in("run", "-d", "--name", "c", sbx_in.image, "true", code=125)
    assert f"that name is already in use by {first[:12]}" in done.stderr
    second = sbx_in.out("run", "-d", "--replace", "--name", "c", sbx_in.image, "sleep", "60").strip()
    assert sbx_in.column("Id") == [second]
    sbx_in("rename", "c", "other")
    assert sbx_in.column("Names") == ["other"]
    assert sbx_in.column("Id", "--filter", "name=c") == []
    sbx_in("rename", "other", "../up", code=125)
    sbx_in("rm", "-f", "other")
    assert sbx_in("rm", "nosuch", code=1).stderr.startswith(
        'sbx: find container `nosuch`: no container with name or ID "nosuch" found: no such container\n'
    )
    assert sbx_in("rm", "-i", "nosuch").stdout == ""


def test_ambiguous_beginning(sbx_in):
    for number in range(17):  # two of 17 ids begin alike
        sbx_in("create", "--name", f"n{number}", sbx_in.image, "true")
    ids = sbx_in.column("Id")
    digit = next(digit for digit in "0123456789abcdef" if sum(id_.startswith(digit) for id_ in ids) > 1)
    done = sbx_in("rm", digit, code=125)
    assert "ids begin so" in done.stderr
    assert len(sbx_in.column("Id")) == 17


def test_restart(sbx_in):
    sbx_in.live()
    sbx_in.until("c", "up")
    assert sbx_in.out("restart", "c") == "c\n"
    until(lambda: sbx_in.out("logs", "c"), lambda log: log == "up\nbye\nup\n")
    assert sbx_in.column("State") == ["running"]


def test_killed_keeper(sbx_in):
    """The next command tells the truth, and the container can be started again."""
    id_ = sbx_in.live()
    sbx_in.until("c", "up")
    os.kill(sbx_in.keeper("c"), signal.SIGKILL)
    until(lambda: sbx_in.column("State"), lambda states: states == ["exited"])
    assert sbx_in.column("ExitCode") == ["137"]
    assert sbx_in.out("wait", "c") == "137\n"
    assert sbx_in.out("start", "c") == "c\n" and sbx_in.column("State") == ["running"]
    assert sbx_in.column("Id") == [id_]


def test_prune(sbx_in):
    sbx_in.live(name="stays")
    gone = sbx_in.out("create", "--name", "gone", sbx_in.image, "true").strip()
    assert sbx_in.out("container", "prune", "-f") == f"{gone}\n"
    assert sbx_in.column("Names") == ["stays"]


def test_numbers_of_thousands_of_digits(sbx_in):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    many = "9" * 5000
    for words in (("ps", "--last", many), ("logs", "--tail", many, "c"), ("wait", "--interval", many, "c"),
                  ("create", "--health-cmd", "true", "--health-retries", many, sbx_in.image, "true")):  # fmt: skip
        assert "internal error" not in sbx_in(*words, code=125).stderr


def test_prune_takes_nothing_that_is_needed(sbx_in):
    """One whose namespace another has that runs, members of pods, one that --restart is about to start."""
    sbx_in.live(name="a")
    sbx_in.live("--network", "container:a", name="b")
    sbx_in("stop", "-t", "0", "a")
    sbx_in("pod", "create", "--name", "p")
    sbx_in("create", "--name", "member", "--pod", "p", sbx_in.image, "true")
    sbx_in("run", "-d", "--restart", "always", "--name", "again", sbx_in.image, "false")
    deadline = time.monotonic() + 10
    while int(sbx_in.out("inspect", "-f", "{{.RestartCount}}", "again")) < 4:  # from now on it waits for seconds
        assert time.monotonic() < deadline
        time.sleep(0.05)
    everyone = set(sbx_in.column("Names"))
    assert sbx_in.out("container", "prune", "-f") == ""
    assert set(sbx_in.column("Names")) == everyone
    sbx_in("pod", "start", "p")
    assert "Deleted Containers" not in sbx_in.out("system", "prune", "-f")
    assert set(sbx_in.column("Names")) == everyone
    sbx_in("stop", "-t", "0", "b", "again")
    assert len(sbx_in.out("container", "prune", "-f").split()) == 3
    sbx_in("pod", "stop", "-t", "0", "p")
    assert sbx_in.out("system", "prune", "-f").startswith("Deleted Containers\n")
    assert sbx_in.column("Names") == []


def test_prune_of_one_and_who_needs_it(sbx_in):
    sbx_in("create", "--name", "a", sbx_in.image, "true")
    sbx_in("create", "--name", "b", "--requires", "a", sbx_in.image, "true")
    assert len(sbx_in.out("container", "prune", "-f").split()) == 2


def test_command_that_is_not_there(sbx_in):
    sbx_in.out("create", "--name", "c", sbx_in.image, "/no/such")
    done = sbx_in("start", "c", code=127)
    assert done.stderr.startswith("sbx: execute `/no/such`: No such file or directory\nhint: ")
    assert sbx_in.column("State") == ["exited"] and sbx_in.column("ExitCode") == ["127"]


def test_all(sbx_in):
    for name in ("a", "b"):
        sbx_in.live(name=name)
    assert sorted(sbx_in.out("stop", "-a").split()) == sorted(sbx_in.column("Id"))
    assert set(sbx_in.column("State")) == {"exited"}
    assert len(sbx_in.out("start", "--all").split()) == 2
    assert set(sbx_in.column("State")) == {"running"}
    assert len(sbx_in.out("rm", "-fa").split()) == 2


@pytest.mark.slow
def test_fifty_at_once(sbx_in):
    """From eight processes: nobody's state is lost, nothing waits for ever."""
    names = [f"n{number}" for number in range(50)]

    def several(verb, *words):
        waiting, running, failed = list(names), [], []
        while waiting or running:
            while waiting and len(running) < 8:
                running.append(sbx_in.sbx.popen(*verb(waiting.pop(0)), *words, stdout=subprocess.DEVNULL))
            failed += [process.args for process in running if process.poll()]
            running = [process for process in running if process.poll() is None]
            time.sleep(0.005)
        assert failed == []

    several(lambda name: ("run", "-d", "--name", name, sbx_in.image, "sleep", "600"))
    assert sorted(sbx_in.column("Names")) == sorted(names)
    assert set(sbx_in.column("State")) == {"running"}
    several(lambda name: ("rm", "-f", name))
    assert sbx_in.column("Names") == []


def test_restart_policies(sbx_in):
    """On failure at most twice; always until it is stopped; a command that fails at once is started later and later."""
    sbx_in.live("--restart", "on-failure:2", script="echo ran; exit 1", name="two")
    sbx_in.live("--restart", "on-failure", script="echo ran", name="none")
    sbx_in.live("--restart", "always", script="echo up; sleep 0.3", name="more")
    until(lambda: sbx_in.out("inspect", "-f", "{{.RestartCount}}", "two"), lambda count: count == "2\n", 20)
    until(lambda: sbx_in.out("logs", "more"), lambda log: "up\nup\nup\n" in log, 20)
    sbx_in("stop", "-t", "0", "more")
    time.sleep(1)
    assert sbx_in.out("logs", "two") == "ran\n" * 3
    assert sbx_in.out("logs", "none") == "ran\n"
    assert set(sbx_in.column("State")) == {"exited"}
    sbx_in("start", "more")
    sbx_in("rm", "-f", "more")
    until(lambda: not any(" more " in words for words in descendants().values()))  # its minder


def test_restart_policy_that_is_none(sbx_in):
    done = sbx_in("run", "-d", "--restart", "sometimes", sbx_in.image, "true", code=125)
    assert "read --restart `sometimes`" in done.stderr
    done = sbx_in("run", "-d", "--restart", "on-failure:" + "9" * 5000, sbx_in.image, "true", code=125)
    assert "a number is missing" in done.stderr
    done = sbx_in("run", "--restart", "always", sbx_in.image, "true", code=125)
    assert "a throw-away container has none" in done.stderr
    assert sbx_in.column("Id") == []


def test_by_filter_and_by_file(sbx_in, tmp_path):
    for name, label in (("a", "one"), ("b", "two"), ("c", "two")):
        file = tmp_path / name
        sbx_in("run", "-d", "--name", name, "--label", label, "--cidfile", file, sbx_in.image, "sleep", "60")
    ids = {name: (tmp_path / name).read_text() for name in "abc"}
    assert sbx_in.out("kill", "--cidfile", tmp_path / "a") == f"{ids['a']}\n"
    sbx_in("wait", "a")
    assert set(sbx_in.out("stop", "-t", "0", "--filter", "label=two").split()) == {ids["b"], ids["c"]}
    assert sbx_in.out("start", "--filter", "name=b") == f"{ids['b']}\n"
    assert sbx_in.out("rm", "-f", "--filter", "label=two", "--filter", "status=running") == f"{ids['b']}\n"
    assert sbx_in.out("rm", "--cidfile", tmp_path / "a", "--cidfile", tmp_path / "c").split() == [ids["a"], ids["c"]]
    done = sbx_in("rm", "--cidfile", tmp_path / "none", code=125)
    assert done.stderr.startswith(f"sbx: read container id from `{tmp_path}/none`: No such file or directory")
