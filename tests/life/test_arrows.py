"""Less travelled ways: init, wait --condition, exec that is left, commit --squash, a unit that makes its container anew."""

import json
import os
import pty
import shlex
import signal
import subprocess
import time

import pytest
from support import until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

IDLE = "while :; do sleep 0.05; done"


def state(verbs, name="c"):
    return json.loads(verbs.out("inspect", name))[0]["State"]


def test_init(sbx_in):
    id_ = sbx_in.out("create", "--name", "c", sbx_in.image, "sh", "-c", IDLE).strip()
    assert sbx_in.out("init", "c") == "c\n"
    assert state(sbx_in)["Status"] == "initialized" and state(sbx_in)["Pid"] == 0
    assert sbx_in.out("events", "--stream=false", "--format", "{{.Status}}").split() == ["create", "init"]
    assert sbx_in.column("Status") == ["Initialized"]
    assert sbx_in.out("ps", "-aq", "--filter", "status=initialized").strip() == id_[:12]
    assert "it is initialized; only one" in sbx_in("init", "c", code=125).stderr
    sbx_in("start", "c")
    assert state(sbx_in)["Status"] == "running"
    assert "it is running; only one" in sbx_in("container", "init", "c", code=125).stderr
    sbx_in("kill", "c")
    assert sbx_in.out("wait", "c") == "137\n"
    sbx_in("init", "--latest")
    assert state(sbx_in)["Status"] == "initialized" and state(sbx_in)["ExitCode"] == 0
    sbx_in("rm", "c")


def test_init_finds_what_is_wrong(sbx_in, busybox_rootfs, tmp_path):
    subprocess.run(["cp", "-a", str(busybox_rootfs), str(tmp_path / "root")], check=True)
    sbx_in("create", "--name", "c", f"rootfs:{tmp_path}/root", "true")
    os.rename(tmp_path / "root", tmp_path / "gone")
    assert "open root of container `c`" in sbx_in("init", "c", code=125).stderr
    assert state(sbx_in)["Status"] == "created"


def test_one_that_is_to_be_removed_waits_for_its_start(sbx_in):
    sbx_in("create", "--rm", "--name", "c", sbx_in.image, "sh", "-c", "exit 3")
    sbx_in("init", "c")
    sbx_in("run", sbx_in.image, "true")  # which sweeps
    assert state(sbx_in)["Status"] == "initialized"
    sbx_in("start", "-a", "c", code=3)
    sbx_in("container", "exists", "c", code=1)


def test_wait_for_a_state(sbx_in):
    sbx_in("create", "--name", "c", "--health-cmd", "test -e /ok", "--health-interval", "100ms", "--stop-timeout", "0",
           sbx_in.image, "sh", "-c", "sleep 0.5; touch /ok; " + IDLE)  # fmt: skip
    assert sbx_in.out("wait", "--condition", "created", "c") == "-1\n"
    waiting = sbx_in.sbx.popen("wait", "--condition", "healthy", "-i", "50", "c")
    time.sleep(0.2)
    assert waiting.poll() is None
    sbx_in("start", "c")
    assert sbx_in.out("wait", "--condition=paused,running", "c") == "-1\n"
    assert waiting.communicate(timeout=10)[0] == "-1\n"
    waiting = sbx_in.sbx.popen("wait", "--condition", "stopped", "--condition", "paused", "c")
    sbx_in("stop", "c")
    assert waiting.communicate(timeout=10)[0] == "137\n"  # no time to end by itself
    waiting = sbx_in.sbx.popen("wait", "--condition", "removing", "c")
    time.sleep(0.3)
    sbx_in("rm", "c")
    assert waiting.communicate(timeout=10)[0] == "-1\n"
    assert "read --condition `dead`" in sbx_in("wait", "--condition", "dead", "c", code=125).stderr
    assert "read --interval" in sbx_in("wait", "--interval", "0", "c", code=125).stderr


