"""`sbx run`: the process: variables, folder, command, limits, kernel parameters, descriptors, what would be run."""

import fcntl
import json
import os
import resource
import stat

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "seccomp")


# -- variables --


def test_environment_is_small_and_clean(box):
    out = box.out(
        "env | grep -v -e ^SHLVL= -e ^PWD= | sort",
        "--hostname=h",
        env={"SECRET_TOKEN": "x", "PYTHONPATH": "/x", "LANG": "C"},
    )
    assert out.splitlines() == [
        "HOME=/root", "HOSTNAME=h",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=sbx",
    ]  # fmt: skip


def test_variables_of_the_command_line(box, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(
        b'# comment\n\nA=from file\n  # another\nB=with = and "quotes" # kept\nC\nMISSING\nD=dos\r\nE=\xff\xfe\n'
    )
    out = box.out(
        "echo \"$A|$B|$C|${MISSING-unset}|$D|$F|${G-unset}\"; printf %s \"$E\" | od -An -tx1",
        "--env-file", file, "-e", "A=from option", "-e", "F", "-e", "G", "-e", "EMPTY=",
        env={"C": "callers", "F": "callers F"},
    )  # fmt: skip
    assert out == 'from option|with = and "quotes" # kept|callers|unset|dos|callers F|unset\n ff fe\n'


def test_later_variables_win(box):
    assert box.out("echo $A; env | grep -c ^A=", "-e", "A=1", "-e", "A=2") == "2\n1\n"


def test_variables_with_odd_bytes(box):
    value = "line\nbreak \udcff\u20ac"
    done = box('printf %s "$A"', "-e", f"A={value}")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", value)


@pytest.mark.parametrize("entry", ["", "=x"])
def test_variable_without_a_name(own_box, refused, no_leftovers, entry):
    refused(
        own_box("true", "-e", entry),
        f"set variable{f' `{entry}`' if entry else ''}: Invalid argument",
        hint="NAME=VALUE",
    )


def test_env_file_that_is_not_there(own_box, refused, no_leftovers, tmp_path):
    path = tmp_path / "none"
    refused(own_box("true", "--env-file", path), f"read environment file `{path}`: No such file or directory")
    refused(own_box("true", "--env-file", tmp_path), f"read environment file `{tmp_path}`: Is a directory")


def test_image_variables_and_their_removal(session_sbx, layered_oci):
    image = layered_oci(3).oci
    done = session_sbx("run", "--unsetenv", "PATH", "-e", "X=1", image, "/bin/busybox", "env")
    assert "PATH=" not in done.stdout and "X=1\n" in done.stdout
    done = session_sbx("run", "--unsetenv-all", "-e", "X=1", image, "/bin/busybox", "env")
    assert (done.returncode, done.stdout) == (0, "X=1\n")


def test_env_host(box):
    assert box.out("echo $CALLERS", "--env-host", env={"CALLERS": "own"}) == "own\n"


# -- folder, umask, command --


def test_workdir(box):
    assert box.out("pwd", "-w", "/home//app/../app/.") == "/home/app\n"


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("/none", "change directory `/none`: No such file or directory"),
        ("/etc/passwd", "change directory `/etc/passwd`: Not a directory"),
        ("relative", "read --workdir `relative`: Invalid argument"),
        ("/proc/self/fd/7", "change directory `/proc/self/fd/7`: "),
        ("/proc/self/cwd", "change directory `/proc/self/cwd`: "),
    ],
)
def test_workdir_that_can_not_be(own_box, no_leftovers, folder, line):
    """Among them descriptors of the host that leak (CVE-2024-21626)."""
    done = own_box("pwd", "-w", folder)
    if folder == "/proc/self/cwd" and done.returncode == 0:
        assert done.stdout == "/\n"
        return
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"sbx: {line}")


def test_no_descriptor_leads_out(box):
    """Whatever the set-up has open as a folder, it is refused or the container's own root (CVE-2024-21626)."""
    own = box.out("ls /")
    ran = 0
    for fd in range(3, 24):
        done = box("pwd; cd ..; cd ..; pwd; ls", "-w", f"/proc/self/fd/{fd}")
        if done.returncode == 0:
            ran += 1
            assert done.stdout == "/\n/\n" + own
        else:
            assert (done.returncode, done.stdout) == (125, ""), done
            assert done.stderr.startswith(f"sbx: change directory `/proc/self/fd/{fd}`: ")
    assert ran <= 1


def test_umask(box):
    assert box.out("umask; touch /f; stat -c %a /f") == "0022\n644\n"
    assert box.out("umask; touch /f; stat -c %a /f", "--umask=0077") == "0077\n600\n"


@pytest.mark.parametrize("mask", ["9", "1777", "x", "-1", "0o22"])
def test_umask_that_is_none(own_box, refused, no_leftovers, mask):
    refused(own_box("true", f"--umask={mask}"), f"read --umask `{mask}`: Invalid argument", hint="octal")


