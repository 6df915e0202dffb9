"""`sbx run`: who one is inside; id maps of every mode, users looked up in the image, one id as the last resort."""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store")

UID, GID = os.getuid(), os.getgid()


def lines(entries):
    return [[str(n) for n in entry] for entry in entries]


def maps_of(text):
    """The two maps of `cat /proc/self/uid_map - gid_map` with a line `-` between them."""
    both = [[]]
    for line in text.splitlines():
        if line == "-":
            both.append([])
        else:
            both[-1].append(line.split())
    return both


SHOW = "cat /proc/self/uid_map; echo -; cat /proc/self/gid_map"


# -- maps --


def test_ordinary_map_is_caller_then_ranges(box, range_of):
    (ufirst, ucount), (gfirst, gcount) = range_of("/etc/subuid")[0], range_of("/etc/subgid")[0]
    uids, gids = maps_of(box.out(SHOW))
    assert uids[:2] == lines([(0, UID, 1), (1, ufirst, ucount)])
    assert gids[:2] == lines([(0, GID, 1), (1, gfirst, gcount)])


def test_auto_is_the_same_as_nothing(box):
    assert box.out(SHOW, "--userns=auto") == box.out(SHOW)


def test_single_maps_one_id_and_denies_setgroups(box):
    out = box.out(SHOW + "; cat /proc/self/setgroups; id -u; id -G", "--userns=single")
    uids, gids_and_rest = maps_of(out)
    assert uids == lines([(0, UID, 1)])
    assert gids_and_rest[0] == [str(n) for n in (0, GID, 1)]
    # Supplementary groups can not be dropped without setgroups: they show as nobody's.
    assert gids_and_rest[1:3] == [["deny"], ["0"]]
    assert gids_and_rest[3][0] == "0" and set(gids_and_rest[3][1:]) <= {"65534"}


def test_keep_id_makes_the_caller_itself(box, range_of):
    first, count = range_of("/etc/subuid")[0]
    uids, _ = maps_of(box.out(SHOW, "--userns=keep-id"))
    assert uids[:3] == lines([(0, first, UID), (UID, UID, 1), (UID + 1, first + UID, count - UID)])
    assert box.out("id -u; id -g", "--userns=keep-id") == f"{UID}\n{GID}\n"


def test_keep_id_with_other_ids(box, range_of):
    first, count = range_of("/etc/subuid")[0]
    uids, _ = maps_of(box.out(SHOW, "--userns=keep-id:uid=1000,gid=44"))
    assert uids[:3] == lines([(0, first, 1000), (1000, UID, 1), (1001, first + 1000, count - 1000)])
    # `app` of the image's passwd: its home and its groups come along
    assert box.out("id -u; id -g; echo $HOME", "--userns=keep-id:uid=1000,gid=44") == "1000\n44\n/home/app\n"


def test_keep_id_writes_files_of_the_caller(box, tmp_path):
    box.out("touch /v/made", "--userns=keep-id", "-v", f"{tmp_path}:/v")
    status = (tmp_path / "made").stat()
    assert (status.st_uid, status.st_gid) == (UID, GID)


def test_nomap_leaves_the_caller_out(box, busybox_oci, range_of, tmp_path):
    first, count = range_of("/etc/subuid")[0]
    uids, _ = maps_of(box.out(SHOW, "--userns=nomap", image=busybox_oci.oci))
    assert uids[0] == [str(n) for n in (0, first, count)]
    tmp_path.chmod(0o755)
    done = box("stat -c %u /v; touch /v/no", "--userns=nomap", "-v", f"{tmp_path}:/v", image=busybox_oci.oci)
    assert done.stdout == "65534\n"
    assert (done.returncode, done.stderr) == (1, "touch: /v/no: Permission denied\n")


def test_nomap_can_not_use_a_folder_of_the_caller(own_box, refused, no_leftovers):
    done = own_box("true", "--userns=nomap")
    refused(done, "make mount target `/etc/hosts`: Permission denied", hint="an id that this id map does not have")


def test_uidmap_counts_in_the_ordinary_map(box, range_of):
    first, _ = range_of("/etc/subuid")[0]
    gfirst, _ = range_of("/etc/subgid")[0]
    uids, gids = maps_of(box.out(SHOW, "--uidmap=0:1:1000", "--uidmap=1000:0:1"))
    assert uids == lines([(0, first, 1000), (1000, UID, 1)])
    assert gids == lines([(0, gfirst, 1000), (1000, GID, 1)])  # podman's rule: the other map follows


