"""`sbx run`: -v, --mount and --tmpfs: what comes in, with which rights, and what never does."""

import json
import os
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import images
import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store")


@pytest.fixture
def folder(tmp_path):
    """A folder of the host with a file in it."""
    path = tmp_path / "v"
    path.mkdir()
    (path / "file").write_text("of the host\n")
    yield path
    images.remove_tree(path)


def options_of(box, point, *options, **rest):
    """The options of the mount at `point`, per mount below it too."""
    out = box.out("cat /proc/self/mountinfo", *options, **rest)
    found = {}
    for line in out.splitlines():
        fields = line.split()
        if fields[4] == point or fields[4].startswith(point + "/"):
            found[fields[4]] = set(fields[5].split(","))
    return found


# -- bind mounts --


def test_volume_is_the_hosts_folder(box, folder):
    assert box.out("cat /v/file; echo new >/v/made; stat -c %u /v/made", "-v", f"{folder}:/v") == "of the host\n0\n"
    made = folder / "made"
    assert (made.read_text(), made.stat().st_uid) == ("new\n", os.getuid())


def test_E06_volume_gives_no_devices_and_no_set_uid(box, folder):
    options = options_of(box, "/v", "-v", f"{folder}:/v")["/v"]
    assert {"rw", "nosuid", "nodev"} <= options
    assert "noexec" in options_of(box, "/v", "-v", f"{folder}:/v:noexec")["/v"]


def test_volume_of_one_file(box, folder):
    assert box.out("cat /etc/one; echo more >>/etc/one", "-v", f"{folder}/file:/etc/one") == "of the host\n"
    assert (folder / "file").read_text() == "of the host\nmore\n"


def test_relative_source(box, folder):
    assert box.out("cat /a/file /b/file", "-v", "./v:/a", "-v", "v/../v:/b", cwd=folder.parent) == "of the host\n" * 2
    assert box.out("cat /a/file", "-v", ".:/a", cwd=folder) == "of the host\n"


def test_read_only_volume(box, folder):
    done = box("cat /v/file; touch /v/x 2>&1; touch /v/file 2>&1; rm /v/file 2>&1", "-v", f"{folder}:/v:ro")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "of the host", "touch: /v/x: Read-only file system", "touch: /v/file: Read-only file system",
        "rm: can't remove '/v/file': Read-only file system",
    ]  # fmt: skip
    assert os.listdir(folder) == ["file"]


def test_read_only_is_recursive(box):
    """/dev has mounts below it on every machine; `mount -o bind,ro` alone would leave them writable."""
    found = options_of(box, "/v", "-v", "/dev:/v:ro")
    assert len(found) > 1
    assert all({"ro", "nosuid", "nodev"} <= options for options in found.values()), found


def test_bind_does_not_uncover(box):
    """`bind` without what is mounted below: the kernel refuses that to an ordinary user, and the whole tree comes."""
    hidden = set(options_of(box, "/v", "-v", "/dev:/v:ro,bind"))
    assert hidden == set(options_of(box, "/v", "-v", "/dev:/v:ro,rbind"))


@pytest.mark.root
def test_E06_R21_read_only_reaches_mounts_below(box, folder, tmp_path):
    (folder / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "sbx-test", folder / "below"], check=True)
    try:
        done = box("touch /v/x 2>&1; touch /v/below/x 2>&1", "-v", f"{folder}:/v:ro")
        assert done.stdout == "touch: /v/x: Read-only file system\ntouch: /v/below/x: Read-only file system\n"
    finally:
        subprocess.run(["umount", folder / "below"], check=True)


