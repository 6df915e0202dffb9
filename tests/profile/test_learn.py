"""`sbx profile learn` with real commands: what they do is observed, written down, and proven by a replay."""

import time
from pathlib import Path

import pytest
from learners import Learner
from support import Sbx

from sandbox import cgroup
from sandbox.profile import learn_record, learn_write, load

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay", "seccomp", "notify")

# -- calls --


def test_what_was_seen_passes_and_nothing_else(learn: Learner) -> None:
    found = learn.learned("echo hi >/tmp/a; cat /tmp/a")
    assert found["extends"] == "default"
    again = learn.run("echo hi >/tmp/a; cat /tmp/a")
    assert (again.returncode, again.stdout, again.stderr) == (0, "hi\n", "")
    other = learn.run("mkdir /tmp/d")
    assert other.returncode == 1
    assert "Operation not permitted" in other.stderr
    assert "sbx: refused mkdir by mine.toml:" in other.stderr


def test_the_list_is_what_was_seen_and_what_a_start_needs(learn: Learner) -> None:
    learn.learned("ln -s a /tmp/b; rm /tmp/b")
    denied = learn.denied()
    assert not denied & {"symlink", "unlink", "execve", "read", "mmap", "sendmsg", "exit_group"}
    assert {"mkdir", "rename", "chown", "setuid", "ptrace", "kill", "sendto", "shmget", "io_setup"} <= denied


def test_a_call_that_the_base_refuses_is_refused_while_observed_and_never_proposed(learn: Learner) -> None:
    found = learn.learned("mount -t tmpfs none /mnt 2>&1; unshare -U true; umount /mnt; true")
    assert "# Refused then, and refused now: mount, umount2, unshare." in learn.text
    assert "allow" not in found["seccomp"]
    profile = load.effective(str(learn.path))[0]
    assert {str(profile.policy.answer(name)) for name in ("mount", "umount2", "bpf", "add_key")} == {"EPERM", "ENOSYS"}


@pytest.mark.parametrize("base", ["strict", "unconfined", "privileged", "nested"])
def test_other_bases(learn: Learner, base: str) -> None:
    found = learn.learned("echo hi >/tmp/a; cat /tmp/a >/dev/null; true", "--from", base)
    assert "replay again" not in learn.text
    assert found["extends"] == base
    done = learn.run("mkdir /tmp/d; true")
    assert "mkdir: can't create directory '/tmp/d': Operation not permitted" in done.stderr
    assert "permission denied" in learn.run("mount -t tmpfs none /tmp; true").stderr


def test_a_base_that_is_a_file(learn: Learner) -> None:
    base = learn.path.with_name("base.toml")
    base.write_text('extends = "default"\n[process]\numask = "077"\n')
    assert learn.learned("umask", "--from", base)["extends"] == "./base.toml"
    assert learn.run("umask").stdout == "0077\n"


def test_python_of_the_host(session_sbx: Sbx, tmp_path: Path) -> None:
    learn = Learner(session_sbx, "host:", tmp_path / "py.toml")
    script = "python3 -c 'import json, subprocess, threading; threading.Thread(target=print, args=(1,)).start()'"
    found = learn.learned(script)
    assert found["capabilities"]["keep"] == []
    assert learn.run(script).stdout == "1\n"
    assert "/usr/lib/**: read, execute (files of the system change their names with versions)" in learn.text


@pytest.mark.limit(60)
def test_it_does_not_take_forever(session_sbx: Sbx, tmp_path: Path) -> None:
    """Twenty thousand calls that are asked about, a million that are not, three hundred processes."""
    learn = Learner(session_sbx, "host:", tmp_path / "py.toml")
    started = time.monotonic()
    learn.learned(
        "python3 -c 'import os; [os.stat(\"/etc\") for _ in range(20000)]; [os.lseek(2, 0, 1) for _ in range(1000000)]' 2>/dev/null; "
        "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done"
    )
    assert time.monotonic() - started < 30


def test_the_command_is_read_from_its_tasks(learn: Learner) -> None:
    """Of a script the interpreter; paths relative to the working directory, and through links."""
    learn.learned(
        "cd /tmp; printf '#!/bin/sh\\necho x >y\\n' >s; chmod 755 s; ln -s /tmp l; cd l; ./s; cat ../tmp/l/y >/dev/null",
        "--read-only",
    )
    head = learn.text.partition("description")[0]
    assert "#   /tmp/s\n" in head and "#   /bin/busybox\n" in head
    assert "#   /tmp/**: read, write, make, execute (names of temporary files differ from run to run)\n" in head


# -- files --