def test_exec_is_left_and_goes_on(sbx_in):
    sbx_in.live(script=IDLE)
    pid, terminal = pty.fork()
    if pid == 0:
        script = "echo here; read line; echo $line > /said; while :; do echo much; sleep 0.05; done"
        os.environ.update(sbx_in.sbx.environment, SBX_STORE=str(sbx_in.sbx.store))
        os.execv(
            sbx_in.sbx.launcher, sbx_in.sbx.command("exec", "-it", "--detach-keys", "ctrl-x,d", "c", "sh", "-c", script)
        )
    seen = b""
    while b"here" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x18hello\n")  # the first key alone is none
    until(lambda: sbx_in.sbx("exec", "c", "cat", "/said").stdout, lambda said: "hello" in said)
    os.write(terminal, b"\x18d")
    try:
        while os.read(terminal, 1000):
            pass
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    time.sleep(0.3)
    processes = sbx_in.out("top", "c")
    assert processes.count("echo much") == 1  # it lives, without us
    sbx_in("kill", "c")


def test_exec_without_detach_keys_passes_all_on(sbx_in):
    sbx_in.live(script=IDLE)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(sbx_in.sbx.environment, SBX_STORE=str(sbx_in.sbx.store))
        script = "stty raw -echo; echo here; dd bs=1 count=2 2>/dev/null | od -An -tx1"
        os.execv(sbx_in.sbx.launcher, sbx_in.sbx.command("exec", "-it", "--detach-keys", "", "c", "sh", "-c", script))
    seen = b""
    while b"here" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x10\x11")
    try:
        while chunk := os.read(terminal, 1000):
            seen += chunk
    except OSError:
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert b"10 11" in seen


def test_commit_squash(sbx_in, tmp_path):
    sbx_in("create", "--name", "plain", sbx_in.image, "true")
    sbx_in("export", "-o", str(tmp_path / "root.tar"), "plain")
    sbx_in("import", "-q", "-c", "CMD sh /script", str(tmp_path / "root.tar"), "localhost/base")
    sbx_in.live(script=IDLE, name="d")
    sbx_in("run", "--name", "c", "-v", "/sub/volume", "localhost/base", "sh", "-c", "echo echo from script > /script; rm /bin/vi; echo a > /sub/volume/f")  # fmt: skip
    sbx_in("run", "-d", "--name", "r", "localhost/base", "sh", "-c", f"echo running > /mark; {IDLE}")
    sbx_in("commit", "-q", "c", "localhost/two")
    id_ = sbx_in.out("commit", "-q", "--squash", "--iidfile", tmp_path / "id", "c", "localhost/one").strip()
    assert (tmp_path / "id").read_text() == id_
    layers = {
        name: json.loads(sbx_in.out("image", "inspect", f"localhost/{name}"))[0]["RootFS"]["Layers"]
        for name in ("one", "two")
    }
    assert len(layers["one"]) == 1 and len(layers["two"]) == 2
    assert sbx_in.out("run", "localhost/one") == "from script\n"
    done = sbx_in.sbx(
        "run", "localhost/one", "sh", "-c", "test -e /bin/vi; echo $?; ls /sub/volume; ls -d /bin/sh /tmp"
    )
    assert done.stdout == "1\n/bin/sh\n/tmp\n", done.stderr
    while "mark" not in sbx_in.out("exec", "r", "ls", "/"):
        pass
    sbx_in("commit", "-q", "-s", "r", "localhost/three")
    sbx_in("save", "-q", "-o", tmp_path / "three.tar", "localhost/three")
    assert sbx_in.out("run", "localhost/three", "cat", "/mark") == "running\n"
    assert "run" not in sbx_in.out(
        "run", "--no-hosts", "localhost/three", "sh", "-c", "cat /etc/hosts 2>/dev/null; true"
    )


