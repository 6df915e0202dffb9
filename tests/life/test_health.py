"""Health checks: by the clock and by hand, what is recorded of them, and what is done when they fail."""

import hashlib
import json
import tarfile
import time

import pytest
from support import descendants, until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

IDLE = "while :; do sleep 0.05; done"


def health(verbs, name="c"):
    return json.loads(verbs.out("inspect", name))[0]["State"]["Health"]


def told(verbs, *words):
    return verbs.out("events", "--stream=false", "--format", "{{.Name}} {{.Status}}", *words).splitlines()


def test_well_and_then_not(sbx_in):
    options = ("--health-cmd", "echo looked; test ! -e /tmp/ill", "--health-interval", "200ms", "--health-retries", "2")
    sbx_in.live(*options, script=IDLE)
    until(lambda: sbx_in.column("Status")[0], lambda text: text.endswith(" (healthy)"))
    assert sbx_in.column("Names", "--filter", "health=healthy") == ["c"] and not sbx_in.column(
        "Names", "--filter", "health=none"
    )
    sbx_in("exec", "c", "touch", "/tmp/ill")
    found = until(lambda: health(sbx_in), lambda found: found["Status"] == "unhealthy")
    assert found["FailingStreak"] >= 2
    assert found["Log"][-1]["ExitCode"] == 1 and found["Log"][-1]["Output"] == "looked\n"
    assert found["Log"][-1]["Start"] < found["Log"][-1]["End"]
    until(lambda: len(health(sbx_in)["Log"]), lambda count: count == 5)
    time.sleep(0.5)
    assert len(health(sbx_in)["Log"]) == 5
    assert sbx_in("healthcheck", "run", "c", code=1).stdout == "unhealthy\n"
    assert "(unhealthy)" in sbx_in.column("Status")[0]
    assert sbx_in.column("Names", "--filter", "health=unhealthy") == ["c"]
    assert "c health_status" in told(sbx_in)
    config = json.loads(sbx_in.out("inspect", "c"))[0]["Config"]
    assert config["Healthcheck"] == {
        "Test": ["CMD-SHELL", "echo looked; test ! -e /tmp/ill"], "Interval": 200_000_000, "Timeout": 30_000_000_000,
        "StartPeriod": 0, "Retries": 2,
    }  # fmt: skip


def test_it_ends_with_the_container_and_begins_with_the_next_start(sbx_in):
    before = set(descendants())
    sbx_in.live("--health-cmd", "true", "--health-interval", "100ms", script=IDLE)
    until(lambda: health(sbx_in)["Status"], lambda word: word == "healthy")
    sbx_in("stop", "-t", "0", "c")
    until(lambda: set(descendants()) - before, lambda left: not left)  # the checker too
    assert health(sbx_in)["Status"] == "healthy" and "healthy" not in sbx_in.column("Status")[0]
    ended = len(told(sbx_in, "--filter", "event=health_status"))
    sbx_in("start", "c")
    until(lambda: health(sbx_in)["Status"], lambda word: word == "healthy")
    assert len(told(sbx_in, "--filter", "event=health_status")) > ended


def test_by_hand_only(sbx_in):
    sbx_in.live("--health-cmd", '["test", "-e", "/etc"]', "--health-interval", "disable", script=IDLE)
    assert health(sbx_in) == {"Status": "starting", "FailingStreak": 0, "Log": []}
    assert "(starting)" in sbx_in.column("Status")[0]
    assert sbx_in.out("healthcheck", "run", "c") == ""
    assert health(sbx_in)["Status"] == "healthy" and len(health(sbx_in)["Log"]) == 1
    assert told(sbx_in, "--filter", "event=health_status") == ["c health_status"]