def test_uidmap_and_gidmap_apart(box, busybox_oci, range_of):
    first, _ = range_of("/etc/subuid")[0]
    gfirst, _ = range_of("/etc/subgid")[0]
    uids, gids = maps_of(box.out(SHOW, "--uidmap=0:5:10", f"--gidmap=0:@{gfirst + 7}:2", image=busybox_oci.oci))
    assert uids == lines([(0, first + 4, 10)])
    assert gids == lines([(0, gfirst + 7, 2)])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--uidmap=1:1:10"], "read user id map: id 0 is not mapped"),
        (["--uidmap=0:0:1", "--uidmap=0:1:1"], "read user id map: id 0 inside is mapped twice"),
        (["--uidmap=0:0:1", "--uidmap=5:0:1"], "read user id map: id 0 outside is mapped twice"),
        (["--uidmap=x"], "read id map `x`: Invalid argument"),
        (["--uidmap=0:0:0"], "read id map `0:0:0`: outside of what ids can be"),
        (["--uidmap=0:0:1", "--userns=single"], "choose user namespace `single`: --userns and --uidmap exclude each other"),
        (["--userns=bogus"], "choose user namespace `bogus`: no such mode"),
        (["--userns=keep-id:uid=x"], "choose user namespace `keep-id:uid=x`: Invalid argument"),
    ],
)  # fmt: skip
def test_maps_refused_before_anything_is_made(own_box, refused, no_leftovers, options, line):
    done = own_box("true", *options)
    if "outside is mapped twice" in line:
        line = f"read user id map: id {UID} outside is mapped twice"
    refused(done, line)
    assert not (own_box.sbx.store / "containers").exists()


def test_host_id_that_is_not_ours_is_refused_by_newuidmap(own_box, refused, no_leftovers):
    done = own_box("true", "--uidmap=0:@1:1", "--gidmap=0:0:1")
    assert done.returncode == 125
    assert done.stderr.splitlines()[0].startswith(
        "sbx: map user ids `newuidmap`: newuidmap: uid range [0-1) -> [1-2) not"
    )
    assert done.stderr.splitlines()[1].startswith("hint: newuidmap needs its set-uid bit")


# -- users --


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("app", "uid=1000(app) gid=1000(app) groups=29(audio),44(video),1000(app) /home/app"),
        ("1000", "uid=1000(app) gid=1000(app) groups=29(audio),44(video),1000(app) /home/app"),
        ("app:daemon", "uid=1000(app) gid=1(daemon) groups=1(daemon) /home/app"),
        ("app:29", "uid=1000(app) gid=29(audio) groups=29(audio) /home/app"),
        ("12:34", "uid=12(12) gid=34(34) groups=34(34) /"),
        ("12", "uid=12(12) gid=0(root) groups=0(root) /"),
        ("nobody", "uid=65534(nobody) gid=65534(nogroup) groups=44(video),65534(nogroup) /nonexistent"),
        ("root", "uid=0(root) gid=0(root) groups=0(root) /root"),
        (":daemon", "uid=0(root) gid=1(daemon) groups=1(daemon) /root"),
    ],
)
def test_user_by_name_and_number(box, user, said):
    out = box.out("id; grep Groups: /proc/self/status; echo $HOME", "-u", user).splitlines()
    groups = sorted(int(n) for n in out[1].split()[1:])
    names = said.partition("groups=")[2].partition(" ")[0]
    assert out[0].split()[:2] == said.split()[:2]
    assert set(groups) <= {int(g.partition("(")[0]) for g in names.split(",")}
    assert set(groups) | {int(out[0].split("gid=")[1].split("(")[0].split()[0])} == {
        int(g.partition("(")[0]) for g in names.split(",")
    }
    assert out[2] == said.rpartition(" ")[2]


def test_group_add_by_name_and_number(box):
    out = box.out("grep Groups: /proc/self/status", "-u", "12:34", "--group-add", "video", "--group-add", "777")
    assert sorted(out.split()[1:], key=int) == ["44", "777"]


def test_user_and_home_that_the_caller_sets(box):
    assert box.out("echo $HOME", "-u", "app", "-e", "HOME=/elsewhere") == "/elsewhere\n"


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ("ghost", "find user `ghost`: no such user in the image's /etc/passwd"),
        ("app:ghosts", "find group `ghosts`: no such group in the image's /etc/group"),
        ("-1", "find user `-1`: no such user in the image's /etc/passwd"),
        ("+0", "find user `+0`: no such user in the image's /etc/passwd"),
        ("4294967295", "find user `4294967295`: no such user in the image's /etc/passwd"),
        ("app:", "find user `app:`: not of the form user[:group]"),
        ("\u0661", "find user `\u0661`: no such user in the image's /etc/passwd"),
    ],
)
def test_I17_unknown_user_is_an_error_and_never_root(own_box, refused, no_leftovers, user, line):
    refused(own_box("id", f"--user={user}"), line)


def test_user_outside_of_the_map(own_box, refused, no_leftovers):
    done = own_box("id", "-u", "4000000000")
    refused(done, "set user `4000000000:0`: Invalid argument", hint="the id is outside the id map")


def test_user_with_one_id_only(own_box, refused, no_leftovers):
    refused(
        own_box("id", "-u", "1000:1000", "--userns=single"), "set user `1000:1000`: Invalid argument", hint="id map"
    )
    refused(own_box("id", "-u", "app", "--userns=single"), "set groups `29`: only one id is mapped")