def test_entrypoint(session_sbx, busybox_rootfs):
    image = f"rootfs:{busybox_rootfs}"
    assert session_sbx("run", "--entrypoint", "echo", image, "a", "b").stdout == "a b\n"
    assert session_sbx("run", "--entrypoint", '["echo", "x y"]', image, "z").stdout == "x y z\n"
    assert session_sbx("run", "--entrypoint", "[]", image, "echo", "plain").stdout == "plain\n"


def test_entrypoint_that_is_none(own_box, refused, no_leftovers):
    refused(
        own_box("true", "--entrypoint", '["echo", 1]'), 'read --entrypoint `["echo", 1]`: Invalid argument', hint="JSON"
    )


def test_command_of_the_image(session_sbx, busybox_oci, busybox_rootfs):
    """Cmd is `sh`, which reads its standard input."""
    done = session_sbx("run", "-i", busybox_oci.oci, input="echo from stdin\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "from stdin\n", "")
    done = session_sbx("run", busybox_oci.oci, "echo", "mine", "--rm", "-x")
    assert done.stdout == "mine --rm -x\n"


def test_words_are_passed_as_they_are(session_sbx, busybox_rootfs):
    words = ["", " ", "a b", "*", "$HOME", "\n", "\udcff", "--", "-e", "é"]
    done = session_sbx("run", f"rootfs:{busybox_rootfs}", "printf", "%s|", *words)
    assert done.stdout == "".join(f"{word}|" for word in words)


# -- limits and kernel parameters --


def test_ulimit(box):
    out = box.out(
        "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; ulimit -St",
        "--ulimit=nofile=100:200",
        "--ulimit",
        "RLIMIT_CPU=7:8",
    )
    assert out == "100\n200\n0\n0\n7\n"


def test_ulimit_of_the_profile_stays_within_the_callers(box):
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1048576)
    assert box.out("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc") == f"{min(1024, hard)}\n{hard}\n0\n0\n"


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("nofile", "read --ulimit `nofile`: Invalid argument"),
        ("bogus=1", "read --ulimit `bogus=1`: Invalid argument"),
        ("nofile=x", "read --ulimit `nofile=x`: Invalid argument"),
        ("nofile=5:4", "read --ulimit `nofile=5:4`: the soft limit is above the hard one"),
    ],
)
def test_ulimit_that_is_none(own_box, refused, no_leftovers, entry, line):
    refused(own_box("true", f"--ulimit={entry}"), line)


def test_ulimit_above_the_callers(own_box, no_leftovers):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    done = own_box("true", f"--ulimit=nofile={hard + 1}")
    assert done.returncode == 125
    assert done.stderr == f"sbx: set resource limit `7`: {hard + 1} is above the caller's hard limit {hard}\n"


def test_sysctl(box):
    script = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ping_group_range"
    out = box.out(script, "--sysctl", "net.ipv4.ip_default_ttl=33", "--sysctl", "kernel/shmmni=100")
    assert out.split()[:4] == ["33", "100", "0", "65536"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--sysctl=kernel.panic=1"], "set sysctl `kernel.panic`: it belongs to the host, not to a namespace of this container"),
        (["--sysctl=net.core.somaxconn=1", "--network=host"],
         "set sysctl `net.core.somaxconn`: it belongs to the host, not to a namespace of this container"),
        (["--sysctl=net.ipv4.none=1"], "set sysctl `net.ipv4.none`: No such file or directory"),
        (["--sysctl=net.ipv4.ip_default_ttl=1000"], "set sysctl `net.ipv4.ip_default_ttl`: Invalid argument"),
        (["--sysctl=net/../kernel/panic=1"], "read --sysctl `net/../kernel/panic=1`: Invalid argument"),
        (["--sysctl=net.ipv4.ip_default_ttl"], "read --sysctl `net.ipv4.ip_default_ttl`: Invalid argument"),
    ],
)  # fmt: skip
def test_sysctl_that_can_not_be(own_box, refused, no_leftovers, options, line):
    refused(own_box("true", *options), line)


def test_every_port_and_ping_is_the_users(session_sbx):
    program = """
import socket
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 80))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as ping:
    ping.sendto(bytes([8, 0, 0, 0, 0, 0, 0, 1]) + b"sbx", ("127.0.0.1", 0))
    print(ping.recv(100)[-3:])
"""
    done = session_sbx("run", "-u", "1000", "host:", "python3", "-c", program)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "b'sbx'\n")


@pytest.mark.requires("timens")
def test_time_offset(box):
    out = box.out("cut -d. -f1 /proc/uptime", "--time-offset", "boottime=10d,monotonic=1h")
    with open("/proc/uptime") as file:
        own = float(file.read().split()[0])
    assert abs(int(out) - own - 864000) < 30


# -- what is passed in --