def test_a_start_period_and_a_program_that_is_not_there(sbx_in):
    options = ("--health-interval", "disable", "--health-retries", "1", "--health-start-period")
    sbx_in.live(*options, "1h", "--health-cmd", '["/no/such"]', script=IDLE)
    assert sbx_in("healthcheck", "run", "c", code=1).stdout == "unhealthy\n"
    assert health(sbx_in)["Status"] == "starting" and health(sbx_in)["FailingStreak"] == 0
    assert health(sbx_in)["Log"][0]["ExitCode"] == 127
    sbx_in.live(*options, "0", "--health-cmd", "CMD /no/such", script=IDLE, name="d")
    sbx_in("healthcheck", "run", "d", code=1)
    entry = health(sbx_in, "d")["Log"][0]
    assert entry["ExitCode"] == 127 and "No such file" in entry["Output"]
    assert health(sbx_in, "d")["Status"] == "unhealthy"


def test_one_that_takes_too_long_is_ended(sbx_in):
    sbx_in.live("--health-cmd", "CMD sleep 77", "--health-timeout", "1s", "--health-interval", "disable", script=IDLE)
    began = time.monotonic()
    sbx_in("healthcheck", "run", "c", code=1)
    assert 1 <= time.monotonic() - began < 10
    assert health(sbx_in)["Log"][0]["ExitCode"] == -1
    until(lambda: sbx_in.out("top", "c"), lambda text: "sleep 77" not in text)


def test_much_output_is_cut(sbx_in):
    sbx_in.live(
        "--health-cmd", "yes | head -c 3000000; sleep 1000 & exit 0", "--health-interval", "disable", script=IDLE
    )
    sbx_in("healthcheck", "run", "c")
    assert health(sbx_in)["Log"][0]["Output"] == "y\n" * 250


@pytest.mark.parametrize("action", ["kill", "stop", "restart"])
def test_what_is_done_when_it_fails(sbx_in, action):
    options = ("--health-cmd", "test ! -e /ill", "--health-interval", "100ms", "--health-retries", "1")
    sbx_in.live(*options, "--health-on-failure", action, "--stop-timeout", "1", script="rm -f /ill; " + IDLE)
    until(lambda: health(sbx_in)["Status"], lambda word: word == "healthy")
    first = sbx_in.out("inspect", "-f", "{{.State.Pid}}", "c")
    sbx_in("exec", "c", "touch", "/ill")
    if action == "restart":
        until(lambda: told(sbx_in), lambda lines: lines.count("c start") == 2)
        until(lambda: health(sbx_in)["Status"], lambda word: word == "healthy")
        assert sbx_in.out("inspect", "-f", "{{.State.Pid}}", "c") != first
    else:
        until(lambda: sbx_in.column("State")[0], lambda word: word == "exited")
        assert sbx_in.column("ExitCode") == ["137" if action == "kill" else "143"]


def test_refused(sbx_in):
    for words, said in (
        (("--health-retries", "0"), "read --health-retries `0`"),
        (("--health-timeout", "100ms"), "at least 1 second"),
        (("--health-interval", "-1s"), "it is negative"),
        (("--no-healthcheck",), "not with --no-healthcheck"),
    ):
        done = sbx_in("create", "--name", "c", "--health-cmd", "true", *words, sbx_in.image, "true", code=125)
        assert said in done.stderr
    done = sbx_in("create", "--name", "c", "--health-retries", "2", sbx_in.image, "true", code=125)
    assert "there is no health check" in done.stderr
    assert "throw-away" in sbx_in("run", "--health-cmd", "true", sbx_in.image, "true", code=125).stderr
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    assert "it has no health check" in sbx_in("healthcheck", "run", "c", code=125).stderr
    sbx_in("create", "--name", "d", "--health-cmd", "true", sbx_in.image, "true")
    assert "it is created" in sbx_in("healthcheck", "run", "d", code=125).stderr
    assert "no such state" in sbx_in("ps", "--filter", "health=fine", code=125).stderr


