"""Rows of the catalogue of known weaknesses about further processes in a container: exec, cp, and what they run as.

The number in a test's name is the row, see docs/security.md.
"""

import hashlib
import json
import marshal
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import TREE, Sbx

import sandbox

PYTHON = "/usr/bin/python3"  # the host's own, which `host:` and wrap show
# Run by an image's `#!/proc/self/exe`, or by a link of that name: it is then sbx's Python that runs inside.
OVERWRITE = """#!/proc/self/exe
import errno, fcntl, json, os
found = {"exe": os.readlink("/proc/self/exe")}
def attempt(name, function):
    try:
        function()
        found[name] = "ok"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
fd = os.open("/proc/self/exe", os.O_RDONLY)
attempt("write", lambda: os.open("/proc/self/exe", os.O_WRONLY))
attempt("append", lambda: os.open("/proc/self/exe", os.O_RDWR | os.O_APPEND))
attempt("truncate", lambda: os.truncate("/proc/self/exe", 0))
attempt("mode", lambda: os.fchmod(fd, 0o777))
attempt("times", lambda: os.utime(fd, (1, 1)))
attempt("owner", lambda: os.fchown(fd, os.getuid(), os.getgid()))
attempt("attribute", lambda: os.setxattr(fd, "user.sbx", b"x"))
attempt("library", lambda: os.open(next(w.split()[-1] for w in open("/proc/self/maps") if "/libc" in w), os.O_WRONLY))
try:
    found["seals"] = fcntl.fcntl(fd, 1034)
except OSError:
    found["seals"] = "none"
print(json.dumps(found), flush=True)
# Once more when this program runs no longer and nothing says "text file busy".
os.set_inheritable(fd, True)
os.execv("/bin/sh", ["sh", "-c", f"sleep 0.2; true 2>/dev/null >>/proc/self/fd/{fd} && echo written"])
"""


def identity(path: str) -> tuple[object, ...]:
    status = os.stat(path)
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return content, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, os.listxattr(path)


@pytest.fixture
def container(sbx: Sbx) -> Iterator[Callable[..., str]]:
    """`container(OPTIONS..., IMAGE, COMMAND...)`: one that lives until the test ends; its id."""
    made = []

    def start(*words: str, by: Sbx = sbx) -> str:
        done = by("run", "-d", *words)
        assert (done.returncode, done.stderr) == (0, "")
        made.append(done.stdout.strip())
        return made[-1]

    yield start
    for id_ in made:
        sbx("rm", "-f", id_)


@pytest.fixture
def attack(sbx: Sbx, tmp_path: Path, container: Callable[..., str]) -> Callable[[str, Sbx], dict[str, Any]]:
    """`attack(how, sbx)`: what the image could do with the program of sbx; that a file was written to is `written`."""
    work = tmp_path / "work"
    work.mkdir()
    script = work / "script"
    script.write_text(OVERWRITE)
    script.chmod(0o755)

    def run(how: str, by: Sbx) -> dict[str, Any]:
        volume = ("-v", f"{work}:/work:ro")
        if how == "wrap":
            done = by("wrap", "--", str(script), cwd=work)
        elif how.startswith("exec"):
            id_ = container(*volume, "host:", "sleep", "100", by=by)
            done = by("exec", *(["-u", "1000"] if how == "exec-user" else []), id_, "/work/script")
        else:
            options = {"run": [], "run-user": ["-u", "1000"], "run-init": ["--init"]}[how]
            done = by("run", *options, *volume, "host:", "/work/script")
        first, _, rest = done.stdout.partition("\n")
        found: dict[str, Any] = json.loads(first)
        return {**found, "after": rest.strip()}

    return run


HOW = ["run", "run-user", "run-init", "wrap", "exec", "exec-user"]


@pytest.mark.parametrize("how", HOW)
def test_R03_the_program_of_sbx_can_not_be_changed(
    how: str, sbx: Sbx, attack: Callable[[str, Sbx], dict[str, Any]]
) -> None:
    """CVE-2019-5736: the image makes the kernel run the tool's own program inside, and opens it for writing."""
    program = os.path.realpath("/proc/self/exe")
    before = identity(program)
    found = attack(how, sbx)
    assert identity(program) == before
    assert found.pop("exe") == program, "the attack itself did not work"
    assert (found.pop("after"), found.pop("seals")) == ("", "none")
    assert set(found.values()) <= {"EACCES", "EPERM", "EROFS", "ETXTBSY"}, found


