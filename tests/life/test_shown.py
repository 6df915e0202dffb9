"""ps, logs, attach, top, inspect, stats, generate, healthcheck: what is seen of containers that live on, and heard."""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import tarfile
import time

import pytest
from support import until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


def test_ps_as_scripts_read_it(sbx_in):
    sbx_in.live("--label", "ci=1", name="one")
    sbx_in("create", "--name", "two", sbx_in.image, "echo", "a" * 40)
    (row,) = json.loads(sbx_in.out("ps", "--format", "json"))
    assert (row["Names"], row["State"], row["Labels"]) == (["one"], "running", {"ci": "1"})
    assert row["Command"][:2] == ["sh", "-c"] and row["Pid"] > 0
    assert sbx_in.column("Names") == ["two", "one"]
    assert sbx_in.column("Names", "--filter", "label=ci") == ["one"]
    assert sbx_in.column("Names", "--filter", "status=created") == ["two"]
    assert sbx_in.column("Names", "--filter", "name=tw") == ["two"]
    assert sbx_in.column("Names", "--filter", "since=one") == ["two"]
    assert sbx_in.column("Names", "--sort", "names") == ["one", "two"]
    assert sbx_in.column("Names", "-l") == ["two"]
    heading, line = sbx_in.out("ps").splitlines()
    assert heading.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert line.split()[0] == sbx_in.column("ID", "--filter", "name=one")[0] and line.endswith("one")
    assert "no such filter" in sbx_in("ps", "--filter", "colour=red", code=125).stderr


def test_throw_away_containers_are_seen_while_they_run(sbx_in):
    process = sbx_in.sbx.popen("run", sbx_in.image, "sh", "-c", "echo up; sleep 60", stdout=subprocess.PIPE)
    assert process.stdout.readline() == "up\n"
    found = until(lambda: sbx_in.column("Id"))
    assert sbx_in.out("exec", found[0][:8], "echo", "in") == "in\n"
    sbx_in("stop", "-t", "1", found[0])
    assert process.wait(10) == 143
    process.stdout.close()
    assert sbx_in.column("Id") == []


def test_logs(sbx_in):
    sbx_in.live(script="i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); done; printf rest; echo err >&2")
    sbx_in.out("wait", "c")
    whole = "".join(f"{n}\n" for n in range(20)) + "rest"
    assert sbx_in.out("logs", "c") == whole
    assert sbx_in("logs", "c").stderr == "err\n"
    assert sbx_in.out("logs", "--since", "1h", "c") == whole
    assert sbx_in.out("logs", "--until", "-1h", "c") == ""
    assert sbx_in.out("logs", "--until", "1h", "c") == whole
    done = sbx_in("logs", "--tail", "3", "c")
    assert (done.stdout + done.stderr).count("\n") >= 2 and "18" not in done.stdout.replace("18\n", "", 1)
    stamped = sbx_in.out("logs", "-t", "c").splitlines()[0]
    assert stamped.endswith(" 0") and stamped.startswith("20") and "Z " in stamped


def test_logs_follow(sbx_in):
    sbx_in.live(script="for i in 1 2 3; do echo $i; sleep 0.1; done; echo end >&2; exit 1")
    done = sbx_in("logs", "-f", "c", timeout=20)
    assert (done.stdout, done.stderr) == ("1\n2\n3\n", "end\n")


def test_attach_and_its_end(sbx_in):
    sbx_in.out("run", "-d", "-i", "--name", "c", sbx_in.image, "sh", "-c", "read line; echo got $line; exit 5")
    done = sbx_in("attach", "c", input="typed\n", code=5)
    assert done.stdout == "got typed\n"
    done = sbx_in("attach", "c", code=125)
    assert done.stderr.startswith("sbx: attach to container `c`: it is exited; ")
    assert done.stderr.endswith("\nhint: `sbx start --attach c`\n")


def test_top(sbx_in):
    sbx_in.live()
    sbx_in.until("c", "up")
    heading, first, *rest = sbx_in.out("top", "c").splitlines()
    assert heading.split()[:3] == ["USER", "PID", "PPID"]
    assert first.split()[1:3] == ["1", "0"] and "trap" in first
    assert all("sandbox" not in line for line in rest)


@pytest.mark.requires("pasta", "slirp")
@pytest.mark.parametrize("options", [("pasta",), ("slirp4netns", "--pid", "host")])
def test_top_leaves_helpers_of_the_network_out(sbx_in, options):
    sbx_in.out("run", "-d", "--name", "c", "--network", *options, sbx_in.image, "sleep", "1234")
    sbx_in.out("exec", "-d", "c", "sleep", "4321")
    processes = [line.split(None, 7)[7] for line in sbx_in.out("top", "c").splitlines()[1:]]
    assert processes == ["sleep 1234", "sleep 4321"]


