"""Namespaces that containers share: with one another, with the machine, with a file's; and pods on top of that."""

import json
import os
import signal
import subprocess
import time

import pytest
from support import until

pytestmark = pytest.mark.requires("userns", "idmap", "store", "overlay")


def spaces(sbx_in, name, *kinds):
    """The namespaces of a container's command, as a process in it sees its own."""
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    return sbx_in.out("exec", name, "sh", "-c", script).split()


def test_each_kind_is_shared_and_no_other(sbx_in):
    sbx_in.live(name="a")
    own = dict(
        zip(("net", "ipc", "uts", "pid", "user"), spaces(sbx_in, "a", "net", "ipc", "uts", "pid", "user"), strict=True)
    )
    for kind, option in (
        ("net", "--network"),
        ("ipc", "--ipc"),
        ("uts", "--uts"),
        ("pid", "--pid"),
        ("user", "--userns"),
    ):
        sbx_in.live(option, "container:a", name=f"b{kind}")
        for other, there in own.items():
            (here,) = spaces(sbx_in, f"b{kind}", other)
            assert (here == there) == (other in (kind, "user")), (kind, other)
    assert sbx_in.out("exec", "buts", "hostname") == sbx_in.out("exec", "a", "hostname") == "a\n"
    assert sbx_in.out("exec", "buts", "cat", "/etc/hostname") == "a\n"


def test_shared_network_carries(sbx_in):
    sbx_in.live("--network", "none", script="while :; do echo hello | nc -l -p 80; done", name="server")
    script = "for i in 1 2 3 4 5 6 7 8 9; do nc 127.0.0.1 80 && exit; sleep 0.2; done"
    assert sbx_in.out("run", "--rm", "--network", "container:server", sbx_in.image, "sh", "-c", script) == "hello\n"
    done = sbx_in("run", "--rm", "--network", "none", sbx_in.image, "nc", "-w", "1", "127.0.0.1", "80", code=1)
    assert done.stdout == ""


def test_shared_pids_are_seen_signalled_and_ended(sbx_in):
    sbx_in.live(name="a", script="sleep 1000")
    sbx_in.live("--pid", "container:a", name="b", script="sleep 1001 & sleep 1002 & wait")
    assert {"sleep 1000", "sleep 1001", "sleep 1002"} <= {
        line.strip() for line in sbx_in.out("exec", "a", "ps", "-o", "args").split("\n")
    }
    sbx_in("stop", "-t", "0", "b")
    left = sbx_in.out("exec", "a", "ps", "-o", "stat,args")
    assert not any("sleep 100" in line and not line.startswith("Z") for line in left.split("\n") if "1000" not in line)
    assert "sleep 1000" in left


def test_all_of_it_ends_with_the_owner_of_the_pids(sbx_in):
    sbx_in.live(name="a", script="sleep 1000")
    sbx_in.live("--pid", "container:a", name="b", script="sleep 1003 & wait")
    pid = int(sbx_in.out("inspect", "-f", "{{.State.Pid}}", "b"))
    os.kill(sbx_in.keeper("a"), signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert sbx_in.out("ps", "-a", "--format", "{{.State}}").split() == ["exited", "exited"]


def test_keeper_without_pids_of_its_own_is_killed(sbx_in):
    """The command goes by its parent-death signal, and the next command tells the truth."""
    sbx_in.live(name="a", script="sleep 1000")
    sbx_in.live("--pid", "container:a", name="b", script="exec sleep 1004")
    pid = int(sbx_in.out("inspect", "-f", "{{.State.Pid}}", "b"))
    os.kill(sbx_in.keeper("b"), signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().split()[2] == "Z")
    assert sbx_in.out("ps", "-a", "--format", "{{.Names}} {{.State}}").split("\n")[:2] == ["b exited", "a running"]
    assert sbx_in.out("exec", "a", "echo", "here") == "here\n"


def test_pids_of_the_host(sbx_in):
    """All in sight, none in reach but those of the caller; what the container started ends with it, and exec works."""
    script = "kill -0 1; sleep 1005 & sleep 1006 & echo started; wait"
    sbx_in.live("--pid", "host", name="c", script=script)
    sbx_in.until("c", "started")
    assert "not permitted" in sbx_in("logs", "c").stderr + sbx_in("logs", "c").stdout
    assert f" {os.getpid()} " in sbx_in.out("exec", "c", "sh", "-c", "echo '' /proc/[0-9]* '' | sed 's,/proc/,,g'")
    sbx_in("exec", "c", "sh", "-c", f"cat /proc/{os.getpid()}/environ", code=1)
    sbx_in("rm", "-f", "c")
    left = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 1005" not in left
    assert "sleep 1006" not in left


def test_pids_of_the_host_with_fuse(sbx_in):
    """Helpers end with the container though no pid namespace ends them."""
    if not os.path.exists("/usr/bin/fuse-overlayfs"):
        pytest.skip("fuse-overlayfs is not installed")
    store = str(sbx_in.sbx.store)
    sbx_in("run", "--rm", "--pid", "host", "--storage-driver", "fuse-overlayfs", sbx_in.image, "true")
    left = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in left.split("\n") if "fuse-overlayfs" in line and store in line]


