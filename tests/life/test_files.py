"""cp, diff, commit, export: the files of containers, running or not, and links that lead elsewhere."""

import io
import json
import os
import stat
import tarfile
import threading
import time

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")

DRIVERS = [
    pytest.param("overlay", marks=pytest.mark.requires("overlay")),
    pytest.param("fuse-overlayfs", marks=pytest.mark.requires("fuse")),
    "copy",
]
CHANGES = "echo new >/new; mkdir -p /d/e; echo x >/d/e/f; ln -s /etc/passwd /l; ln /new /new2; rm -r /home; chmod 700 /tmp; mkfifo /p"


@pytest.fixture
def busybox(sbx_in, busybox_oci):
    """The image in the store, so that containers of it have layers."""
    sbx_in("load", "-q", "-i", str(busybox_oci.docker_archive))
    (name,) = sbx_in.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return name


@pytest.fixture(params=["running", "stopped"])
def container(request, sbx_in):
    """A container `c`, in either state."""
    sbx_in.live()
    sbx_in.until("c", "up")
    if request.param == "stopped":
        sbx_in("stop", "-t", "0", "c")
    return sbx_in


def inside(sbx_in, script):
    """The output of a script in `c`, which is started for it if need be."""
    if sbx_in.column("State") != ["running"]:
        sbx_in("start", "c")
    return sbx_in.out("exec", "c", "sh", "-c", script)


def piped(sbx_in, *words, stdin=os.devnull, stdout):
    """sbx with files at its ends; (exit status, what it said)."""
    with open(stdin, "rb") as source, open(stdout, "wb") as target:
        process = sbx_in.sbx.popen(*words, stdin=source, stdout=target)
        said = process.communicate(timeout=60)[1]
    return process.returncode, said


# -- cp --


def test_cp_of_a_file(container, tmp_path):
    (tmp_path / "in").write_bytes(b"\0data\xff" * 1000)
    os.chmod(tmp_path / "in", 0o640)
    container("cp", str(tmp_path / "in"), "c:/tmp")
    container("cp", str(tmp_path / "in"), "c:/other")
    container("cp", "c:/tmp/in", str(tmp_path / "out"))
    container("cp", "c:/other", str(tmp_path))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "other").read_bytes() == (tmp_path / "in").read_bytes()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert (tmp_path / "out").stat().st_uid == os.getuid()
    assert inside(container, "stat -c '%u:%g %a %s' /tmp/in") == "0:0 640 6000\n"


def test_cp_of_a_folder(container, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("f")
    (tree / "link").symlink_to("/etc/passwd")
    os.link(tree / "sub/file", tree / "hard")
    container("cp", str(tree), "c:/tmp")  # into the folder
    container("cp", str(tree), "c:/fresh")  # as the folder
    container("cp", f"{tree}/.", "c:/tmp")  # what is in it
    assert (
        inside(container, "cat /tmp/tree/sub/file /fresh/hard /tmp/sub/file; readlink /tmp/link") == "fff/etc/passwd\n"
    )
    assert inside(container, "stat -c %i /fresh/hard /fresh/sub/file | uniq | wc -l") == "1\n"
    container("cp", "c:/fresh", str(tmp_path / "back"))
    container("cp", "c:/fresh/.", str(tmp_path / "back"))
    assert (tmp_path / "back/sub/file").read_text() == "f"
    assert os.readlink(tmp_path / "back/link") == "/etc/passwd"
    assert not (tmp_path / "back/fresh").exists()
    container("cp", "c:/fresh", str(tmp_path / "back"))
    assert (tmp_path / "back/fresh/hard").read_text() == "f"


def test_cp_of_archives(container, tmp_path):
    assert piped(container, "cp", "c:/etc/passwd", "-", stdout=tmp_path / "got") == (0, "")
    with tarfile.open(tmp_path / "got") as tar:
        assert tar.getnames() == ["passwd"]
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        info = tarfile.TarInfo("a/b")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    path = tmp_path / "a.tgz"
    path.write_bytes(made.getvalue())
    assert piped(container, "cp", "-", "c:/tmp", stdin=path, stdout=tmp_path / "got") == (0, "")
    assert inside(container, "cat /tmp/a/b") == "abc"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("c:/none", "/tmp"), "copy from `c:/none`: No such file or directory"),
        (("/none", "c:/tmp"), "copy from `/none`: No such file or directory"),
        (("/etc/passwd", "c:/none/"), "copy to `/none/`: no such folder"),
        (("/etc/passwd", "c:/none/x"), "copy to `c:/none`: No such file or directory"),
        (("/etc", "c:/etc/passwd"), "copy to `/etc/passwd`: a folder can not be copied over a file"),
        (("/etc/passwd", "/tmp"), "copy: one of the two must be CONTAINER:PATH"),
        (("c:/none", "c:/tmp"), "copy from `c:/none`: No such file or directory"),
        (("c:/etc/passwd", "c:/none/x"), "copy to `c:/none`: No such file or directory"),
        (
            ("nosuch:/etc/passwd", "/tmp"),
            'find container `nosuch`: no container with name or ID "nosuch" found: no such container',
        ),
    ],
)
def test_cp_of_what_can_not_be(sbx_in, words, message):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    done = sbx_in("cp", *words, code=125)
    assert done.stderr.splitlines()[0] == f"sbx: {message}"


