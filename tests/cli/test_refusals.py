"""What the filter refuses is answered, counted, and said at the end; it is never allowed."""

import json
import os
import signal
import time

import pytest
from support import descendants, until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "seccomp", "notify")

# A loop of refused calls in the shell of busybox; `unshare` is a program of its own for each.
THRICE = "for i in 1 2 3; do mount -t tmpfs none /mnt; done"


def line_of_rule(words):
    """Line of the [[seccomp.syscalls]] table of profiles/default.toml in which `words` stand."""
    from sandbox import paths

    lines = open(f"{paths.package_data('profiles')}/default.toml", encoding="utf-8").read().split("\n")
    at = next(number for number, line in enumerate(lines) if words in line)
    return max(number for number, line in enumerate(lines[:at]) if line == "[[seccomp.syscalls]]") + 1


def said(done):
    return [line for line in done.stderr.splitlines() if line.startswith("sbx: refused ")]


@pytest.mark.parametrize(
    "options", [[], ["--init"], ["-u", "1000"], ["--userns", "single"], ["--network", "host"]], ids=str
)
def test_one_line_for_each_kind(box, options):
    done = box(THRICE, *options)
    assert done.stderr.count("mount: ") == 3  # answered each time
    (line,) = said(done)
    assert line.startswith(f"sbx: refused 3x mount by default.toml:{line_of_rule('@mount')} (mount, pid ")
    assert line.endswith('): add "@mount"')


def test_what_is_allowed_says_nothing(box):
    done = box("ls / >/dev/null; mkdir /x; sleep 0.01; id")
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet(box):
    assert said(box(THRICE, "-q")) == []


def test_arguments_decide(box):
    done = box("unshare -U true")
    assert done.returncode == 1
    (line,) = said(done)
    at = line_of_rule('"unshare", "setns"')
    assert line == (
        f"sbx: refused unshare by default.toml:{at} (unshare, pid 1): a rule of its own can allow it (namespaces of its own, as clone; the profile nested allows them)"
    )


def test_report(box, tmp_path):
    path = tmp_path / "report.json"
    assert box(f"{THRICE}; exit 3", "--report", str(path), "-q").returncode == 3
    report = json.loads(path.read_text())
    assert report["exit_code"] == 3 and report["command"][-1].endswith("exit 3")
    (row,) = report["refused"]
    assert (row["call"], row["errno"], row["count"], row["process"], row["advice"]) == (
        "mount", "EPERM", 3, "mount", 'add "@mount"',
    )  # fmt: skip
    assert row["rule"].endswith(f"/default.toml:{line_of_rule('@mount')}")


def test_report_that_can_not_be_written(box):
    done = box("true", "--report", "/nowhere/report")
    assert (done.returncode, done.stderr) == (125, "sbx: write report `/nowhere/report`: No such file or directory\n")


def test_name_of_a_program_is_not_shown_raw(own_box, no_leftovers):
    script = (
        "import ctypes; open('/proc/self/comm', 'w').write('a\\x1b[2J\\nb');"
        "print(ctypes.CDLL(None).mount(b'a', b'/mnt', b'tmpfs', 0, 0))"
    )
    done = own_box.sbx("run", "host:", "/usr/bin/python3", "-c", script)
    assert done.stdout == "-1\n"
    (line,) = said(done)
    assert r"(a\x1b[2J\nb, pid 1)" in line


def test_of_exec_too(own_box, no_leftovers):
    own_box.sbx("run", "-d", "--name", "c", f"rootfs:{own_box.rootfs}", "sleep", "60")
    done = own_box.sbx("exec", "c", "sh", "-c", THRICE)
    assert done.stderr.count("Operation not permitted") + done.stderr.count("permission denied") == 3
    assert "refused" not in done.stderr  # the container says it at its end
    pids = [pid for pid, words in descendants().items() if words.startswith("sleep 60")]
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)
    (folder,) = (path for path in (own_box.sbx.store / "containers").iterdir() if not path.name.startswith("."))
    from sandbox import state

    ((_, _, process, count, _, _),) = until(lambda: state.read(str(folder), "ended"))["refused"]
    assert (process, count) == ("mount", 3)
    assert own_box.sbx("system", "prune", "-f").returncode == 0


