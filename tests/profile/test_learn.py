"""`sbx profile learn` with real commands: what they do is observed, written down, and proven by a replay."""

import functools
import os
import time
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import tomli
from hypothesis import given, settings, strategies as st
from images import Images
from support import Sbx

from sandbox import cgroup, filters, linux, observe_calls
from sandbox.profile import calls, compile, language, learn_paths, learn_record, learn_write, load

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay", "seccomp", "notify")

Done = CompletedProcess[str]


class Learner:
    """`sbx profile learn -o FILE OPTIONS IMAGE sh -c SCRIPT`, and runs under what came of it."""

    def __init__(self, sbx: Sbx, image: str, path: Path) -> None:
        self.sbx, self.image, self.path = sbx, image, path

    def __call__(self, script: str, *options: str | Path) -> Done:
        return self.sbx("profile", "learn", "-o", self.path, *options, self.image, "sh", "-c", script)

    def learned(self, script: str, *options: str | Path) -> dict[str, Any]:
        """The profile as TOML has it; `check` accepts it."""
        done = self(script, *options)
        assert done.returncode == 0, done
        assert done.stdout == ""
        checked = self.sbx("profile", "check", self.path)
        assert (checked.returncode, checked.stderr) == (0, "")
        return tomli.loads(self.text)

    def run(self, script: str, *options: str | Path) -> Done:
        return self.sbx("run", "--profile", self.path, *options, self.image, "sh", "-c", script)

    @property
    def text(self) -> str:
        return self.path.read_text()

    def denied(self) -> set[str]:
        """All calls that the learned profile refuses, and `default` allows."""
        mine, base = (load.effective(name)[0].policy for name in (str(self.path), "default"))
        return {name for name in base.rows if str(base.answer(name)) == "allow" and str(mine.answer(name)) != "allow"}


@pytest.fixture
def learn(session_sbx: Sbx, busybox_oci: Images, tmp_path: Path) -> Learner:
    return Learner(session_sbx, busybox_oci.oci, tmp_path / "mine.toml")


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


# -- a command that means harm --

NONSENSE = r"""
import ctypes, os, random, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
numbers = [int(word) for word in sys.argv[1].split(",")]
good = ctypes.create_string_buffer(b"/tmp/x\0" + bytes(range(1, 250)), 512)
long = ctypes.create_string_buffer(b"/a" * 5000)
edge = libc.mmap
edge.restype = ctypes.c_long
page = edge(None, 4096, 3, 0x22, -1, 0)
ctypes.memmove(page + 4090, b"/tmp/y", 6)
values = [0, 1, 2, 3, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 100, ctypes.addressof(good), ctypes.addressof(long),
          page + 4090, page + 4096, 4095, 0x5413, 0o102, 0o1102, 0o20200002, 128, 110, 16, 5]
os.chdir("/tmp")
for seed in range(40):
    pid = os.fork()
    if pid == 0:
        random.seed(seed)
        for number in numbers:
            arguments = [ctypes.c_ulong(random.choice(values)) for _ in range(6)]
            libc.syscall(ctypes.c_long(number), *arguments)
        os._exit(0)
    os.waitpid(pid, 0)
print("done")
"""


def test_arguments_that_are_nonsense(session_sbx: Sbx, tmp_path: Path) -> None:
    """The keeper reads whatever it is pointed at, and goes on."""
    table = calls.table(calls.machine())
    names = [*observe_calls.CHANGES, *observe_calls.OF_DESCRIPTORS, "open", "openat", "openat2", "creat", "connect", "bind", "sendto", "socket",
             "chroot", "kill", "tgkill", "setuid", "setresgid", "setgroups", "prctl", "capset", "execve", "execveat"]  # fmt: skip
    numbers = ",".join(str(table[name]) for name in names if name in table)
    script = tmp_path / "nonsense.py"
    script.write_text(NONSENSE)
    done = session_sbx(
        "profile",
        "learn",
        "-v",
        f"{script}:/nonsense.py:ro",
        "--status",
        "0",
        "host:",
        "python3",
        "/nonsense.py",
        numbers,
        timeout=110,
    )
    assert (
        "internal error" not in done.stderr and "keep container" not in done.stderr and "its keeper" not in done.stderr
    )
    assert "done" in done.stderr


