"""`sbx run`: what is where in the root: /proc, /dev, /sys, /etc files, masks; and images that lay links in the way."""

import os

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store")


def mounts_of(text):
    """Mount point -> (options of the mount, file system type, options of the file system), the last one on a spot."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        end = fields.index("-")
        found[fields[4]] = (fields[5].split(","), fields[end + 1], fields[end + 3].split(","))
    return found


@pytest.fixture
def mounted(box):
    return mounts_of(box.out("cat /proc/self/mountinfo"))


# -- kernel file systems --


def test_proc_is_of_the_own_pid_namespace(box, mounted):
    assert mounted["/proc"][1] == "proc"
    assert {"nosuid", "nodev", "noexec", "rw"} <= set(mounted["/proc"][0])
    assert box.out("echo $$; ls /proc | grep -c '^[0-9]*$'; read -r name </proc/1/comm; echo $name") == "1\n3\nsh\n"


def test_dev_is_a_tmpfs_with_six_devices_and_links(box, mounted):
    assert mounted["/dev"][1] == "tmpfs"
    assert {"nosuid", "noexec"} <= set(mounted["/dev"][0])
    out = box.out(
        "cd /dev; ls; stat -c '%n %t,%T' null zero full random urandom tty; for l in fd stdin stdout stderr ptmx core; do readlink $l; done"
    )
    assert out.split("\n") == [
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
        "null 1,3", "zero 1,5", "full 1,7", "random 1,8", "urandom 1,9", "tty 5,0",
        "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx", "/proc/kcore", "",
    ]  # fmt: skip


def test_devices_work(box):
    script = """
        head -c 4 /dev/zero | od -An -tx1; echo x >/dev/null; head -c 8 /dev/urandom | wc -c
        echo x 2>&1 >/dev/full; echo out >/dev/stdout; echo err >/dev/stderr
    """
    done = box(script)
    assert (done.returncode, done.stderr) == (0, "err\n")
    assert done.stdout == " 00 00 00 00\n8\nsh: write error: No space left on device\nout\n"


def test_no_device_can_be_made(box):
    """Neither by root of the namespace, nor is there a file system on which one would work."""
    done = box("mknod /dev/mem c 1 1 2>&1; mknod /tmp/null c 1 3 2>&1; ls /dev/mem /tmp/null 2>/dev/null")
    assert done.stdout.splitlines() == [
        "mknod: /dev/mem: Operation not permitted", "mknod: /tmp/null: Operation not permitted",
    ]  # fmt: skip


def test_devpts_is_a_new_one(box, mounted):
    assert mounted["/dev/pts"][1] == "devpts"
    assert {"ptmxmode=666", "mode=620"} <= set(mounted["/dev/pts"][2])
    assert box.out("ls /dev/pts") == "ptmx\n"


def test_shm_and_mqueue(box, mounted):
    assert (mounted["/dev/shm"][1], mounted["/dev/mqueue"][1]) == ("tmpfs", "mqueue")
    for path in ("/dev/shm", "/dev/mqueue"):
        assert {"nosuid", "nodev", "noexec"} <= set(mounted[path][0])
    assert box.out("stat -c %a /dev/shm; df -k /dev/shm | tail -n 1 | awk '{print $2}'") == "1777\n65536\n"


@pytest.mark.parametrize(("size", "kilobytes"), [("1m", "1024"), ("2097152", "2048"), ("1g", "1048576")])
def test_shm_size(box, size, kilobytes):
    assert box.out("df -k /dev/shm | tail -n 1 | awk '{print $2}'", "--shm-size", size) == f"{kilobytes}\n"


def test_shm_size_that_is_none(own_box, refused, no_leftovers):
    refused(own_box("true", "--shm-size", "many"), "read --shm-size `many`: Invalid argument", hint="64m")


def test_sys_is_read_only_and_its_own(box, mounted):
    assert mounted["/sys"][1] == "sysfs"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mounted["/sys"][0])
    assert box.out("ls /sys/class/net") == "lo\n"
    done = box("mkdir /sys/fs/cgroup/x 2>&1; echo 1 >/sys/kernel/profiling")
    assert done.returncode != 0
    assert "Read-only file system" in done.stdout + done.stderr


def test_sys_with_the_hosts_network_is_read_only_too(box):
    found = mounts_of(box.out("cat /proc/self/mountinfo", "--network=host"))
    below = {path: options for path, (options, _, _) in found.items() if path == "/sys" or path.startswith("/sys/")}
    assert below and all("ro" in options for options in below.values()), below


# -- masks --


def test_masked_and_read_only_paths_of_oci(box, mounted):
    for path in ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"):
        assert "ro" in mounted[path][0], path
    for path in ("/proc/keys", "/proc/timer_list", "/proc/interrupts"):
        if os.path.exists(path):
            assert box.out(f"cat {path} | wc -c; stat -c '%t,%T' {path}") == "0\n1,3\n"
    for path in ("/proc/acpi", "/sys/firmware"):
        if os.path.exists(path):
            assert (box.out(f"ls {path} | wc -l"), mounted[path][1]) == ("0\n", "tmpfs")
            assert {"ro", "nosuid", "nodev", "noexec"} <= set(mounted[path][0])


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/irq/default_smp_affinity"]
)
def test_read_only_proc_sys(box, path):
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    done = box(f"echo x >{path}")
    assert (done.returncode, done.stderr) == (1, f"sh: can't create {path}: Read-only file system\n")


def test_masks_of_the_caller(box, rootfs):
    (rootfs / "etc/dir").mkdir()
    (rootfs / "etc/dir/inner").write_text("secret")
    (rootfs / "etc/secret").write_text("secret")
    script = "cat /etc/secret; ls /etc/dir; touch /etc/dir/x 2>&1; true"
    options = ("--security-opt", "mask=/etc/dir:/etc/secret:/not/there")
    assert box.out(script, *options, image=f"rootfs:{rootfs}") == "touch: /etc/dir/x: Read-only file system\n"


def test_a_masked_link_shows_nothing(box, rootfs):
    """What is masked by a name that is a link stays hidden under that name, and nothing fails."""
    (rootfs / "etc/secret").write_text("secret")
    (rootfs / "etc/link").symlink_to("secret")
    (rootfs / "etc/nowhere").symlink_to("/not/there")
    done = box("cat /etc/link", "--security-opt", "mask=/etc/link:/etc/nowhere", image=f"rootfs:{rootfs}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unmask(box):
    out = box.out("stat -c %t,%T /proc/keys", "--security-opt", "unmask=/proc/keys")
    assert out == "0,0\n"
    for option in ("unmask=ALL", "unmask:all", "systempaths=unconfined"):
        found = mounts_of(box.out("cat /proc/self/mountinfo", "--security-opt", option))
        assert not [path for path in found if path.startswith("/proc/") or path == "/sys/firmware"]


def test_R43_umount_does_not_unmask(box):
    for path in ("/proc/sys", "/proc/keys", "/sys/firmware", "/proc", "/etc/hosts"):
        done = box(f"umount {path} 2>&1", "--security-opt", "seccomp=unconfined")
        assert done.returncode == 1, path
        assert "Operation not permitted" in done.stdout or "permission denied" in done.stdout.lower(), done.stdout


# -- /etc --


def test_hosts_hostname_and_no_resolver(box):
    out = box.out(
        "cat /etc/hosts; echo -; cat /etc/hostname; hostname; ls /etc/resolv.conf 2>&1; true", "--hostname=box-1"
    )
    assert out == (
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tbox-1\n-\nbox-1\nbox-1\n"
        "ls: /etc/resolv.conf: No such file or directory\n"
    )


def test_hostname_defaults_to_the_id(box, tmp_path):
    out = box.out("hostname; echo $HOSTNAME", "--cidfile", tmp_path / "id")
    number = (tmp_path / "id").read_text()
    assert out == f"{number[:12]}\n{number[:12]}\n"
    assert len(number) == 64


def test_name_is_the_hostname(box):
    assert box.out("hostname", "--name", "web.1") == "web.1\n"


@pytest.mark.parametrize("name", ["-x", ".x", "a b", "a" * 65, "a/b", "a\nb"])
def test_hostname_that_is_none(own_box, no_leftovers, name):
    done = own_box("true", f"--hostname={name}")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("sbx: read --hostname `")
    assert len(done.stderr.splitlines()) == 2


def test_add_host_and_no_hosts(box, rootfs):
    out = box.out("tail -n 1 /etc/hosts", "--add-host=db:10.1.2.3")
    assert out == "10.1.2.3\tdb\n"
    (rootfs / "etc/hosts").write_text("1.2.3.4 own\n")
    assert box.out("cat /etc/hosts", "--no-hosts", image=f"rootfs:{rootfs}") == "1.2.3.4 own\n"


def test_add_host_that_is_none(own_box, refused, no_leftovers):
    refused(own_box("true", "--add-host=db"), "read --add-host `db`: Invalid argument", hint="NAME:ADDRESS")
    refused(
        own_box("true", "--add-host=db:host-gateway"), "read --add-host `db:host-gateway`: network none has no gateway"
    )


def test_dns_of_the_caller(box):
    options = ("--dns=10.9.8.7", "--dns-search=example.test", "--dns-option=ndots:2")
    assert box.out("cat /etc/resolv.conf", *options) == "nameserver 10.9.8.7\nsearch example.test\noptions ndots:2\n"


def test_dns_with_a_line_of_its_own(own_box, refused, no_leftovers):
    refused(own_box("true", "--dns=1.2.3.4\nnameserver 6.6.6.6"), "read --dns: a control character in it")


def test_host_network_has_the_hosts_files(box):
    with open("/etc/hosts") as file:
        own = file.read().rstrip("\n")
    out = box.out("cat /etc/hosts", "--network=host")
    assert out.endswith(own + "\n")


# -- links in the way --


def test_I19_dangling_resolv_conf_is_made_inside_the_image(box, rootfs, tmp_path):
    """systemd's images: /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf, which is not there."""
    (rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    out = box.out(
        "cat /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf", "--dns=10.9.8.7", image=f"rootfs:{rootfs}"
    )
    assert out == "nameserver 10.9.8.7\n" * 2


@pytest.mark.parametrize("climb", ["", "../../../../../../../.."])
def test_I19_resolv_conf_that_points_at_the_host(box, rootfs, tmp_path, climb):
    canary = tmp_path / "canary"
    canary.mkdir()
    target = f"{climb}{canary}/resolv.conf"
    (rootfs / "etc/resolv.conf").symlink_to(target)
    assert box.out("cat /etc/resolv.conf", "--dns=10.9.8.7", image=f"rootfs:{rootfs}") == "nameserver 10.9.8.7\n"
    assert os.listdir(canary) == []
    (canary / "resolv.conf").write_text("untouched")
    assert box.out("cat /etc/resolv.conf", "--dns=10.9.8.7", image=f"rootfs:{rootfs}") == "nameserver 10.9.8.7\n"
    assert (canary / "resolv.conf").read_text() == "untouched"


def test_resolv_conf_in_a_circle(own_box, rootfs, refused, no_leftovers):
    (rootfs / "etc/resolv.conf").symlink_to("b")
    (rootfs / "etc/b").symlink_to("resolv.conf")
    done = own_box("true", "--dns=10.9.8.7", image=f"rootfs:{rootfs}")
    refused(done, "open mount target `/etc/resolv.conf`: Too many levels of symbolic links")


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("kind", ["absolute", "inside"])
def test_kernel_folder_that_is_a_link(own_box, rootfs, tmp_path, refused, no_leftovers, name, kind):
    """The masks would go where the link goes (CVE-2019-19921): an error, and what it points to is as it was."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("untouched")
    (rootfs / name).rmdir()
    (rootfs / name).symlink_to(str(canary) if kind == "absolute" else "tmp")
    done = own_box("true", image=f"rootfs:{rootfs}")
    refused(
        done, f"open mount target `/{name}`: Too many levels of symbolic links", hint="the image has a symlink there"
    )
    assert os.listdir(canary) == ["file"]
    assert (canary / "file").read_text() == "untouched"


@pytest.mark.parametrize("name", ["dev/pts", "dev/shm", "dev/mqueue"])
def test_links_below_dev_are_covered_first(box, rootfs, name, tmp_path):
    """/dev is a tmpfs of our own before anything is mounted below it: what the image has there never counts."""
    (rootfs / name).symlink_to(str(tmp_path))
    assert box.out(f"test -L /{name} || echo mount", image=f"rootfs:{rootfs}") == "mount\n"
    assert "pts" not in os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc"])
def test_missing_folders_are_made_in_the_container_only(box, rootfs, name):
    if name == "etc":
        for path in (rootfs / name).iterdir():
            path.unlink()
    (rootfs / name).rmdir()
    assert box.out("echo ran", image=f"rootfs:{rootfs}") == "ran\n"
    assert not (rootfs / name).exists()


def test_file_where_a_folder_should_be(own_box, rootfs, refused, no_leftovers):
    (rootfs / "proc").rmdir()
    (rootfs / "proc").write_text("")
    refused(
        own_box("true", image=f"rootfs:{rootfs}"), "mount `/proc`: the target is a file, what is mounted is a directory"
    )


def test_hosts_that_is_a_folder(own_box, rootfs, refused, no_leftovers):
    (rootfs / "etc/hosts").mkdir()
    refused(
        own_box("true", image=f"rootfs:{rootfs}"),
        "mount `/etc/hosts`: the target is a directory, what is mounted is a file",
    )


def test_nothing_of_the_host_stays_reachable(box, tmp_path):
    """The old root is gone: no folder of the host by path, through /proc or by a descriptor that was left open."""
    canary = tmp_path / "canary"
    canary.write_text("of the host")
    script = f"""
        ls {canary} 2>&1; ls /proc/1/root{canary} 2>&1; cat /../../..{canary} 2>&1
        for fd in /proc/self/fd/*; do readlink $fd; done | grep -v -e '^/dev/null$' -e '^pipe:' -e '/proc/'
    """
    done = box(script)
    assert done.stdout.count("No such file or directory") == 3
    assert len(done.stdout.splitlines()) == 3, done.stdout


# -- no such root --


def test_rootfs_that_is_not_there(own_box, refused, no_leftovers, tmp_path):
    done = own_box("true", image=f"rootfs:{tmp_path}/none")
    refused(done, f"open root file system `{tmp_path}/none`: No such file or directory", hint="an unpacked root folder")
    (tmp_path / "file").write_text("")
    done = own_box("true", image=f"rootfs:{tmp_path}/file")
    refused(done, f"open root file system `{tmp_path}/file`: Not a directory")


def test_rootfs_that_is_empty(own_box, tmp_path, refused, no_leftovers):
    (tmp_path / "empty").mkdir()
    refused(
        own_box("true", image=f"rootfs:{tmp_path}/empty"),
        "execute `sh`: No such file or directory",
        127,
        "not in the image",
    )
    assert os.listdir(tmp_path / "empty") == []