def test_preserve_fds(box, tmp_path):
    (tmp_path / "in").write_text("through descriptor")
    fd = os.open(tmp_path / "in", os.O_RDONLY)
    # 3 is likely a descriptor of pytest's own: it is put back.
    kept = {
        number: fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100)
        for number in (3, 17)
        if os.path.exists(f"/proc/self/fd/{number}")
    }
    third, other = os.dup2(fd, 3), os.dup2(fd, 17)
    try:
        done = box("ls /proc/self/fd | tr '\\n' ' '; cat <&3", "--preserve-fds=1", pass_fds=(third, other))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("0 1 2 3 ") and done.stdout.endswith("through descriptor")
        assert " 17 " not in done.stdout
        os.lseek(other, 0, 0)
        done = box("cat <&17; ls /proc/self/fd | tr '\\n' ' '", "--preserve-fd=17", pass_fds=(third, other))
        assert done.stdout == "through descriptor0 1 17 2 3 "  # 3 is what ls opened
    finally:
        for number in {fd, third, other}:
            os.close(number)
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


def test_preserve_a_descriptor_that_is_closed(own_box, refused, no_leftovers):
    refused(own_box("true", "--preserve-fd=99"), "preserve descriptor `99`: Bad file descriptor")


@pytest.mark.parametrize("option", ["--preserve-fds=x", "--preserve-fd=x", "--preserve-fds=-1", "--preserve-fd=-1"])
def test_preserve_something_else(own_box, refused, no_leftovers, option):
    name, _, value = option.partition("=")
    refused(own_box("true", option), f"read {name} `{value}`: Invalid argument", hint="a number")


def test_descriptors_of_the_caller_are_closed(box, tmp_path):
    (tmp_path / "secret").write_text("secret")
    fd = os.open(tmp_path / "secret", os.O_RDONLY)
    try:
        done = box("ls /proc/self/fd | tr '\\n' ' '", pass_fds=(fd,))
        assert done.stdout == "0 1 2 3 "
    finally:
        os.close(fd)


# -- what would be run --


def test_print_config_runs_nothing(own_box, no_leftovers, tmp_path):
    tmp_path.joinpath("v").mkdir()
    done = own_box.sbx(
        "run", "--print-config", "-v", f"{tmp_path}/v:/v", "-e", "A=b", f"rootfs:{own_box.rootfs}", "touch", "/v/x"
    )
    assert (done.returncode, done.stderr) == (0, "")
    spec = json.loads(done.stdout)
    assert spec["ociVersion"].startswith("1.")
    assert spec["process"]["args"] == ["touch", "/v/x"]
    assert "A=b" in spec["process"]["env"]
    assert {namespace["type"] for namespace in spec["linux"]["namespaces"]} == {
        "user", "pid", "ipc", "uts", "mount", "network", "cgroup",
    }  # fmt: skip
    assert [m["destination"] for m in spec["mounts"]][:3] == ["/proc", "/dev", "/dev/pts"]
    assert os.listdir(tmp_path / "v") == []


def test_print_plan_runs_nothing(own_box, no_leftovers):
    done = own_box.sbx("run", "--print-plan", f"rootfs:{own_box.rootfs}", "true")
    assert (done.returncode, done.stderr) == (0, "")
    verbs = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("init ")]
    assert verbs[-1] == "execute" and verbs[-2] == "seccomp"
    assert verbs.index("pivot_root") < verbs.index("ids") < verbs.index("capabilities") < verbs.index("close_fds")


def test_cidfile_that_exists(own_box, refused, no_leftovers, tmp_path):
    (tmp_path / "id").write_text("old")
    path = tmp_path / "id"
    refused(own_box("true", "--cidfile", path), f"write container id to `{path}`: File exists")
    assert path.read_text() == "old"
    assert stat.S_ISREG(path.stat().st_mode)


def test_annotations_of_ours_are_not_the_callers(own_box, refused, no_leftovers):
    for option in ("--annotation", "--label"):
        refused(own_box("true", option, "dev.sbx.user=0"), "read --annotation `dev.sbx.user=0`: dev.sbx. is sbx's own")


def test_preserve_a_descriptor_of_sbx(own_box, refused, no_leftovers):
    """What the caller has not opened may be open in sbx by then: a folder of the host (CVE-2024-21626)."""
    done = own_box.sbx(
        "run", "--preserve-fd=3", f"rootfs:{own_box.rootfs}", "true", preexec_fn=lambda: os.closerange(3, 64)
    )
    refused(done, "preserve descriptor `3`: Bad file descriptor")


def test_numbers_that_are_too_long(own_box, refused, no_leftovers):
    many = "9" * 5000
    refused(own_box("true", "--shm-size", many), f"read --shm-size `{many}`: Invalid argument", 125, "a size is")
    refused(own_box("true", "--timeout", many), f"read --timeout `{many}`: Invalid argument", 125, "a time is")
    refused(own_box("true", "--preserve-fd", many), f"read --preserve-fd `{many}`: Invalid argument", 125, "a number")