def test_memory_that_changes_while_it_is_read(session_sbx: Sbx, tmp_path: Path) -> None:
    """What is refused stays so, whatever a thread writes to where the arguments point."""
    script = tmp_path / "race.py"
    script.write_text(
        "import ctypes, threading, time\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "name = ctypes.create_string_buffer(b'/tmp/aaaaaaaa', 64)\n"
        "end = time.monotonic() + 1\n"
        "def change():\n"
        "    while time.monotonic() < end:\n"
        "        ctypes.memmove(name, b'/etc/shadow\\0', 12); ctypes.memmove(name, b'x' * 63, 63)\n"
        "threading.Thread(target=change).start()\n"
        "made = 0\n"
        "while time.monotonic() < end:\n"
        "    libc.open(name, 0)\n"
        "    made += libc.mount(name, name, name, 0, name) == 0\n"
        "print('mounted', made)\n"
    )
    done = session_sbx("profile", "learn", "-v", f"{script}:/race.py:ro", "host:", "python3", "/race.py")
    assert "mounted 0" in done.stderr, done
    assert tomli.loads(done.stdout)["extends"] == "default"
    assert "# Refused then, and refused now: mount." in done.stdout


# -- several runs --

MORE_EACH_TIME = "if [ -e /v/x ]; then mkdir /tmp/d && cp /v/x /tmp/d; else touch /v/x; fi"


@pytest.fixture
def volume(tmp_path: Path) -> str:
    (tmp_path / "v").mkdir()
    (tmp_path / "v").chmod(0o777)
    return f"{tmp_path}/v:/v"


def test_runs_come_together(learn: Learner, volume: str) -> None:
    done = learn(MORE_EACH_TIME, "--runs", "2", "-v", volume)
    assert done.returncode == 0, done
    assert "observe run 2 of 2" in done.stderr and "replay again" not in done.stderr
    assert "from 2 runs of:" in learn.text and "mkdir" not in learn.denied()


def test_a_replay_that_does_more_adds_it(learn: Learner, volume: str) -> None:
    done = learn(MORE_EACH_TIME, "-v", volume)
    assert done.returncode == 0, done
    assert done.stderr.count("sbx: replay again: it was refused ") == 1
    assert "mkdir" not in learn.denied()


def test_merge(learn: Learner) -> None:
    learn.learned("touch /tmp/x; chown 5 /tmp/x; echo x >/etc/x")
    found = learn.learned("mkdir /tmp/d; head -c 1 /dev/zero >/tmp/zero", "--merge")
    assert found["capabilities"]["keep"] == ["CHOWN"]
    assert found["devices"]["allow"] == ["null", "zero"]
    assert "from 2 runs of:" in learn.text and "readonly" not in found["filesystem"]
    assert not learn.denied() & {"mkdir", "chown"}
    assert learn.run("touch /tmp/x; chown 5 /tmp/x; mkdir /tmp/d").returncode == 0


def test_merge_keeps_its_base(learn: Learner) -> None:
    learn.learned("true", "--from", "strict")
    done = learn("id -u", "--merge", "--from", "default")
    assert done.returncode == 125
    assert f"sbx: merge profile `{learn.path}`: it extends `strict`, and --from says `default`" in done.stderr
    assert learn.learned("id -u", "--merge")["extends"] == "strict"
    assert " sh -c true\n" in learn.text and " sh -c 'id -u'\n" in learn.text


def test_merge_does_not_undo_what_was_edited(learn: Learner) -> None:
    learn.learned("true")
    learn.path.write_text(learn.text.replace("[seccomp]", "[seccomp]\n# mine"))
    done = learn("true", "--merge")
    assert done.returncode == 125
    assert (
        done.stderr.splitlines()[0]
        == f"sbx: merge profile `{learn.path}`: it was edited since, and would be written anew"
    )
    assert "# mine" in learn.text
    assert learn("true", "--merge", "--force").returncode == 0
    assert "# mine" not in learn.text