@pytest.mark.requires("pasta")
def test_pod_top_leaves_the_helper_out(sbx_in):
    sbx_in.out("pod", "create", "p", "--network", "pasta")
    sbx_in.out("run", "-d", "--pod", "p", sbx_in.image, "sleep", "1234")
    assert [line.split(None, 7)[7] for line in sbx_in.out("pod", "top", "p").splitlines()[1:]] == [
        "pause",
        "sleep 1234",
    ]


def test_inspect(sbx_in):
    id_ = sbx_in.live("-e", "A=1", "--label", "k=v", "-w", "/tmp", "--stop-timeout", "3")
    (one,) = json.loads(sbx_in.out("inspect", "c"))
    assert (one["Id"], one["Name"], one["State"]["Status"], one["State"]["Running"]) == (id_, "c", "running", True)
    assert one["Config"]["Labels"] == {"k": "v"} and "A=1" in one["Config"]["Env"]
    assert (one["Config"]["WorkingDir"], one["Config"]["StopTimeout"]) == ("/tmp", 3.0)
    assert os.path.isdir(f"/proc/{one['State']['Pid']}")
    assert sbx_in.out("inspect", "-f", "{{.State.Status}} {{.Name}}", id_[:8]) == "running c\n"
    assert sbx_in.out("container", "inspect", "-f", "{{.Path}}", "c") == "sh\n"
    sbx_in("inspect", "--type", "image", "c", code=125)
    sbx_in("kill", "c")
    sbx_in("wait", "c")
    assert sbx_in.out("inspect", "-f", "{{.State.ExitCode}} {{.State.Pid}}", "c") == "137 0\n"


def test_log_options(sbx_in):
    sbx_in.live("--log-driver", "none", script="echo unseen", name="none")
    sbx_in("wait", "none")
    assert "it keeps none" in sbx_in("logs", "none", code=125).stderr
    sbx_in.live(
        "--log-opt", "max-size=20k", script="i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done", name="small"
    )
    sbx_in("wait", "small")
    lines = sbx_in.out("logs", "small").splitlines()
    assert lines[-1] == "2999" and lines == [str(n) for n in range(3000 - len(lines), 3000)] and len(lines) < 3000
    folder = sbx_in.out("inspect", "-f", "{{.Sbx.Directory}}", "small").strip()
    assert os.stat(f"{folder}/log").st_size <= 20 << 10 or os.stat(f"{folder}/log.1").st_size > 0
    assert "no such option" in sbx_in("run", "-d", "--log-opt", "x=1", sbx_in.image, "true", code=125).stderr


def test_pid_and_id_files(sbx_in, tmp_path):
    id_ = sbx_in.live("--pidfile", str(tmp_path / "pid"), "--cidfile", str(tmp_path / "id"))
    assert (tmp_path / "id").read_text() == id_
    assert (tmp_path / "pid").read_text().strip() == sbx_in.out("inspect", "-f", "{{.State.Pid}}", "c").strip()


def test_labels_of_a_file(sbx_in, tmp_path):
    (tmp_path / "labels").write_text("# of the team\na=1\nb=2\n")
    sbx_in("create", "--name", "c", "--label-file", str(tmp_path / "labels"), "--label", "b=3", sbx_in.image, "true")
    assert sbx_in.column("Labels") == ["a=1,b=3"]


def test_stats(sbx_in):
    sbx_in.live(script="echo up; while :; do :; done", name="busy")
    sbx_in.live(script="echo up; sleep 60", name="idle")
    sbx_in.until("busy", "up")
    found = {row["Name"]: row for row in json.loads(sbx_in.out("stats", "--format", "json"))}
    assert found["busy"]["CPU"] > 10 > found["idle"]["CPU"]
    assert found["busy"]["PIDs"] == 1 and found["idle"]["MemUsageBytes"] > 0
    assert found["idle"]["NetIO"] == "0B / 0B" and found["idle"]["mem_percent"].endswith("%")
    assert found["idle"]["MemLimit"] > found["idle"]["MemUsageBytes"]
    heading, *lines = sbx_in.out("stats", "--no-stream", "busy").splitlines()
    assert "MEM USAGE / LIMIT" in heading and heading.index("NET IO") < heading.index("BLOCK IO")
    assert heading.startswith("ID ") and len(lines) == 1 and " busy " in lines[0]


