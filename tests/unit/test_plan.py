"""Spec -> plan: the fixed order of the steps, for every mixture of options; what a step is made of; a golden plan."""

import marshal

import pytest
from hypothesis import given, settings, strategies as st

from sandbox import caps, init, keeper, plan, spec as oci
from sandbox.errors import SandboxError

MAPS = {"uid": [(0, 1000, 1), (1, 100000, 65536)], "gid": [(0, 1000, 1), (1, 100000, 65536)]}
BPF = b"\x06\0\0\0\0\0\xff\x7f"

# What comes before what, in every plan.  Why each pair matters is in plan.py and init.py.
ORDER = [
    "hostname", "loopback", "root", "MOUNTS", "folder", "terminal", "sysctl", "readonly", "mask", "readonly_root", "pivot_root",
    "keyring", "session", "rlimit", "umask", "null_stdin", "reaper", "bounding", "ids", "cwd", "parent_death_signal",
    "effective", "EARLY SECCOMP", "capabilities", "no_new_privs", "close_fds", "seccomp", "execute",
]  # fmt: skip
ONCE = {
    "hostname", "loopback", "root", "terminal", "mask", "readonly_root", "pivot_root", "keyring", "session", "umask", "null_stdin",
    "reaper", "bounding", "ids", "cwd", "parent_death_signal", "effective", "capabilities", "no_new_privs", "close_fds", "seccomp",
    "execute",
}  # fmt: skip


def make_spec(**changes):
    """A spec as `sbx run` makes it, in small."""
    spec = oci.skeleton(MAPS)
    spec["hostname"] = "box"
    spec["process"]["args"] = ["true"]
    spec["process"]["env"] = ["PATH=/bin"]
    oci.set_capabilities(spec, ["CAP_CHOWN"], [])
    spec["mounts"] = oci.default_mounts(shm_size="65536k", host_network=False, cgroup=True, tty_group=True)
    spec["root"]["path"] = "/layers/b/fs"
    spec["annotations"].update(
        {"dev.sbx.storage": "overlay", "dev.sbx.layers": "/layers/a/fs\n/layers/b/fs", "dev.sbx.network": "none"}
    )
    for path, value in changes.items():
        *folders, name = path.split("__")
        place = spec
        for folder in folders:
            place = place[folder]
        place[name] = value
    return spec


@st.composite
def specs(draw):
    spec = make_spec()
    process, linux, annotations = spec["process"], spec["linux"], spec["annotations"]
    process["terminal"] = draw(st.booleans())
    process["noNewPrivileges"] = draw(st.booleans())
    process["user"].update(uid=draw(st.sampled_from([0, 1000])), gid=draw(st.sampled_from([0, 1000])))
    process["rlimits"] = draw(
        st.lists(
            st.builds(lambda t: {"type": t, "soft": 1, "hard": 2}, st.sampled_from(sorted(oci.RLIMITS))), max_size=3
        )
    )
    linux["maskedPaths"] = draw(st.lists(st.sampled_from(["/proc/keys", "/sys/firmware"]), max_size=2))
    linux["readonlyPaths"] = draw(st.lists(st.sampled_from(["/proc/sys", "/proc/bus"]), max_size=2))
    linux["sysctl"] = draw(st.dictionaries(st.sampled_from(["net.x", "kernel.sem"]), st.just("1")))
    kinds = draw(st.sets(st.sampled_from(["network", "uts", "cgroup", "time"])))
    linux["namespaces"] = [{"type": kind} for kind in ("user", "pid", "ipc", "mount", *sorted(kinds))]
    spec["root"]["readonly"] = draw(st.booleans())
    annotations["dev.sbx.storage"] = draw(st.sampled_from(["overlay", "fuse-overlayfs", "copy", "bind"]))
    for key, value in (("init", "reaper"), ("stdin", "null"), ("folders", "/a\n/b"), ("fds", "3,17")):
        if draw(st.booleans()):
            annotations[f"dev.sbx.{key}"] = value
    for _ in range(draw(st.integers(0, 3))):
        entry = draw(st.sampled_from([
            oci.mount("/v", "bind", "/src", "rbind", "ro", "nosuid"), oci.mount("/f", "bind", "/file", "bind"),
            oci.mount("/t", "tmpfs", "tmpfs", "size=1m"),
            oci.mount("/o", "overlay", "overlay", "lowerdir=/low", "upperdir=u", "workdir=w", "userxattr"),
        ]))  # fmt: skip
        spec["mounts"].append(entry)
    return spec, draw(st.sampled_from([b"", BPF]))