def test_later_volume_wins(box, folder, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w/file").write_text("second\n")
    assert box.out("cat /v/file", "-v", f"{folder}:/v", "-v", f"{tmp_path}/w:/v") == "second\n"


def test_volume_over_what_sbx_mounts(box, folder):
    assert box.out("cat /etc/hosts", "-v", f"{folder}/file:/etc/hosts") == "of the host\n"
    assert box.out("cat /dev/shm/file", "-v", f"{folder}:/dev/shm") == "of the host\n"


def test_volume_in_a_volume(box, folder, tmp_path):
    (tmp_path / "w").mkdir()
    assert box.out("ls /v /v/in", "-v", f"{folder}:/v", "-v", f"{tmp_path}/w:/v/in") == "/v:\nfile\nin\n\n/v/in:\n"
    assert (folder / "in").is_dir()


def test_volumes_are_private(box, folder):
    """What is mounted inside does not come out, what the host mounts does not come in."""
    out = box.out("cat /proc/self/mountinfo", "-v", f"{folder}:/v")
    assert not [line for line in out.splitlines() if "shared:" in line or "master:" in line]


def test_symlinked_source(box, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert box.out("cat /v/file", "-v", f"{tmp_path}/link:/v") == "of the host\n"


def test_I18_target_through_a_link_of_the_image(box, rootfs, folder, tmp_path):
    """The link leads to a folder of the host; in the image it leads to a folder of that name in the image."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (rootfs / "data").symlink_to(canary)
    assert (
        box.out(f"cat /data/file {canary}/file", "-v", f"{folder}:/data", image=f"rootfs:{rootfs}")
        == "of the host\n" * 2
    )
    assert os.listdir(canary) == []
    (rootfs / "deep").symlink_to("../../../../../../../../../../../" + str(canary))
    assert box.out("cat /deep/a/b/file", "-v", f"{folder}:/deep/a/b", image=f"rootfs:{rootfs}") == "of the host\n"
    assert os.listdir(canary) == []


def test_target_below_proc_through_a_link(own_box, folder, refused, no_leftovers):
    done = own_box("true", "-v", f"{folder}:/proc/self/fd")
    refused(
        done,
        "open mount target `/proc/self/fd`: Too many levels of symbolic links",
        hint="the image has a symlink there",
    )


@pytest.mark.requires("overlay")
def test_chown_volume(box, folder):
    """`U`: files and folders belong to the container's user, links are not followed."""
    (folder / "sub").mkdir()
    (folder / "sub/inner").write_text("x")
    outside = folder.parent / "outside"
    outside.write_text("")
    (folder / "sub/link").symlink_to(outside)
    script = "stat -c '%n %u:%g' /v /v/file /v/sub /v/sub/inner; id -u; touch /v/sub/mine"
    out = box.out(script, "-u", "12:34", "-v", f"{folder}:/v:U")
    assert out == "/v 12:34\n/v/file 12:34\n/v/sub 12:34\n/v/sub/inner 12:34\n12\n"
    assert outside.stat().st_uid == os.getuid()
    # Given back, so that the caller can remove it.
    box.out("true", "-v", f"{folder}:/v:U")
    assert {path.lstat().st_uid for path in (folder, *folder.rglob("*"))} == {os.getuid()}


@pytest.mark.requires("overlay")
@pytest.mark.parametrize("options", ["O", "O,ro"])
def test_overlay_volume(own_box, folder, no_leftovers, options):
    """`O`: changes are the container's own and go with it."""
    done = own_box("cat /v/file; echo new >/v/file; touch /v/made; rm /v/file; ls /v", "-v", f"{folder}:/v:{options}")
    if options == "O":
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "of the host\nmade\n")
    else:
        assert done.stderr.count("Read-only file system") == 3
    assert os.listdir(folder) == ["file"]
    assert (folder / "file").read_text() == "of the host\n"


@pytest.mark.root
def test_volume_with_the_id_map_laid_over(box, folder):
    """For root: what is root's on disk is root's inside, though the container's root is a subordinate id."""
    os.chown(folder / "file", 1000, 1000)
    out = box.out("stat -c '%u:%g' /v /v/file; touch /v/made", "-v", f"{folder}:/v:idmap")
    assert out == "0:0\n1000:1000\n"
    assert (folder / "made").stat().st_uid == 0


def test_id_map_is_not_for_users(own_box, folder, refused, no_leftovers):
    done = own_box("true", "-v", f"{folder}:/v:idmap")
    refused(done, "read volume `/v`: only root may map the ids of a volume")


# -- refused --


@pytest.mark.parametrize(
    ("volume", "line"),
    [
        ("V:/v:ro:x", "read volume `V:/v:ro:x`: Invalid argument"),
        (":/v", "read volume `:/v`: Invalid argument"),
        ("V:relative", "read volume `relative`: Invalid argument"),
        ("V:/", "read volume `V:/`: the root can not be covered"),
        ("V:/..", "read volume `V:/`: the root can not be covered"),
        ("V:/v:rx", "read volume `/v:rx`: no such option"),
        ("V:/v:shared", "read volume `/v:shared`: no such option"),
        ("V/none:/v", "open volume source `V/none`: No such file or directory"),
        ("V/file/x:/v", "open volume source `V/file/x`: Not a directory"),
    ],
)
def test_volumes_that_can_not_be(own_box, folder, refused, no_leftovers, volume, line):
    refused(own_box("true", "-v", volume.replace("V", str(folder))), line.replace("V", str(folder)))
    assert not (folder / "none").exists()


def test_file_on_a_folder(own_box, folder, refused, no_leftovers):
    done = own_box("true", "-v", f"{folder}/file:/etc")
    refused(done, "mount `/etc`: the target is a directory, what is mounted is a file")
    done = own_box("true", "-v", f"{folder}:/etc/passwd")
    refused(done, "mount `/etc/passwd`: the target is a file, what is mounted is a directory")


@pytest.fixture
def control_socket(tmp_path):
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path


def test_sockets_are_refused(own_box, control_socket, refused, no_leftovers, tmp_path):
    hint = "`--allow-host-socket` allows it"
    refused(
        own_box("true", "-v", f"{control_socket}:/s"),
        f"mount volume `{control_socket}`: it is a socket of the host",
        hint=hint,
    )
    (tmp_path / "link").symlink_to(control_socket)
    refused(
        own_box("true", "-v", f"{tmp_path}/link:/s"),
        f"mount volume `{tmp_path}/link`: it is a socket of the host",
        hint=hint,
    )
    for path in ("/run", "/var/run", "/"):
        refused(own_box("true", "-v", f"{path}:/s"), f"mount volume `{path}`: it holds the host's sockets", hint=hint)


def test_R61_session_sockets_are_refused(own_box, refused, no_leftovers, tmp_path):
    runtime = tmp_path / "user/1"
    runtime.mkdir(parents=True)
    for path in (runtime, runtime.parent):
        done = own_box("true", "-v", f"{path}:/s", env={"XDG_RUNTIME_DIR": str(runtime)})
        refused(done, f"mount volume `{path}`: it holds the host's sockets")


def test_R61_folders_of_the_session_with_sockets_are_refused(own_box, refused, no_leftovers, tmp_path):
    """Below the session's folder, as that of gpg-agent or of the user's own docker."""
    runtime = tmp_path / "user/1"
    (runtime / "engine").mkdir(parents=True)
    (runtime / "plain").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(runtime / "engine/s"))
        done = own_box("true", "-v", f"{runtime}/engine:/s", env={"XDG_RUNTIME_DIR": str(runtime)})
        refused(done, f"mount volume `{runtime}/engine`: it holds sockets of the host")
        assert own_box("true", "-v", f"{runtime}/plain:/s", env={"XDG_RUNTIME_DIR": str(runtime)}).returncode == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSH_AUTH_SOCK", "{}"),
        ("TMUX", "{},123,0"),
        ("DOCKER_HOST", "unix://{}"),
        ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/x;unix:path={},guid=1"),
    ],
)
def test_R61_sockets_of_the_session_are_covered(own_box, no_leftovers, tmp_path, variable, value):
    """`-v /tmp:/tmp` is not meant to hand over the agent that has the caller's keys."""
    folder = tmp_path / "v/agent"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        env = {variable: value.format(folder / "s")}
        script = "test -S /v/agent/s && echo socket; stat -c %t,%T /v/agent/s"
        for options in ([], ["--name", "giver"]):
            assert own_box.out(script, "-v", f"{tmp_path}/v:/v", *options, env=env) == "1,3\n"
        assert own_box.out(script, "--volumes-from", "giver", env=env) == "1,3\n"
        own_box.sbx("rm", "-f", "giver")
        assert own_box.out(script, "-v", f"{tmp_path}/v:/v", "--allow-host-socket", env=env).startswith("socket\n")
        (folder / "ticket").write_text("secret\n")
        out = own_box.out("cat /v/agent/ticket", "-v", f"{tmp_path}/v:/v", env={"KRB5CCNAME": f"FILE:{folder}/ticket"})
        assert out == ""


