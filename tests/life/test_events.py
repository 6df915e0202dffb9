"""`sbx events`: what has happened to containers that live on."""

import json
import os
import subprocess
import time

import pytest
from support import until

from sandbox import events
from sandbox.life import happened

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


def told(verbs, *words):
    return verbs.out("events", "--stream=false", "--format", "{{.Name}} {{.Status}}", *words).splitlines()


def test_a_life(sbx_in):
    id_ = sbx_in.live("--label", "a=b c\td\\e\nf")
    sbx_in.until("c", "up")
    sbx_in("stop", "c")
    sbx_in("rename", "c", "d")
    sbx_in("run", sbx_in.image, "true")  # leaves no trace
    sbx_in("rm", "d")
    assert told(sbx_in) == ["c create", "c start", "c kill", "c died", "c stop", "d rename", "d remove"]
    found = [json.loads(line) for line in sbx_in.out("events", "--stream=false", "--format", "json").splitlines()]
    assert {event["ID"] for event in found} == {id_}
    assert found[3]["ContainerExitCode"] == 3 and found[3]["Attributes"] == {"a": "b c\td\\e\nf"}
    assert found[0]["Image"] == sbx_in.image and found[0]["Type"] == "container"
    assert told(sbx_in, "--filter", "event=died", "--filter", "event=start") == ["c start", "c died"]
    assert told(sbx_in, "--filter", "label=a", "--filter", f"container={id_[:10]}", "--since", "1h")[0] == "c create"
    assert told(sbx_in, "--until", "-1h") == [] == told(sbx_in, "--filter", "label=none")
    line = sbx_in.out("events", "--stream=false").splitlines()[3]
    assert f" +0000 UTC container died {id_[:12]} (image={sbx_in.image}, name=c, exitCode=3, a=b c\\td" in line
    assert "no such filter" in sbx_in("events", "--filter", "colour=red", code=125).stderr


def test_keepers_of_other_ids_note_too(sbx_in):
    sbx_in("run", "-d", "--rm", "--name", "c", "--userns", "keep-id", sbx_in.image, "sh", "-c", "sleep 0.2; exit 4")
    sbx_in("wait", "c")
    until(lambda: told(sbx_in), lambda lines: lines == ["c create", "c start", "c died", "c remove"])


def test_further_processes_and_who_attaches(sbx_in):
    sbx_in.live(script="echo up; while :; do sleep 0.05; done")
    sbx_in.until("c", "up")
    sbx_in("exec", "c", "sh", "-c", "exit 5", code=5)
    sbx_in("exec", "c", "/no/such", code=127)
    sbx_in("exec", "-d", "c", "sh", "-c", "exit 6")
    client = sbx_in.sbx.popen("attach", "--no-stdin", "c")
    until(lambda: told(sbx_in), lambda lines: len(lines) >= 7)
    sbx_in("commit", "c", code=125)  # of a root folder
    sbx_in("kill", "c")
    client.communicate(timeout=10)
    found = [json.loads(line) for line in sbx_in.out("events", "--stream=false", "--format", "json").splitlines()]
    assert [one["ContainerExitCode"] for one in found if one["Status"] == "exec_died"] == [5, 6]
    assert sorted(one["Status"] for one in found[2:7]) == ["attach", "exec", "exec", "exec_died", "exec_died"]


def test_images_and_volumes(sbx_in, busybox_oci):
    ours = ("events", "--stream=false", "--format", "{{.Type}} {{.Status}} {{.Name}}")
    sbx_in("volume", "create", "data")
    sbx_in("run", "--name", "c", "-v", "data:/a", "-v", "more:/b", sbx_in.image, "true")
    sbx_in("rm", "c")
    sbx_in("volume", "rm", "data", "more")
    lines = sbx_in.out(*ours, "--filter", "type=volume").splitlines()
    assert lines == [f"volume {what}" for what in ("create data", "create more", "remove data", "remove more")]
    assert sbx_in.out(*ours, "--filter", "volume=more").splitlines() == ["volume create more", "volume remove more"]
    path = str(busybox_oci.oci_archive)
    sbx_in("load", "-q", "-i", path)
    name = sbx_in.out("images", "--format", "{{.Repository}}:{{.Tag}}").strip()
    sbx_in("tag", name, "localhost/other:1", "localhost/third:1")
    sbx_in("untag", name, "localhost/third:1")
    sbx_in("run", "--name", "c", "localhost/other:1", "true")
    sbx_in("commit", "-q", "c", "localhost/made")
    sbx_in("rm", "c")
    sbx_in("rmi", "localhost/other:1", name)
    lines = sbx_in.out(*ours, "--filter", "type=image").splitlines()
    assert lines == [
        f"image loadfromarchive {path}", "image tag localhost/other:1", "image tag localhost/third:1",
        "image untag localhost/third:1", "image untag localhost/other:1", f"image remove {name}",
    ]  # fmt: skip
    assert "container commit c" in sbx_in.out(*ours).splitlines()
    assert set(sbx_in.out(*ours, "--filter", "image=localhost/other:1").splitlines()) == {
        "image tag localhost/other:1", "image untag localhost/other:1",
        *(f"container {what} c" for what in ("create", "start", "died", "commit", "remove")),
    }  # fmt: skip
    line = sbx_in.out("events", "--stream=false", "--filter", "event=tag").splitlines()[0]
    assert line.split(" ")[4:6] == ["image", "tag"] and line.endswith(" localhost/other:1")
    assert "no such type" in sbx_in("events", "--filter", "type=colour", code=125).stderr


def test_stream(sbx_in):
    sbx_in("run", "--name", "before", sbx_in.image, "true")
    process = sbx_in.sbx.popen("events", "--format", "{{.Name}} {{.Status}}", stderr=subprocess.DEVNULL)
    time.sleep(1)
    sbx_in("run", "--name", "c", sbx_in.image, "true")
    assert [process.stdout.readline() for _ in range(3)] == ["c create\n", "c start\n", "c died\n"]
    process.terminate()
    process.wait()
    process.stdout.close()


def test_room_is_made(tmp_path, monkeypatch):
    """The older half stays readable; who keeps the file open goes on; what was cut off costs one line."""
    monkeypatch.setattr(events, "MOST", 20000)
    about = {"id": "ab" * 32, "name": "n", "log": True, "image": "i"}
    keeper = events.open_log(str(tmp_path))
    for number in range(300):
        events.remember(str(tmp_path), "kill", about, {"signal": number})
        if number == 100:
            os.write(keeper, b"\n123\tcut o")
    events.note(keeper, "died", about)
    os.close(keeper)
    found = list(happened.every(str(tmp_path), follow=lambda: False))
    assert found[-1].what == "died"
    numbers = [int(event.more["signal"]) for event in found[:-1]]
    assert numbers == list(range(numbers[0], 300)) and len(numbers) > 100
    assert os.stat(tmp_path / events.PATH).st_size < 20400