def test_a_root_that_was_not_written_is_read_only(learn: Learner) -> None:
    found = learn.learned("cat /etc/passwd; echo x >/tmp/x; ls /dev/shm")
    assert found["filesystem"] == {"readonly": True, "maskedPaths": ["/sys"]}
    done = learn.run("echo x >/etc/x")
    assert "Read-only file system" in done.stderr
    assert learn.run("ls /sys").stdout == ""


def test_folders_that_were_not_written_are_read_only(learn: Learner) -> None:
    found = learn.learned("echo x >/etc/x; cat /etc/x; cat /sys/kernel/mm/transparent_hugepage/enabled || true")
    assert "readonly" not in found["filesystem"] and "maskedPaths" not in found["filesystem"]
    assert "/etc" not in found["filesystem"]["readonlyPaths"] and "/bin" in found["filesystem"]["readonlyPaths"]
    assert "#   /etc/x\n" in learn.text
    done = learn.run("echo x >/etc/y && echo y >/bin/y")
    assert "/bin/y: Read-only file system" in done.stderr


def test_volumes_do_not_count(learn: Learner, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir(mode=0o777)
    (tmp_path / "r").mkdir(mode=0o755)
    found = learn.learned("echo x >/v/x; ls /r", "-v", f"{tmp_path}/v:/v", "-v", f"{tmp_path}/r:/r")
    assert found["filesystem"]["readonly"] is True
    assert "could be given with `:ro`:\n#   /r\n" in learn.text


def test_files_of_the_image_below_tmp_keep_the_root_writable(
    session_sbx: Sbx, busybox_rootfs: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(busybox_rootfs, tmp_path / "root", symlinks=True)
    (tmp_path / "root/tmp/there").write_text("there\n")
    learn = Learner(session_sbx, f"rootfs:{tmp_path}/root", tmp_path / "mine.toml")
    found = learn.learned("cat /tmp/there")
    assert "readonly" not in found["filesystem"] and "/bin" in found["filesystem"]["readonlyPaths"]
    assert learn.run("cat /tmp/there").stdout == "there\n"


def test_devices(learn: Learner) -> None:
    assert learn.learned("head -c 1 /dev/urandom | wc -c")["devices"]["allow"] == ["null", "urandom"]
    assert learn.run("head -c 1 /dev/zero | wc -c").stdout == "0\n"


def test_what_is_protected_is_not_proposed(learn: Learner) -> None:
    learn.learned("cat /root/.ssh/id_rsa /etc/shadow; mkdir -p /root/.aws; echo x >/root/.aws/key; true")
    _, _, rest = learn.text.partition("# Asked for, and never proposed (secrets, the store, control sockets):\n")
    kept, _, others = rest.partition("# Programs:")
    assert "/root/.aws/key" in kept
    places = [line for line in others.split("\n#: ")[0].splitlines() if "(seen)" in line]
    assert places and not any("/root/.aws" in line or "/etc/shadow" in line for line in places)


@pytest.mark.parametrize(
    "options",
    [("--init",), ("--userns", "keep-id"), ("--userns", "single"), ("--userns", "nomap"), ("--storage-driver", "fuse-overlayfs"),
     ("--security-opt", "no-new-privileges=false"), ("--from", "podman"), ("-u", "app")],
)  # fmt: skip
@pytest.mark.requires("fuse")
def test_however_it_runs(learn: Learner, options: tuple[str, ...]) -> None:
    """Whoever the keeper is, and wherever the root comes from."""
    found = learn.learned("echo hi >/tmp/x; cat /tmp/x; cat /etc/passwd >/dev/null", *options)
    assert found["filesystem"]["readonly"] is True
    assert "#   /bin/busybox\n" in learn.text and "#   /etc/passwd: read (seen)\n" in learn.text
    options = () if options[0] == "--from" else options
    assert learn.run("echo hi >/tmp/x; cat /tmp/x; cat /etc/passwd >/dev/null", *options).stdout == "hi\n"


def test_names_that_are_no_text(learn: Learner) -> None:
    learn.learned("touch \"$(printf '/tmp/a\\033[2J\\nextends = 1')\"; touch \"$(printf '/a\\033\\n[seccomp]\\377')\"")
    assert "\x1b" not in learn.text
    assert "\n[seccomp]\\" not in learn.text


@pytest.mark.requires("landlock")
def test_a_name_that_would_be_a_rule(learn: Learner) -> None:
    found = learn.learned(
        "mkdir /tmp/d; cat \"$(printf '/v/a\\nwrite /')\" || true; echo x >\"$(printf '/v/a\\nwrite ')x\"",
        "--tmpfs",
        "/v",
    )
    assert found["landlock"]["write"] == ["/tmp", "/v"]


# -- capabilities --


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ("touch /tmp/x; chown 0:0 /tmp/x; chmod 600 /tmp/x; kill -0 $$", []),
        ("touch /tmp/x; chown 5:5 /tmp/x", ["CHOWN"]),
        ("mkdir /tmp/d; chown 1000:1000 /tmp/d; chmod 700 /tmp/d; ls /tmp/d", ["CHOWN", "DAC_OVERRIDE", "FOWNER"]),
        ("su app -c true", ["SETGID", "SETUID"]),
        ("chroot / /bin/true", ["SYS_CHROOT"]),
        ("su app -c 'exec sleep 20' & sleep 0.5; kill $!; wait; true", ["KILL", "SETGID", "SETUID"]),
    ],
)
def test_capabilities_that_were_used(learn: Learner, script: str, kept: list[str]) -> None:
    assert learn.learned(script)["capabilities"]["keep"] == kept
    assert learn.run(script).returncode == 0


