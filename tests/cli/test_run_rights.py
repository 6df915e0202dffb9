"""`sbx run`: what the process may: capabilities, filter, profile, the lock on user namespaces."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.requires("userns", "idmap", "store", "seccomp")

TREE = Path(__file__).resolve().parent.parent.parent
DEFAULT_CAPABILITIES = 0x800400FB  # chown dac_override fowner fsetid kill setgid setuid sys_chroot setfcap
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def status_of(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def capabilities(text):
    found = status_of(text)
    return [int(found[name], 16) for name in SETS]


# -- capabilities: all five sets --


def test_capabilities_of_root(box):
    assert capabilities(box.out("cat /proc/self/status")) == [0, *[DEFAULT_CAPABILITIES] * 3, 0]


def test_capabilities_of_a_user_are_none(box):
    """Not even the bounding set, nor by a set-uid program: no_new_privs."""
    text = box.out("cat /proc/self/status", "-u", "1000")
    assert capabilities(text) == [0, 0, 0, 0, 0]
    assert status_of(text)["NoNewPrivs"] == "1"


def test_cap_add_and_drop(box):
    text = box.out("cat /proc/self/status", "--cap-drop=CHOWN", "--cap-drop", "cap_kill", "--cap-add=net_raw")
    wanted = DEFAULT_CAPABILITIES & ~(1 << 0) & ~(1 << 5) | 1 << 13
    assert capabilities(text) == [0, wanted, wanted, wanted, 0]


def test_cap_drop_all(box):
    assert capabilities(box.out("cat /proc/self/status", "--cap-drop=all")) == [0, 0, 0, 0, 0]
    text = box.out("cat /proc/self/status", "--cap-drop=all", "--cap-add=CHOWN")
    assert capabilities(text) == [0, 1, 1, 1, 0]


def test_cap_add_for_a_user_is_in_all_sets(box):
    """The only way to have it after exec: ambient; and only what was named, not what root gets."""
    text = box.out("cat /proc/self/status", "-u", "1000", "--cap-add=NET_ADMIN")
    assert capabilities(text) == [1 << 12] * 5


def test_cap_add_all_is_within_the_namespace(box):
    with open("/proc/sys/kernel/cap_last_cap") as file:
        every = (1 << int(file.read()) + 1) - 1
    assert capabilities(box.out("cat /proc/self/status", "--cap-add=ALL"))[1:4] == [every] * 3


def test_no_such_capability(own_box, refused, no_leftovers):
    refused(own_box("true", "--cap-add=FLY"), "read capability `FLY`: no such capability")
    refused(own_box("true", "--cap-drop=FLY"), "read capability `FLY`: no such capability")


# -- filter --


def test_filter_is_in_force(box):
    assert status_of(box.out("cat /proc/self/status"))["Seccomp"] == "2"
    done = box("unshare -U true 2>&1; unshare -m true 2>&1", "--cap-add=SYS_ADMIN")
    assert done.returncode == 1
    assert (
        done.stdout
        == "unshare: unshare(0x10000000): Operation not permitted\nunshare: unshare(0x20000): Operation not permitted\n"
    )


def test_filter_off(box):
    done = box(
        "grep Seccomp: /proc/self/status; unshare -U true && echo nested", "--security-opt", "seccomp=unconfined"
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "Seccomp:\t0\nnested\n")


def test_filter_of_ones_own(box, tmp_path):
    """A docker profile; with a colon and an equals sign in its name."""
    path = tmp_path / "a:b=c.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = box("mkdir /x", "--security-opt", f"seccomp={path}")
    error, refused = done.stderr.splitlines()
    assert (done.returncode, error) == (1, "mkdir: can't create directory '/x': No space left on device")
    assert refused == "sbx: refused mkdir by a:b=c.json (mkdir, pid 1): a rule of its own can allow it"


def test_filter_that_is_not_there(own_box, no_leftovers, tmp_path):
    done = own_box("true", "--security-opt", f"seccomp={tmp_path}/none.json")
    assert (done.returncode, done.stdout) == (125, "")
    assert f"{tmp_path}/none.json" in done.stderr and "No such file or directory" in done.stderr


def test_no_new_privileges(box):
    assert status_of(box.out("cat /proc/self/status"))["NoNewPrivs"] == "1"
    text = box.out("cat /proc/self/status", "--security-opt", "no-new-privileges=false")
    assert (status_of(text)["NoNewPrivs"], status_of(text)["Seccomp"]) == ("0", "2")


def test_filter_stays_without_no_new_privs_for_a_user(box):
    text = box.out("cat /proc/self/status", "--security-opt", "no-new-privileges=false", "-u", "1000")
    assert (status_of(text)["NoNewPrivs"], status_of(text)["Seccomp"]) == ("0", "2")
    assert capabilities(text) == [0] * 5


@pytest.mark.parametrize("option", ["bogus", "apparmor=docker-default", "no-new-privileges=maybe"])
def test_security_option_that_is_none(own_box, no_leftovers, option):
    done = own_box("true", "--security-opt", option)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"sbx: read --security-opt `{option}`: ")


# -- profile --


def changed(tmp_path, old, new):
    """The default profile with one change."""
    text = (TREE / "profiles/default.toml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    return path


def test_profile_with_a_typo(own_box, tmp_path, no_leftovers):
    path = changed(tmp_path, "\nkeep = [", "\nkepe = [")
    done = own_box("true", "--profile", path)
    assert (done.returncode, done.stdout) == (125, "")
    said = done.stderr.splitlines()
    assert said[0].startswith(f"sbx: read profile `{path}:8`: unknown key `kepe`")
    assert len(said) == 2 and said[1].startswith("hint: ") and "keep" in said[1]


def test_profile_that_is_not_there(own_box, no_leftovers):
    done = own_box("true", "--profile", "none-such")
    assert (done.returncode, done.stdout) == (125, "")
    assert "none-such" in done.stderr.splitlines()[0] and len(done.stderr.splitlines()) <= 2


def test_profile_of_ones_own(box, tmp_path):
    path = changed(tmp_path, '\nkeep = ["CHOWN", ', '\nkeep = ["NET_RAW", ')
    wanted = DEFAULT_CAPABILITIES & ~1 | 1 << 13
    assert capabilities(box.out("cat /proc/self/status", "--profile", path)) == [0, wanted, wanted, wanted, 0]
    # Changed on disk: the compiled one is not used any more.
    path = changed(tmp_path, '\nkeep = ["CHOWN", ', '\nkeep = ["MKNOD", ')
    wanted = DEFAULT_CAPABILITIES & ~1 | 1 << 27
    assert capabilities(box.out("cat /proc/self/status", "--profile", path)) == [0, wanted, wanted, wanted, 0]


def test_privileged_is_a_profile_that_says_so(own_box, no_leftovers):
    done = own_box("true", "--privileged")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("sbx: --privileged: no system call filter, all capabilities")
    done = own_box("true", "--privileged", "--profile", "strict")
    assert done.returncode == 125 and "--profile names another" in done.stderr


# -- the lock on user namespaces --


def test_R22_second_lock_on_user_namespaces(box):
    """Beside the filter; without the filter it is what was asked for."""
    script = "cat /proc/sys/user/max_user_namespaces"
    assert box.out(script) == "0\n"
    assert int(box.out(script, "--security-opt", "seccomp=unconfined")) > 0


def test_second_lock_follows_the_filter(box, tmp_path):
    """A filter that lets user namespaces through is meant so."""
    script = "cat /proc/sys/user/max_user_namespaces"
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
    (tmp_path / "open.json").write_text(json.dumps(profile))
    assert int(box.out(script, "--security-opt", f"seccomp={tmp_path}/open.json")) > 0
    profile["syscalls"] = [{"names": ["unshare", "clone3"], "action": "SCMP_ACT_ERRNO"}]
    profile["syscalls"].append({"names": ["clone"], "action": "SCMP_ACT_ERRNO",
                                "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x10000000, "valueTwo": 0x10000000}]})  # fmt: skip
    (tmp_path / "closed.json").write_text(json.dumps(profile))
    assert box.out(script, "--security-opt", f"seccomp={tmp_path}/closed.json") == "0\n"