def test_a_command_that_does_not_do_it_twice(learn: Learner, volume: str) -> None:
    done = learn("if [ -e /v/x ]; then exit 3; fi; touch /v/x", "-v", volume)
    assert done.returncode == 125
    line = next(line for line in done.stderr.splitlines() if line.startswith("sbx: prove profile"))
    assert line.endswith("it ended with 3 when it was observed once more, not with 0")
    assert not learn.path.exists() and not list(learn.path.parent.glob(".learn*"))


def test_a_replay_that_never_passes(learn: Learner, volume: str) -> None:
    """Each time something else, and never while it is observed."""
    script = (
        "n=$(cat /v/n); echo $((n + 1)) >/v/n; "
        "case $n in 1) mkdir /tmp/d;; 3) ln -s a /tmp/l;; 5) chown 0 /tmp;; 7) mkfifo /tmp/f;; esac; true"
    )
    count = Path(volume.partition(":")[0]) / "n"
    count.write_text("0\n")
    count.chmod(0o666)
    done = learn(script, "-v", volume)
    assert done.returncode == 125 and not learn.path.exists()
    assert done.stderr.count("sbx: replay again: it was refused ") == 3
    last = done.stderr.splitlines()[-2]
    assert last.startswith("sbx: prove profile `") and "after 3 corrections: it was refused mknod" in last


def test_what_is_only_looked_at(learn: Learner) -> None:
    """A folder whose mask the command misses comes back, and nothing else with it."""
    found = learn.learned("test -e /sys/kernel")
    assert "filesystem" not in found and "devices" not in found
    assert {"landlock", "capabilities", "network"} <= found.keys()


# -- Landlock --


@pytest.mark.requires("landlock")
def test_files_that_were_not_seen_are_closed(learn: Learner) -> None:
    found = learn.learned("cat /etc/passwd; echo x >/tmp/x")
    assert found["landlock"] == {
        "read": ["/bin/busybox", "/etc/passwd"], "write": ["/tmp"], "execute": ["/bin/busybox"], "connectTcp": [], "bindTcp": [],
    }  # fmt: skip
    done = learn.run("cat /etc/group; true")
    assert done.stderr == "cat: can't open '/etc/group': Permission denied\n"


@pytest.mark.requires("landlock")
def test_of_programs_the_loaders_too(session_sbx: Sbx, tmp_path: Path) -> None:
    learn = Learner(session_sbx, "host:", tmp_path / "mine.toml")
    found = learn.learned("ls /usr/bin >/dev/null", "--from", "default")
    assert "/usr/bin/ls" in found["landlock"]["execute"] and "/usr/lib" in found["landlock"]["execute"]
    done = learn.run("id")
    assert done.returncode != 0 and "ermission denied" in done.stderr


@pytest.mark.requires("landlock")
def test_a_folder_with_secrets_is_not_opened(learn: Learner) -> None:
    found = learn.learned("ls / /etc >/dev/null; touch /etc/new")
    assert not {"read", "write"} & found["landlock"].keys()
    assert "# `read` is left as it is: `/` was used, and `/` has everything in it." in learn.text
    assert (
        "# `write` is left as it is: `/etc/new` was used, and `/etc` has something that is never proposed in it."
        in learn.text
    )


# -- bad input --


def said(done: Done) -> str:
    assert (done.returncode, done.stdout) == (125, ""), done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_command(learn: Learner) -> None:
    done = learn.sbx("profile", "learn", "-o", learn.path, learn.image)
    assert said(done).startswith(f"sbx: profile learn `{learn.image}`: no command given")
    assert "missing operand" in said(learn.sbx("profile", "learn"))


def test_a_base_that_is_not_there(learn: Learner) -> None:
    text = said(learn("true", "--from", "defualt"))
    assert text.startswith(
        "sbx: find profile `defualt`: there is no profile of this name\nhint: did you mean `default`?"
    )