def test_sockets_by_consent(box, control_socket):
    assert box.out("test -S /s && echo there", "--allow-host-socket", "-v", f"{control_socket}:/s") == "there\n"


def test_S09_store_is_refused_and_hidden(own_box, refused, no_leftovers):
    """Neither the store nor anything in it; a folder that holds it shows an empty one there."""
    store = own_box.sbx.store
    own_box.out("true")
    for path in (store, store / "containers"):
        refused(own_box("true", "-v", f"{path}:/s"), f"mount volume `{path}`: it belongs to the store of sbx")
    (store.parent / "beside").write_text("shown\n")
    out = own_box.out(
        f"cat /s/beside; ls /s/{store.name}; touch /s/{store.name}/x 2>&1; true", "-v", f"{store.parent}:/s"
    )
    assert out == f"shown\ntouch: /s/{store.name}/x: Read-only file system\n"
    (store.parent / "link").symlink_to(store)
    refused(own_box("true", "-v", f"{store.parent}/link:/s"), f"mount volume `{store}`: it belongs to the store of sbx")


def test_S09_store_stays_hidden_from_who_has_the_volumes_of_another(own_box, no_leftovers):
    """--volumes-from hands on what is mounted, and with it what covers the store: there are the sockets of all keepers."""
    store = own_box.sbx.store
    own_box.out("true", "--name", "giver", "-v", f"{store.parent}:/s")
    try:
        for options in ([], ["--tmpfs", "/x"]):
            assert own_box.out(f"ls -A /s/{store.name}; ls -d /s", "--volumes-from", "giver", *options) == "/s\n"
    finally:
        own_box.sbx("rm", "-f", "giver")


