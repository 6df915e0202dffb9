"""`sbx run`: the root file system by all three drivers, from one layer to the most; read-only; full."""

import json
import os
import resource
import stat
import subprocess

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store")

OVERLAY = pytest.param("overlay", marks=pytest.mark.requires("overlay"))
FUSE = pytest.param("fuse-overlayfs", marks=pytest.mark.requires("fuse"))
DRIVERS = pytest.mark.parametrize("driver", [OVERLAY, FUSE, "copy"])
MAPS = pytest.mark.parametrize("userns", ["auto", "single", "keep-id"])


@DRIVERS
def test_driver_is_the_one_that_was_asked_for(box, driver):
    mounts = [line.split() for line in box.out("cat /proc/self/mountinfo", "--storage-driver", driver).splitlines()]
    kind = next(fields[fields.index("-") + 1] for fields in mounts if fields[4] == "/")
    assert kind in {"overlay": ["overlay"], "fuse-overlayfs": ["fuse.fuse-overlayfs"]}.get(driver, [kind])
    assert (kind in ("overlay", "fuse.fuse-overlayfs")) == (driver != "copy")


@DRIVERS
@MAPS
def test_writes_stay_in_the_container(own_box, rootfs, no_leftovers, driver, userns):
    script = """
        set -e
        echo new >/etc/new; echo more >>/etc/os-release; rm /etc/group; mkdir -p /a/b; mv /a /c; ln -s x /tmp/l
        ln /etc/os-release /etc/linked; chmod 700 /home
        cat /etc/new; tail -n 1 /etc/linked; [ ! -e /etc/group ]; ls -d /c/b; readlink /tmp/l; stat -c %a /home
    """

    def image():
        found = {}
        for folder, names, files in os.walk(rootfs):
            for name in [*names, *files]:
                path = f"{folder}/{name}"
                content = b"" if not os.path.isfile(path) or os.path.islink(path) else open(path, "rb").read()
                found[path] = (os.lstat(path).st_mode, os.lstat(path).st_uid, hash(content))
        return found

    before = image()
    out = own_box.out(script, "--storage-driver", driver, f"--userns={userns}", image=f"rootfs:{rootfs}")
    assert out == "new\nmore\n/c/b\nx\n700\n"
    assert image() == before


@DRIVERS
def test_three_layers_merge_as_images_say(session_sbx, layered_oci, driver):
    """Whiteouts, an opaque folder, a file that became a folder, hard links, set-uid, capability, owners."""
    script = """
        cd /data; find . | sort
        cat keep replaced/inner tree/c opaque/new late
        stat -c '%n %u:%g %a %h' suid owned late hard1
        [ hard1 -ef hard2 ] && echo same
        readlink link; readlink absolute
        id -u
    """
    done = session_sbx("run", "--storage-driver", driver, layered_oci(3).oci, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == [
        ".", "./absolute", "./cap", "./hard1", "./hard2", "./keep", "./late", "./link", "./opaque", "./opaque/new",
        "./owned", "./replaced", "./replaced/inner", "./suid", "./tree", "./tree/c",
        "1", "2", "2", "3", "3",
        "suid 0:0 4755 1", "owned 1000:1000 644 1", "late 65534:65534 644 1", "hard1 0:0 644 2",
        "same", "keep", "/etc/passwd", "0", "",
    ]  # fmt: skip


@DRIVERS
def test_I07_R26_set_uid_files_are_void(own_box, rootfs, driver):
    """no_new_privs: a set-uid root program of the image gives a user nothing."""
    (rootfs / "bin/id").unlink()
    (rootfs / "bin/id").write_bytes((rootfs / "bin/busybox").read_bytes())
    (rootfs / "bin/id").chmod(0o4755)
    options = ("--storage-driver", driver, "-u", "1000")
    out = own_box.out(
        "stat -c '%a %u' /bin/id; id -u; grep -E 'Cap(Eff|Prm)' /proc/self/status", *options, image=f"rootfs:{rootfs}"
    )
    assert out.split() == ["4755", "0", "1000", "CapPrm:", "0" * 16, "CapEff:", "0" * 16]


@pytest.mark.parametrize("count", [20])
@DRIVERS
def test_twenty_layers(session_sbx, layered_oci, driver, count):
    """Layer i adds /layers/i and removes /layers/(i-2)."""
    done = session_sbx("run", "--storage-driver", driver, layered_oci(count).oci, "sh", "-c", "ls /layers; cat /last")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{count - 2}\n{count - 1}\n{count - 1}"


@pytest.mark.requires("overlay")
def test_most_layers_the_kernel_takes(session_sbx, layered_oci):
    done = session_sbx(
        "run",
        "--storage-driver",
        "overlay",
        layered_oci(500).oci,
        "sh",
        "-c",
        "ls /layers; cat /last; echo w >/layers/w",
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "498\n499\n499")


def test_one_layer(session_sbx, busybox_oci):
    done = session_sbx("run", busybox_oci.oci, "cat", "/etc/os-release")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'ID=sbx-test\nPRETTY_NAME="busybox of the tests"\n'


def test_two_containers_of_one_image_do_not_meet(box):
    first = box.popen("echo one >/shared; echo up; read x; cat /shared", "-i", stdin=subprocess.PIPE)
    assert first.stdout.readline() == "up\n"
    assert box.out("ls /shared 2>/dev/null || echo none; echo two >/shared; cat /shared") == "none\ntwo\n"
    out, err = first.communicate("\n")
    assert (first.returncode, out, err) == (0, "one\n", "")


# -- read-only --


@DRIVERS
def test_read_only_root(box, driver):
    script = """
        for path in /file /etc/file /usr/file /home/file; do touch $path 2>&1; done
        for path in /tmp/file /var/tmp/file /run/file /dev/shm/file; do touch $path && echo $path; done
    """
    done = box(script, "--read-only", "--storage-driver", driver)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *(f"touch: {path}: Read-only file system" for path in ("/file", "/etc/file", "/usr/file", "/home/file")),
        "/tmp/file", "/var/tmp/file", "/run/file", "/dev/shm/file",
    ]  # fmt: skip