# -- a passwd that is not to be trusted --


def with_passwd(rootfs, *, target: str = ""):
    (rootfs / "etc/passwd").unlink()
    if target:
        (rootfs / "etc/passwd").symlink_to(target)


def test_I16_passwd_link_stays_in_the_image(own_box, rootfs, tmp_path, refused, no_leftovers):
    """A link that leaves the image would make a user of the host's choice; in the image its target is not there."""
    canary = tmp_path / "passwd"
    canary.write_text("ghost:x:0:0::/:/bin/sh\n")
    for target in (str(canary), f"../../../../../..{canary}"):
        with_passwd(rootfs, target=target)
        done = own_box("id", "-u", "ghost", image=f"rootfs:{rootfs}")
        refused(done, "find user `ghost`: no such user in the image's /etc/passwd")


def test_passwd_link_inside_the_image_is_followed(own_box, rootfs):
    with_passwd(rootfs, target="/usr/passwd")
    (rootfs / "usr/passwd").write_text("inner:x:7:8::/inner:/bin/sh\n")
    assert own_box.out("id -u; id -g; echo $HOME", "-u", "inner", image=f"rootfs:{rootfs}") == "7\n8\n/inner\n"


def test_I16_passwd_is_a_pipe(own_box, rootfs, refused, no_leftovers):
    with_passwd(rootfs)
    os.mkfifo(rootfs / "etc/passwd")
    done = own_box("id", "-u", "app", image=f"rootfs:{rootfs}", timeout=20)
    refused(done, "read `etc/passwd`: not a regular file of at most 1 MiB")


def test_I16_passwd_is_a_folder(own_box, rootfs, refused, no_leftovers):
    with_passwd(rootfs)
    (rootfs / "etc/passwd").mkdir()
    refused(
        own_box("id", "-u", "app", image=f"rootfs:{rootfs}"), "read `etc/passwd`: not a regular file of at most 1 MiB"
    )


def test_I16_passwd_is_huge(own_box, rootfs, refused, no_leftovers):
    with open(rootfs / "etc/passwd", "w") as file:
        file.truncate(1 << 40)
    refused(
        own_box("id", "-u", "app", image=f"rootfs:{rootfs}"), "read `etc/passwd`: not a regular file of at most 1 MiB"
    )


def test_I16_passwd_is_a_link_into_proc(own_box, rootfs, refused, no_leftovers):
    with_passwd(rootfs, target="/proc/self/environ")
    refused(
        own_box("id", "-u", "app", image=f"rootfs:{rootfs}"), "find user `app`: no such user in the image's /etc/passwd"
    )


def test_no_passwd_at_all(own_box, rootfs, refused):
    with_passwd(rootfs)
    image = f"rootfs:{rootfs}"
    assert own_box.out("id -u; id -g; echo $HOME", "-u", "5:6", image=image) == "5\n6\n/\n"
    assert own_box.out("id -u; echo $HOME", image=image) == "0\n/root\n"
    refused(own_box("id", "-u", "app", image=image), "find user `app`: no such user in the image's /etc/passwd")


# -- root of the host --


@pytest.mark.root
@pytest.mark.parametrize("mode", ["", "auto", "nomap"])
def test_root_is_never_root_inside(box, range_of, mode, tmp_path):
    first, count = range_of("/etc/subuid")[0]
    out = box.out(SHOW + "; id -u", *([f"--userns={mode}"] if mode else []))
    uids, rest = maps_of(out)
    assert uids[0] == [str(n) for n in (0, first, count)]
    assert all(int(line[1]) != 0 for line in uids)
    assert rest[-1] == ["0"]
    # A file of the host's root belongs to nobody, whatever root does inside.
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    done = box("cat /v/secret", *([f"--userns={mode}"] if mode else []), "-v", f"{tmp_path}:/v")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.root
@pytest.mark.parametrize("mode", ["single", "keep-id"])
def test_root_can_not_map_itself(own_box, refused, no_leftovers, mode):
    refused(own_box("id", f"--userns={mode}"), f"map ids `{mode}`: root of the host is never mapped")


@pytest.mark.root
def test_root_can_not_map_root_by_hand(own_box, refused, no_leftovers):
    refused(own_box("id", "--uidmap=0:@0:1"), "read user id map: root of the host is never mapped")


@pytest.mark.root
def test_processes_of_root_run_as_subordinate_ids(box, range_of):
    first, count = range_of("/etc/subuid")[0]
    process = box.popen("echo up; read x", "-i", stdin=-1)
    assert process.stdout.readline() == "up\n"
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{name}/status").read_text()
            words = Path(f"/proc/{name}/cmdline").read_text()
        except OSError:
            continue
        if words == "sh\0-c\0echo up; read x\0":
            found.append([int(n) for n in status.split("Uid:")[1].split("\n")[0].split()])
    process.communicate("\n")
    assert found and all(first <= uid < first + count for uids in found for uid in uids)
    assert process.returncode == 0