@pytest.mark.requires("slirp")
def test_stats_of_network_and_disk(sbx_in):
    """Of real bytes: what is sent to a published port, and what a process writes and syncs."""
    script = (
        "echo up; dd if=/dev/zero of=/f bs=1M count=4 conv=fsync 2>/dev/null; nc -l -p 80 >/received; "
        "[ $(stat -c %s /received) = 50000 ] && echo done; sleep 60"
    )
    sbx_in.live("--network", "slirp4netns", "-p", "127.0.0.1::80", script=script)
    sbx_in.live("--network", "host", script="echo up; exec sleep 60", name="host")
    address = ("127.0.0.1", int(sbx_in.out("port", "c", "80").rpartition(":")[2]))
    deadline = time.monotonic() + 10
    while "done" not in sbx_in.out("logs", "c"):
        assert time.monotonic() < deadline
        with socket.create_connection(address) as sock, contextlib.suppress(OSError):
            sock.sendall(bytes(50000))
        time.sleep(0.2)
    found = {row["Name"]: row for row in json.loads(sbx_in.out("stats", "--format", "json"))}
    assert found["c"]["NetInput"] >= 50000 and found["c"]["NetOutput"] > 0 and found["c"]["NetIO"] != "0B / 0B"
    assert found["host"]["NetIO"] == "-- / --" and found["host"]["net_io"] == "-- / --"
    assert found["c"]["BlockIO"] != "-- / --"
    line = sbx_in.out(
        "stats", "--no-stream", "--format", "{{.Name}} {{.BlockOutput}} {{.NetInput}} {{.PIDs}}", "c"
    ).split()
    assert line[0] == "c" and int(line[2]) >= 50000 and line[3] == "1"


def test_unit_for_systemd(sbx_in):
    sbx_in("create", "--name", "web", "--restart", "always", "--stop-timeout", "3", sbx_in.image, "true")
    unit = sbx_in.out("generate", "systemd", "web")
    assert "\nRestart=always\n" in unit and "--time 3 web\n" in unit and f"SBX_STORE={sbx_in.sbx.store}" in unit
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert os.access(start.removeprefix("ExecStart=").split()[0], os.X_OK) and start.endswith(" start --attach web")


@pytest.mark.parametrize(
    ("test", "status"), [(["CMD", "test", "-e", "/etc"], 0), (["CMD-SHELL", "exit 7"], 1), (["NONE"], 125)]
)
def test_health(sbx_in, tmp_path, test, status):
    """An image as docker makes it, with a HEALTHCHECK; made of an exported one."""
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    sbx_in("export", "-o", str(tmp_path / "root.tar"), "c")
    sbx_in("import", "-q", str(tmp_path / "root.tar"), "localhost/plain")
    sbx_in("save", "-q", "--format", "docker-archive", "-o", str(tmp_path / "image.tar"), "localhost/plain")
    with tarfile.open(tmp_path / "image.tar") as tar:
        tar.extractall(tmp_path / "image", filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(
            tmp_path / "image"
        )
    manifest = json.loads((tmp_path / "image/manifest.json").read_text())
    path = tmp_path / "image" / manifest[0]["Config"]
    config = json.loads(path.read_text())
    config["config"]["Healthcheck"] = {"Test": test}
    raw = json.dumps(config).encode()
    manifest[0]["Config"], manifest[0]["RepoTags"] = (
        f"{hashlib.sha256(raw).hexdigest()}.json",
        ["localhost/checked:latest"],
    )
    (tmp_path / "image" / manifest[0]["Config"]).write_bytes(raw)
    (tmp_path / "image/manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(tmp_path / "checked.tar", "w") as tar:
        tar.add(tmp_path / "image", ".")
    sbx_in("load", "-q", "-i", str(tmp_path / "checked.tar"))
    sbx_in("run", "-d", "--name", "web", "localhost/checked", "sleep", "60")
    sbx_in("healthcheck", "run", "web", code=status)


def test_exists(sbx_in):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    sbx_in("container", "exists", "c")
    assert sbx_in("container", "exists", "d", code=1).stderr == ""


def test_stats_options(sbx_in):
    id_ = sbx_in.out("create", "--name", "c", sbx_in.image, "true").strip()
    assert sbx_in.out("stats", "--no-stream", "--format", "{{.Name}}") == ""
    assert sbx_in.out("stats", "-a", "--no-stream", "--no-trunc", "--format", "{{.ID}} {{.PIDs}}") == f"{id_} 0\n"
    assert "Traceback" not in sbx_in("stats", "-i", "soon", code=125).stderr


@pytest.mark.parametrize("typed", ["", "in\n", "without newline", "x" * 300000])
def test_the_end_of_the_input_arrives(sbx_in, typed):
    """Of a pipe: in the foreground by name, and when it is started again."""
    done = sbx_in.sbx("run", "-i", "--name", "c", sbx_in.image, "sh", "-c", "cat; echo end", input=typed, timeout=20)
    assert (done.returncode, done.stdout) == (0, f"{typed}end\n")
    done = sbx_in.sbx("start", "-ai", "c", input=typed, timeout=20)
    assert (done.returncode, done.stdout) == (0, f"{typed}end\n")