def test_cp_replaces_a_folder_only_when_told(sbx_in, tmp_path):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/etc").write_text("a file\n")
    done = sbx_in("cp", f"{tmp_path}/x/.", "c:/", code=125)
    assert "a folder is there" in done.stderr
    sbx_in("cp", f"{tmp_path}/x/.", "c:/tmp")
    (tmp_path / "y/etc").mkdir(parents=True)
    sbx_in("cp", f"{tmp_path}/y/.", "c:/tmp", code=125)
    sbx_in("cp", "--overwrite", f"{tmp_path}/y/.", "c:/tmp")


def test_E02_links_inside_count_from_the_containers_root(container, tmp_path):
    """CVE-2018-15664, CVE-2024-21626: a link of the container never names a file of the host."""
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    up = "/".join([".."] * 30)
    inside(
        container,
        f"mkdir -p {tmp_path}; echo inside >{secret}; ln -s {secret} /l; ln -s {up}{secret} /r; ln -s {tmp_path} /f",
    )
    inside(container, "ln -s /proc/self/root /p; ln -s /proc/1/cwd /w")
    container("stop", "-t", "0", "c")
    for state in ("stopped", "running"):
        for path in ("/l", "/r", "/f/secret", f"{up}{secret}"):
            container("cp", f"c:{path}", str(tmp_path / "got"))
            assert (tmp_path / "got").read_text() != "the host's", (state, path)
            assert (tmp_path / "got").read_text().startswith(("inside\n", "stopped/")), (state, path)
        for path in ("/l", "/r", "/f/secret", f"/f/{up}{secret}"):
            (tmp_path / "mine").write_text(f"{state}{path}")
            container("cp", str(tmp_path / "mine"), f"c:{path}")
            assert secret.read_text() == "the host's"
            assert container.out("cp", f"c:{secret}", "-").count(f"{state}{path}") == 1
        container("start", "c")
    container.sbx("cp", f"c:/p{secret}", str(tmp_path / "got2"))
    container.sbx("cp", f"c:/w{secret}", str(tmp_path / "got3"))
    for name in ("got2", "got3"):
        assert not (tmp_path / name).exists() or (tmp_path / name).read_text() != "the host's"


