"""Limits where there are no control groups of cgroup v2 to be had: refused with the way out, or replaced when asked to.

What they do where there are is shown in a virtual machine: tests/vm/test_limits.py.
"""

import json

import pytest

from sandbox import cgroup

pytestmark = [
    pytest.mark.requires("userns", "idmap", "store"),
    pytest.mark.skipif(
        not cgroup.unavailable({"memory": {"limit": 1}, "pids": {"limit": 1}}),
        reason="control groups are delegated here",
    ),
]


@pytest.mark.parametrize("options", [("-m", "64m"), ("--pids-limit", "10"), ("--cpus", "1"), ("--cgroups=enabled",)])
def test_refused_before_the_command_starts(own_box, refused, no_leftovers, options):
    done = own_box("echo started", *options)
    assert done.stderr.startswith("sbx: set limits: ")
    assert done.stderr.splitlines()[1].startswith(
        "hint: `sbx doctor cgroup` says why and names the fix; --allow-degraded"
    )
    assert (done.returncode, done.stdout) == (125, "")


def test_replaced_by_limits_per_process(box):
    script = "grep -E 'address space|processes' /proc/self/limits"
    done = box(script, "-m", "64m", "--pids-limit", "100", "--cpus", "1", "--allow-degraded=limits")
    assert done.returncode == 0
    found = {" ".join(words[1:3]): words[-3:-1] for words in map(str.split, done.stdout.splitlines())}
    assert found == {"processes 100": ["100", "100"], "address space": ["67108864", "67108864"]}
    assert done.stderr.startswith("sbx: limits are weaker than asked for (")
    assert "64" in done.stderr and "cpu: no limit" in done.stderr


def test_what_is_weaker_is_recorded(box):
    done = box("true", "-m", "64m", "--allow-degraded=limits", "--print-config")
    assert "limits (memory: " in json.loads(done.stdout)["annotations"]["dev.sbx.degraded"]


def test_spec_has_them_in_terms_of_oci(box):
    done = box("true", "-m", "64m", "--cpus", "0.5", "--pids-limit", "9", "--oom-score-adj", "100", "--print-config")
    spec = json.loads(done.stdout)
    assert spec["linux"]["resources"] == {
        "memory": {"limit": 64 << 20, "swap": 128 << 20}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 9},
    }  # fmt: skip
    assert spec["process"]["oomScoreAdj"] == 100


def test_pause_needs_a_group(own_box, sbx, no_leftovers):
    assert own_box("sleep 100", "-d", "--name", "p").returncode == 0
    done = sbx("pause", "p")
    assert done.returncode == 125
    assert done.stderr.splitlines()[0] == "sbx: pause container `p`: it has no control group of its own"
    assert "--cgroups=enabled" in done.stderr
    told = "sbx: unpause container `p`: it is running; not paused, can't unpause: container state improper\n"
    assert sbx("unpause", "p").stderr == told
    done = sbx("update", "-m", "64m", "p")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        125,
        "sbx: update container `p`: it runs without a control group of its own",
    )
    assert sbx("rm", "-f", "p").returncode == 0


def test_oom_score(box):
    assert box.out("cat /proc/self/oom_score_adj", "--oom-score-adj", "300") == "300\n"
