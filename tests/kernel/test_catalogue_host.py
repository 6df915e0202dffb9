"""Rows of the catalogue of known weaknesses about the host's side: volumes, cp, what is kept on disk, logs.

The number in a test's name is the row, see docs/security.md.
"""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from images import ENVIRONMENT, Layout, busybox_layer, entry, remove_tree, tar
from support import Sbx

Start = Callable[..., str]


@pytest.fixture
def image(busybox_rootfs: Path) -> str:
    return f"rootfs:{busybox_rootfs}"


@pytest.fixture
def container(sbx: Sbx, image: str) -> Iterator[Start]:
    """`container("c", SCRIPT, OPTIONS...)`: one of that name that runs the script; its id."""
    made = []

    def start(name: str, script: str, *options: str) -> str:
        done = sbx("run", "-d", "--name", name, *options, image, "sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")
        made.append(name)
        return done.stdout.strip()

    yield start
    for name in made:
        sbx("rm", "-f", name)


def flipping(folder: Path, one: str, two: str) -> "subprocess.Popen[bytes]":
    """A process that swaps two names of a folder, as fast as it can."""
    return subprocess.Popen([sys.executable, "-Ic", f"""
import ctypes, os
os.chdir({str(folder)!r})
rename = ctypes.CDLL(None).renameat2
while True:
    rename(-100, {one.encode()!r}, -100, {two.encode()!r}, 2)  # RENAME_EXCHANGE
"""])  # fmt: skip


# -- volumes and /proc --


@pytest.mark.parametrize("target", ["/proc/sys/net", "/proc/sys/net/ipv4", "/proc/sys", "/proc"])
def test_R08_sysctls_go_to_procfs_only(target: str, session_sbx: Sbx, image: str, tmp_path: Path) -> None:
    """CVE-2025-52881: a volume with links lies where sbx writes a sysctl; nothing of it is written to."""
    evil = tmp_path / "evil"
    for folder in ("sys/net/ipv4", "net/ipv4", "ipv4"):
        (evil / folder).mkdir(parents=True, exist_ok=True)
    canary = tmp_path / "canary"
    canary.write_text("0\n")
    plain = []
    for folder in ("sys/net/ipv4", "net/ipv4", "ipv4", "."):
        (evil / folder / "ip_forward").symlink_to(canary)
        plain.append(evil / folder / "tcp_timestamps")
        plain[-1].write_text("0\n")
    for key in ("ip_forward", "tcp_timestamps"):
        words = ["run", "-v", f"{evil}:{target}", "--sysctl", f"net.ipv4.{key}=1", image, "true"]
        done = session_sbx(*words)
        assert done.returncode in (0, 125), done
        if done.returncode:
            assert done.stderr.startswith("sbx: ")
        assert canary.read_text() == "0\n"
        assert {path.read_text() for path in plain} == {"0\n"}, "not procfs, and written to"


@pytest.mark.parametrize("target", ["store", "sockets"])
def test_E05_source_of_a_volume_is_what_was_checked(target: str, sbx: Sbx, image: str, tmp_path: Path) -> None:
    """A name flips between a folder and a link to what sbx refuses as volume: what is mounted is never the latter."""
    assert sbx("run", image, "true").returncode == 0
    listening = socket.socket(socket.AF_UNIX)
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    folder = os.open(runtime, os.O_PATH)
    listening.bind(f"/proc/self/fd/{folder}/agent")
    os.close(folder)
    shared = tmp_path / "shared"
    (shared / "real").mkdir(parents=True)
    (shared / "real/mine").touch()
    (shared / "flip").symlink_to({"store": sbx.store, "sockets": runtime}[target])
    environment = {"XDG_RUNTIME_DIR": str(runtime)}
    seen = set()
    flipper = flipping(shared, "real", "flip")
    try:
        for _ in range(120):
            done = sbx("run", "-v", f"{shared}/flip:/x:ro", image, "ls", "/x", env=environment)
            seen.add((done.returncode, done.stdout))
    finally:
        flipper.kill()
        flipper.wait()
        listening.close()
    assert {code for code, _ in seen} == {0, 125}, "it never flipped"
    assert {out for code, out in seen if code == 0} == {"mine\n"}, seen
    assert {out for code, out in seen if code == 125} == {""}