@pytest.mark.parametrize("how", HOW)
def test_R03_a_python_of_the_callers_own(
    how: str, sbx: Sbx, tmp_path: Path, attack: Callable[[str, Sbx], dict[str, Any]]
) -> None:
    """Such as one of pyenv, uv or conda: as root inside the command is its owner; what it finds is a sealed copy."""
    assert sbx("run", "host:", "true").returncode == 0
    program = tmp_path / "own/python3"
    program.parent.mkdir()
    shutil.copy(os.path.realpath("/proc/self/exe"), program)
    launcher = tmp_path / "own/sbx"
    launcher.write_text(f'#!/bin/sh\nexec {program} -IS {Path(sandbox.__file__).parent}/__main__.py "$@"\n')
    launcher.chmod(0o755)
    before = identity(str(program))
    found = attack(how, Sbx(sbx.store, sbx.environment, str(launcher)))
    assert identity(str(program)) == before
    assert found["exe"] == "/memfd:python3 (deleted)"
    assert found["truncate"] in ("EPERM", "ETXTBSY"), found
    # sealed: sealing, shrinking, growing, writing
    assert (found["seals"], found["library"], found["after"]) == (15, "EACCES", ""), found


# The old ways out of a chroot, with a descriptor of the root in hand and without; then what is there.
CLIMB = """
import os, sys
fd = os.open("/", os.O_RDONLY)
os.makedirs("/tmp/below", exist_ok=True)
for way in (lambda: os.fchdir(fd), lambda: os.chdir("/proc/1/root"), lambda: os.chdir("/proc/self/cwd"), lambda: None):
    try:
        if os.path.isdir("/tmp/below"):
            os.chroot("/tmp/below")
        way()
        for _ in range(100):
            os.chdir("..")
        os.chroot(".")
    except OSError:
        pass
    if os.path.exists(sys.argv[1]) or os.path.exists(sys.argv[1].lstrip("/")):
        print("out")
print("tried")
"""


@pytest.mark.parametrize("how", ["run", "run-init", "exec", "wrap"])
def test_R01_no_way_up_from_the_root(how: str, sbx: Sbx, tmp_path: Path, container: Callable[..., str]) -> None:
    """Image root may call chroot: with it, with `..`, by /proc, nothing above the container's root is found."""
    (tmp_path / "canary").touch()
    work = tmp_path / "work"
    work.mkdir()
    verb = {"run": ["run", "host:"], "run-init": ["run", "--init", "host:"], "wrap": ["wrap", "--"]}.get(how)
    verb = verb or ["exec", container("host:", "sleep", "100")]
    done = sbx(*verb, PYTHON, "-Ic", CLIMB, str(tmp_path / "canary"), cwd=work)
    assert (done.returncode, done.stdout) == (0, "tried\n"), done


# Looks at every process that appears, as fast as it can, for what only the tool has: its program, memory, descriptors.
WATCH = """
import errno, json, os, time
told = {}  # pid -> the outcomes of all looks
closed = []  # pids of those that joined and were met while they were closed
bad = []
ITS = ("/dev/null", "/usr/lib", "/etc/ld.so")  # what `sleep` itself opens
end = time.monotonic() + 60
def look(pid, name, function, wrong):
    try:
        found = function()
    except OSError as error:
        told.setdefault(pid, set()).add(errno.errorcode.get(error.errno, "?"))
        if error.errno in (errno.EACCES, errno.EPERM) and pid not in ("1", *closed):
            closed.append(pid)
            open("/work/closed", "w").write("x" * len(closed))
        return
    told.setdefault(pid, set()).add("ok")
    if wrong(found):
        bad.append([pid, name, str(found)[:200]])
def read(path):
    with open(path, "rb") as file:
        return file.read(4096)
def links(pid):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
def memory(p):
    os.close(os.open(p + "mem", os.O_RDWR))
    return os.readlink(p + "exe")
print("up", flush=True)
own = str(os.getpid())
while time.monotonic() < end and not os.path.exists("/work/stop"):
    for pid in os.listdir("/proc"):
        if not pid.isdecimal() or pid == own:
            continue
        p = f"/proc/{pid}/"
        look(pid, "exe", lambda: os.stat(p + "exe") and os.readlink(p + "exe"), lambda x: "python" in x)
        look(pid, "maps", lambda: read(p + "maps"), lambda x: b"python" in x)
        look(pid, "environ", lambda: read(p + "environ"), lambda x: b"hunter2" in x or b"SBX_" in x)
        look(pid, "cwd", lambda: os.readlink(p + "cwd"), lambda x: x not in ("/", "/work"))
        look(pid, "root", lambda: os.readlink(p + "root"), lambda x: x != "/")
        look(pid, "fd", lambda: links(pid), lambda x: [w for w in x if w[0] == "/" and not w.startswith(ITS)])
        look(pid, "mem", lambda: memory(p), lambda x: "python" in x)
print(json.dumps([{pid: sorted(found) for pid, found in told.items()}, bad]))
"""


