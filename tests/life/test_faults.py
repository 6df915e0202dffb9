"""Who is killed, what is full, what is hostile: the next command tells the truth, and cleans up."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import TREE, descendants, until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

HOSTILE = "\x1b]0;owned\x07\x1b[31m\u009b2J\u202e"


_before = set()


@pytest.fixture(autouse=True)
def _others():
    """Containers of other tests may live for the whole session: none of ours."""
    _before.clear()
    _before.update(descendants())


def ours():
    """pid -> command line of the processes that this test has brought about."""
    return {pid: words for pid, words in descendants().items() if pid not in _before}


def processes(word):
    return [pid for pid, words in ours().items() if word in words]


def pid_of(verbs, name):
    return int(verbs.out("inspect", "-f", "{{.State.Pid}}", name))


# -- killed --


def test_killed_payload(sbx_in):
    sbx_in.live()
    sbx_in.until("c", "up")
    os.kill(pid_of(sbx_in, "c"), signal.SIGKILL)
    assert sbx_in.out("wait", "c") == "137\n"
    assert sbx_in.column("Status")[0].startswith("Exited (137) ")
    until(lambda: not processes("sandbox"))
    assert sbx_in.out("start", "c") == "c\n" and sbx_in.column("State") == ["running"]


def test_killed_exec_client(sbx_in):
    sbx_in.live()
    client = sbx_in.sbx.popen("exec", "c", "sleep", "4711", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: processes("sleep 4711") and "sleep 4711" in sbx_in.out("top", "c"))
    client.kill()
    client.wait()
    until(lambda: not any(words == "sleep 4711" for words in ours().values()))
    assert sbx_in.column("State") == ["running"]
    assert sbx_in.out("exec", "c", "echo", "in") == "in\n"


def test_killed_attach_client(sbx_in):
    sbx_in.live(script="while :; do echo tick; sleep 0.05; done")
    client = sbx_in.sbx.popen("attach", "c", stderr=subprocess.DEVNULL)
    assert client.stdout.readline() == "tick\n"
    client.kill()
    client.wait()
    client.stdout.close()
    before = sbx_in.out("logs", "c").count("tick")
    until(lambda: sbx_in.out("logs", "c").count("tick") > before + 5)
    assert sbx_in.column("State") == ["running"]


def _helpers():
    return [pid for pid, words in ours().items() if words.split(" ")[0].endswith("slirp4netns")]


@pytest.mark.requires("slirp")
def test_killed_network_helper(sbx_in):
    """The container ends with it, and what happened is on record."""
    sbx_in.live("--network", "slirp4netns", script="sleep 1000")
    for helper in until(_helpers):
        os.kill(helper, signal.SIGKILL)
    assert sbx_in.out("wait", "c") == "125\n"
    assert sbx_in.column("Status")[0].startswith("Exited (125) ")
    assert "network helper" in sbx_in.out("inspect", "-f", "{{.State.Error}}", "c")
    assert not any(words == "sleep 1000" for words in ours().values())


def test_killed_minder(sbx_in):
    """Who is to start it again is gone: it runs on, and is not started again until somebody starts it."""
    sbx_in.live("--restart", "always", script="echo up; sleep 1000")
    sbx_in.until("c", "up")
    keeper = until(lambda: _keepers(sbx_in, "c"))
    minders = set(processes("sandbox")) - keeper
    assert len(minders) == 1
    os.kill(minders.pop(), signal.SIGKILL)
    assert sbx_in.column("State") == ["running"]
    os.kill(pid_of(sbx_in, "c"), signal.SIGKILL)
    assert sbx_in.out("wait", "c") == "137\n"
    time.sleep(0.5)
    assert sbx_in.column("State") == ["exited"]
    sbx_in("start", "c")
    os.kill(pid_of(sbx_in, "c"), signal.SIGKILL)
    until(lambda: sbx_in.out("logs", "c") == "up\n" * 3)


def _keepers(verbs, name):
    """The parent of the container's command, as the host numbers it."""
    pid = pid_of(verbs, name)
    return {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])} if pid else set()


def test_S03_reboot(sbx_in):
    """Everything that ran is gone at once, and what lay in memory with it; what is on the disk says no word of it."""
    sbx_in.live("--label", "a=b", name="kept")
    sbx_in.live("--rm", name="passing")
    made = sbx_in.out("create", "--name", "made", sbx_in.image, "echo", "first").strip()
    sbx_in.until("kept", "up")
    sbx_in.until("passing", "up")
    for pid in processes("sandbox"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not processes("sandbox"))
    # As it is found by another boot: other inodes, no sockets.
    moved = sbx_in.sbx.store.with_name("rebooted")
    sbx_in.sbx.store.rename(moved)
    shutil.copytree(moved, sbx_in.sbx.store, symlinks=True, ignore=_sockets)
    _remove(moved)
    assert sbx_in.column("Names") == ["made", "kept"]
    assert sbx_in.column("State") == ["created", "exited"]
    assert sbx_in.column("ExitCode", "--filter", "name=kept") == ["137"]
    assert sbx_in("exec", "kept", "true", code=255).stderr.startswith(
        "sbx: execute in container `kept`: it is exited; "
    )
    assert sbx_in("stop", "kept").stdout == "kept\n"
    # The name of what was to be removed at its end is free, and its folder goes with the next start.
    sbx_in("run", "-d", "--name", "passing", sbx_in.image, "true")
    assert sbx_in.out("start", "-a", "made") == "first\n"
    assert sbx_in.out("start", "kept") == "kept\n" and "running" in sbx_in.column("State")
    assert sbx_in.column("Id", "--filter", "name=made") == [made]
    sbx_in("rm", "-fa")
    left = [name for name in os.listdir(sbx_in.sbx.store / "containers") if not name.startswith(".")]
    assert left == []