def test_a_base_that_can_not_be_extended(learn: Learner) -> None:
    folder = learn.path.parent / "elsewhere"
    folder.mkdir()
    (folder / "base.toml").write_text('extends = "default"\n')
    assert learn("true", "--from", folder / "base.toml").returncode == 0  # a folder below is fine
    learn.path = folder / "mine.toml"
    (folder.parent / "base.toml").write_text('extends = "default"\n')
    assert "a profile extends files of its own folder only" in said(
        learn("true", "--from", folder.parent / "base.toml")
    )


def test_a_command_that_fails(learn: Learner) -> None:
    text = said(learn("exit 3"))
    assert "sbx: learn profile `" in text and "it failed with 3" in text and "--status 3" in text
    assert not learn.path.exists()
    assert "it was ended by signal 9" in said(learn("exit 137"))
    done = learn.sbx("profile", "learn", "-o", learn.path, learn.image, "/no/such")
    assert done.returncode == 127 or "could not be run" in done.stderr or "/no/such" in done.stderr
    assert not learn.path.exists()


def test_a_server_that_is_stopped(learn: Learner) -> None:
    assert learn("mkdir /tmp/x; sleep 60", "--timeout", "1", "--status", "124").returncode == 0
    assert "mkdir" not in learn.denied()


def test_a_status_that_is_expected(learn: Learner) -> None:
    assert learn("exit 3", "--status", "3").returncode == 0
    assert learn.run("exit 3").returncode == 3


def test_a_file_that_is_there(learn: Learner) -> None:
    learn.path.write_text("mine\n")
    assert said(learn("true")).endswith("File exists\nhint: --merge adds to it, --force replaces it\n")
    assert "it has no record of what was seen" in said(learn("true", "--merge"))
    assert learn.text == "mine\n"
    assert learn("true", "--force").returncode == 0
    assert "extends" in learn.text


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--runs", "0"), "read --runs `0`"), (("--runs", "many"), "read --runs `many`"), (("--status", "-1"), "read --status `-1`"),
        (("--security-opt", "seccomp=unconfined"), "the filter comes from the profile"), (("--detach",), "unknown option `--detach`"),
        (("--profile", "strict"), "unknown option `--profile`"),
    ],
)  # fmt: skip
def test_options_that_are_wrong(learn: Learner, option: tuple[str, ...], words: str) -> None:
    assert words in said(learn("true", *option))


def test_a_folder_that_is_not_there(learn: Learner) -> None:
    learn.path = learn.path.parent / "no/mine.toml"
    assert f"write profile `{learn.path}`: No such file or directory" in said(learn("true"))


def test_without_a_file_it_is_printed(learn: Learner) -> None:
    done = learn.sbx("profile", "learn", learn.image, "sh", "-c", "echo hi")
    assert done.returncode == 0
    assert tomli.loads(done.stdout)["extends"] == "default"
    assert "hi\n" in done.stderr


def test_nothing_is_left(sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, no_leftovers: object) -> None:
    learn = Learner(sbx, f"rootfs:{busybox_rootfs}", tmp_path / "mine.toml")
    learn.learned("sleep 0.1 & sleep 0.2; mkdir /tmp/d")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "store") == ["mine.toml"]
    cache = Path(sbx.environment["XDG_CACHE_HOME"]) / "sbx"
    assert not [path for path in cache.rglob("*") if "learning" in path.name]


# -- on paper --


def test_an_observing_filter_asks_about_all_that_is_allowed_and_lets_nothing_more_through() -> None:
    program = compile.program(load.effective("default")[0].policy.oci(calls.machine()))
    table = calls.table(calls.machine())
    quiet = tuple(table[name] for name in ("read", "write", "mmap", "sendmsg"))
    asking = filters.observing(program, quiet)
    for name, number in table.items():
        plain, asked = filters.answer(program, number), filters.answer(asking, number)
        if number in quiet:
            assert asked == plain == filters.RET_ALLOW
        elif plain == filters.RET_ERRNO | 38:
            assert asked == plain, name
        else:
            assert asked == linux.SECCOMP_RET_USER_NOTIF, name
        for arch, more in ((0x40000003, 0), (0, 0x40000000)):  # i386; x32
            assert filters.answer(asking, number | more, arch=arch) == filters.answer(program, number | more, arch=arch)