def named(steps):
    """The verbs, with the mounts as one word and the filter that comes before capabilities as another."""
    verbs = []
    for position, (verb, *_) in enumerate(steps):
        if verb in ("mount", "bind", "symlink"):
            verbs.append("MOUNTS")
        elif verb == "seccomp" and any(later[0] == "capabilities" for later in steps[position:]):
            verbs.append("EARLY SECCOMP")
        else:
            verbs.append(verb)
    return verbs


@settings(deadline=None)
@given(specs())
def test_order_is_the_same_for_every_spec(made):
    spec, bpf = made
    verbs = named(plan.make(spec, bpf)["init"])
    positions = [ORDER.index(verb) for verb in verbs]
    assert positions == sorted(positions)
    assert all(verbs.count(verb) == 1 for verb in ONCE & set(verbs))


@settings(deadline=None)
@given(specs())
def test_nothing_that_protects_is_left_out(made):
    spec, bpf = made
    verbs = named(plan.make(spec, bpf)["init"])
    always = {
        "root",
        "pivot_root",
        "keyring",
        "session",
        "umask",
        "bounding",
        "ids",
        "cwd",
        "parent_death_signal",
        "capabilities",
        "close_fds",
        "execute",
    }
    assert always <= set(verbs)
    assert ("no_new_privs" in verbs) == spec["process"]["noNewPrivileges"]
    assert (verbs[-2:] == ["seccomp", "execute"]) == bool(bpf and spec["process"]["noNewPrivileges"])
    assert ("EARLY SECCOMP" in verbs) == bool(bpf and not spec["process"]["noNewPrivileges"])
    assert verbs.count("readonly") == len(spec["linux"]["readonlyPaths"])
    assert ("mask" in verbs) == bool(spec["linux"]["maskedPaths"])
    assert verbs.count("rlimit") == len(spec["process"]["rlimits"])


@settings(deadline=None)
@given(specs())
def test_plan_is_data_and_its_verbs_exist(made):
    """marshal's types, methods of the rooms that execute them, slots opened before they are used."""
    spec, bpf = made
    made_plan = plan.make(spec, bpf)
    assert marshal.loads(marshal.dumps(made_plan)) == made_plan
    assert all(step[0] in init.ROOMS or hasattr(init.Init, step[0]) for step in made_plan["init"])
    sources = type(keeper.Keeper.__new__(keeper.Keeper)) and __import__("sandbox.sources", fromlist=["Sources"]).Sources
    opened = set()
    for verb, slot, *_ in made_plan["open"]:
        assert hasattr(sources, verb)
        assert slot not in opened
        opened.add(slot)
    for verb, slot, *rest in made_plan["build"]:
        assert hasattr(sources, verb)
        if verb != "attach":
            assert set(rest[0]) <= opened
        opened.add(slot)
    assert {step[2] for step in made_plan["init"] if step[0] == "bind"} <= opened
    assert 0 in opened


@settings(deadline=None)
@given(specs(), st.sampled_from([0, 1000]))
def test_with_user_changes_ids_and_rights_only(made, uid):
    spec, bpf = made
    before = plan.make(spec, bpf)
    spec["process"]["user"].update(uid=uid, gid=uid, additionalGids=[5])
    oci.limit_capabilities(spec)
    after = plan.with_user(before, spec, bpf)
    assert after == plan.make(spec, bpf)
    assert ("ids", uid, uid, (5,)) in after["init"]
    if spec["process"]["terminal"]:
        assert ("terminal", uid) in after["init"]