def _sockets(folder, names):
    return [name for name in names if Path(folder, name).is_socket() or name in ("work", "root")]


def _remove(path):
    subprocess.run(["chmod", "-R", "u+rwx", path], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(path, ignore_errors=True)


# -- full --

# A store on a small disk of its own, in a user and mount namespace; the subordinate ids are those of this namespace.
FULL = """
import json, os, shutil, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from sandbox import idmap, linux, userns
sbx, store, image = sys.argv[2:]
def call(*words):
    done = subprocess.run([sbx, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, errors="replace")
    return [done.returncode, done.stdout[-2000:], done.stderr[-2000:]]
def work():
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", "/mnt", "tmpfs", 0, "")
    shutil.copytree(image, "/mnt/root", symlinks=True)
    for folder, folders, files in os.walk("/mnt/root"):
        for name in (".", *folders, *files):
            os.chown(f"{folder}/{name}", 1, 1, follow_symlinks=False)
    box = "rootfs:/mnt/root"
    linux.mount("tmpfs", store, "tmpfs", 0, "mode=700,size=2m")
    with open(store + "/.ids", "w") as file:
        file.write("root:1:60000\\n")
    for path in ("/etc/subuid", "/etc/subgid"):
        linux.mount(store + "/.ids", path, None, linux.MS_BIND)
    script = "trap 'exit 7' TERM; echo up; head -c 4000000 /dev/zero | tr '\\\\0' 'a'; while :; do sleep 0.05; done"
    found = {"run": call("run", "-d", "--name", "c", box, "sh", "-c", script)}
    deadline = time.monotonic() + 20
    while os.statvfs(store).f_bavail and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    found["free"] = os.statvfs(store).f_bavail
    found["ps"] = call("ps", "--format", "{{.Names}} {{.State}}")
    found["exec"] = call("exec", "c", "echo", "in")
    found["more"] = call("run", "-d", "--name", "more", box, "true")
    found["stop"] = call("stop", "c")
    found["wait"] = call("wait", "c")
    found["after"] = call("ps", "-a", "--format", "{{.Names}} {{.State}} {{.ExitCode}}")
    found["tail"] = call("logs", "c")
    for words in (("rename", "c", "d"), ("update", "--pids-limit", "5", "c"), ("init", "c")):
        found["full " + words[0]] = call(*words)
    found["kept"] = call("wait", "c")
    found["rm"] = call("rm", "c")
    found["again"] = call("run", "--rm", box, "echo", "room")
    found["left"] = call("ps", "-aq")
    return json.dumps(found)
print(userns.call(idmap.resolve(), work))
"""


def test_full_disk(sbx, busybox_rootfs):
    """The command goes on without its log; how it ended is on record all the same; removal works."""
    if os.geteuid() == 0:
        pytest.skip("probe ids: the caller is root, whose namespace has other ids")
    sbx.store.mkdir(mode=0o700)
    words = [sys.executable, "-c", FULL, str(TREE), sbx.launcher, str(sbx.store), str(busybox_rootfs)]
    done = subprocess.run(words, env={**sbx.environment, "SBX_STORE": str(sbx.store)}, capture_output=True, text=True)
    assert done.returncode == 0, done
    found = json.loads(done.stdout)
    assert found["run"][0] == 0 and found["free"] == 0, found
    assert found["ps"][:2] == [0, "c running\n"]
    assert found["exec"][:2] == [0, "in\n"]
    code, _, told = found["more"]
    assert code == 125 and "No space left on device" in told and "Traceback" not in told
    assert found["stop"][:2] == [0, "c\n"] and found["wait"][:2] == [0, "7\n"]
    assert found["after"][:2] == [0, "c exited 7\n"]
    assert found["tail"][0] == 0 and found["tail"][1].endswith("a")
    for verb in ("rename", "update", "init"):
        code, out, told = found[f"full {verb}"]
        assert (code, out) == (125, "") and "No space left on device\n" in told and "internal" not in told, verb
    assert found["kept"][:2] == [0, "7\n"]
    assert found["rm"][:2] == [0, "c\n"]
    assert found["again"][:2] == [0, "room\n"]
    assert found["left"][:2] == [0, ""]


# -- hostile --


def test_S08_hostile_labels_and_commands_on_a_terminal(sbx_in):
    """Whatever a container is called, labelled or runs: a terminal gets no control character of it."""
    sbx_in.live("--label", f"evil={HOSTILE}", script=f": '{HOSTILE}'; echo up; sleep 1000")
    sbx_in.until("c", "up")
    for words in (
        ("ps", "--no-trunc"),
        ("ps", "--format", "{{.Labels}} {{.Command}}"),
        ("ps", "--format", "json"),
        ("inspect", "c"),
        ("inspect", "-f", "{{.Config.Labels}} {{.Config.Cmd}}", "c"),
        ("top", "c"),
        ("events", "--stream=false"),
        ("events", "--stream=false", "--format", "{{.Attributes}}"),
        ("events", "--stream=false", "--format", "json"),
        ("stats", "--no-stream"),
        ("generate", "systemd", "c"),
        ("diff", "c"),
        ("port", "c"),
        ("rm", HOSTILE),
        ("ps", "--filter", f"label!={HOSTILE}", "-a"),
        ("ps", "--filter", f"{HOSTILE}=1"),
        ("run", "--name", HOSTILE, sbx_in.image, "true"),
        ("rename", "c", HOSTILE),
        ("kill", "-s", HOSTILE, "c"),
        ("logs", "--since", HOSTILE, "c"),
    ):
        command = " ".join(f"'{word}'" if "'" not in word else word for word in sbx_in.sbx.command(*words))
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"], stdin=subprocess.DEVNULL, capture_output=True,
            env={**sbx_in.sbx.environment, "SBX_STORE": str(sbx_in.sbx.store), "COLUMNS": "4000"}, timeout=60,
        )  # fmt: skip
        shown = done.stdout.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        assert shown.strip() or words[0] in ("diff", "port"), words
        bad = [char for char in shown if not char.isprintable() and char != "\n"]
        assert bad == [], (words, shown)