@pytest.mark.parametrize("options", [[], ["--init"]], ids=["plain", "init"])
def test_R03_R04_who_joins_is_closed_until_it_runs(
    options: list[str], sbx: Sbx, tmp_path: Path, container: Callable[..., str]
) -> None:
    """CVE-2016-9962: a process of the container looks at those that exec starts, before they are what they shall be."""
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    id_ = container(*options, "-v", f"{work}:/work", "host:", PYTHON, "-Ic", WATCH)
    for _ in range(500):
        if "up" in sbx("logs", id_).stdout:
            break
    closed = work / "closed"
    for number in range(200):  # how many are met in time is the machine's business
        if number >= 12 and closed.exists() and closed.stat().st_size >= 6:
            break
        user = ["-u", "1000"] if number % 3 == 0 else []
        done = sbx("exec", *user, id_, "sleep", "0.05", env={"TOKEN": "hunter2"})
        assert (done.returncode, done.stderr) == (0, "")
    (work / "stop").touch()
    assert sbx("wait", id_, timeout=20).stdout == "0\n"
    seen, bad = json.loads(sbx("logs", id_).stdout.splitlines()[-1])
    assert bad == []
    joined = [outcomes for pid, outcomes in seen.items() if pid != "1"]
    assert sum("EACCES" in outcomes or "EPERM" in outcomes for outcomes in joined) >= 6, "hardly one was seen in time"


def test_E03_cp_and_exec_load_nothing_of_the_image(
    sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, container: Callable[..., str]
) -> None:
    """CVE-2019-14271: every module and program that could be wanted is a trap of the image."""
    rootfs, fired = tmp_path / "rootfs", tmp_path / "fired"
    shutil.copytree(busybox_rootfs, rootfs, symlinks=True)
    fired.mkdir()
    fired.chmod(0o777)
    for folder in {path for path in sys.path if path.startswith("/")} | {str(TREE)}:
        inside = rootfs / folder.lstrip("/")
        if inside.is_file() or inside.suffix == ".zip":
            continue
        inside.mkdir(parents=True, exist_ok=True)
        for name in {*sys.stdlib_module_names, "sandbox", "pyseccomp", "typer", "sitecustomize"}:
            (inside / f"{name}.py").write_text(f"open('/fired/{name}', 'w')\n")
    for name in ("tar", "cp", "gzip", "zstd", "getent", "newuidmap", "newgidmap", "python3", "mount", "ldconfig"):
        for folder in ("bin", "usr/bin", "sbin", "usr/local/bin"):
            (rootfs / folder).mkdir(parents=True, exist_ok=True)
            path = rootfs / folder / name
            path.unlink(missing_ok=True)
            path.write_text(f"#!/bin/sh\n: >/fired/{name}\n")
            path.chmod(0o755)
    (tmp_path / "sent").write_text("sent\n")
    id_ = container("-v", f"{fired}:/fired", f"rootfs:{rootfs}", "sleep", "100")
    for words in (
        ("cp", str(tmp_path / "sent"), f"{id_}:/tmp"), ("cp", f"{id_}:/tmp/sent", str(tmp_path / "back")),
        ("cp", f"{id_}:/etc", str(tmp_path / "etc")), ("exec", id_, "true"), ("exec", "-u", "app", id_, "true"),
        ("diff", id_), ("export", "-o", str(tmp_path / "out.tar"), id_), ("top", id_), ("inspect", id_),
    ):  # fmt: skip
        done = sbx(*words)
        assert done.returncode == 0, done
    assert (tmp_path / "back").read_text() == "sent\n"
    assert os.listdir(fired) == []


@pytest.mark.parametrize(
    "user", ["1000:", ":", "-1", "+0", "0x0", "4294967295", "4294967296", "99999999999999999999", "root\n", " 0", "../0", "0:0:0",
             "ghost", "\u0660"]
)  # fmt: skip
def test_E09_users_of_exec(user: str, session_sbx: Sbx, still: str) -> None:
    """What is no user is an error before anything runs; never root by mistake."""
    done = session_sbx("exec", f"--user={user}", still, "id")
    assert (done.returncode, done.stdout) == (125, ""), done
    assert done.stderr.startswith("sbx: ") and "\n\n" not in done.stderr