def test_last_flags_of_verbs(sbx_in, tmp_path):
    sbx_in.live(
        "--cidfile",
        tmp_path / "id",
        "-v",
        "/data",
        script=f"echo up; head -c 300000 /dev/zero > /big; {IDLE}",
        name="first",
    )
    sbx_in.live(script=f"echo up; {IDLE}", name="second")
    done = sbx_in.sbx("pause", "--cidfile", tmp_path / "id")  # needs a control group: if not, of whom is said
    assert done.stdout or "pause container `first`: " in done.stderr
    sbx_in.sbx("unpause", "--filter", "name=first")
    sbx_in("pause", "--filter", "name=none")
    assert sbx_in.out("exec", "--latest", "hostname") == "second\n"
    assert "no command given" in sbx_in("exec", "second", code=125).stderr
    assert sbx_in.out("inspect", "--latest", "-f", "{{.Name}}") == "second\n"
    until(lambda: int(sbx_in.out("inspect", "--size", "-f", "{{.SizeRw}}", "first")), lambda size: size >= 300000)
    assert "SizeRw" not in sbx_in.out("inspect", "first")
    plain, coloured = (sbx_in.out("logs", "--names", *more, "first", "second") for more in ((), ("--color",)))
    assert "\x1b" not in plain and coloured.count("\x1b[0m ") == 2
    watching = sbx_in.sbx.popen("ps", "--watch", "0.2", "--format", "{{.Names}}")
    assert [watching.stdout.readline() for _ in range(4)] == ["second\n", "first\n"] * 2
    watching.terminate()
    watching.communicate()


def test_facts_by_template(sbx):
    version = sbx("version").stdout.split()[1]
    for template in ("{{.Version}}", "{{.Client.Version}}", "{{.version}}"):
        assert sbx("version", "--format", template).stdout == f"{version}\n"
    assert json.loads(sbx("version", "--format", "json").stdout)["version"] == version
    assert sbx("info", "-f", "{{.host.kernel}} {{.user.uid}}").stdout == f"{os.uname().release} {os.getuid()}\n"


def test_image_exists(sbx, busybox_oci):
    assert sbx("image", "exists", "none").returncode == 1
    sbx("load", "-q", "-i", busybox_oci.oci_archive)
    name = sbx("images", "--format", "{{.Repository}}").stdout.strip()
    done = sbx("image", "exists", name)
    assert (done.returncode, done.stdout) == (0, "")
    sbx("run", "--name", "c", "-v", "/data", "-v", "vol:/vol", name, "true")
    sbx("commit", "-q", "--include-volumes", "c", "localhost/made")
    found = json.loads(sbx("image", "inspect", "localhost/made").stdout)[0]["Config"]["Volumes"]
    assert set(found) == {"/data", "/vol"}
    sbx("rm", "-v", "c")


def unit_of(verbs, *words):
    lines = verbs.out("generate", "systemd", *words).splitlines()
    return dict(line.partition("=")[::2] for line in lines if "=" in line and not line.startswith("#"))


def test_unit_that_makes_it_anew(sbx_in, tmp_path):
    odd = "a \"b\" 'c' \\ $HOME 100%"
    sbx_in("run", "-dit", "--rm", "--name", "web", "-e", f"ODD={odd}", "--label=x=1", "-l", "y=2", "--pull", "never",
           "--stop-timeout", "1", sbx_in.image, "sh", "-c", f"printf '%s\n' \"$ODD\" $0; {IDLE}", "-x")  # fmt: skip
    assert "let the unit make it: --new" in sbx_in("generate", "systemd", "web", code=125).stderr
    unit = unit_of(sbx_in, "--new", "--env", "A=$B c", "--restart-sec", "3", "--wants", "db.service", "web")
    assert unit["ExecStopPost"].endswith(" rm --force --ignore web") and unit["RestartSec"] == "3"
    assert unit["ExecStop"].endswith(" stop --ignore --time 1 web")
    assert "db.service" in sbx_in.out("generate", "systemd", "--new", "--no-header", "--wants", "db.service", "web")
    for option in ("--time", "--restart-sec", "--start-timeout"):
        assert f"read {option} `x`" in sbx_in("generate", "systemd", "--new", option, "x", "web", code=125).stderr
    start = unit["ExecStart"]
    assert (
        "--rm" not in start and "-d" not in shlex.split(start) and " run --name=web --replace --network=none " in start
    )
    # As systemd reads it: escapes in quotes, then specifiers and variables.
    words = [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(start)]
    words = [word.encode().decode("unicode_escape") if "\\x" in word else word for word in words]
    assert f"--env=ODD={odd}" in words and words[-1] == "-x"
    environment = {**os.environ, **sbx_in.sbx.environment, "SBX_STORE": str(sbx_in.sbx.store)}
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().rstrip() == odd
        assert sbx_in.column("Names") == ["web"]  # --replace
        assert json.loads(sbx_in.out("inspect", "web"))[0]["Config"]["Labels"] == {"x": "1", "y": "2"}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
        process.stdout.close()