def test_without_one_it_is_refused(learn: Learner) -> None:
    learn.learned("touch /tmp/x; chown 0:0 /tmp/x")
    done = learn.run("touch /tmp/x; chown 5:5 /tmp/x")
    assert done.returncode == 1 and "chown: /tmp/x: Operation not permitted" in done.stderr


def test_an_ordinary_user_keeps_none(learn: Learner) -> None:
    assert learn.learned("echo x >/tmp/x; id -u", "-u", "app")["capabilities"]["keep"] == []


# -- network --

LOOPBACK = "echo hi | nc -l -p 5000 >/dev/null & sleep 0.5; nc 127.0.0.1 5000 </dev/null; wait"


def test_no_connection_no_network(learn: Learner) -> None:
    found = learn.learned("true")
    assert found["network"]["mode"] == "none"
    assert "# No connection was tried." in learn.text
    done = learn.run(LOOPBACK)
    assert "hi" not in done.stdout


def test_a_server_of_its_own_needs_no_network(learn: Learner) -> None:
    assert learn.learned(LOOPBACK)["network"]["mode"] == "none"
    assert "#   connect inet 127.0.0.1 5000\n" in learn.text and "#   bind inet6 :: 5000\n" in learn.text
    assert learn.run(LOOPBACK).stdout == "hi\n"


@pytest.mark.requires("slirp")
def test_loopback_needs_no_network(session_sbx: Sbx, tmp_path: Path) -> None:
    learn = Learner(session_sbx, "host:", tmp_path / "py.toml")
    script = (
        'python3 -c \'import socket as s; a = s.socket(); a.bind(("127.0.0.1", 5001)); a.listen(); '
        'b = s.create_connection(("127.0.0.1", 5001)); print(b.getpeername())\''
    )
    assert learn.learned(script, "--network", "slirp4netns")["network"]["mode"] == "none"
    assert "#   bind inet 127.0.0.1 5001\n" in learn.text
    assert learn.run(script).stdout == "('127.0.0.1', 5001)\n"


@pytest.mark.requires("slirp")
def test_what_goes_out_keeps_its_network(learn: Learner) -> None:
    found = learn.learned("nc -w 1 10.0.2.2 9 </dev/null; true", "--network", "slirp4netns")
    assert found["network"]["mode"] == "slirp4netns"
    assert "#   connect inet 10.0.2.2 9\n" in learn.text
    assert "tap0" in learn.run("cat /proc/net/dev").stdout


# -- resources --


def test_peaks(session_sbx: Sbx, tmp_path: Path) -> None:
    learn = Learner(session_sbx, "host:", tmp_path / "py.toml")
    script = (
        "import os, threading, time; a = b'x' * (200 << 20); f = [os.open('/dev/null', 0) for _ in range(300)]; "
        "[threading.Thread(target=time.sleep, args=(0.3,)).start() for _ in range(20)]"
    )
    found = learn.learned(f'python3 -c "{script}"')
    words = next(line for line in learn.text.splitlines() if "# At most" in line).split()
    assert 200 <= int(words[3]) < 300 and 20 <= int(words[8]) <= 24
    assert found["rlimits"]["nofile"] == {"soft": 1024, "hard": 1024}


def test_limits_where_there_are_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "unavailable", lambda resources: "")
    seen = learn_record.Record(runs=1, peak={"memory": 100 << 20, "tasks": 20, "descriptors": 64})
    path = tmp_path / "mine.toml"
    path.write_text(learn_write.whole(learn_write.Source(load.effective("default")[0], "default", seen)))
    found = load.effective(str(path))[0].settings
    assert (found["limits.memory.limit"], found["limits.pids.limit"]) == (208 << 20, 80)
    base = tmp_path / "small.toml"
    base.write_text('extends = "default"\n[limits.memory]\nlimit = "32m"\n')
    path.write_text(learn_write.whole(learn_write.Source(load.effective(str(base))[0], "./small.toml", seen)))
    assert load.effective(str(path))[0].settings["limits.memory.limit"] == 32 << 20