@pytest.mark.parametrize("option", ["--rw", "--ro"])
def test_E05_links_in_the_working_directory_of_wrap(option: str, sbx: Sbx, tmp_path: Path) -> None:
    """What one command has planted is not mounted for the next: a path in the working directory that leads out of it."""
    work, mine = tmp_path / "work", tmp_path / "mine"
    (work / "cache/deep").mkdir(parents=True)
    mine.mkdir()
    (mine / "key").write_text("secret\n")
    script = f"rm -r cache; ln -s {mine} cache; ln -s {tmp_path} up; mkdir own; ln -s own inside"
    assert sbx("wrap", "--", "sh", "-c", script, cwd=work).returncode == 0
    for path in ("cache", "cache/key", "up/mine", f"{work}/up"):
        done = sbx("wrap", option, path, "--", "sh", "-c", f"cat {mine}/key cache/key", cwd=work)
        assert (done.returncode, done.stdout) == (125, ""), done
        assert "a link leads to" in done.stderr
    assert sbx("wrap", option, "inside", "--", "true", cwd=work).returncode == 0
    done = sbx("wrap", option, str(mine), "--", "cat", "cache/key", cwd=work)
    assert (done.returncode, done.stdout) == (0, "secret\n"), done


STRANGE = [
    "-rf",
    "--",
    "new\nline",
    "*",
    "?",
    "[a]",
    " ",
    "~",
    "$HOME",
    "esc\x1b[31m",
    "caf\udce9",
    "ü",
    "a" * 255,
    "\\",
    "'",
    '"',
    "%s",
    "c:x",
]


def test_E04_names_as_they_are(sbx: Sbx, container: Start, tmp_path: Path) -> None:
    """No globbing, no options: what cp takes in and gives back has the names it had."""
    out = tmp_path / "out"
    out.mkdir()
    for name in STRANGE:
        (out / name).write_text(name, errors="surrogateescape")
    (tmp_path / "beside").write_text("not asked for")
    container("c", "mkdir /in; sleep 100")
    assert sbx("cp", f"{out}/.", "c:/tmp").returncode == 0
    assert sbx("cp", "c:/tmp/.", str(tmp_path / "back")).returncode == 0
    assert sorted(os.listdir(tmp_path / "back")) == sorted(STRANGE)
    for name in STRANGE:
        assert (tmp_path / "back" / name).read_text(errors="surrogateescape") == name
    for name in STRANGE:
        done = sbx("cp", f"c:/tmp/{name}", str(tmp_path / "one"))
        assert done.returncode == 0 and "\x1b" not in done.stderr, (name, done)
        assert (tmp_path / "one").read_text(errors="surrogateescape") == name
    for name in ("*", "?", "[a]"):
        sbx("exec", "c", "rm", f"/tmp/{name}")
        done = sbx("cp", f"c:/tmp/{name}", str(tmp_path / "none"))
        assert done.returncode == 125 and not (tmp_path / "none").exists()


def test_E07_volumes_of_an_image_are_fresh(sbx: Sbx, tmp_path: Path) -> None:
    """What one container left in a volume that it was not named for is in no other's, also when it was not removed."""
    layer = tar(entry("data", None), entry("data/of-the-image", b"1"))
    config = {"Cmd": ["sh"], "Env": ENVIRONMENT, "Volumes": {"/data": {}}}
    Layout(tmp_path / "image").image("latest", [busybox_layer(), layer], config)
    for number, options in enumerate(
        (["--name", "a"], ["--name", "b"], [], ["-d", "--name", "c"], ["--name", "d", "-v", "/data"])
    ):
        script = f"ls /data; echo secret >/data/{number}; ls -d /other 2>/dev/null; true"
        done = sbx("run", *options, f"oci:{tmp_path}/image:latest", "sh", "-c", script)
        if "-d" in options:
            assert sbx("wait", "c").stdout == "0\n"
            done = sbx("logs", "c")
        assert (done.returncode, done.stdout) == (0, "of-the-image\n"), done
        if number == 1:
            assert sbx("rm", "a").returncode == 0  # its volume stays
    names = sbx("volume", "ls", "-q").stdout.split()
    assert len(names) == len(set(names)) >= 4


# -- what is kept on disk --