def test_S09_store_is_hidden_below_a_root_of_ones_own(own_box, refused, no_leftovers):
    """rootfs:DIR, where DIR holds the store."""
    store = own_box.sbx.store
    root = store.parent / "root"
    subprocess.run(["cp", "-a", own_box.rootfs, root], check=True)
    env = {"SBX_STORE": str(root / "data/store")}
    (root / "data/store").mkdir(parents=True, mode=0o700)
    done = own_box.sbx("run", f"rootfs:{root}", "ls", "-A", "/data/store", env=env)
    assert (done.returncode, done.stdout) == (0, ""), done
    done = own_box.sbx("run", "-q", "--privileged", f"rootfs:{root}", "true", env=env)
    refused(
        done,
        f"open root file system `{root}`: it holds the store of sbx, and who may mount can take off what covers that",
    )


@pytest.mark.parametrize("options", [["--privileged"], ["--profile", "nested"], ["--cap-add", "SYS_ADMIN"]], ids=str)
def test_S09_store_can_not_be_uncovered(own_box, no_leftovers, options):
    """Who may mount may unmount too: what covers the store would be no obstacle."""
    store = own_box.sbx.store
    done = own_box("true", "-q", "-v", f"{store.parent}:/s", *options)
    assert done.returncode == 125
    assert "it holds the store of sbx, and who may mount can take off what covers that" in done.stderr