def test_labels_are_exact_for_scripts(sbx_in):
    sbx_in.live("--label", f"evil={HOSTILE}", script="sleep 1000")
    (row,) = json.loads(sbx_in.out("ps", "--format", "json"))
    assert row["Labels"] == {"evil": HOSTILE}


# -- states and words --


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (("start", "nosuch"), 'no container with name or ID "nosuch" found: no such container', 125),
        (("stop", "nosuch"), 'no container with name or ID "nosuch" found: no such container', 125),
        (
            ("inspect", "--type", "container", "nosuch"),
            'no container with name or ID "nosuch" found: no such container',
            125,
        ),
        (("inspect", "nosuch"), 'no such object: "nosuch"', 125),
        (
            ("exec", "ended", "true"),
            "it is exited; can only create exec sessions on running containers: container state improper",
            255,
        ),
        (("top", "ended"), "it is exited; top can only be used on running containers: container state improper", 125),
        (("kill", "ended"), "it is exited; can only kill running containers: container state improper", 125),
        (("attach", "ended"), "it is exited; you can only attach to running containers: container state improper", 125),
        (("pause", "ended"), "it is exited; not running, can't pause: container state improper", 125),
        (
            ("rm", "runs"),
            "it is running; running or paused containers cannot be removed without force: container state improper",
            2,
        ),
        (("rm", "nosuch"), 'no container with name or ID "nosuch" found: no such container', 1),
        (("rm", "runs", "nosuch"), "container state improper", 2),
        (("rename", "runs", "ended"), "that name is already in use", 125),
        (("run", "--name", "runs", "IMAGE", "true"), "that name is already in use", 125),
        (("create", "--name", "runs", "IMAGE", "true"), "that name is already in use", 125),
    ],
)
def test_wrong_states(sbx_in, words, told, code):
    sbx_in.live(script="sleep 1000", name="runs")
    sbx_in("run", "--name", "ended", sbx_in.image, "true")
    sbx_in("create", "--name", "made", sbx_in.image, "true")
    done = sbx_in(*(sbx_in.image if word == "IMAGE" else word for word in words), code=code)
    assert told in done.stderr and done.stdout == ("[]\n" if words[0] == "inspect" else "")
    assert sorted(sbx_in.column("Names")) == ["ended", "made", "runs"]


def test_killed_keeper_of_one_that_has_an_overlay_volume(sbx_in, tmp_path):
    """What it wrote there is thrown away at its end, however that came; it can be started again."""
    (tmp_path / "file").write_text("before")
    sbx_in.live("-v", f"{tmp_path}:/m:O")
    sbx_in("exec", "c", "sh", "-c", "echo after > /m/file")
    os.kill(sbx_in.keeper("c"), signal.SIGKILL)
    until(lambda: sbx_in.column("State"), lambda states: states == ["exited"])
    sbx_in("start", "c")
    assert sbx_in.out("exec", "c", "cat", "/m/file") == "before"