def test_S01_nothing_that_others_can_foresee(
    sbx: Sbx, container: Start, image: str, busybox_rootfs: Path, tmp_path: Path
) -> None:
    """Names in /tmp and the runtime folder that other tools use, planted as links: none is followed, nothing is made."""
    canary = tmp_path / "canary"
    canary.mkdir()
    planted = []
    temporary = tmp_path / "tmp"
    temporary.mkdir(mode=0o777)
    uid = os.getuid()
    for folder in ("/tmp", str(temporary)):
        for name in (f"sbx-{uid}", f"sbx-run-{uid}", f".sbx-{uid}", "sbx"):
            path = Path(folder) / name
            if not os.path.lexists(path):
                path.symlink_to(canary)
                planted.append(path)
    before = {folder: set(os.listdir(folder)) for folder in (str(temporary),)}
    try:
        for environment in (
            {"XDG_RUNTIME_DIR": None},
            {"XDG_RUNTIME_DIR": "/nonexistent"},
            {"XDG_RUNTIME_DIR": str(temporary)},
        ):
            own = {**environment, "TMPDIR": str(temporary)}
            done = sbx("run", "-d", "--name", "c", image, "sleep", "100", env=own)
            assert done.returncode == 0, done
            assert sbx("exec", "c", "true", env=own).returncode == 0
            for folder, names in before.items():
                assert set(os.listdir(folder)) == names
            assert sbx("rm", "-f", "c", env=own).returncode == 0
        assert os.listdir(canary) == []
    finally:
        for path in planted:
            path.unlink()


@pytest.mark.parametrize("plant", ["ln -sf {mine} report.json", "rm -rf sub; ln -s {folder} sub", "kept"])
def test_S01_a_report_follows_no_planted_link(plant: str, sbx: Sbx, tmp_path: Path) -> None:
    """What is written when the command has ended lies where the command could write: it has put a link there."""
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine\n")
    path = "sub/report.json" if "sub" in plant else "report.json"
    script = f"rm -f report.json; {plant.format(mine=mine / 'file', folder=mine)}"
    if plant == "kept":
        (work / "report.json").write_text("old")
        script = "ln -f report.json other; rm report.json; ln -s other report.json"
    done = sbx("wrap", "--report", path, "--", "sh", "-c", script, cwd=work)
    assert os.listdir(mine) == ["file"] and (mine / "file").read_text() == "mine\n"
    if "sub" in plant:
        assert done.returncode == 125 and "write report" in done.stderr, done
    else:
        assert done.returncode == 0, done
        assert not (work / "report.json").is_symlink()
        assert json.loads((work / "report.json").read_text())["exit_code"] == 0
    if plant == "kept":
        assert (work / "other").read_text() == "old"


def test_S02_state_is_private_whatever_the_umask(sbx: Sbx, image: str, tmp_path: Path) -> None:
    """With umask 000: the store is closed, and what holds output, variables and secrets is closed once more."""
    (tmp_path / "secret").write_text("hunter2")
    assert sbx("secret", "create", "s", str(tmp_path / "secret"), umask=0).returncode == 0
    words = [
        "--name",
        "c",
        "--secret",
        "s",
        "-e",
        "TOKEN=hunter2",
        "-v",
        "v:/v",
        image,
        "sh",
        "-c",
        "echo up; sleep 100",
    ]
    id_ = sbx("run", "-d", *words, umask=0).stdout.strip()
    try:
        assert stat.S_IMODE(sbx.store.stat().st_mode) == 0o700
        # The keeper may be another id than the caller, who reads the log: what closes it is the folder.
        for folder in ("containers", f"containers/{id_}", "secrets", "volumes"):
            assert stat.S_IMODE((sbx.store / folder).stat().st_mode) == 0o700, folder
        assert stat.S_IMODE((sbx.store / "secrets" / "s").stat().st_mode) & 0o077 == 0
    finally:
        sbx("rm", "-f", "c")


@pytest.fixture
def open_sbx(sbx: Sbx) -> Iterator[Sbx]:
    """`sbx` with a store in a folder that everybody can get to; its path is short enough for the address of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="c-"))
    folder.chmod(0o755)
    yield Sbx(folder / "s", sbx.environment, sbx.launcher)
    remove_tree(folder)


CONNECT = """
import os, socket, sys
found = []
for path in sys.argv[1:]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(path)
        found.append("connected")
    except OSError as error:
        found.append(type(error).__name__)
    try:
        os.listdir(os.path.dirname(path)); found.append("listed")
    except OSError as error:
        found.append(type(error).__name__)