def test_S09_what_lies_in_a_system_folder_is_not_there_for_who_may_mount(own_box):
    """The store, or a home, in /var of `host:`: no cover that could be taken off, but a /var without what the host has."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        env = {"SBX_STORE": f"{folder}/store"}
        script = "umount -l /var/tmp; cd /var && find . -mindepth 1"
        options = ("-q", "--profile", "nested", "--cap-add", "SYS_ADMIN")
        done = own_box.sbx("run", "--rm", *options, "host:", "sh", "-c", script, env=env)
        assert (done.returncode, done.stdout) == (0, "./tmp\n"), done
        done = own_box.sbx("run", "--rm", "host:", "sh", "-c", "ls -d /var/lib/dpkg; ls -A /var/tmp", env=env)
        assert (done.returncode, done.stdout) == (0, "/var/lib/dpkg\n"), done
        images.remove_tree(Path(f"{folder}/store"))


# -- --mount --


def test_mount_bind(box, folder):
    assert box.out("cat /v/file", "--mount", f"type=bind,src={folder},dst=/v") == "of the host\n"
    done = box("touch /v/x", "--mount", f"source={folder},target=/v,readonly")
    assert (done.returncode, done.stderr) == (1, "touch: /v/x: Read-only file system\n")
    assert box.out("touch /v/x", "--mount", f"type=bind,source={folder},destination=/v,readonly=false") == ""


def test_mount_with_a_colon_in_its_name(box, tmp_path):
    path = tmp_path / "a:b"
    path.mkdir()
    (path / "file").write_text("x\n")
    assert box.out("cat /v/file", "--mount", f"type=bind,src={path},dst=/v") == "x\n"


def test_mount_tmpfs(box):
    script = "stat -c %a /t; df -k /t | tail -n 1 | awk '{print $2}'; echo x >/t/x"
    assert box.out(script, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700") == "700\n1024\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("type=bind,src=V", "read --mount `type=bind,src=V`: no destination"),
        ("type=image,src=V,dst=/v", "read --mount `image`: no such type"),
        ("type=bind,src=V,dst=/v,bogus", "read --mount `bogus`: no such option"),
        ("type=bind,src=V,dst=/v,bogus=1", "read --mount `bogus=1`: no such option"),
        ("type=bind,src=V,dst=/v,bind-propagation=shared",
         "read --mount `type=bind,src=V,dst=/v,bind-propagation=shared`: only private propagation is to be had"),
        ("type=bind,dst=/v", "read --mount `type=bind,dst=/v`: no source"),
        ("type=tmpfs,dst=/v,tmpfs-size=x", "read --tmpfs `x`: Invalid argument"),
    ],
)  # fmt: skip
def test_mounts_that_can_not_be(own_box, folder, refused, no_leftovers, text, line):
    refused(own_box("true", "--mount", text.replace("V", str(folder))), line.replace("V", str(folder)))


# -- --tmpfs --


def test_tmpfs(box):
    options = options_of(box, "/t", "--tmpfs", "/t")["/t"]
    assert {"rw", "nosuid", "nodev"} <= options
    script = "stat -c %a /t; df -k /t | tail -n 1 | awk '{print $2}'; echo x >/t/x; cat /t/x"
    assert box.out(script, "--tmpfs", "/t:size=2m,mode=0750,noexec") == "750\n2048\nx\n"
    assert box.out("stat -c %a /t", "--tmpfs", "/t") == "1777\n"


def test_tmpfs_for_a_user(box):
    assert (
        box.out("echo x >/t/x; stat -c %u:%g /t", "-u", "1000", "--tmpfs", "/t:uid=1000,gid=29,mode=700") == "1000:29\n"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("t", "read --tmpfs `t`: Invalid argument"),
        ("/t:size=x", "read --tmpfs `x`: Invalid argument"),
        ("/t:bogus", "read --tmpfs `bogus`: no such option"),
        ("/t:mode=x", "read --tmpfs `mode=x`: no such option"),
        ("/", "read --tmpfs `/`: the root can not be covered"),
    ],
)
def test_tmpfs_that_can_not_be(own_box, refused, no_leftovers, text, line):
    refused(own_box("true", "--tmpfs", text), line)


def test_what_is_made_for_a_mount_is_not_left_in_the_folder(box, rootfs):
    before = sorted(os.listdir(rootfs))
    assert box.out("ls -d /new/deep", "--tmpfs", "/new/deep", image=f"rootfs:{rootfs}") == "/new/deep\n"
    assert sorted(os.listdir(rootfs)) == before
    assert stat.S_ISDIR((rootfs / "etc").stat().st_mode)


def test_read_only_below_is_said_to_other_runtimes(box, tmp_path):
    """Ours reaches the mounts below; the word for it in OCI is `rro`."""
    done = box("true", "--print-config", "-v", f"{tmp_path}:/v:ro", "-v", f"{tmp_path}:/w:ro,bind")
    mounts = {entry["destination"]: entry["options"] for entry in json.loads(done.stdout)["mounts"]}
    assert "rro" in mounts["/v"] and "ro" not in mounts["/v"]
    assert "ro" in mounts["/w"] and "rro" not in mounts["/w"]