def test_terminal_has_standard_input(capsys):
    spec = make_spec(process__terminal=True)
    spec["annotations"]["dev.sbx.stdin"] = "null"
    assert "null_stdin" not in [step[0] for step in plan.make(spec)["init"]]


def test_golden_plan():
    """A change here is a change of what every container goes through."""
    spec = make_spec(linux__maskedPaths=["/proc/keys"], linux__readonlyPaths=["/proc/sys"])
    spec["annotations"]["dev.sbx.stdin"] = "null"
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] in ("/proc", "/dev", "/sys")]
    spec["mounts"].append(oci.mount("/v", "bind", "/src", "rbind", "ro", "nosuid", "nodev"))
    lines = plan.text(plan.make(spec, BPF)).splitlines()
    assert [line for line in lines if "/dev/" not in line] == [
        "open  layer 1 '/layers/a/fs'",
        "open  layer 2 '/layers/b/fs'",
        "open  tree 9 '/src' True",
        "build overlay 0 (1, 2) 'upper' 'work'",
        "init  hostname 'box'",
        "init  loopback",
        "init  root 0 0",
        "init  mount '/proc' 'proc' 'proc' 14",
        "init  mount '/dev' 'tmpfs' 'tmpfs' 42 'mode=755' 'size=65536k'",
        "init  mount '/sys' 'sysfs' 'sysfs' 15",
        "init  bind '/v' 9 7 0",
        "init  readonly '/proc/sys'",
        "init  mask '/proc/keys'",
        "init  pivot_root",
        "init  keyring",
        "init  session",
        "init  umask 18",
        "init  null_stdin",
        f"init  bounding {caps.mask(['CAP_CHOWN'])}",
        "init  ids 0 0 ()",
        "init  cwd '/'",
        "init  parent_death_signal",
        "init  capabilities 1 1 0 0",
        "init  no_new_privs",
        "init  close_fds ()",
        "init  seccomp <8 bytes> <0 bytes> ''",
        "init  execute ('true',) ('PATH=/bin',)",
    ]


def test_wrap_makes_the_hosts_root_read_only_with_all_below():
    spec = make_spec(root__readonly=True)
    spec["annotations"]["dev.sbx.storage"] = "bind"
    spec["root"]["path"] = "/"
    made = plan.make(spec)
    assert made["open"][0] == ("tree", 0, "/", True)
    assert ("root", 0, 7) in made["init"]
    assert ("readonly_root",) not in made["init"]


def test_read_only_root_is_made_so_after_the_mounts():
    made = plan.make(make_spec(root__readonly=True))
    assert ("root", 0, 0) in made["init"]
    assert made["init"].index(("readonly_root",)) == made["init"].index(("pivot_root",)) - 1


def test_mapped_layer_is_inherited_and_attached():
    spec = make_spec()
    spec["annotations"].update({"dev.sbx.layers": "/debian", "dev.sbx.idmap": "/=7\n/v=8\n"})
    spec["mounts"].append(oci.mount("/v", "bind", "/src", "rbind"))
    made = plan.make(spec)
    assert made["open"][0] == ("inherited", 1, 7)
    assert made["build"] == [("attach", 1, "lower"), ("overlay", 0, (1,), "upper", "work")]
    assert made["open"][-1][::2] == ("inherited", 8)


def test_volume_that_changes_its_owner():
    spec = make_spec()
    spec["mounts"] += [oci.mount("/v", "bind", "/src", "rbind"), oci.mount("/w", "bind", "/other", "rbind")]
    spec["annotations"]["dev.sbx.chown"] = "/v\n"
    made = plan.make(spec)
    slot = next(step[1] for step in made["open"] if step[2] == "/src")
    assert made["give"] == [("chown", slot)]


def test_namespaces_are_flags_of_clone():
    from sandbox import linux

    flags = plan.clone_flags(make_spec())
    assert flags == (
        linux.CLONE_NEWPID | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWNS | linux.CLONE_NEWCGROUP
    )  # fmt: skip


def test_no_such_limit():
    with pytest.raises(SandboxError, match="no such limit"):
        plan.make(make_spec(process__rlimits=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}]))