print(*found)
"""


def test_S05_another_user_can_not_reach_a_container(open_sbx: Sbx, image: str) -> None:
    """Neither its socket nor its folder; the same words work for the caller, so the address is the right one."""
    id_ = open_sbx("run", "-d", "--name", "c", image, "sleep", "100").stdout.strip()
    path = f"{open_sbx.store}/containers/{id_}/control"
    try:
        own = subprocess.run([sys.executable, "-Ic", CONNECT, path], capture_output=True, text=True, check=True)
        assert own.stdout == "connected listed\n"
        # A subordinate id is another user to the host.
        words = [
            "setpriv",
            "--reuid",
            "33",
            "--regid",
            "33",
            "--clear-groups",
            "/usr/bin/python3",
            "-Ic",
            CONNECT,
            path,
        ]
        other = open_sbx("unshare", *words)
        assert (other.returncode, other.stdout) == (0, "PermissionError PermissionError\n"), other
    finally:
        open_sbx("rm", "-f", "c")


NAMES = ["../x", "..", ".", "/", "/etc", "a/b", "", "-x", "_x", ".x", "a b", "a\nb", "a\x1b[31m", "ü", "a*", "y:b", "x/../../y", "a\\b", "%2e%2e",
         "~", "$(id)", ".names", ".."+"/"*200+"x"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_S06_names_are_no_paths(name: str, sbx: Sbx, image: str, tmp_path: Path) -> None:
    """As the name of a container, volume or secret: refused.  As what to look for: not found.  Nothing is made outside."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/kept").touch()
    assert sbx("create", "--name", "good", image, "true").returncode == 0
    (tmp_path / "file").write_text("f")
    before = sorted(os.listdir(tmp_path))
    refused = [
        ("run", f"--name={name}", "-d", image, "true"), ("create", f"--name={name}", image, "true"), ("rename", "good", "--", name),
        ("volume", "create", "--", name), ("secret", "create", "--", name, str(tmp_path / "file")),
        ("run", f"--secret={name}", image, "true"), ("run", f"--volumes-from={name}", image, "true"),
    ]  # fmt: skip
    missing = [
        *[(verb, "--", name) for verb in ("start", "stop", "kill", "rm", "logs", "inspect", "diff", "top", "wait", "rmi")],
        ("exec", "--", name, "true"), ("volume", "rm", "--", name), ("secret", "rm", "--", name), ("volume", "inspect", "--", name),
    ]  # fmt: skip
    for words in [*refused, *(missing if name in NAMES[:6] else missing[:4])]:  # all of them ask the same function
        if name == "" and words[0] in ("run", "create") and words[1] in ("--name=", "--secret=", "--volumes-from="):
            continue  # the same as none given
        done = sbx(*words)
        assert done.returncode != 0, (words, done.stdout)
        assert done.stderr.startswith("sbx: ") and "internal error" not in done.stderr, (words, done.stderr)
        assert "\x1b" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == before
    assert os.listdir(tmp_path / "x") == ["kept"]
    assert sbx("ps", "-a", "--format", "{{.Names}}").stdout == "good\n"
    assert sbx("volume", "ls", "-q").stdout == sbx("secret", "ls", "-q").stdout == ""


FORGED = "2001-01-01T00:00:00.000000000+00:00 stderr F forged"


def test_S07_output_forges_no_records(sbx: Sbx, container: Start) -> None:
    """A line that looks like a record of the log, pieces of lines, bytes that are no text: each line is what it was."""
    script = f"""printf '{FORGED}\\n{FORGED}\\n'; printf '\\303'; printf '\\n{FORGED}'; printf '\\377\\000\\n'; printf 'P\\n'"""
    container("c", script)
    assert sbx("wait", "c").stdout == "0\n"
    done = sbx("logs", "c")
    expected = f"{FORGED}\n{FORGED}\n\udcc3\n{FORGED}\udcff\0\nP\n"
    assert (done.stdout, done.stderr) == (expected, "")
    stamped = sbx("logs", "-t", "c").stdout.split("\n")[:-1]
    year = time.strftime("%Y")
    assert len(stamped) == 5 and all(line.startswith(year) for line in stamped)
    assert sbx("logs", "--until", "2002-01-01T00:00:00Z", "c").stdout == ""