@pytest.mark.slow
def test_E01_a_folder_that_becomes_a_link_while_it_is_copied(sbx_in, tmp_path):
    """The race of CVE-2018-15664, from inside, as fast as it can."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("the host's")
    there = tmp_path / "secret"
    script = f"mkdir -p {there} /a /x; echo mine >/a/key; while :; do mv /a /b; ln -s {there} /a; rm /a; mv /b /a; done"
    sbx_in.live(script=script)
    (tmp_path / "new").write_text("from outside")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        sbx_in.sbx("cp", "c:/a/key", str(tmp_path / "out"))
        sbx_in.sbx("cp", str(tmp_path / "new"), "c:/a/key")
        if (tmp_path / "out").exists():
            assert (tmp_path / "out").read_text() in ("mine\n", "from outside")
            (tmp_path / "out").unlink()
        assert (tmp_path / "secret/key").read_text() == "the host's"


@pytest.mark.parametrize("name", ["../out", "/abs", "a/../../out"])
def test_I01_E02_archive_that_leads_outside(sbx_in, tmp_path, name):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    code, said = piped(sbx_in, "cp", "-", "c:/tmp", stdin=path, stdout=tmp_path / "got")
    assert code == 125 and "an entry leads outside" in said


def test_set_id_and_devices_do_not_come_out(sbx_in, tmp_path):
    sbx_in.live(
        script="cp /bin/busybox /x; chmod 6755 /x; mkdir /d; cp /x /d; chmod u+s /d/x; mkfifo /d/pipe; echo up; sleep 60"
    )
    sbx_in.until("c", "up")
    sbx_in("cp", "c:/x", str(tmp_path))
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o755
    done = sbx_in("cp", "c:/d", str(tmp_path))
    assert done.stderr == "sbx: d/pipe is left out: a device or pipe\n"
    assert stat.S_IMODE((tmp_path / "d/x").stat().st_mode) == 0o755


# -- diff, commit, export --


@pytest.mark.parametrize("driver", DRIVERS)
def test_diff(sbx_in, driver, busybox):
    sbx_in("run", "--name", "c", "--storage-driver", driver, busybox, "sh", "-c", CHANGES)
    lines = sbx_in.out("diff", "c").splitlines()
    wanted = {"A /new", "A /new2", "A /d", "A /d/e", "A /d/e/f", "A /l", "A /p", "D /home", "C /tmp"}
    assert set(lines) == wanted
    assert lines.index("A /d") < lines.index("A /d/e") < lines.index("A /d/e/f")
    assert json.loads(sbx_in.out("diff", "--format", "json", "c"))["deleted"] == ["/home"]


def test_diff_of_nothing(sbx_in, busybox):
    sbx_in("create", "--name", "c", busybox, "true")
    assert sbx_in.out("diff", "c") == ""


@pytest.mark.parametrize("driver", DRIVERS)
def test_commit(sbx_in, driver, busybox):
    sbx_in("run", "--name", "c", "-e", "A=1", "--storage-driver", driver, busybox, "sh", "-c", CHANGES)
    words = ("-m", "why", "-a", "me", "-c", 'CMD ["cat", "/d/e/f"]', "-c", "ENV B=2")
    id_ = sbx_in.out("commit", "-q", *words, "c", "localhost/made:1").strip()
    assert id_.startswith("sha256:")
    assert sbx_in.out("run", "--rm", "localhost/made:1") == "x\n"
    script = "test ! -e /home && stat -c %a /tmp && readlink /l && echo $B && test -p /p && stat -c %h /new"
    assert sbx_in.out("run", "--rm", "localhost/made:1", "sh", "-c", script) == "700\n/etc/passwd\n2\n2\n"
    (image,) = json.loads(sbx_in.out("inspect", "localhost/made:1"))
    assert image["Author"] == "me" and image["History"][-1]["comment"] == "why"
    assert len(image["RootFS"]["Layers"]) == 2
    assert sbx_in.out("system", "check") is not None


def test_diff_and_commit_of_several_layers(sbx_in, layered_oci):
    sbx_in("load", "-q", "-i", str(layered_oci(20).docker_archive))
    (name,) = sbx_in.out("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    sbx_in("run", "--name", "c", name, "sh", "-c", "echo x >/new; rm /bin/ls; echo y >>/etc/passwd")
    wanted = {"C /bin", "C /etc", "C /etc/passwd", "D /bin/ls", "A /new"}
    lines = set(sbx_in.out("diff", "c").splitlines())
    assert wanted <= lines, lines
    sbx_in("commit", "-q", "c", "localhost/made")
    assert sbx_in.out("run", "localhost/made", "sh", "-c", "cat /new; test -e /bin/ls || echo gone") == "x\ngone\n"
    (image,) = json.loads(sbx_in.out("inspect", "localhost/made"))
    (before,) = json.loads(sbx_in.out("inspect", name))
    assert len(image["RootFS"]["Layers"]) == len(before["RootFS"]["Layers"]) + 1


def test_commit_while_it_runs(sbx_in, busybox):
    sbx_in.out("run", "-d", "--name", "c", busybox, "sh", "-c", "echo x >/x; echo up; sleep 60")
    sbx_in.until("c", "up")
    sbx_in("commit", "-q", "c", "localhost/made")
    assert sbx_in.out("run", "--rm", "localhost/made", "cat", "/x") == "x\n"


def test_commit_of_what_is_no_image(sbx_in):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    done = sbx_in("commit", "c", "x", code=125)
    assert "not from an image of the store" in done.stderr and "sbx export" in done.stderr


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_export(sbx_in, tmp_path, driver, state):
    sbx_in.out(
        "run",
        "-d",
        "--name",
        "c",
        "--storage-driver",
        driver,
        sbx_in.image,
        "sh",
        "-c",
        f"{CHANGES}; echo up; exec sleep 60",
    )
    sbx_in.until("c", "up")
    if state == "stopped":
        sbx_in("kill", "c")
        sbx_in("wait", "c")
    path = tmp_path / "root.tar"
    sbx_in("export", "-o", str(path), "c")
    with tarfile.open(path) as tar:
        entries = {info.name: info for info in tar}
        assert tar.extractfile("d/e/f").read() == b"x\n"
    assert "home" not in entries and "bin/busybox" in entries
    assert entries["l"].linkname == "/etc/passwd" and entries["tmp"].mode == 0o700
    assert not [name for name in entries if name.startswith(("proc/", "sys/", "dev/"))]
    assert entries["new2"].islnk() or entries["new"].islnk()
    sbx_in("import", "-q", str(path), "localhost/again")
    assert sbx_in.out("run", "--rm", "localhost/again", "cat", "/new") == "new\n"


def test_export_to_a_reader_that_goes_away(sbx_in):
    sbx_in("create", "--name", "c", sbx_in.image, "true")
    read, write = os.pipe()
    threading.Timer(0.1, os.close, (read,)).start()
    process = sbx_in.sbx.popen("export", "c", stdout=write)
    os.close(write)
    said = process.communicate(timeout=60)[1]
    assert "Traceback" not in said and process.returncode


def test_from_one_container_into_another(container):
    """Each has its own ids; links in either lead nowhere else."""
    stopped = container.column("State") != ["running"]
    container("create", "--name", "d", "--userns", "keep-id", container.image, "sleep", "1000")
    inside(container, "mkdir -p /from/in; echo text >/from/in/file; chmod 640 /from/in/file; ln -s /etc /from/link")
    if stopped:
        container("stop", "-t", "0", "c")
    container("cp", "c:/from", "d:/tmp")
    container("cp", "c:/from/in/file", "d:/tmp/other")
    container("cp", "d:/tmp/other", "d:/tmp/from/in")  # it is locked once only
    container("start", "d")
    script = "cd /tmp; cat from/in/file other from/in/other; readlink from/link; stat -c '%a %u' from/in/file"
    owner = container.out("exec", "d", "id", "-u").strip()
    assert container.out("exec", "d", "sh", "-c", script) == f"text\ntext\ntext\n/etc\n640 {owner}\n"
    container("cp", "d:/tmp/other", "c:/back")
    assert inside(container, "cat /back") == "text\n"
    told = container("cp", "c:/none", "d:/tmp", code=125).stderr
    assert told.startswith("sbx: copy from `c:/none`: No such file or directory")


def test_nobody_reads_what_is_copied_out(sbx_in):
    sbx_in.live()
    for words in (("cp", "c:/bin", "-"), ("export", "c")):
        process = sbx_in.sbx.popen(*words)
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.wait(timeout=20) == 141 and process.stderr.read() == ""


def test_what_is_copied_in_is_the_users(sbx_in, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o600)
    owners = {"a": ("-u", "12:13"), "b": ("--userns", "keep-id"), "d": ()}
    for name, words in owners.items():
        sbx_in("create", "--name", name, *words, sbx_in.image, "sleep", "1000")
        sbx_in("cp", tmp_path / "file", f"{name}:/tmp/one")
        sbx_in("start", name)
        sbx_in("cp", tmp_path / "file", f"{name}:/tmp/two")
    ids = {"a": "12:13", "b": f"{os.getuid()}:{os.getgid()}", "d": "0:0"}
    for name, owner in ids.items():
        told = sbx_in.out("exec", name, "stat", "-c", "%u:%g %a", "/tmp/one", "/tmp/two")
        assert told == f"{owner} 600\n" * 2
    assert sbx_in.out("inspect", "-f", "{{.Config.User}}", "a") == "12:13\n"
