"""What scripts that were written for podman rely on: states, exit codes, times, the order of things."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from support import TREE

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

TICKS = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"


# -- start, stop, wait, rm --


def test_start_attached_of_one_that_runs(sbx_in):
    sbx_in.live(script="echo up; until test -e /go; do sleep 0.05; done; echo more; exit 4")
    sbx_in.until("c", "up")
    client = sbx_in.sbx.popen("start", "-a", "c")
    deadline = time.monotonic() + 20
    while "attach" not in sbx_in.out("events", "--stream=false", "--format", "{{.Status}}"):
        assert time.monotonic() < deadline
    sbx_in("exec", "c", "touch", "/go")
    assert client.communicate(timeout=20)[0] == "more\n" and client.returncode == 4
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


def inside(sbx_in, code):
    """Python code with our modules, in a process of its own with this store."""
    environment = {**os.environ, **sbx_in.sbx.environment, "SBX_STORE": str(sbx_in.sbx.store), "PYTHONPATH": str(TREE)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_stopped_after_its_minder_has_looked(sbx_in):
    id_ = sbx_in.out("create", "--name", "c", "--restart", "always", sbx_in.image, "sleep", "60").strip()
    (sbx_in.sbx.store / "containers" / id_ / "halted").touch()
    start = "starting.start(chosen.find('c'), attached=False, stdin=False, mind=False)"
    inside(sbx_in, f"from sandbox.life import chosen, starting; {start}")
    assert sbx_in.column("State") == ["created"]
    assert sbx_in.out("start", "c") == "c\n" and sbx_in.column("State") == ["running"]


def test_stop_of_one_that_was_started_meanwhile(sbx_in):
    sbx_in("create", "--name", "c", "--restart", "always", sbx_in.image, "sleep", "60")
    start = f"subprocess.run([{sbx_in.sbx.launcher!r}, 'start', 'c'], check=True)"
    inside(
        sbx_in,
        f"import subprocess\nfrom sandbox.life import chosen, ending\nk = chosen.find('c'); {start}; ending.stop(k, 0.0)",
    )
    assert sbx_in.column("State") == ["exited"]


def test_members_of_a_pod_that_need_each_other(sbx_in):
    sbx_in("pod", "create", "--name", "p")
    sbx_in("create", "--name", "a", "--pod", "p", sbx_in.image, "true")
    sbx_in("create", "--name", "b", "--pod", "p", "--requires", "a", sbx_in.image, "true")
    sbx_in("pod", "rm", "p")
    assert sbx_in.column("Names") == []


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


# -- ps, inspect, top --


def test_filters(sbx_in):
    sbx_in("volume", "create", "stuff")
    sbx_in("create", "--name", "web", "-v", "stuff:/data", sbx_in.image, "true")
    sbx_in("create", "--name", "web-2", sbx_in.image, "true")
    sbx_in("pod", "create", "--name", "p")
    sbx_in("create", "--name", "member", "--pod", "p", sbx_in.image, "true")

    def names(*filters):
        return sorted(sbx_in.column("Names", *(word for text in filters for word in ("--filter", text))))

    assert names("name=^web$") == ["web"] and names("name=we.") == ["web", "web-2"]
    assert names("volume=stuff") == names("volume=/data") == ["web"] and names("volume=st") == []
    assert names("pod=p") == ["member", "p-infra"] and names("pod=p", "name=mem") == ["member"]
    assert names("status=dead") == [] and names("status=configured", "pod=p", "name=member") == ["member"]
    for wrong, told in (
        ("name=(", "no regular expression"),
        ("since=nosuch", 'no container with name or ID "nosuch" found: no such container'),
        ("status=odd", "unknown container state"),
        ("exited=" + "9" * 5000, "an exit status is missing"),
    ):
        assert told in sbx_in("ps", "--filter", wrong, code=125).stderr
    sbx_in("pod", "rm", "p")
    sbx_in("rm", "web")
    sbx_in("volume", "rm", "stuff")


def test_fields_that_templates_of_podman_have(sbx_in):
    sbx_in("run", "-d", "--name", "c", "-v", "stuff:/data", "-v", "/etc:/host:ro", sbx_in.image, "sleep", "1000")
    facts = sbx_in.out("ps", "--format", "{{.Mounts}} {{.IsInfra}} {{.Restarts}} {{.StartedAt}} {{.Created}}").split()
    assert facts[:4] == ["[/data", "/host]", "false", "0"] and abs(int(facts[4]) - time.time()) < 100
    assert facts[5] == time.strftime("%Y-%m-%d", time.gmtime(int(facts[4])))
    (row,) = json.loads(sbx_in.out("ps", "--format", "json"))
    assert row["Mounts"] == ["/data", "/host"] and row["Pod"] == "" and not row["IsInfra"] and row["Networks"] == []
    template = (
        "{{.Config.Entrypoint}}|{{.NetworkSettings.IPAddress}}|{{.State.Health.Status}}|{{.State.Restarting}}|"
        "{{.HostConfig.Memory}}|{{.HostConfig.PidMode}}|{{.HostConfig.Binds}}|{{.OCIRuntime}}"
    )
    binds = "[stuff:/data:rw,rprivate /etc:/host:ro,rprivate]"
    assert sbx_in.out("inspect", "-f", template, "c") == f"|||false|0|private|{binds}|sbx\n"
    volume, folder = json.loads(sbx_in.out("inspect", "c"))[0]["Mounts"]
    assert (volume["Type"], volume["Name"], volume["RW"]) == ("volume", "stuff", True)
    assert (folder["Type"], folder["Source"], folder["RW"]) == ("bind", "/etc", False)
    sbx_in("rm", "-f", "c")
    sbx_in("volume", "rm", "stuff")


def test_events_as_json_have_times_that_machines_read(sbx_in):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    event = json.loads(sbx_in.out("events", "--stream=false", "--format", "json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", event["Time"])


def test_columns_of_top(sbx_in):
    sbx_in.live("-u", "12", script="exec sleep 1000")
    sbx_in.live(script="exec sleep 1001", name="d")
    assert sbx_in.out("top", "d").splitlines()[1].split()[:3] == ["root", "1", "0"]
    heading, line = sbx_in.out("top", "c", "user,ppid", "huser", "capeff", "seccomp", "state", "comm").splitlines()
    assert heading.split() == ["USER", "PPID", "HUSER", "EFF", "CAPS", "SECCOMP", "STATE", "COMMAND"]
    user, ppid, outside, *rest = line.split()
    assert (user, ppid, rest) == ("12", "0", ["none", "filter", "S", "sleep"]) and outside not in ("12", "root")
    done = sbx_in("top", "d", "-o", "pid,args")  # by the container's own ps
    assert re.search(r"1 sleep 1001\n", done.stdout) and "ps -o pid,args" in done.stdout


# -- pods --


@pytest.fixture
def pod(sbx_in):
    sbx_in("pod", "create", "--name", "p")
    for name in "ab":
        sbx_in("run", "-d", "--pod", "p", "--name", name, sbx_in.image, "sh", "-c", f"echo {name}1; exec sleep 1000")
        sbx_in.until(name, f"{name}1")
    yield "p"
    sbx_in("pod", "rm", "-f", "p")


def test_logs_of_a_pod(sbx_in, pod):
    ids = [sbx_in.out("inspect", "-f", "{{.Id}}", name).strip()[:12] for name in "ab"]
    assert sbx_in.out("pod", "logs", pod).splitlines() == [f"{ids[0]} a1", f"{ids[1]} b1"]
    assert sbx_in.out("pod", "logs", "--names", "-l").splitlines() == ["a a1", "b b1"]
    assert sbx_in.out("pod", "logs", "-c", "b", pod) == "b1\n"
    assert re.fullmatch(r"a [-0-9T:.]+Z a1\nb [-0-9T:.]+Z b1\n", sbx_in.out("pod", "logs", "-tn", pod))
    assert (
        "container none is not in pod p: no such container" in sbx_in("pod", "logs", "-c", "none", pod, code=125).stderr
    )
    follow = sbx_in.sbx.popen("pod", "logs", "-f", pod)
    assert [follow.stdout.readline()[-3:] for _ in range(2)] == ["a1\n", "b1\n"]
    sbx_in("pod", "stop", "-t", "0", pod)
    assert follow.wait(timeout=20) == 0


def test_processes_of_a_pod(sbx_in, pod):
    lines = [line.split() for line in sbx_in.out("pod", "top", pod, "pid", "args").splitlines()]
    assert lines == [["PID", "COMMAND"], ["1", "pause"], ["1", "sleep", "1000"], ["1", "sleep", "1000"]]
    sbx_in("stop", "-t", "0", "a")
    assert sbx_in.out("pod", "top", pod).count("sleep") == 1
    sbx_in("pod", "stop", "-t", "0", pod)
    assert "container state improper" in sbx_in("pod", "top", pod, code=125).stderr


def test_what_a_pod_uses(sbx_in, pod):
    rows = json.loads(sbx_in.out("pod", "stats", "--no-stream", "--format", "json", pod))
    assert [row["Name"] for row in rows] == ["p-infra", "a", "b"] and {row["PIDS"] for row in rows} == {"1"}
    assert all(row["CPU"].endswith("%") and row["Pod"] == rows[0]["CID"] for row in rows)
    heading, *lines = sbx_in.out("pod", "stats", "--no-stream").splitlines()
    assert heading.split()[:3] == ["POD", "CID", "NAME"] and len(lines) == 3
    sbx_in("pod", "stop", "-t", "0", pod)
    assert len(sbx_in.out("pod", "stats", "--no-stream").splitlines()) == 1
    assert len(sbx_in.out("pod", "stats", "--no-stream", "-a").splitlines()) == 4


def test_names_and_filters_of_pods(sbx_in, pod, tmp_path):
    told = sbx_in("pod", "create", "--name", "p", "--infra-name", "other", code=125).stderr
    assert 'name "p" is in use: pod already exists' in told
    assert "a name has letters" in sbx_in("pod", "create", "--name", "\x1b[31m", "--infra-name", "x", code=125).stderr
    sbx_in("pod", "create", "--name", "q", "--pod-id-file", tmp_path / "none/id", code=125)
    assert sbx_in.out("pod", "ps", "--format", "{{.Name}}") == "p\n"
    heading, line = sbx_in.out("pod", "ps", "--ctr-names", "--ctr-status").splitlines()
    assert heading.split()[-2:] == ["NAMES", "STATUS"]
    assert line.split()[-2:] == ["p-infra,a,b", "running,running,running"]
    asked = [
        ("ctr-names=^a$", 1),
        ("ctr-status=exited", 0),
        ("ctr-number=3", 1),
        ("name=^pp", 0),
        ("status=running", 1),
    ]
    for text, count in asked:
        assert len(sbx_in.out("pod", "ps", "-q", "--filter", text).split()) == count
    assert "no such filter" in sbx_in("pod", "ps", "--filter", "colour=red", code=125).stderr
    (row,) = json.loads(sbx_in.out("pod", "ps", "--format", "json"))
    assert [one["Names"] for one in row["Containers"]] == ["p-infra", "a", "b"] and row["Created"].endswith("Z")
    assert json.loads(sbx_in.out("pod", "inspect", "p"))["Created"] == row["Created"]


def test_pods_that_are_not_there(sbx_in):
    for verb, code in (("stop", 125), ("start", 125), ("rm", 1), ("inspect", 125), ("top", 125), ("logs", 125)):
        told = sbx_in("pod", verb, "nosuch", code=code).stderr
        assert "no pod with name or ID nosuch found: no such pod" in told
    sbx_in("pod", "rm", "-f", "nosuch")


def test_inspect_of_a_container_is_of_no_image(sbx_in, busybox_oci):
    sbx_in("load", "-q", "-i", str(busybox_oci.oci_archive))
    name = sbx_in.out("images", "--format", "{{.Repository}}:{{.Tag}}").strip()
    assert json.loads(sbx_in.out("inspect", name))[0]["RepoTags"] == [name]
    done = sbx_in("container", "inspect", name, code=125)
    assert done.stdout == "[]\n" and "no such container" in done.stderr