def test_S10_removal_stays_in_the_container(sbx: Sbx, container: Start, tmp_path: Path) -> None:
    """Links, closed folders, deep trees, odd names, a volume that is still there: all goes but what is the host's."""
    canary = tmp_path / "canary"
    (canary / "folder").mkdir(parents=True)
    (canary / "folder/file").write_text("stays")
    script = f"""
        ln -s {canary} /link; mkdir /tree; ln -s {canary}/folder /tree/x; ln -s / /tree/root; ln {canary}/folder/file /hard 2>/dev/null
        mkdir -p /shut/in; touch /shut/in/file; chown -R 12:34 /shut; chmod 0 /shut/in/file /shut/in /shut
        i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done; cd /
        mkdir -- -rf '*' "$(printf 'a\\nb')"; mkfifo /pipe; touch -- /tree/--help; chmod 1777 /tree; echo made >/v/made; chattr +i /tree 2>/dev/null
        echo done; sleep 1000
    """
    id_ = container("c", script, "-v", f"{canary}:/v")
    for _ in range(500):
        if "done" in sbx("logs", "c").stdout:
            break
    done = sbx("rm", "-f", "c")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (sbx.store / "containers" / id_).exists()
    assert sorted(os.listdir(canary)) == ["folder", "made"]
    assert (canary / "folder/file").read_text() == "stays"
    assert [name for name in os.listdir(sbx.store / "containers") if not name.startswith(".")] == []


@pytest.mark.parametrize(
    "verb",
    [("run", "rootfs:ROOTFS", "true"), ("images",), ("ps",), ("info",), ("profile", "list"), ("wrap", "--", "true")],
)
def test_S11_variables_of_the_caller(verb: tuple[str, ...], sbx: Sbx, busybox_rootfs: Path, tmp_path: Path) -> None:
    """PYTHON*, a working directory full of modules, a user's folder of packages: nothing of it is imported."""
    fired = tmp_path / "fired"
    traps = tmp_path / "traps"
    site = tmp_path / f"home/.local/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for folder in (traps, site):
        folder.mkdir(parents=True)
        for name in (
            "sandbox",
            "os",
            "sys",
            "typer",
            "json",
            "re",
            "sitecustomize",
            "usercustomize",
            "encodings",
            "_sitebuiltins",
        ):
            (folder / f"{name}.py").write_text(f"open({str(fired)!r}, 'a').write({name!r})\n")
        (folder / "x.pth").write_text(f"import os; open({str(fired)!r}, 'w')\n")
    environment = {
        "PYTHONPATH": str(traps), "PYTHONSTARTUP": f"{traps}/os.py", "PYTHONUSERBASE": str(tmp_path / "home/.local"),
        "PYTHONINSPECT": "1", "PYTHONWARNINGS": "error::sandbox.X", "PYTHONBREAKPOINT": "os.system", "PYTHONDEVMODE": "1",
        "PYTHONEXECUTABLE": f"{traps}/os.py", "PYTHONPLATLIBDIR": str(traps), "PYTHONCASEOK": "1", "HOME": str(tmp_path / "home"),
        "BASH_ENV": f"{traps}/os.py", "ENV": f"{traps}/os.py", "IFS": "/", "CDPATH": str(traps),
    }  # fmt: skip
    words = [f"rootfs:{busybox_rootfs}" if word == "rootfs:ROOTFS" else word for word in verb]
    done = sbx(*words, env=environment, cwd=traps)
    assert done.returncode == 0, done
    assert not fired.exists(), fired.read_text()


# -- how much --


def test_R55_file_systems_in_memory_have_a_size(session_sbx: Sbx, image: str, tmp_path: Path) -> None:
    """What is written to /dev and /dev/shm ends at a limit."""
    script = "grep -E ' - tmpfs ' /proc/self/mountinfo; stat -f -c '%b %S' /dev /dev/shm"
    done = session_sbx("run", image, "sh", "-c", script)
    assert done.returncode == 0, done
    *mounts, dev, shm = done.stdout.splitlines()
    assert all("size=" in line for line in mounts if " ro," not in line.split(" - ")[0]), mounts
    assert [int(b) * int(s) for b, s in (dev.split(), shm.split())] == [64 << 20, 64 << 20]
    done = session_sbx("run", image, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=100; wc -c </dev/shm/x")
    assert "No space left on device" in done.stderr and int(done.stdout) == 64 << 20


def test_R55_log_is_bounded(sbx: Sbx, container: Start) -> None:
    """Without an option: 16 MiB and one older log of as much, whatever the command prints."""
    id_ = container("c", "head -c 100000000 /dev/zero | tr '\\0' 'x' | fold -w 1000; echo; echo last")
    assert sbx("wait", "c").stdout == "0\n"
    folder = sbx.store / "containers" / id_
    sizes = {path.name: path.stat().st_size for path in folder.glob("log*")}
    assert set(sizes) == {"log", "log.1"} and max(sizes.values()) <= 16 << 20, sizes
    assert sbx("logs", "--tail", "1", "c").stdout == "last\n"
