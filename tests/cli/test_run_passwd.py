"""A user who is only a number gets a name in the image's own passwd and group: --passwd, --passwd-entry, --group-entry."""

import os
import pwd

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

NAME = pwd.getpwuid(os.getuid()).pw_name
SHOW = "tail -n 1 /etc/passwd; tail -n 1 /etc/group; whoami"


def test_a_number(box):
    assert box.out(SHOW, "-u", "1234:77", "-w", "/tmp").splitlines() == [
        "1234:*:1234:77:container user:/:/bin/sh", "77:x:77:1234", "1234",
    ]  # fmt: skip
    assert (
        box.out("tail -n 1 /etc/passwd", "-u", "1234", "-e", "HOME=/srv")
        == "1234:*:1234:0:container user:/srv:/bin/sh\n"
    )


def test_the_caller(box):
    entry, group, who = box.out(SHOW, "--userns=keep-id").splitlines()
    assert entry == f"{NAME}:*:{os.getuid()}:{os.getgid()}:{NAME}:/:/bin/sh" and who == NAME
    assert group == f"{NAME}:x:{os.getgid()}:{NAME}"


def test_whom_the_image_knows_stays_as_he_is(box):
    plain = box.out("cat /etc/passwd /etc/group")
    for user in ("0", "app", "1000", "root:44"):
        assert box.out("cat /etc/passwd /etc/group", "-u", user) == plain


def test_other_lines(box):
    options = (
        "-u",
        "1234:77",
        "--passwd-entry",
        "$USERNAME-x:*:$UID:$GID:$NAME:/there:/bin/ash",
        "--group-entry",
        "g:x:$GID:$USERLIST",
    )
    assert box.out(SHOW, *options).splitlines() == [
        "1234-x:*:1234:77:container user:/there:/bin/ash", "g:x:77:1234", "1234-x",
    ]  # fmt: skip
    assert "an entry has 6 colons" in box("true", "-u", "1234", "--passwd-entry", "a:b").stderr
    assert "an entry has 3 colons" in box("true", "-u", "1234", "--group-entry", "a:b\n:c:d").stderr


@pytest.mark.parametrize("more", [(), ("--read-only",), ("--storage-driver=copy",)])
def test_wanted_or_not(box, more):
    assert "1234" not in box.out("cat /etc/passwd /etc/group", "-u", "1234", "--passwd=false", *more)
    assert "\n1234:*:1234:" in box.out("cat /etc/passwd", "-u", "1234", *more)


def test_a_file_that_leads_outside(sbx, busybox_rootfs, tmp_path, no_leftovers):
    """A link in the image is followed inside only; a pipe, or no folder at all, is passed over, unless the line was asked for."""
    root = tmp_path / "root"
    os.system(f"cp -a {busybox_rootfs} {root}")
    (tmp_path / "victim").write_text("whole\n")
    passwd = root / "etc/passwd"
    passwd.unlink()
    passwd.symlink_to(f"{tmp_path}/victim")
    run = ("run", "-u", "1234", f"rootfs:{root}", "sh", "-c", "echo ran; id -u")
    assert sbx(*run).stdout == "ran\n1234\n"
    assert (tmp_path / "victim").read_text() == "whole\n"
    passwd.unlink()
    os.mkfifo(passwd)
    assert sbx("run", "-u", "1234", f"rootfs:{root}", "true").returncode == 125  # as before: it is read
    passwd.unlink()
    (root / "etc").rename(root / "other")
    assert sbx(*run).stdout == "ran\n1234\n"
    done = sbx(*run[:3], "--passwd-entry", "a:b:c:d:e:f:g", "--no-hosts", *run[3:])
    assert done.returncode == 125 and "add entry to `/etc/passwd`" in done.stderr
