"""`sbx profile learn`: commands that mean harm, several runs, Landlock."""

from pathlib import Path

import pytest
import tomli
from learners import Learner
from support import Sbx

from sandbox import observe_calls
from sandbox.profile import calls

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay", "seccomp", "notify")

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