def test_read_only_root_can_not_be_remounted(box):
    done = box("mount -o remount,rw / 2>&1; touch /x 2>&1", "--read-only", "--security-opt", "seccomp=unconfined")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "mount: permission denied (are you root?)", "touch: /x: Read-only file system",
    ]  # fmt: skip


# -- what can not be had --


def test_no_such_driver(own_box, refused, no_leftovers):
    done = own_box("true", "--storage-driver", "zfs")
    assert done.returncode == 125
    assert done.stdout == ""
    assert "zfs" in done.stderr and "overlay" in done.stderr and "Traceback" not in done.stderr


def test_a_driver_that_was_found_is_remembered_per_store(own_box, session_folder):
    """One line in the cache, no probe left in the store."""
    assert own_box.out("true") == ""
    config = json.loads(own_box.sbx("run", "--print-config", f"rootfs:{own_box.rootfs}").stdout)
    assert config["annotations"]["dev.sbx.storage"] in ("overlay", "fuse-overlayfs", "copy")
    assert sorted(os.listdir(own_box.sbx.store)) == ["containers"]
    assert stat.S_IMODE(own_box.sbx.store.stat().st_mode) == 0o700


def test_a_map_that_is_refused_says_nothing_about_overlay(own_box, refused, no_leftovers):
    """Nor is it remembered: the next run uses what it would have used."""
    free = own_box.sbx("run", "--print-config", f"rootfs:{own_box.rootfs}", env={"SBX_STORE": f"{own_box.sbx.store}-2"})
    assert own_box("true", "--uidmap=0:@1:1", "--gidmap=0:0:1").returncode == 125
    after = own_box.sbx("run", "--print-config", f"rootfs:{own_box.rootfs}")
    assert after.stderr == ""
    drivers = [json.loads(done.stdout)["annotations"]["dev.sbx.storage"] for done in (free, after)]
    assert drivers[0] == drivers[1]


@pytest.mark.root
@DRIVERS
def test_full_disk_is_the_payloads_own_error(own_box, tmp_path, driver, no_leftovers):
    """The upper layer lies in the store, here a small tmpfs: dd says ENOSPC, sbx says nothing."""
    store = tmp_path / "small"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "sbx-test", store], check=True)
    try:
        done = own_box("dd if=/dev/zero of=/big bs=64k count=400 2>&1 | grep -o 'No space left on device'; echo $?; rm /big; echo alive >/x; cat /x",
                       "--storage-driver", driver, env={"SBX_STORE": str(store)})  # fmt: skip
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "No space left on device\n0\nalive\n")
        assert os.listdir(store / "containers") == []
    finally:
        subprocess.run(["umount", store], check=True)


@pytest.mark.root
def test_store_on_a_full_disk(own_box, tmp_path, refused):
    store = tmp_path / "full"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1,mode=700", "sbx-test", store], check=True)
    try:
        done = own_box("true", env={"SBX_STORE": f"{store}"})
        assert done.returncode == 125
        assert "No space left on device" in done.stderr.splitlines()[0]
        assert "Traceback" not in done.stderr and "internal error" not in done.stderr
        assert os.listdir(store) == []
    finally:
        subprocess.run(["umount", store], check=True)


@pytest.mark.requires("overlay")
def test_most_layers_with_the_customary_limit_of_descriptors(session_sbx, layered_oci, tmp_path):
    """Two descriptors a layer are more than 1024; the command has the caller's limit again."""
    done = session_sbx(
        "run", "--profile", "unconfined", "-v", f"{tmp_path}:/v",
        layered_oci(500).oci, "sh", "-c", "ls /layers; ulimit -Sn; ulimit -Hn; ls /proc/self/fd | wc -l",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 4096)),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["498", "499", "1000", "4096", "4"]


def test_line_break_in_the_name_of_a_layer(own_box, refused, no_leftovers, tmp_path):
    """Layers are lines of an annotation: one name must not become two."""
    folder = tmp_path / "a\nb"
    folder.mkdir()
    done = own_box.sbx("run", f"rootfs:{folder}", "true")
    refused(done, f"open layer `{tmp_path}/a\\nb`: there is a line break in its name")