@pytest.fixture(scope="module")
def still(session_sbx: Sbx, busybox_rootfs: Path) -> Iterator[str]:
    """A container that sleeps, for who only asks."""
    done = session_sbx("run", "-d", "--rm", f"rootfs:{busybox_rootfs}", "sleep", "1000")
    assert done.returncode == 0, done.stderr
    yield done.stdout.strip()
    session_sbx("rm", "-f", done.stdout.strip())


def test_E10_S03_pid_that_is_another_process_now(sbx: Sbx, busybox_rootfs: Path, container: Callable[..., str]) -> None:
    """The state names a pid that by now is a process of the caller: no verb enters, signals or reads it."""
    id_ = container("--name", "c", f"rootfs:{busybox_rootfs}", "sleep", "1000")
    folder = sbx.store / "containers" / id_
    state = marshal.loads((folder / "state").read_bytes())
    with open(f"/proc/{state['pid']}/status") as file:
        keeper = next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
    os.kill(keeper, signal.SIGKILL)
    assert sbx("wait", "c").stdout == "137\n"
    innocent = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        (folder / "state").write_bytes(marshal.dumps({**state, "pid": innocent.pid}, 4))
        for words, code in (
            (("exec", "c", "true"), 255), (("kill", "c"), 125), (("top", "c"), 125), (("attach", "c"), 125),
            (("stop", "-t", "0", "c"), 0), (("rm", "-f", "c"), 0),
        ):  # fmt: skip
            done = sbx(*words)
            assert done.returncode == code, done
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.limit(60)
@pytest.mark.parametrize(
    "spoil",
    [
        "mkfifo /etc/passwd", "mkdir /etc/passwd", "ln -s {host}/passwd /etc/passwd", "ln -s /../../../..{host}/passwd /etc/passwd",
        "ln -s /proc/self/fd/3 /etc/passwd", "ln -s /dev/zero /etc/passwd", "truncate -s 1T /etc/passwd", "ln -s /etc/passwd /etc/passwd",
        "head -c 3000000 /dev/zero >/etc/passwd", "mv /etc /etc2; ln -s {host} /etc",
    ],
)  # fmt: skip
def test_I16_E09_passwd_that_the_container_has_changed(
    spoil: str, sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, container: Callable[..., str]
) -> None:
    """exec and cp look a user up in files that a hostile command has replaced: no hang, nothing of the host's is read."""
    host = tmp_path / "host"
    host.mkdir()
    for name, text in (("passwd", "ghost:x:0:0::/:/bin/sh\n"), ("group", "ghost:x:0:\n")):
        (host / name).write_text(text)
    id_ = container(
        f"rootfs:{busybox_rootfs}", "sh", "-c", f"rm /etc/passwd; {spoil.format(host=host)}; echo up; sleep 1000"
    )
    for _ in range(500):
        if "up" in sbx("logs", id_).stdout:
            break
    for user in ("ghost", "app"):
        done = sbx("exec", "-u", user, id_, "id", timeout=20)
        assert (done.returncode, done.stdout) == (125, ""), done
        assert done.stderr.startswith("sbx: ")
    assert sbx("exec", "-u", "1000:1000", id_, "true", timeout=20).returncode in (0, 125)


@pytest.mark.limit(60)
@pytest.mark.parametrize(
    "made",
    ["mkfifo /x", "ln -s /dev/zero /x", "ln -s /dev/tty /x", "ln -s /proc/kmsg /x", "mkdir /x; mkfifo /x/f"],
)
def test_I06_E02_cp_meets_no_files(
    made: str, sbx: Sbx, busybox_rootfs: Path, tmp_path: Path, container: Callable[..., str]
) -> None:
    """Pipes and devices in the container: cp, diff, export and commit end, and take none of them along."""
    id_ = container(f"rootfs:{busybox_rootfs}", "sh", "-c", f"{made}; sleep 0.2; echo up; sleep 1000")
    for _ in range(500):
        if "up" in sbx("logs", id_).stdout:
            break
    (tmp_path / "file").write_text("f")
    for words in (
        ("cp", f"{id_}:/x", str(tmp_path / "out")), ("cp", str(tmp_path / "file"), f"{id_}:/x"), ("cp", f"{id_}:/x/.", str(tmp_path / "two")),
        ("diff", id_), ("export", "-o", str(tmp_path / "all.tar"), id_),
    ):  # fmt: skip
        done = sbx(*words, timeout=20)
        assert done.returncode in (0, 125) and "internal error" not in done.stderr, (words, done)
    for path in [tmp_path / "out", tmp_path / "two", *tmp_path.glob("*/*")]:
        if path.name != "store" and os.path.lexists(path) and "store" not in path.parts:
            assert path.is_dir() or (path.is_file() and path.stat().st_size <= 1), path