def test_filter_that_refuses_exec_itself(box, tmp_path):
    """The call waits before the init could say that it runs; nobody may wait for the other."""
    path = tmp_path / "noexec.json"
    rule = {"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = box("true", "--security-opt", f"seccomp={path}")
    assert done.returncode == 126
    assert "Permission denied" in done.stderr and len(said(done)) == 1


def test_filter_without_sendmsg_is_loaded_as_it_is(box, tmp_path):
    path = tmp_path / "nosendmsg.json"
    rule = {"names": ["sendmsg", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = box("mkdir /x", "--security-opt", f"seccomp={path}")
    assert (done.returncode, done.stderr) == (1, "mkdir: can't create directory '/x': Permission denied\n")


def test_flood(box):
    """The keeper answers as they come; it takes signals and the clock meanwhile, and keeps one record."""
    done = box("while :; do mount -t tmpfs none /mnt 2>/dev/null; done", "--timeout", "1")
    assert done.returncode == 124
    (line,) = said(done)
    assert int(line.split()[2].removesuffix("x")) > 10


def test_keeper_that_is_killed_leaves_the_call_refused(own_box, no_leftovers):
    """With it goes the payload; nothing that waits is let through, nothing stays."""
    process = own_box.popen("while :; do mount -t tmpfs none /mnt && echo mounted; done 2>/dev/null")
    time.sleep(0.5)
    keepers = [pid for pid, words in descendants().items() if "mount -t tmpfs" in words and pid != process.pid]
    assert keepers
    os.kill(min(keepers), signal.SIGKILL)
    out, _ = process.communicate(timeout=20)
    assert out == ""


def test_a_sandbox_in_a_sandbox_has_no_listener_of_its_own(box, tmp_path):
    """There can be one on a process: the inner filter refuses all the same."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from sandbox import init_process, linux\n"
        "linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)\n"
        "code = b'\\x06\\0\\0\\0\\0\\0\\xff\\x7f'\n"
        "first = init_process.load_telling(code)\n"
        "assert first > 2 and init_process.load_telling(code) == -1\n"
    )
    import subprocess
    import sys

    import sandbox

    root = os.path.dirname(os.path.dirname(sandbox.__file__))
    done = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


FAULT = "import ctypes; ctypes.string_at(0)"


@pytest.mark.parametrize("words", [(), ("--quiet",)])
def test_ended_by_a_signal_of_its_own(sbx, words):
    """The first process of a pid namespace is ended by faults, not by signals of its own."""
    done = sbx("run", "--rm", *words, "host:", "python3", "-c", FAULT)
    assert done.returncode == 139
    assert done.stderr == ("" if words else "sbx: ended by SIGSEGV, not by sbx\n")


def test_ended_by_the_filter(sbx, tmp_path):
    profile, report = tmp_path / "kill.toml", tmp_path / "report.json"
    rule = '[[seccomp.syscalls]]\nnames = ["getpriority"]\naction = "SCMP_ACT_KILL_PROCESS"\n'
    profile.write_text(f'extends = "default"\n{rule}')
    program = "import os; os.getpriority(0, 0)"
    done = sbx("run", "--rm", "--profile", str(profile), "--report", str(report), "host:", "python3", "-c", program)
    words = "ended by SIGSYS: the profile's filter answers a call with it"
    assert (done.returncode, done.stderr) == (159, f"sbx: {words}\n")
    assert json.loads(report.read_text())["reason"] == words


def test_what_was_sent_needs_no_reason(sbx):
    done = sbx("run", "--rm", "--timeout", "0.3", "host:", "sleep", "10")
    assert (done.returncode, done.stderr) == (124, "")


# -- ids that are not mapped --

CHOWN = "cd /tmp; touch f; chown 4000000:5 f; chown 0:4000000 f; chown -h 4000001 f; chown 0:0 f; exit 3"


@pytest.mark.parametrize("options", [[], ["--init"], ["--userns", "single"], ["--userns", "keep-id"]], ids=str)
def test_ids_that_are_not_mapped_are_told(box, options):
    """The kernel says EINVAL as ever; who looks for a wrong argument would look for long."""
    done = box(CHOWN, *options)
    assert (done.returncode, done.stderr.count("Invalid argument")) == (3, 3)
    told = [line for line in done.stderr.splitlines() if line.startswith("sbx: ")]
    assert told[0].startswith("sbx: failed ") and "x chown with ids 4000000:5 (chown, pid " in told[0]
    assert told[0].endswith("): not all of them are mapped; --userns, --uidmap and /etc/subuid say which are")


def test_ids_that_are_mapped_say_nothing(box):
    done = box("touch f; chown 0:0 f; chown 65536:1 f; chown :7 f; chown 7 f; su nobody -s /bin/true; true")
    assert "failed" not in done.stderr


def test_ids_in_the_report(box, tmp_path):
    path = tmp_path / "report.json"
    box("chown 4000000 /tmp", "--report", str(path), "-q")
    (row,) = json.loads(path.read_text())["refused"]
    assert (row["errno"], row["count"], row["args"], row["rule"]) == ("EINVAL", 1, [4000000, 0], "")


def test_ids_of_a_further_process(own_box, no_leftovers):
    """exec loads the same filter; what it did is told with the rest, at the end."""
    own_box("sleep 100", "-d", "--name", "c")
    try:
        done = own_box.sbx("exec", "c", "chown", "4000000", "/tmp")
        assert (done.returncode, done.stderr) == (1, "chown: /tmp: Invalid argument\n")
        own_box.sbx("stop", "-t", "0", "c")
        (row,) = json.loads(own_box.sbx("inspect", "c").stdout)[0]["Sbx"]["Refused"]
        assert row[1] == 0 and row[-1] == [4000000, 0]
    finally:
        own_box.sbx("rm", "-f", "c")


# -- what is read-only --


def told(done):
    return sorted(line.partition(" (")[0].removeprefix("sbx: failed ").replace("openat ", "open ") + line.partition("): ")[2].replace("read-only: ", " ")
                  for line in done.stderr.splitlines() if line.startswith("sbx: failed "))  # fmt: skip


def test_what_is_read_only_is_told_with_its_reason(box, tmp_path):
    """--explain; of what fails in another way, or not at all, nothing is said."""
    (tmp_path / "file").write_text("x\n")
    (tmp_path / "deep").mkdir()
    script = """
    echo x >/v/file; echo x >/v/new; mkdir /v/new /v/deep; rm -f /v/file; mv /v/file /v/other; chmod 600 /v/file; true >/v/deep/../file
    cat /v/file /v/none; ls /v; rmdir /none; echo x >/none/x; echo x >/dev/null; mkfifo /tmp/p; true >/w/there
    echo x >/proc/sys/kernel/hostname; exit 3"""
    done = box(script, "--explain", "-v", f"{tmp_path}:/v:ro", "-v", f"{tmp_path}:/w")
    assert done.returncode == 3 and (tmp_path / "there").exists()
    assert told(done) == [
        "2x open with /v/file /v is mounted so",
        "chmod with /v/file /v is mounted so",
        "mkdir with /v/new /v is mounted so",
        "open with /proc/sys/kernel/hostname /proc/sys is among the profile's readonlyPaths",
        "open with /v/new /v is mounted so",
        "rename with /v/file /v is mounted so",
        "rename with /v/other /v is mounted so",
        "unlink with /v/file /v is mounted so",
    ]


def test_a_read_only_root_is_told(box):
    done = box("touch /etc/x; touch /tmp/x; mkdir /new; exit 4", "--explain", "--read-only")
    assert done.returncode == 4
    assert told(done) == [
        "mkdir with /new / is (--read-only, or the profile says so)",
        "open with /etc/x / is (--read-only, or the profile says so)",
    ]


def test_wrap_says_how_to_write(own_box, tmp_path, no_leftovers):
    done = own_box.sbx("wrap", "--explain", "-w", tmp_path, "--", "python3", "-c", "import os; os.mkdir('/usr/new')")
    assert done.returncode == 1
    assert [line.partition("): ")[2] for line in done.stderr.splitlines() if line.startswith("sbx: ")] == [
        "read-only: / is, and --rw PATH makes a path writable"
    ]


def test_without_explain_nothing_of_it_is_looked_at(box, tmp_path):
    done = box("echo x >/v/file; mkdir /v/x; exit 5", "-v", f"{tmp_path}:/v:ro")
    assert done.returncode == 5 and "sbx:" not in done.stderr


def test_explain_in_the_report_with_much_else(box, tmp_path):
    """Only so many places are told apart, and refusals and ids are told as ever."""
    path = tmp_path / "report.json"
    script = "for i in $(seq 200); do true >/v/$i; done; mount -t tmpfs none /mnt; chown 4000000 /tmp; exit 6"
    assert box(script, "--explain", "-q", "--report", str(path), "-v", f"{tmp_path}:/v:ro").returncode == 6
    rows = json.loads(path.read_text())["refused"]
    assert [row["errno"] for row in rows if row["errno"] != "EROFS"] == ["EPERM", "EINVAL"]
    assert [row["args"] for row in rows if row["errno"] == "EROFS"] == [[f"/v/{n}"] for n in range(1, 51)]


def test_explain_takes_a_filter(box, refused):
    refused(
        box("true", "--explain", "-q", "--privileged"),
        "run `--explain`: this profile has no filter, which is what tells of calls",
    )
