"""What was asked for and what is in force: recorded for containers that live on, and in the report."""

import json

import pytest

from sandbox import isolation
from sandbox.errors import SandboxError

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


def reported(sbx, tmp_path, rootfs, *words, command=("true",)):
    report = tmp_path / "report.json"
    done = sbx("run", "--report", str(report), *words, f"rootfs:{rootfs}", *command)
    assert done.returncode == 0, done
    return json.loads(report.read_text())["isolation"]


SLEEP = ("sleep", "0.3")


def test_both_sides_are_reported(sbx, tmp_path, busybox_rootfs):
    found = reported(sbx, tmp_path, busybox_rootfs, command=SLEEP)
    asked, got = found["requested"], found["effective"]
    assert asked["profile"] == "default"
    assert got["seccomp"] is got["noNewPrivileges"] is True
    assert got["capabilities"] == asked["capabilities"] == got["permitted"]
    assert (
        {"mount", "pid", "network", "ipc", "uts", "cgroup", "user"}
        == set(got["namespaces"])
        == set(asked["namespaces"])
    )


@pytest.mark.parametrize("words", [["-u", "1000:1000"], ["--init"], ["--profile", "strict"], ["--cap-drop", "all"]])
def test_in_force_is_what_was_asked_for(sbx, tmp_path, busybox_rootfs, words):
    found = reported(sbx, tmp_path, busybox_rootfs, *words, command=SLEEP)
    for key in ("seccomp", "noNewPrivileges", "capabilities", "namespaces"):
        assert found["effective"][key] == found["requested"][key], key


def test_what_is_weak_shows(sbx, tmp_path, busybox_rootfs):
    words = ("--privileged", "--network", "host", "--ipc", "host", "-q")
    found = reported(sbx, tmp_path, busybox_rootfs, *words, command=SLEEP)
    assert found["requested"]["seccomp"] is found["effective"]["seccomp"] is False
    assert "CAP_SYS_ADMIN" in found["effective"]["capabilities"]
    assert not {"network", "ipc"} & set(found["effective"]["namespaces"])


def test_inspect_shows_it_and_keeps_it(sbx, busybox_rootfs, no_leftovers):
    sbx("run", "-d", "--name", "c", f"rootfs:{busybox_rootfs}", "sleep", "60")
    form = "{{.Sbx.Isolation.effective.seccomp}} {{.Sbx.Isolation.requested.network}}"
    assert sbx("inspect", "-f", form, "c").stdout == "true none\n"
    sbx("stop", "-t", "0", "c")
    assert sbx("inspect", "-f", form, "c").stdout == "true none\n"
    sbx("rm", "c")


ASKED = {"seccomp": True, "noNewPrivileges": True, "capabilities": ["CAP_KILL"], "namespaces": ["pid", "user"]}


@pytest.mark.parametrize(
    ("less", "subject"),
    [({"seccomp": False}, "seccomp"), ({"noNewPrivileges": False}, "noNewPrivileges"), ({"namespaces": ["user"]}, "pid"),
     ({"capabilities": ["CAP_KILL", "CAP_CHOWN"]}, "CAP_CHOWN"), ({"permitted": ["CAP_CHOWN"]}, "CAP_CHOWN")],
)  # fmt: skip
def test_less_is_an_error(less, subject):
    found = {**ASKED, "permitted": [], **less}
    with pytest.raises(SandboxError, match="check isolation") as caught:
        isolation.check(ASKED, found)
    assert caught.value.subject == subject
    isolation.check(ASKED, {**ASKED, "permitted": [], "capabilities": []})  # what a command gives up is no fault