def test_shared_ipc_includes_posix_memory(sbx_in):
    """shm_open(3) is a file of /dev/shm, which is a mount, not part of the namespace."""
    sbx_in.live(name="a", script="echo of a >/dev/shm/x; sleep 1000")
    words = ("run", "--rm", "--ipc", "container:a", sbx_in.image, "sh", "-c")
    assert sbx_in.out(*words, "cat /dev/shm/x; echo of b >/dev/shm/y") == "of a\n"
    assert sbx_in.out("exec", "a", "cat", "/dev/shm/y") == "of b\n"
    assert sbx_in.out(*words, "grep ' /dev/shm ' /proc/mounts | grep -c nosuid,nodev,noexec") == "1\n"
    assert sbx_in.out("run", "--rm", sbx_in.image, "ls", "/dev/shm") == ""


def test_namespace_of_a_file(sbx_in):
    """A network that `unshare` has made, whose owner is a user namespace of ours."""
    maker = subprocess.Popen(
        ["unshare", "-Urn", "sh", "-c", "ip link add dummy0 type dummy 2>/dev/null; echo up; read x"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert maker.stdout.readline() == "up\n"
        path = f"/proc/{maker.pid}/ns/net"
        assert sbx_in.out(
            "run", "--rm", "--network", f"ns:{path}", sbx_in.image, "readlink", "/proc/self/ns/net"
        ).strip() == os.readlink(path)
        done = sbx_in("run", "--rm", "--ipc", f"ns:{path}", sbx_in.image, "true", code=125)
        assert "it is no ipc namespace" in done.stderr
    finally:
        maker.communicate("end\n")
    done = sbx_in("run", "--rm", "--network", "ns:/proc/1/ns/nothing", sbx_in.image, "true", code=125)
    assert "open namespace `/proc/1/ns/nothing`" in done.stderr


def test_sharing_with_who_shares_with_the_host(sbx_in):
    sbx_in.live("--network", "host", name="a")
    assert sbx_in.out(
        "run", "--rm", "--network", "container:a", sbx_in.image, "readlink", "/proc/self/ns/net"
    ).strip() == os.readlink("/proc/self/ns/net")


def test_what_can_not_be_shared(sbx_in):
    sbx_in.live(name="a")
    for words, text in (
        (("--network", "container:none"), "no such container"),
        (("--network", "container:"), "no such container"),
        (("--pid", "container:"), "no such container"),
        (("--ipc", "what"), "no such mode"),
        (("--network", "what"), "not one of"),
        (("--network", "container:a", "-p", "8080:80"), "the network namespace is another's"),
        (("--uts", "container:a", "--hostname", "x"), "the uts namespace is another's"),
        (("--ipc", "container:a", "--userns", "keep-id"), "has the ids of the user namespace"),
    ):
        done = sbx_in.sbx("run", "--rm", *words, sbx_in.image, "true")
        assert done.returncode in (125, 2), done
        assert text in done.stderr, (words, done.stderr)
        assert len(done.stderr.strip().split("\n")) <= 2
    sbx_in("stop", "-t", "0", "a")
    done = sbx_in("run", "--rm", "--network", "container:a", sbx_in.image, "true", code=125)
    assert "that container is exited" in done.stderr


def test_one_that_is_needed_stays(sbx_in):
    sbx_in.live(name="a")
    sbx_in.live("--network", "container:a", name="b")
    done = sbx_in("rm", "-f", "a", code=2)
    assert "containers that depend on it must be removed before it: b" in done.stderr
    sbx_in("stop", "-t", "0", "b", "a")
    sbx_in("start", "b")  # starts what it needs
    assert sbx_in.column("State") == ["running", "running"]
    assert spaces(sbx_in, "a", "net") == spaces(sbx_in, "b", "net")
    assert sbx_in.out("rm", "-f", "a", "b") == "b\na\n"
    sbx_in.live(name="a")
    sbx_in.live("--network", "container:a", name="b")
    sbx_in("rm", "-f", "--depend", "a")
    assert sbx_in.column("Names") == []


def test_from_inside_the_rights_are_no_more(sbx_in):
    """Root of the shared user namespace without capabilities: no look into, and no way to, the other's processes."""
    sbx_in.live(name="a", script="SECRET=1 sleep 1000")
    script = "cat /proc/1/environ; ls /proc/1/root/; grep CapEff /proc/self/status; nsenter -t 1 -m true"
    done = sbx_in.sbx("run", "--rm", "--pid", "container:a", "-u", "1000", sbx_in.image, "sh", "-c", script)
    assert "SECRET" not in done.stdout
    assert "CapEff:\t0000000000000000" in done.stdout
    assert done.returncode != 0


def test_pod_from_first_to_last(sbx_in):
    pod = sbx_in.out("pod", "create", "--name", "web", "--label", "tier=front").strip()
    assert sbx_in.out("pod", "ps", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}}") == "web Created 1\n"
    sbx_in("run", "-d", "--pod", "web", "--name", "one", sbx_in.image, "sleep", "1000")
    sbx_in("create", "--pod", pod[:12], "--name", "two", sbx_in.image, "sleep", "1000")
    assert sbx_in.out("pod", "ps", "--format", "{{.Status}}") == "Degraded\n"
    sbx_in("pod", "start", "web")
    assert sbx_in.out("pod", "ps", "-q", "--no-trunc") == f"{pod}\n"
    shared = ("net", "ipc", "uts")
    assert spaces(sbx_in, "one", *shared) == spaces(sbx_in, "two", *shared)
    assert spaces(sbx_in, "one", "pid") != spaces(sbx_in, "two", "pid")
    assert sbx_in.out("exec", "two", "hostname") == "web\n"
    document = json.loads(sbx_in.out("pod", "inspect", "web"))
    assert document["State"] == "Running"
    assert document["Labels"] == {"tier": "front"}
    assert {one["Name"] for one in document["Containers"]} == {"web-infra", "one", "two"}
    assert "1 of its containers" not in sbx_in("pod", "rm", "web", code=2).stderr
    assert "depend on it" in sbx_in("rm", "-f", "web-infra", code=2).stderr
    sbx_in("pod", "stop", "-t", "0", "web")
    assert sbx_in.out("pod", "ps", "--format", "{{.Status}}") == "Exited\n"
    sbx_in("start", "one")  # starts what holds the namespaces
    assert sbx_in.out("pod", "ps", "--format", "{{.Status}}") == "Degraded\n"
    sbx_in("pod", "restart", "web")
    assert sbx_in.out("pod", "ps", "--format", "{{.Status}}") == "Running\n"
    sbx_in("pod", "kill", "web")
    sbx_in("pod", "exists", "web")
    sbx_in("pod", "rm", "-f", "web")
    sbx_in("pod", "exists", "web", code=1)
    assert sbx_in.column("Names") == []


def test_pod_with_pids_reaps(sbx_in):
    sbx_in("pod", "create", "--share", "+pid", "p")
    sbx_in("run", "-d", "--pod", "p", "--name", "c", sbx_in.image, "sh", "-c", "(sleep 0.01 &) ; sleep 1000")
    time.sleep(0.3)
    shown = sbx_in.out("exec", "c", "ps", "-o", "pid,stat,args")
    assert "sleep 1000" in shown
    assert " Z" not in shown
    sbx_in("pod", "rm", "-fa")


def test_pods_made_on_the_way_and_faults(sbx_in, tmp_path):
    assert sbx_in.out("run", "--rm", "--pod", "new:q", sbx_in.image, "hostname") == "q\n"
    done = sbx_in("run", "--rm", "--pod", "new:q", sbx_in.image, "true", code=125)
    assert 'name "q" is in use: pod already exists' in done.stderr
    assert "find pod `none`" in sbx_in("run", "--rm", "--pod", "none", sbx_in.image, "true", code=125).stderr
    assert (
        "has a network"
        in sbx_in("run", "--rm", "--pod", "q", "--network", "none", sbx_in.image, "true", code=125).stderr
    )
    assert "no such namespace" in sbx_in("pod", "create", "--share", "disk", code=125).stderr
    sbx_in("pod", "create", "--replace", "q", "--pod-id-file", str(tmp_path / "id"))
    words = ("run", "--rm", "--pod-id-file", str(tmp_path / "id"), sbx_in.image, "hostname")
    assert sbx_in.out(*words) == "q\n"
    sbx_in("pod", "stop", "q")
    assert sbx_in.out("pod", "ps", "--format", "{{.Name}} {{.Status}}") == "q Exited\n"
    sbx_in("pod", "prune", "-f")
    assert sbx_in.out("pod", "ps", "-q") == ""


# Looks at each process that appears, until it may look at one: its environment, and the root that it sees.
WATCHER = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
int main(void) {
    static char text[1 << 16], path[64];
    int self = getpid();
    setvbuf(stdout, 0, _IONBF, 0);
    printf("watching\n");
    for (;;)
        for (int pid = self + 1; pid < self + 40; pid++) {
            snprintf(path, sizeof path, "/proc/%d/environ", pid);
            int fd = open(path, O_RDONLY);
            if (fd < 0) continue;
            int length = read(fd, text, sizeof text - 1);
            close(fd);
            for (int i = 0; i < length; i++) if (!text[i]) text[i] = ' ';
            text[length > 0 ? length : 0] = 0;
            if (strstr(text, "OF_THE_CALLER")) printf("seen in %d\n", pid);
        }
}
"""


@pytest.fixture(scope="module")
def watcher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watcher")
    folder.chmod(0o755)
    (folder / "watcher.c").write_text(WATCHER)
    try:
        subprocess.run(["cc", "-O2", "-static", "-o", folder / "watcher", folder / "watcher.c"], check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no C compiler")
    return folder / "watcher"


@pytest.mark.parametrize("rights", [(), ("--cap-add", "SYS_PTRACE"), ("--privileged", "--quiet")])
def test_who_comes_to_shared_pids_can_not_be_looked_at(sbx_in, watcher, rights):
    """Until it executes its command it is the keeper's copy: environment of the caller, descriptors and root of the host."""
    caller = {"env": {"OF_THE_CALLER": "secret"}}
    mount = ("-v", f"{watcher}:/watcher:ro")
    done = sbx_in.sbx("run", "-d", "--name", "a", *rights, *mount, sbx_in.image, "/watcher", **caller)
    assert done.returncode == 0, done
    for _ in range(12):
        done = sbx_in.sbx("run", "--rm", "--pid", "container:a", sbx_in.image, "true", **caller)
        assert done.returncode == 0, done
        sbx_in("exec", "a", "true")
    assert sbx_in.out("logs", "a") == "watching\n"


@pytest.mark.parametrize("option", ["--userns", "--network", "--pid"])
def test_keepers_in_one_user_namespace_can_not_be_looked_at(sbx_in, option):
    """All rights in it, and sight of the machine's processes: no way into the keepers', which see the host's files."""
    sbx_in.live(name="a")
    sbx_in.live(option, "container:a", name="b")
    a, b = sbx_in.keeper("a"), sbx_in.keeper("b")
    script = f"ls /proc/{a}/root/ /proc/{b}/root/ /proc/{a}/fd/ /proc/{b}/fd/ /proc/$PPID/fd/"
    words = ("run", "--rm", "--quiet", "--privileged", "--userns", "container:a", "--pid", "host")
    done = sbx_in(*words, sbx_in.image, "sh", "-c", script, code=1)
    assert not [line for line in done.stdout.split("\n") if line and not line.endswith(":")]
    assert done.stderr.count("ermission denied") == 5


def test_terminal_time_score_and_network_with_shared_pids(sbx_in):
    """What the keeper otherwise does with the init's entries below /proc."""
    sbx_in.live(name="a")
    words = ("run", "--rm", "--pid")
    script = "cat /proc/self/oom_score_adj; readlink /proc/self/fd/0; cut -d. -f1 /proc/uptime"
    for mode in ("container:a", "host"):
        options = ("-t", "--oom-score-adj", "77", "--time-offset", "100000000", "--network", "pasta")
        score, terminal, uptime = sbx_in.out(*words, mode, *options, sbx_in.image, "sh", "-c", script).split()
        assert (score, terminal[:9]) == ("77", "/dev/pts/")
        assert int(uptime) > 100000000
    with open("/proc/self/oom_score_adj") as own:
        sbx_in.live("--pid", "host", "--oom-score-adj", "88", name="b")
        with open(f"/proc/{sbx_in.keeper('b')}/oom_score_adj") as keeper:
            assert keeper.read() == own.read()


def test_pids_of_the_host_are_ended_in_other_mount_namespaces(sbx_in):
    script = "unshare -m sleep 1007 & unshare -m sh -c 'sleep 1008 &'; echo started; sleep 1009"
    sbx_in.live("--quiet", "--privileged", "--pid", "host", script=script, name="c")
    sbx_in.until("c", "started")
    sbx_in("rm", "-f", "c")
    left = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert not [line for line in left.split("\n") if line.startswith(("sleep 1007", "sleep 1008", "sleep 1009"))]


@pytest.mark.root
def test_network_of_the_machine(sbx_in):
    """Root may enter what `ip netns` has made; the container's root has no rights over it."""
    name = f"sbx-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        path = f"/run/netns/{name}"
        words = ("run", "--rm", "--network", f"ns:{path}", sbx_in.image, "sh", "-c")
        script = "stat -Lc %i /proc/self/ns/net; ip link set lo up; echo $?; ls /sys/class/net"
        inode, code, *_ = sbx_in.out(*words, script).split()
        assert int(inode) == os.stat(path).st_ino
        assert code != "0"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
