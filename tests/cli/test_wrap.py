"""`sbx wrap`: the host's own system, read-only; home and secrets hidden; the working directory the caller's."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from sandbox import linux_rare

pytestmark = pytest.mark.requires("userns", "mount", "store", "seccomp")

ROOT = os.geteuid() == 0


@pytest.fixture
def work(tmp_path):
    """The working directory, with a file in it."""
    path = tmp_path / "work"
    path.mkdir()
    (path / "file").write_text("mine\n")
    return path


@pytest.fixture
def wrap(sbx, work):
    """`wrap(script, *options)`: `sbx wrap OPTIONS -- sh -c SCRIPT` in the working directory."""

    def call(script, *options, **rest):
        return sbx("wrap", *options, "--", "sh", "-c", script, **{"cwd": work, **rest})

    return call


@pytest.fixture
def out(wrap):
    """Stdout of a script that must end with 0 and say nothing on stderr."""

    def call(script, *options, **rest):
        done = wrap(script, *options, **rest)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return call


# -- the caller's own --


def test_caller_is_itself_and_owns_what_it_makes(out, work, no_leftovers):
    assert (
        out("id -u; id -g; pwd; cat file; echo new >made; mkdir sub; mv file sub/")
        == f"{os.getuid()}\n{os.getgid()}\n{work}\nmine\n"
    )
    assert sorted(os.listdir(work)) == ["made", "sub"]
    assert {path.stat().st_uid for path in work.rglob("*")} == {os.getuid()}


def test_one_id_is_mapped(out):
    uid, gid = os.getuid(), os.getgid()
    text = out("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups")
    assert text.split() == [str(n) for n in (uid, uid, 1, gid, gid, 1)] + ["deny"]


def test_no_rights(out):
    text = out("cat /proc/self/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_workdir_option(sbx, work, tmp_path, no_leftovers):
    done = sbx("wrap", "-w", work, "--", "sh", "-c", "pwd; touch made", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{work}\n", "")
    assert sorted(os.listdir(work)) == ["file", "made"]


def test_working_directory_by_a_link(out, work, tmp_path):
    (tmp_path / "link").symlink_to(work)
    assert out("/bin/pwd; touch made", cwd=tmp_path / "link") == f"{work}\n"
    assert (work / "made").exists()


# -- the host's --


def test_system_is_there_and_read_only(wrap, no_leftovers):
    done = wrap("test -x /usr/bin/env && echo there; for p in /usr/x /etc/x /var/x /x; do touch $p; done")
    assert (done.returncode, done.stdout) == (1, "there\n")
    assert done.stderr.count("Read-only file system") == 4


def test_R20_R26_all_mounts_of_the_host_are_read_only_and_void(out, work):
    """Whatever is mounted below the root: read-only, no set-uid, no devices, except what sbx puts there."""
    own = {
        "/tmp",
        "/var/tmp",
        "/dev",
        "/proc",
        "/sys",
        "/home",
        "/root",
        "/run",
        "/mnt",
        "/media",
        str(work),
        os.path.realpath(os.environ["HOME"]),
    }
    for line in out("cat /proc/self/mountinfo").splitlines():
        fields = line.split()
        point, options = fields[4], set(fields[5].split(","))
        if any(point == path or point.startswith(path + "/") for path in own):
            continue
        assert {"ro", "nosuid", "nodev"} <= options or fields[3] == "/null", line


def test_home_is_empty_and_private(out, sbx, work):
    home = os.environ["HOME"]
    assert out(
        "ls -A ~ | wc -l; touch ~/.cache-file && echo writable; echo $HOME"
    ) == f"0\nwritable\n{home}\n" or home in str(work)
    assert not os.path.exists(f"{home}/.cache-file")


def test_other_homes_are_hidden(out, work):
    shown = out("ls -A /home").split()
    home = os.path.realpath(os.environ["HOME"])
    allowed = {path.split("/")[2] for path in (home, str(work)) if path.startswith("/home/")}
    assert set(shown) <= allowed


def test_tmp_is_private(out, tmp_path):
    with tempfile.NamedTemporaryFile(dir="/tmp") as canary:
        script = f"test -e {canary.name} || echo hidden; stat -c %a /tmp /var/tmp; touch /tmp/sbx-wrap-x /var/tmp/sbx-wrap-x && echo made"
        assert out(script) == "hidden\n1777\n1777\nmade\n"
    assert not os.path.exists("/tmp/sbx-wrap-x") and not os.path.exists("/var/tmp/sbx-wrap-x")


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/var/log", "/etc/ssh", "/var/spool"])
def test_secrets_are_hidden(wrap, path):
    if not os.path.exists(path):
        pytest.skip(f"this machine has no {path}")
    if os.path.isdir(path):
        assert wrap(f"ls -A {path} | wc -l").stdout == "0\n"
    else:
        assert wrap(f"wc -c <{path}").stdout == "0\n"


def test_store_is_hidden(out, sbx, work):
    """Below the working directory, where all else is shown."""
    store = work / "store"
    assert out(
        "ls -A store; touch store/x 2>&1 | grep -o 'Read-only file system'; cat file", env={"SBX_STORE": str(store)}
    ) == ("Read-only file system\nmine\n")


def test_processes_of_the_host_are_not_seen(out):
    assert (
        out("ls /proc | grep -c '^[0-9]*$'; kill -0 1 && echo own; tr '\\0' ' ' </proc/1/cmdline | head -c 5")
        == "3\nown\nsh -c"
    )


def test_no_network(out):
    assert out("ls /sys/class/net") == "lo\n"


def test_R61_the_hosts_sockets_are_out_of_reach(sbx, work, tmp_path):
    """By path (the session's, in a hidden folder) and by abstract name."""
    name = f"sbx-wrap-{os.getpid()}"
    program = (
        "import socket, sys\n"
        "for address in sys.argv[1], '\\0' + sys.argv[2]:\n"
        "    try: socket.socket(socket.AF_UNIX).connect(address); print('reached')\n"
        "    except OSError as error: print(error.strerror)\n"
    )
    with socket.socket(socket.AF_UNIX) as by_path, socket.socket(socket.AF_UNIX) as by_name:
        by_path.bind(str(tmp_path / "s"))
        by_path.listen()
        by_name.bind(f"\0{name}")
        by_name.listen()
        done = sbx("wrap", "--", "/usr/bin/python3", "-c", program, tmp_path / "s", name, cwd=work)
    assert (done.returncode, done.stdout) == (0, "No such file or directory\nConnection refused\n")


def test_environment_is_clean(out):
    env = {"SECRET_TOKEN": "x", "SSH_AUTH_SOCK": "/s", "LANG": "C.UTF-8", "TERM": "vt100", "LC_ALL": "C"}
    text = out("env | sort", env=env)
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert "SECRET_TOKEN" not in names and "SSH_AUTH_SOCK" not in names and "SBX_STORE" not in names
    assert {"PATH", "HOME", "LANG", "TERM", "LC_ALL", "container"} <= names
    assert names <= {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TERM", "container", "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR",
    }  # fmt: skip
    assert out("echo $A$B", "-e", "A=1", "-e", "B", env={"B": "2"}) == "12\n"


# -- more and less --


def test_ro_rw_and_hide(out, wrap, tmp_path, work):
    for name in ("shown", "open", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"{name}\n")
    (work / "inner").mkdir()
    (work / "inner/file").write_text("inner\n")
    options = ("--ro", tmp_path / "shown", "--rw", tmp_path / "open", "--hide", work / "inner")
    script = (
        f"cat {tmp_path}/shown/file {tmp_path}/open/file; touch {tmp_path}/open/made; ls -A inner; ls -A {tmp_path}"
    )
    assert out(script, *options).split() == ["shown", "open", "open", "shown", "work"]
    assert (tmp_path / "open/made").stat().st_uid == os.getuid()
    done = wrap(f"touch {tmp_path}/shown/made", *options)
    assert done.returncode == 1 and "Read-only file system" in done.stderr


def test_tmpfs(out, work):
    (work / "build").mkdir()
    assert out("touch build/x; ls build", "--tmpfs", f"{work}/build") == "x\n"
    assert os.listdir(work / "build") == []


def test_paths_that_are_not_there(sbx, refused, no_leftovers, tmp_path, work):
    for option in ("--ro", "--rw"):
        done = sbx("wrap", option, tmp_path / "none", "--", "true", cwd=work)
        refused(done, f"open volume source `{tmp_path}/none`: No such file or directory")
        assert not (tmp_path / "none").exists()
    refused(
        sbx("wrap", "-w", tmp_path / "none", "--", "true", cwd=work),
        f"open volume source `{tmp_path}/none`: No such file or directory",
    )


@pytest.mark.parametrize("where", ["/", "home", "above"])
def test_a_working_directory_that_holds_the_home(sbx, refused, no_leftovers, tmp_path, where):
    """It would be writable as a whole, and nothing of the home would be hidden."""
    home = tmp_path / "homes/me"
    home.mkdir(parents=True)
    folder = {"/": "/", "home": home, "above": home.parent}[where]
    done = sbx("wrap", "--", "true", cwd=folder, env={"HOME": str(home)})
    refused(done, f"wrap `{folder}`: the working directory would be writable, and it holds your home", hint="-w DIR")


def test_project_in_the_home(sbx, tmp_path, no_leftovers):
    home = tmp_path / "home"
    (home / "project").mkdir(parents=True)
    (home / ".ssh").mkdir()
    (home / ".ssh/id").write_text("secret")
    done = sbx("wrap", "--", "sh", "-c", "ls -A ~; touch made", cwd=home / "project", env={"HOME": str(home)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "project\n", "")
    assert (home / "project/made").exists()


# -- the same launcher --


def test_status_and_errors(wrap, sbx, work, refused, no_leftovers):
    assert wrap("exit 42").returncode == 42
    refused(sbx("wrap", "--", "none-such", cwd=work), "execute `none-such`: No such file or directory", 127)
    refused(sbx("wrap", "--", "/etc/passwd", cwd=work), "execute `/etc/passwd`: Permission denied", 126)
    done = sbx("wrap", cwd=work)
    assert (done.returncode, done.stdout) == (125, "")
    assert "Traceback" not in done.stderr


def test_signals(sbx, work, no_leftovers):
    process = sbx.popen("wrap", "--", "sh", "-c", "echo up; exec sleep 60", cwd=work)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_timeout(wrap, no_leftovers):
    assert wrap("sleep 60", "--timeout=300ms").returncode == 124


def test_standard_input_is_the_callers(wrap):
    assert wrap("cat", input="typed").stdout == "typed"


def test_print_config(sbx, work, no_leftovers):
    done = sbx("wrap", "--print-config", "--", "touch", "x", cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    spec = json.loads(done.stdout)
    assert spec["process"]["args"] == ["touch", "x"]
    assert spec["process"]["cwd"] == str(work)
    assert spec["root"] == {"path": "/", "readonly": True}
    assert os.listdir(work) == ["file"]


def test_network_of_the_host(out):
    assert out("readlink /proc/self/ns/net", "--network=host").strip() == os.readlink("/proc/self/ns/net")


@pytest.mark.requires("slirp")
def test_slirp4netns_can_not_do_without_root(sbx, work, refused, no_leftovers):
    done = sbx("wrap", "--network=slirp4netns", "--", "true", cwd=work)
    line = "connect network `slirp4netns`: it must be root of the namespace, which has only your own id"
    refused(done, line, hint="--network pasta")


@pytest.mark.requires("pasta")
def test_network_by_pasta(out):
    """The helper has rights that its uid does not give it; the command has none of them."""
    text = out(
        "ls /sys/class/net | tr '\\n' ' '; cat /etc/resolv.conf; grep CapAmb /proc/self/status", "--network=pasta"
    )
    assert text == "lo tap0 nameserver 10.0.2.3\nCapAmb:\t0000000000000000\n"


def test_unmask_is_about_proc_only(out, work):
    (work / "inner").mkdir()
    (work / "inner/file").write_text("x")
    script = "ls -A inner; wc -c </etc/shadow; grep -c ' /proc/' /proc/self/mountinfo || true"
    assert out(script, "--hide", work / "inner", "--security-opt", "unmask=ALL") == "0\n0\n"


def test_real_work(sbx, work, no_leftovers):
    """A build as one does it: python compiles, git commits."""
    (work / "a.py").write_text("print(6 * 7)\n")
    script = "python3 -m compileall -q . && python3 a.py && git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm x && git log --oneline | wc -l"
    if not shutil.which("git"):
        script = "python3 -m compileall -q . && python3 a.py && echo 1"
    done = sbx("wrap", "--", "sh", "-c", script, cwd=work)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "42\n1\n")


@pytest.mark.root
def test_root_is_a_subordinate_id_and_its_files_stay_its_own(sbx, work, no_leftovers, range_of):
    first, count = range_of("/etc/subuid")[0]
    done = sbx(
        "wrap",
        "--",
        "sh",
        "-c",
        "cat /proc/self/uid_map; id -u; touch made; stat -c %u file; cat /etc/shadow | wc -c",
        cwd=work,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["0", str(first), str(count), "0", "0", "0"]
    assert (work / "made").stat().st_uid == 0


@pytest.mark.root
def test_store_outside_of_every_hidden_folder(sbx, work, no_leftovers):
    """The whole root is shown, so the store is hidden wherever it is."""
    folder = Path(tempfile.mkdtemp(prefix="store-", dir="/srv" if os.path.isdir("/srv") else "/opt"))
    try:
        store = folder / "store"
        script = f"ls -A {store} | wc -l; ls -d {folder}"
        done = sbx("wrap", "--", "sh", "-c", script, cwd=work, env={"SBX_STORE": str(store)})
        assert (done.returncode, done.stdout) == (0, f"0\n{folder}\n")
        config = json.loads(sbx("wrap", "--print-config", "--", "true", cwd=work, env={"SBX_STORE": str(store)}).stdout)
        assert str(store) in config["linux"]["maskedPaths"]
    finally:
        shutil.rmtree(folder)


def test_home_that_is_not_set(sbx, work, no_leftovers):
    done = sbx("wrap", "--", "sh", "-c", "echo ran", cwd=work, env={"HOME": None})
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_hidden_folders_stay_hidden_without_home(sbx, work):
    """HOME is what a caller says; the folder of passwd is hidden all the same."""
    passwd = subprocess.run(["getent", "passwd", str(os.getuid())], capture_output=True, text=True, check=False).stdout
    real = passwd.split(":")[5] if passwd else ""
    if not real or not os.path.isdir(real) or str(work).startswith(real):
        pytest.skip("no home folder in passwd")
    for env in ({"HOME": None}, {"HOME": "/nonexistent"}):
        done = sbx("wrap", "--", "sh", "-c", f"ls -A {real} 2>/dev/null | wc -l", cwd=work, env=env)
        assert (done.returncode, done.stdout) == (0, "0\n")


# -- odd callers --


def test_locale_that_python_makes_up_is_not_passed_on(out, wrap):
    bare = {"LANG": None, "LC_ALL": None, "LC_CTYPE": None}
    assert out("env | grep ^LC_ || echo none", env=bare) == "none\n"
    assert out("env | grep ^LC_ || echo none", env={**bare, "LC_CTYPE": "C.UTF-8"}) == "LC_CTYPE=C.UTF-8\n"


def test_hidden_by_a_link(out, tmp_path, work):
    """What the link points to is what is to be hidden."""
    (work / "target").mkdir()
    (work / "target/secret").write_text("x")
    (work / "link").symlink_to("target")
    assert out("ls -A target", "--hide", work / "link") == ""


@pytest.mark.parametrize("name", ["a=b", "a\nb", " a", "-v"])
def test_working_directory_of_any_name(wrap, work, name):
    folder = work / name
    folder.mkdir()
    done = wrap("touch made && pwd", cwd=folder)
    if ROOT and "\n" in name:  # ids are laid over it, which is said in lines
        assert (done.returncode, "line break" in done.stderr) == (125, True)
        return
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder}\n", "")
    assert os.listdir(folder) == ["made"]


def test_working_directory_that_is_gone(sbx, work, no_leftovers):
    launcher = sbx.command("wrap", "--", "true")
    done = subprocess.run(
        ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh", *launcher], cwd=work, text=True,
        env={**sbx.environment, "SBX_STORE": str(sbx.store)}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 125
    assert "sbx: wrap `the working directory`: No such file or directory\n" in done.stderr


@pytest.mark.requires("landlock")
def test_R28_abstract_sockets_of_the_host(wrap):
    """With the host's network they are in reach of connect(2), and of nothing else that guards (CVE-2020-15257)."""
    name = f"sbx-test-{os.getpid()}"
    script = f"python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"\\0{name}\")'"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        done = wrap(script, "--network", "host")
        if linux_rare.landlock_abi() < 6:
            words = "sbx: network host: this kernel can not keep the host's abstract unix sockets out of reach\n"
            assert (done.returncode, done.stderr) == (0, words)
            return
        assert done.returncode == 1
        assert done.stderr.endswith("PermissionError: [Errno 1] Operation not permitted\n")
        done = wrap(script, "--network", "host", "--security-opt", "landlock=unconfined")
        assert (done.returncode, done.stderr) == (0, "")
    own = "import socket; a = socket.socket(socket.AF_UNIX); a.bind(chr(0) + chr(120) * 9); a.listen(); "
    own += "socket.socket(socket.AF_UNIX).connect(chr(0) + chr(120) * 9)"
    assert wrap(f"python3 -c '{own}'", "--network", "host").returncode == 0
