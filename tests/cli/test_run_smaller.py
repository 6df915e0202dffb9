"""Smaller flags of run that podman has: --env-merge, --http-proxy, --read-only-tmpfs, --rootfs, --image-volume, --rmi, --requires, --arch."""

import json
import os

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


def test_env_merge(box):
    script = "echo $A; echo $B; echo $C; echo $PATH"
    out = box.out(
        script, "--env-merge", "A=x$HOSTNAME-y${container}z", "--env-merge", "B=${A}${none}!", "-e", "C=$A", "--env-merge", "PATH=/own:$PATH",
        "--hostname", "h",
    ).splitlines()  # fmt: skip
    assert out[0] == "x-ysbxz" and out[1] == "x-ysbxz!" and out[2] == "$A"
    assert out[3].startswith("/own:/usr/")
    assert "a brace is not closed" in box("true", "--env-merge", "A=${B").stderr
    assert "the form is NAME=VALUE" in box("true", "--env-merge", "A").stderr


def test_http_proxy(box):
    environment = {"http_proxy": "http://here:1", "NO_PROXY": "localhost", "https_proxy": None}
    assert box.out("env | grep -i proxy; true", env=environment) == ""
    assert sorted(box.out("env | grep -i proxy", "--http-proxy", env=environment).split()) == [
        "NO_PROXY=localhost", "http_proxy=http://here:1",
    ]  # fmt: skip
    assert box.out("echo $http_proxy", "--http-proxy", "-e", "http_proxy=other", env=environment) == "other\n"


def test_read_only_tmpfs(box):
    tries = "for d in /tmp /var/tmp /run; do touch $d/x 2>/dev/null && echo $d; done; true"
    assert box.out(tries, "--read-only").split() == ["/tmp", "/var/tmp", "/run"]
    assert box.out(tries, "--read-only", "--read-only-tmpfs=false") == ""
    assert box.out(tries, "--read-only", "--read-only-tmpfs", "--tmpfs", "/run").split() == ["/tmp", "/var/tmp", "/run"]


def test_rootfs(session_sbx, busybox_rootfs):
    done = session_sbx("run", "--rootfs", busybox_rootfs, "cat", "/etc/hostname")
    assert (done.returncode, len(done.stdout)) == (0, 13)
    assert "open root file system" in session_sbx("run", "--rootfs", "/no/such", "true").stderr


@pytest.mark.parametrize("more", [(), ("--name", "c")])
def test_attach(sbx, busybox_rootfs, more, no_leftovers):
    def run(*options, **rest):
        done = sbx(
            "run",
            *options,
            *more,
            f"rootfs:{busybox_rootfs}",
            "sh",
            "-c",
            "cat; echo out; echo err >&2; exit 3",
            **rest,
        )
        sbx("rm", "-f", "c")
        return done.returncode, done.stdout, done.stderr

    assert run("-a", "stdout", input="x") == (3, "out\n", "")
    assert run("--attach=STDERR", input="x") == (3, "", "err\n")
    assert run("-a", "stdin", "-a", "stdout", input="in ") == (3, "in out\n", "")
    assert run(input="x") == (3, "out\n", "err\n")
    code, out, err = run("-a", "stdout", "-v", "/no/such:/x")
    assert (code, out) == (125, "") and "open volume source" in err
    code, out, err = run("-a", "stdin", "--entrypoint", "/no/such")
    assert (code, out) == (127, "") and "execute `/no/such`" in err
    assert "read --attach `all`" in run("-a", "all")[2] and "not with --detach" in run("-d", "-a", "stdout")[2]


@pytest.fixture
def stored(sbx, busybox_oci, tmp_path):
    """Name of an image of the store, which names the volume /data."""
    sbx("load", "-q", "-i", busybox_oci.oci_archive)
    name = sbx("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.strip()
    sbx("create", "--name", "c", name, "true")
    sbx("commit", "-q", "-c", "VOLUME /data", "c", "localhost/volume")
    sbx("rm", "c")
    sbx("rmi", name)
    return "localhost/volume"


def test_image_volume(sbx, stored, no_leftovers):
    def seen(*options):
        done = sbx(
            "run", "--name", "c", *options, stored, "sh", "-c", "grep ' /data ' /proc/mounts | cut -d' ' -f3; true"
        )
        assert done.returncode == 0, done
        volumes = sbx("volume", "ls", "-q").stdout.split()
        sbx("rm", "-v", "c")
        return done.stdout.strip(), len(volumes)

    assert seen("--image-volume", "ignore") == ("", 0)
    assert seen("--image-volume", "tmpfs") == ("tmpfs", 0)
    assert seen()[1] == seen("--image-volume", "bind")[1] == 1


def test_rmi(sbx, stored, no_leftovers):
    sbx("create", "--name", "c", stored, "true")
    done = sbx("run", "--rmi", stored, "sh", "-c", "exit 3")
    assert done.returncode == 3 and "--rmi: the image stays" in done.stderr
    assert sbx("image", "exists", stored).returncode == 0
    sbx("rm", "c")
    done = sbx("run", "--rmi", "--name", "d", stored, "sh", "-c", "exit 3")
    assert (done.returncode, done.stderr) == (3, "")
    assert sbx("image", "exists", stored).returncode == 1 and sbx("ps", "-aq").stdout == ""
    assert "nobody waits for its end" in sbx("run", "-d", "--rmi", "localhost/volume", "true").stderr


def test_platform_in_parts(sbx, stored, no_leftovers):
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    other = "s390x"
    assert sbx("run", "--arch", arch, stored, "echo", "here").stdout == "here\n"
    done = sbx("run", "--os", "linux", "--arch", other, "--pull", "never", stored, "true")
    assert done.returncode == 125 and f"linux/{other}" in done.stderr
    assert "not with --arch" in sbx("run", "--arch", arch, "--platform", f"linux/{arch}", stored, "true").stderr


def test_requires(sbx, busybox_rootfs, no_leftovers):
    image = f"rootfs:{busybox_rootfs}"
    sbx("create", "--name", "db", image, "sleep", "100")
    sbx("create", "--name", "queue", image, "sleep", "100")
    done = sbx("run", "-d", "--name", "web", "--requires", "db,queue", image, "sleep", "100")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(sbx("ps", "--format", "{{.Names}}").stdout.split()) == ["db", "queue", "web"]
    done = sbx("rm", "-f", "db")
    assert done.returncode == 2 and "depend on it" in done.stderr
    sbx("stop", "-t", "0", "web", "db", "queue")
    assert sbx("start", "web").returncode == 0
    assert sorted(sbx("ps", "--format", "{{.Names}}").stdout.split()) == ["db", "queue", "web"]
    assert "no such container" in sbx("create", "--requires", "none", image, "true").stderr
    sbx("create", "--name", "later", "--requires", "web", image, "true")
    assert "State" in json.loads(sbx("inspect", "later").stdout)[0]
    assert sbx("rm", "-f", "--depend", "db").returncode == 0
    assert sbx("ps", "-a", "--format", "{{.Names}}").stdout.split() == ["queue"]
    sbx("rm", "-f", "queue")
