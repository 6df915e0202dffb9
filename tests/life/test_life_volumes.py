"""Volumes: named and anonymous ones, filled from the image, owned as the image says, and what removes them."""

import json
import os
import signal
import tarfile
import time

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


@pytest.fixture
def image(sbx_in, busybox_oci):
    """An image with a VOLUME, whose folder belongs to somebody."""
    sbx_in("load", "-q", "-i", str(busybox_oci.docker_archive))
    (name,) = sbx_in.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    script = (
        "mkdir -p /data/sub; echo image >/data/sub/file; ln -s sub /data/link; chown -R 1000:100 /data; chmod 750 /data"
    )
    sbx_in("run", "--name", "made", name, "sh", "-c", script)
    sbx_in("commit", "-q", "-c", "VOLUME /data", "made", "localhost/data:1")
    sbx_in("rm", "made")
    yield "localhost/data:1"
    sbx_in("rm", "-fa")
    sbx_in("volume", "prune", "-f")
    assert sorted(os.listdir(sbx_in.sbx.store / "volumes")) == []


def names(sbx_in, *words):
    return sbx_in.out("volume", "ls", "-q", *words).split()


def test_named_volume_is_filled_once_and_stays(sbx_in, image):
    look = "stat -c '%u:%g %a' /data; cat /data/link/file; stat -c %u /data/sub/file"
    assert sbx_in.out("run", "-v", "v:/data", image, "sh", "-c", look) == "1000:100 750\nimage\n1000\n"
    sbx_in("run", "-v", "v:/data", image, "sh", "-c", "rm /data/link; echo mine >/data/sub/file")
    assert sbx_in.out("run", "-v", "v:/data:ro", image, "sh", "-c", "ls /data; cat /data/sub/file") == "sub\nmine\n"
    assert sbx_in("run", "-v", "v:/data:ro", image, "touch", "/data/x", code=1).stderr.endswith(
        "Read-only file system\n"
    )
    assert names(sbx_in) == ["v"]


def test_volume_on_a_path_the_image_has_not(sbx_in, image):
    assert sbx_in.out("run", "-u", "1000:100", "-v", "v:/none", image, "stat", "-c", "%u:%g", "/none") == "1000:100\n"
    assert sbx_in.out("run", "--mount", "type=volume,src=w,dst=/data,nocopy", image, "ls", "/data") == ""
    assert sbx_in.out("run", "-v", "w:/data", image, "ls", "/data") == ""  # it was decided at the first use


@pytest.mark.parametrize("driver", ["overlay", "fuse-overlayfs", "copy"])
def test_filled_with_every_driver(sbx_in, image, driver):
    words = ("run", "--storage-driver", driver, "-v", "v:/data", image, "sh", "-c", "cat /data/sub/file")
    assert sbx_in.out(*words) == "image\n"


def test_half_filled_is_filled_again(sbx_in, image):
    sbx_in("run", "-v", "v:/data", image, "true")
    folder = sbx_in.sbx.store / "volumes/v"
    sbx_in("run", "-v", "v:/data", image, "sh", "-c", "rm -r /data/sub")
    (folder / ".filling").touch()
    sbx_in("unshare", "rm", str(folder / ".filled"))
    assert sbx_in.out("run", "-v", "v:/data", image, "cat", "/data/sub/file") == "image\n"


def test_E07_anonymous_volumes_go_with_their_container(sbx_in, image):
    sbx_in("run", "-d", "--name", "c", "-v", "/other", image, "sleep", "60")
    assert len(names(sbx_in)) == 2  # that one, and the image's
    sbx_in("rm", "-f", "-v", "c")
    assert names(sbx_in) == []
    sbx_in("run", "--rm", "-v", "/other", image, "touch", "/other/x")
    assert names(sbx_in) == []
    sbx_in("run", "--name", "c", image, "true")
    sbx_in("rm", "c")
    assert len(names(sbx_in)) == 1
    assert sbx_in.out("volume", "prune", "-f").split() != []


def test_volumes_from(sbx_in, image, tmp_path):
    (tmp_path / "host").write_text("h")
    sbx_in(
        "run",
        "--name",
        "a",
        "-v",
        "v:/v",
        "-v",
        f"{tmp_path}:/h",
        image,
        "sh",
        "-c",
        "echo one >/v/f; echo x >>/data/sub/file",
    )
    script = "cat /v/f /h/host /data/sub/file"
    assert sbx_in.out("run", "--volumes-from", "a", image, "sh", "-c", script) == "one\nhimage\nx\n"
    done = sbx_in("run", "--volumes-from", "a:ro", image, "touch", "/v/y", code=1)
    assert "Read-only" in done.stderr
    done = sbx_in("run", "--volumes-from", "none", image, "true", code=125)
    assert "find container `none`" in done.stderr


