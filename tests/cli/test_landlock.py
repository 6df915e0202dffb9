"""[landlock] of a profile, tried from inside: files, ports, signals; under `run`, as a user of the image, under `exec`."""

import os
import socket
import subprocess
import threading

import pytest

from sandbox import landlock, linux_rare
from sandbox.errors import EOPNOTSUPP, SandboxError

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay", "landlock")


@pytest.fixture
def confined(sbx, tmp_path, busybox_rootfs):
    """`confined(table, script)`: what a shell script under a profile with that [landlock] table says and ends with."""
    profile = tmp_path / "confined.toml"

    def run(table, script, *words, code=0):
        profile.write_text(f'extends = "default"\n[landlock]\n{table}\n')
        done = sbx("run", "--rm", "--profile", str(profile), *words, f"rootfs:{busybox_rootfs}", "sh", "-c", script)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    run.profile = profile
    return run


READ, WRITE = 'read = ["/bin", "/lib", "/usr", "/etc"]', 'write = ["/tmp"]'
TRIED = {
    "make a file": "echo x >/open/x",
    "write to one that is there": "echo x >>/open/f",
    "empty one": ": >/open/f",
    "empty it by truncate": "truncate -s 0 /open/f",
    "remove one": "rm -f /open/f",
    "make a folder": "mkdir /open/d",
    "remove a folder": "rmdir /open/sub",
    "make a link": "ln -s x /open/l",
    "give it another name": "ln /open/f /open/g",
    "move it there": "mv /open/f /tmp/f",
    "move something out": "echo x >/tmp/x && mv /tmp/x /open/x",
    "make a pipe": "mkfifo /open/p",
    "through a link": "ln -s /open/f /tmp/l && echo x >>/tmp/l",
    "through /proc": "echo x >>/proc/self/root/open/f",
    "through a descriptor": "exec 3</open/f; echo x >>/proc/self/fd/3",
}  # fmt: skip


@pytest.mark.parametrize("user", ["0", "1000:1000"])
@pytest.mark.parametrize("what", TRIED)
def test_nothing_is_written_outside(confined, tmp_path, what, user):
    """In a folder where everybody may do everything, but for Landlock."""
    folder = tmp_path / "open"
    (folder / "sub").mkdir(parents=True)
    (folder / "f").write_text("content\n")
    for path, mode in ((folder, 0o777), (folder / "f", 0o666)):
        path.chmod(mode)
    words = ("-u", user, "-v", f"{folder}:/open")
    assert "done" not in confined(WRITE, f"({TRIED[what]}) 2>/dev/null && echo done; true", *words)
    assert sorted(path.name for path in folder.iterdir()) == ["f", "sub"]
    assert (folder / "f").read_text() == "content\n"
    if user == "0":
        assert "done" in confined('read = ["/"]', f"({TRIED[what]}) 2>/dev/null && echo done; true", *words)


def test_what_is_allowed_works(confined):
    script = "mkdir /tmp/a && echo x >/tmp/a/f && mv /tmp/a/f /tmp/g && ln /tmp/g /tmp/h && rm -r /tmp/a && cat /tmp/h; echo y >/dev/null"
    assert confined(WRITE, script) == "x\n"
    assert confined(READ, "mkdir /tmp/a /tmp/b; echo x >/tmp/a/f; mv /tmp/a/f /tmp/b/f; ls /tmp/b 2>&1; wc -l </proc/mounts >/dev/null && echo y").endswith("y\n")  # fmt: skip


def test_nothing_is_read_outside(confined):
    assert "denied" in confined(READ, "cat /root/x 2>&1; ls /root 2>&1; ls / 2>&1; true")
    assert confined(READ, "ls /root 2>/dev/null; head -1 /etc/passwd | cut -d: -f1") == "root\n"


def test_links_of_the_image_open_nothing(sbx, tmp_path, busybox_rootfs, no_leftovers):
    """What may be written is a folder, not what an image makes of its name."""
    root, volume, profile = tmp_path / "root", tmp_path / "v", tmp_path / "mine.toml"
    subprocess.run(["cp", "-a", busybox_rootfs, root], check=True)
    volume.mkdir()
    profile.write_text('extends = "default"\n[landlock]\nwrite = ["/work"]\n')
    (root / "work").symlink_to("/v")
    words = [
        "run",
        "--profile",
        profile,
        "-v",
        f"{volume}:/v",
        f"rootfs:{root}",
        "sh",
        "-c",
        "echo x >/v/x; echo y >/work/y",
    ]
    done = sbx(*words)
    assert done.returncode == 125 and list(volume.iterdir()) == []
    assert "sbx: confine `/work`: [landlock] write: the image has a link there, to /v\n" in done.stderr
    (root / "work").unlink()
    (root / "work").mkdir()
    assert sbx(*words).returncode == 0 and list(volume.iterdir()) == []