_NAMES = st.sampled_from(
    ["a", "b", "lib", "usr", "etc", "tmp", "proc", "12", "self", "shadow", ".ssh", "id_rsa", "ssh", "home", "x y", "*"]
)
_PATHS = st.lists(_NAMES, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names))


@settings(database=None)
@given(st.dictionaries(_PATHS | st.integers(0, 30).map(lambda n: f"/etc/f{n}"), st.integers(1, 7), max_size=40))
def test_patterns_cover_what_was_seen_and_nothing_protected(seen: dict[str, int]) -> None:
    places = learn_paths.generalise(seen)
    for path, rights in seen.items():
        covering = [place for place in places if place.covers(path)]
        if learn_paths.is_protected(path):
            assert covering == []
        else:
            assert any(not rights & ~place.rights for place in covering)
    assert not any(place.covers("/etc/shadow") or place.covers("/root/.ssh/id_rsa") for place in places)
    assert all(place.reason for place in places)
    assert learn_paths.together(places) == places


_default = functools.cache(lambda: load.effective("default")[0])
_TEXT = st.text(min_size=1, max_size=12).map(lambda text: text.replace("\0", "_")) | st.binary(
    min_size=1, max_size=6
).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"_")))
_ANY_PATH = st.lists(_TEXT, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


@settings(database=None, deadline=None, max_examples=100)
@given(
    st.dictionaries(_ANY_PATH, st.integers(1, 15), max_size=12),
    st.lists(st.tuples(st.sampled_from(["connect", "bind"]), st.just("unix"), _TEXT, st.just(0)), max_size=3),
    st.lists(_ANY_PATH, max_size=3),
    _TEXT,
)
def test_whatever_was_seen_the_text_is_a_profile_and_says_no_more(
    paths: dict[str, int], facts: list[tuple[str, str, str, int]], programs: list[str], command: str
) -> None:
    """Names are chosen by whoever is observed: none becomes a rule of its own."""
    run = {
        "calls": {"openat": 3}, "paths": paths, "facts": [*facts, *(("program", path) for path in programs)], "peak": {"tasks": 1},
        "capabilities": {"CHOWN": f"chown {command}"}, "top": [path.split("/")[1] for path in paths], "refused": [], "uid": 0,
        "full": False, "mounts": [(path, False) for path in programs], "network": "none",
    }  # fmt: skip
    seen = learn_record.merge(learn_record.Record(commands=[command]), learn_record.of_run(run, {}))
    base = _default()
    text = learn_write.whole(learn_write.Source(base, "default", seen))
    text.encode()
    assert learn_record.read("x", text, force=False) == seen
    profile = language.parse("/x/mine.toml", text, lambda word: base)
    assert profile.capabilities == ("CAP_CHOWN",) and profile.settings["network.mode"] == "none"
    folders = set(paths) | {above for path in paths for above in map(str, Path(path).parents)}
    for key in ("read", "write", "execute"):
        for path in profile.settings.get(f"landlock.{key}", ()):
            assert path.isprintable() and (path in folders or path.startswith(("/tmp", "/var/tmp", "/dev", "/proc")))


@pytest.mark.parametrize("folders", [3, 300])
def test_patterns_are_few(folders: int) -> None:
    seen = {f"/srv/{a}/{b}/f{c}": 4 for a in range(folders) for b in range(4) for c in range(3)}
    places = learn_paths.generalise({**seen, "/root/.ssh/key": 4, "/root/a": 4})
    assert len(places) < 151
    assert all(any(place.covers(path) for place in places) for path in seen)
    assert not any(place.covers("/root/.ssh/key") for place in places)
