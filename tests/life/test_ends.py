"""How commands end, and what is said of it: behind the reaper (--init) as in front of it."""

import json
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
from support import until

from sandbox.life import ending

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

FAULT = "import ctypes; ctypes.string_at(0)"


def test_behind_the_reaper_a_signal_gets_its_reason(sbx):
    done = sbx("run", "--rm", "--init", "host:", "python3", "-c", FAULT)
    assert (done.returncode, done.stderr) == (139, "sbx: ended by SIGSEGV, not by sbx\n")
    done = sbx("run", "--rm", "--init", "host:", "sh", "-c", "kill -ABRT $$")
    assert (done.returncode, done.stderr) == (134, "sbx: ended by SIGABRT, not by sbx\n")


@pytest.mark.parametrize("script", ["exit 139", "sh -c 'kill -SEGV $$'; exit 139", "kill -TERM $$"])
def test_behind_the_reaper_no_reason_where_there_is_none(sbx, script):
    """An exit status like that of a signal, a signal to somebody else, and one that terminals send."""
    done = sbx("run", "--rm", "--init", "host:", "sh", "-c", script)
    assert done.returncode in (139, 143) and "ended by" not in done.stderr


def test_behind_the_reaper_the_filter_is_named(sbx, tmp_path):
    profile = tmp_path / "kill.toml"
    rule = '[[seccomp.syscalls]]\nnames = ["getpriority"]\naction = "SCMP_ACT_KILL_PROCESS"\n'
    profile.write_text(f'extends = "default"\n{rule}')
    program = "import os; os.getpriority(0, 0)"
    done = sbx("run", "--rm", "--init", "--profile", str(profile), "host:", "python3", "-c", program)
    words = "ended by SIGSYS: the profile's filter answers a call with it"
    assert (done.returncode, done.stderr) == (159, f"sbx: {words}\n")


@pytest.mark.parametrize("number", ["USR1", "KILL", "TERM", "ABRT"])
def test_what_was_sent_to_the_reaper_needs_no_reason(sbx_in, number):
    sbx_in.live("--init", script="echo up; exec sleep 1000")
    sbx_in.until("c", "up")
    sbx_in("kill", "-s", number, "c")
    sbx_in("wait", "c")
    state = json.loads(sbx_in.out("inspect", "c"))[0]["State"]
    assert state["ExitCode"] > 128 and state["Error"] == ""


def test_reason_behind_the_reaper_is_recorded(sbx_in):
    sbx_in("run", "--init", "--name", "c", sbx_in.image, "sh", "-c", "kill -FPE $$", code=136)
    assert sbx_in.out("inspect", "-f", "{{.State.Error}}", "c") == "ended by SIGFPE, not by sbx\n"


@pytest.mark.parametrize("words", [(), ("--rm",), ("--rm", "--userns", "keep-id")])
def test_what_happens_to_a_renamed_one_has_its_new_name(sbx_in, words):
    sbx_in.live(*words, name="old")
    sbx_in.until("old", "up")
    sbx_in("rename", "old", "new")
    sbx_in("exec", "new", "true")
    sbx_in("kill", "-s", "KILL", "new")
    told = (
        "events",
        "--stream=false",
        "--format",
        "{{.Name}} {{.Status}}",
        "--filter",
        "event=died",
        "--filter",
        "event=exec",
    )
    until(lambda: sbx_in.out(*told).splitlines(), lambda lines: lines == ["new exec", "new died"])


def test_log_of_one_whose_keeper_has_another_id(sbx_in):
    sbx_in("run", "-d", "--userns", "keep-id", "--name", "c", sbx_in.image, "sh", "-c", "echo out; echo err >&2")
    sbx_in("wait", "c")
    done = sbx_in("logs", "c")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_name_that_is_too_long_for_a_file(sbx_in):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    assert "a name has at most 200 characters" in sbx_in("rename", "c", "a" * 300, code=125).stderr
    long = "a" * 200
    sbx_in("rename", "c", long)
    sbx_in("rm", long)
    assert sbx_in.column("Names") == []


def test_signals_and_times_that_are_none_are_refused_early(sbx_in):
    told = sbx_in("run", "-d", "--stop-signal", "NOPE", sbx_in.image, "true", code=125).stderr
    assert told.startswith("sbx: read signal `NOPE`: no such signal\n")
    for words in (
        ("run", "-d", "--stop-timeout", "-1", sbx_in.image, "true"),
        ("stop", "-t", "-1", "c"),
        ("rm", "-t", "-1", "c"),
    ):
        assert "it is negative" in sbx_in(*words, code=125).stderr
    assert sbx_in.column("Names") == []