def test_removal_of_what_is_in_use(sbx_in, image):
    sbx_in("run", "-d", "--name", "c", "-v", "v:/v", "--read-only", image, "sleep", "60")
    done = sbx_in("volume", "rm", "v", code=2)
    assert "it is being used by the following container(s): " in done.stderr and ": volume is being used" in done.stderr
    sbx_in("stop", "-t", "0", "c")
    sbx_in("volume", "rm", "v", code=2)
    assert sbx_in.out("volume", "rm", "-f", "v") == "v\n"
    assert sbx_in.column("Names") == []
    told = 'sbx: find volume `v`: no volume with name "v" found: no such volume'
    assert sbx_in("volume", "rm", "v", code=1).stderr.startswith(told)
    assert sbx_in("volume", "inspect", "v", code=125).stderr.startswith(told)
    sbx_in("volume", "rm", "-f", "v")


def test_verbs(sbx_in, image):
    assert sbx_in.out("volume", "create", "-l", "k=v", "one") == "one\n"
    sbx_in("volume", "create", "one", code=125)
    sbx_in("volume", "create", "--ignore", "one")
    sbx_in("volume", "exists", "one")
    sbx_in("volume", "exists", "two", code=1)
    assert len(sbx_in.out("volume", "create").strip()) == 64
    assert names(sbx_in, "--filter", "label=k=v") == ["one"]
    assert sbx_in.out("volume", "ls", "--filter", "name=one") == "DRIVER  VOLUME NAME\nlocal   one\n"
    (found,) = json.loads(sbx_in.out("volume", "inspect", "one"))
    assert (found["Name"], found["Labels"], found["Anonymous"]) == ("one", {"k": "v"}, False)
    assert os.path.isdir(found["Mountpoint"])
    for name in ("a/b", "-x", "../x", "\x1b"):
        assert sbx_in.sbx("volume", "create", "--", name).returncode == 125, name


def test_export_and_import(sbx_in, image, tmp_path):
    sbx_in("run", "-v", "v:/data", image, "true")
    sbx_in("volume", "export", "v", "-o", str(tmp_path / "v.tar"))
    with tarfile.open(tmp_path / "v.tar") as tar:
        assert [(info.name, info.uid) for info in tar] == [("link", 1000), ("sub", 1000), ("sub/file", 1000)]
    sbx_in("volume", "create", "w")
    sbx_in("volume", "import", "w", str(tmp_path / "v.tar"))
    assert sbx_in.out("run", "-v", "w:/data", image, "stat", "-c", "%u", "/data/sub/file") == "1000\n"
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../out"))
    done = sbx_in("volume", "import", "w", str(tmp_path / "bad.tar"), code=125)
    assert "leads outside" in done.stderr


def test_start_again_keeps_its_volumes(sbx_in, image):
    sbx_in("run", "--name", "c", "-v", "v:/v", image, "sh", "-c", "echo x >>/v/f; cat /v/f")
    assert sbx_in.out("start", "-a", "c") == "x\nx\n"


def test_first_use_by_many_at_once(sbx_in, image):
    """One makes and fills it, and all see it whole."""
    words = ("run", "-v", "v:/data", image, "sh", "-c", "cat /data/sub/file; stat -c %u /data")
    started = [sbx_in.sbx.popen(*words) for _ in range(8)]
    for process in started:
        assert (*process.communicate(timeout=60), process.returncode) == ("image\n1000\n", "", 0)
    assert names(sbx_in) == ["v"]


def test_killed_at_any_moment(sbx_in, image):
    """Whatever was there then: the next command finds the volume whole or not at all, and nothing else."""
    for number in range(12):
        process = sbx_in.sbx.popen("run", "-v", "v:/data", "-v", "/other", image, "sleep", "60")
        time.sleep(0.02 * number)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert sbx_in.out("run", "-v", "v:/data", image, "cat", "/data/sub/file") == "image\n"
        sbx_in("volume", "rm", "v", code=0)
    assert names(sbx_in) == []


def test_I18_link_of_the_image_at_the_destination(sbx_in, image):
    """The volume is mounted, and filled from, where the link leads inside."""
    sbx_in("run", "--name", "made", image, "sh", "-c", "mkdir /real; echo r >/real/f; ln -s /../../../real /link")
    sbx_in("commit", "-q", "made", "localhost/link:1")
    sbx_in("rm", "-v", "made")
    assert sbx_in.out("run", "-v", "v:/link", "localhost/link:1", "cat", "/real/f") == "r\n"
    done = sbx_in("volume", "export", "v", "-o", "/dev/null")
    assert done.stderr == ""