@pytest.fixture
def checked(sbx_in, tmp_path):
    """An image as docker makes it, with a HEALTHCHECK; made of an exported one."""
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    sbx_in("export", "-o", str(tmp_path / "root.tar"), "c")
    sbx_in("import", "-q", str(tmp_path / "root.tar"), "localhost/plain")
    sbx_in("save", "-q", "--format", "docker-archive", "-o", str(tmp_path / "image.tar"), "localhost/plain")
    with tarfile.open(tmp_path / "image.tar") as tar:
        for member in tar:
            (tmp_path / "image" / member.name).parent.mkdir(parents=True, exist_ok=True)
            if member.isfile():
                (tmp_path / "image" / member.name).write_bytes(tar.extractfile(member).read())
    manifest = json.loads((tmp_path / "image/manifest.json").read_text())
    config = json.loads((tmp_path / "image" / manifest[0]["Config"]).read_text())
    config["config"]["Healthcheck"] = {
        "Test": ["CMD-SHELL", "exit 7"], "Interval": 100_000_000, "Timeout": 2_000_000_000, "Retries": 2,
    }  # fmt: skip
    raw = json.dumps(config).encode()
    manifest[0].update(Config=f"{hashlib.sha256(raw).hexdigest()}.json", RepoTags=["localhost/checked:latest"])
    (tmp_path / "image" / manifest[0]["Config"]).write_bytes(raw)
    (tmp_path / "image/manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(tmp_path / "checked.tar", "w") as tar:
        for path in sorted((tmp_path / "image").rglob("*")):
            if path.is_file():
                tar.add(path, str(path.relative_to(tmp_path / "image")))
    sbx_in("load", "-q", "-i", str(tmp_path / "checked.tar"))
    return "localhost/checked"


def test_of_an_image(sbx_in, checked):
    sbx_in("run", "-d", "--name", "a", checked, "sleep", "60")
    sbx_in("run", "-d", "--name", "b", "--no-healthcheck", checked, "sleep", "60")
    sbx_in("run", "-d", "--name", "d", "--health-cmd", "true", "--health-retries", "5", checked, "sleep", "60")
    until(lambda: health(sbx_in, "a")["Status"], lambda word: word == "unhealthy")
    until(lambda: health(sbx_in, "d")["Status"], lambda word: word == "healthy")
    assert health(sbx_in, "b")["Status"] == ""
    plan = json.loads(sbx_in.out("inspect", "d"))[0]["Config"]["Healthcheck"]
    # A second at least, where it is not the caller who says it.
    assert plan["Interval"] == 1_000_000_000 and plan["Timeout"] == 2_000_000_000 and plan["Retries"] == 5
    assert plan["Test"] == ["CMD-SHELL", "true"]


def test_one_that_is_ill_is_killed_and_started_again(sbx_in):
    """With --restart: each start has its own checks, by whomever it is made."""
    options = ("--health-cmd", "test ! -e /ill", "--health-interval", "100ms", "--health-retries", "1")
    sbx_in.live(*options, "--health-on-failure", "kill", "--restart", "always", script="rm -f /ill; " + IDLE)
    for count in (1, 2):
        until(
            lambda: (sbx_in.column("State")[0], sbx_in.column("Status")[0][-9:]),
            lambda seen: seen == ("running", "(healthy)"),
        )
        assert told(sbx_in).count("c start") == count
        sbx_in("exec", "c", "touch", "/ill")
        until(lambda: told(sbx_in), lambda lines, count=count: lines.count("c died") == count)
    until(lambda: told(sbx_in), lambda lines: lines.count("c start") == 3)


@pytest.mark.parametrize("userns", ["auto", "keep-id"])
def test_nothing_is_left_of_one_that_is_removed_at_its_end(sbx_in, userns):
    for _ in range(3):
        sbx_in.live("--rm", "--userns", userns, "--health-cmd", "true", "--health-interval", "20ms", script=IDLE)
        until(lambda: sbx_in.column("Status"), lambda rows: rows and rows[0].endswith("(healthy)"))
        sbx_in("kill", "c")
        until(lambda: sbx_in.column("Names"), lambda names: not names)
    sbx_in("run", sbx_in.image, "true")  # which sweeps


def test_removed_while_it_is_checked(sbx_in):
    for _ in range(5):
        sbx_in.live("--health-cmd", "true", "--health-interval", "10ms", script=IDLE)
        until(lambda: health(sbx_in)["Status"], lambda word: word == "healthy")
        sbx_in("rm", "-f", "c")
        assert sbx_in.column("Names") == []
