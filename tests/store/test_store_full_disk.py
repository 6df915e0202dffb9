"""A disk without room: what is asked for fails in one line, and deletion gives the room back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from images import Layout, entry, tar
from support import TREE, Sbx

# An own small disk in a user and mount namespace; the subordinate ids are those of this namespace.
SCRIPT = """
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from sandbox import idmap, linux, userns
sbx, store, one, two = sys.argv[2:]
def call(*words):
    done = subprocess.run([sbx, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return [done.returncode, done.stdout, done.stderr]
def work():
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", store, "tmpfs", 0, "mode=700,size=3m")
    with open(store + "/.ids", "w") as file:
        file.write("root:1:60000\\n")
    for path in ("/etc/subuid", "/etc/subgid"):
        linux.mount(store + "/.ids", path, None, linux.MS_BIND)
    found = [call("load", "-q", "-i", one), call("load", "-q", "-i", two), call("images", "-q")]
    fill = os.open(store + "/fill", os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fill, bytes(4096)):
            pass
    except OSError:
        pass
    found += [call("run", "one", "true")]
    found += [call("rmi", "one"), call("system", "check"), call("images", "-aq")]
    disk = os.statvfs(store)
    os.close(fill)
    os.unlink(store + "/fill")
    found += [[disk.f_bavail * disk.f_frsize], call("load", "-q", "-i", one), call("system", "check", "--quick")]
    found += [call("run", "--print-plan", "one", "true")]
    return json.dumps(found)
print(userns.call(idmap.resolve(), work))
"""


@pytest.mark.requires("userns")
def test_deletion_works_on_a_full_disk(sbx: Sbx, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("probe ids: the caller is root, whose namespace has other ids")
    Layout(tmp_path / "one").image("one", [tar(entry("one", os.urandom(1 << 20)))], {})
    Layout(tmp_path / "two").image("two", [tar(entry("two", os.urandom(2 << 20)))], {})
    sbx.store.mkdir(mode=0o700)
    words = [
        sys.executable,
        "-c",
        SCRIPT,
        str(TREE),
        sbx.launcher,
        str(sbx.store),
        str(tmp_path / "one"),
        str(tmp_path / "two"),
    ]
    done = subprocess.run(
        words, env={**sbx.environment, "SBX_STORE": str(sbx.store)}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    first, second, listed, refused, removed, check, after, room, again, last, plan = json.loads(done.stdout)
    assert first[0] == 0, first
    assert (second[0], second[1]) == (125, "") and "No space left on device" in second[2]
    assert "hint: free some space" in second[2]
    assert len(listed[1].split()) == 1
    assert refused[0] == 125 and "No space left on device" in refused[2], refused
    assert removed[0] == 0 and removed[1].startswith("Untagged: localhost/one:latest\n"), removed
    assert (check[0], after[1]) == (0, ""), check
    assert room[0] > 2 << 20
    assert again[0] == 0, again
    assert last[0] == 0, last
    # What a full disk kept from working is not remembered as something that this machine can not do.
    assert plan[0] == 0 and "does not work" not in plan[2] and "overlay" in plan[1], plan