def test_stop_signal_of_an_image_that_is_none():
    assert ending._stop_signal(SimpleNamespace(about={"stop_signal": "SIGNOPE"})) == signal.SIGTERM
    assert ending._stop_signal(SimpleNamespace(about={"stop_signal": "SIGRTMIN+3"})) == signal.SIGRTMIN + 3


def test_logs_of_many_lines_in_pieces(sbx_in, tmp_path):
    """The last lines are found from the end; the streams take turns as they did, a carriage return ends no line."""
    script = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; echo err >&2; sleep 0.2; printf 'a\\rb\\nrest'"
    sbx_in("run", "-d", "--name", "c", sbx_in.image, "sh", "-c", script)
    sbx_in("wait", "c")
    numbers = "".join(f"{number}\n" for number in range(3000))
    for words, text in ((), f"{numbers}err\na\rb\nrest"), (("--tail", "3"), "err\na\rb\nrest"), (("--tail", "0"), ""):
        with open(tmp_path / "out", "wb") as file:
            sbx_in("logs", *words, "c", stdout=file, stderr=subprocess.STDOUT)
        assert (tmp_path / "out").read_bytes() == text.encode()


def test_inspect_of_an_image_is_of_no_container(sbx_in, busybox_oci):
    sbx_in("load", "-q", "-i", str(busybox_oci.oci_archive))
    (name,) = sbx_in.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    sbx_in("create", "--name", "same", name, "true")
    sbx_in("tag", name, "localhost/same:latest")
    assert "State" in json.loads(sbx_in.out("inspect", "same"))[0]
    assert "RepoTags" in json.loads(sbx_in.out("image", "inspect", "same"))[0]
    sbx_in("create", "--name", "other", name, "true")
    assert "no such image" in sbx_in("image", "inspect", "other", code=125).stderr


def test_several_are_stopped_at_the_same_time(sbx_in):
    """Their times run side by side, as in podman; each is told in its turn, one that is not there too."""
    names = ["a", "b", "c", "d"]
    for name in names:
        sbx_in.live(script="trap '' TERM; echo up; while :; do sleep 0.05; done", name=name)
        sbx_in.until(name, "up")
    begun = time.monotonic()
    done = sbx_in("stop", "-t", "4", "a", "b", "none", "c", "d", code=125)
    assert time.monotonic() - begun < 12
    assert done.stdout.split() == names and done.stderr.count("no such container") == 1
    assert sbx_in.column("ExitCode") == ["137"] * 4
    sbx_in.live("--rm", script="sleep 1000", name="e")
    assert sbx_in.out("stop", "-t", "0", "a", "e").split() == ["a", "e"]


def test_who_shares_is_stopped_before_whom_it_needs(sbx_in):
    sbx_in.live(script="sleep 1000", name="holder")
    sbx_in.live(
        "--pid",
        "container:holder",
        name="sharer",
        script="trap 'sleep 0.3; exit 5' TERM; echo up; while :; do sleep 0.05; done",
    )
    sbx_in.until("sharer", "up")
    sbx_in("stop", "holder", "sharer")
    assert sbx_in.out("wait", "sharer") == "5\n"


@pytest.mark.parametrize("words", [("rm", "-f", "c"), ("stop", "c")])
def test_several_end_the_same_one(sbx_in, words):
    """Whoever comes second finds a keeper that is just about to go; nobody fails."""
    for _ in range(3):
        sbx_in.live()
        sbx_in.until("c", "up")
        clients = [sbx_in.sbx.popen(*words) for _ in range(5)]
        told = [(client.communicate(timeout=30)[1], client.returncode) for client in clients]
        assert told == [("", 0)] * 5
        sbx_in("rm", "-f", "c")


def test_templates_that_scripts_have(sbx_in):
    """Keys of labels, networks and ports that are not there are no mistakes of who asks."""
    sbx_in("create", "--name", "c", "--label", "a=b", sbx_in.image, "true")
    for template, text in (
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", ""),
        ("{{.Config.Labels.none}} {{index .Config.Labels `a`}}", "<no value> b"),
        ("{{range $key, $value := .Config.Labels}}{{$key}}={{$value}}{{end}}", "a=b"),
        ('{{if index .NetworkSettings.Ports "80/tcp"}}yes{{else}}no{{end}}', "no"),
        ("{{if .State.Running}}up{{else}}{{.State.Status}}{{end}}", "created"),
    ):
        assert sbx_in.out("inspect", "-f", template, "c") == f"{text}\n"