def test_nothing_is_run_outside(confined):
    table = 'execute = ["/bin", "/lib", "/lib64", "/usr"]'
    assert "denied" in confined(table, "cp /bin/busybox /tmp/sh; /tmp/sh true", code=126)
    assert confined(table, "cp /bin/busybox /tmp/sh; echo fine") == "fine\n"
    assert "execute" in confined('execute = ["/none"]', "true", code=126)


def test_nothing_at_all(confined):
    assert (
        confined("write = []", "(echo x >/tmp/x) 2>/dev/null || echo no; echo y >/dev/null && echo yes") == "no\nyes\n"
    )


def test_ports(confined):
    """With the network of the machine, whose ports are all in reach otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.1", 0)) as other:
        for server in (allowed, other):
            threading.Thread(target=lambda server=server: server.accept()[0].sendall(b"hello\n"), daemon=True).start()
        ports = [server.getsockname()[1] for server in (allowed, other)]
        table = f"connectTcp = [{ports[0]}]\nbindTcp = []"
        script = f"nc -w 2 127.0.0.1 {ports[0]}; nc -w 2 127.0.0.1 {ports[1]}; nc -l -p 0 -w 1"
        said = confined(table, script, "--network", "host", code=1)
        assert said.count("hello") == 1
        assert said.count("ermission denied") == 2
        other.close()


def test_signals_stay_inside(confined):
    """The pid namespace of the machine has the test itself in it, which belongs to the same user."""
    script = f"kill -0 {os.getpid()} 2>&1; sleep 5 & kill $! && echo ours"
    assert "not permitted" in confined('scoped = ["signal"]', script, "--pid", "host")
    assert confined("scoped = []", f"kill -0 {os.getpid()} && echo theirs", "--pid", "host") == "theirs\n"


def test_exec_is_confined_too(sbx, tmp_path, busybox_rootfs, no_leftovers):
    profile = tmp_path / "confined.toml"
    profile.write_text(f'extends = "default"\n[landlock]\n{WRITE}\n')
    sbx("run", "-d", "--name", "c", "--profile", str(profile), f"rootfs:{busybox_rootfs}", "sleep", "60")
    done = sbx("exec", "c", "sh", "-c", "echo x >/tmp/x && echo x >/root/x")
    assert (done.returncode, "denied" in done.stderr) == (1, True)
    assert sbx("exec", "c", "ls", "/tmp", "/root").stdout.split() == ["/root:", "/tmp:", "x"]
    sbx("rm", "-f", "c")


def test_a_kernel_that_can_not_do_it_is_an_error(monkeypatch):
    """Older kernels are had in the virtual machine only; what is asked for is never left out."""
    monkeypatch.setattr(linux_rare, "landlock_abi", lambda: 2)
    for line in ("write /tmp", "connect 80", "bind -", "scoped signal"):
        with pytest.raises(SandboxError) as caught:
            landlock.restrict(line, lambda _: None)
        assert caught.value.errno == EOPNOTSUPP
        assert "the kernel has version 2 of Landlock" in str(caught.value)


def test_bad_tables(sbx, confined):
    for table, text in (
        ('write = "/tmp"', "must be a list of strings"),
        ('write = ["tmp"]', "must be an absolute path"),
        ('write = ["/tmp/../etc"]', "must be an absolute path"),
        ("connectTcp = [65536]", "must be a list of ports"),
        ('connectTcp = ["80"]', "must be a list of ports"),
        ('scoped = ["signals"]', "did you mean `signal`?"),
        ('writes = ["/tmp"]', "did you mean `write`?"),
    ):
        assert text in confined(table, "true", code=125), table


def test_weakening_takes_a_word(sbx, tmp_path, confined):
    base = tmp_path / "base.toml"
    base.write_text('extends = "default"\n[landlock]\nwrite = ["/tmp", "/out"]\nconnectTcp = [443]\n')
    for table, weaker in (
        ('write = ["/tmp/below"]', ""), ('write = ["/etc"]', "it does not have /etc"), ("connectTcp = [443, 80]", "it does not have 80"),
        ('write = ["/tmpx"]', "it does not have /tmpx"), ("connectTcp = []", ""), ('read = ["/"]', ""),
    ):  # fmt: skip
        confined.profile.write_text(f'extends = "./base.toml"\n[landlock]\n{table}\n')
        done = sbx("profile", "check", str(confined.profile))
        assert (done.returncode == 0) == (not weaker), (table, done)
        assert weaker in done.stderr