def test_units_of_other_names(sbx_in):
    sbx_in("create", "--name", "web", sbx_in.image, "true")
    unit = unit_of(sbx_in, "--new", "--template", "--start-timeout", "5", "web")
    assert " run --name=web-%i --replace " in unit["ExecStart"] and unit["ExecStopPost"].endswith(" web-%i")
    assert unit["TimeoutStartSec"] == "5"
    found = json.loads(
        sbx_in.out("generate", "systemd", "--format", "json", "--container-prefix", "sbx", "--separator", "_", "web")
    )
    assert list(found) == ["sbx_web"] and "ExecStart=" in found["sbx_web"]
    assert "--new" in sbx_in("generate", "systemd", "--template", "web", code=125).stderr
    assert (
        "can be no unit's name" in sbx_in("generate", "systemd", "--container-prefix", "../x", "web", code=125).stderr
    )


def test_ps_of_namespaces_and_pods(sbx_in):
    sbx_in("pod", "create", "--name", "p")
    sbx_in("run", "-d", "--pod", "p", "--name", "c", sbx_in.image, "sh", "-c", IDLE)
    sbx_in("run", "-d", "--name", "alone", sbx_in.image, "sh", "-c", IDLE)
    found = json.loads(sbx_in.out("inspect", "c"))[0]
    assert found["Pod"] in found["Dependencies"] and len(found["Pod"]) == 64
    assert found["Config"]["CreateCommand"][:5] == ["sbx", "run", "-d", "--pod", "p"]
    try:
        heading, *lines = sbx_in.out("ps", "--ns").splitlines()
        assert heading.split() == "CONTAINER ID NAMES PID CGROUPNS IPC MNT NET PIDNS USERNS UTS".split()
        of = {line.split()[1]: line.split() for line in lines}
        assert of["c"][6] != of["alone"][6] and of["c"][6].isdecimal()
        pid = int(of["alone"][2])
        assert f"net:[{of['alone'][6]}]" == os.readlink(f"/proc/{pid}/ns/net")
        names = dict(line.split(" ") for line in sbx_in.out("ps", "--format", "{{.Names}} {{.PodName}}").splitlines())
        assert names["c"] == "p" and names["alone"] == ""
        assert "PODNAME" in sbx_in.out("ps", "--pod").splitlines()[0]
    finally:
        sbx_in("pod", "rm", "-f", "p")


def test_import_for_another_machine(sbx, tmp_path):
    (tmp_path / "f").touch()
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "t.tar"), "f"], check=True)
    sbx("import", "-q", "--arch", "arm", "--variant", "v7", "--os", "linux", tmp_path / "t.tar", "localhost/other")
    found = json.loads(sbx("image", "inspect", "localhost/other").stdout)[0]
    assert (found["Architecture"], found["Os"]) == ("arm", "linux")
    assert "arm" in sbx("run", "localhost/other", "true").stderr


@pytest.mark.skipif(not os.path.exists("/usr/bin/systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("new", [(), ("--new",)])
def test_systemd_takes_the_units(sbx_in, tmp_path, new):
    sbx_in("create", "--name", "web", "-e", 'A=1 "2" \\ é\t%i $x', sbx_in.image, "sh", "-c", "echo $0; sleep 1")
    path = tmp_path / "container-web.service"
    path.write_text(sbx_in.out("generate", "systemd", *new, "--env", "Q=a b", "--requires", "basic.target", "web"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(path) not in done.stderr and "container-web" not in done.stderr, done.stderr
