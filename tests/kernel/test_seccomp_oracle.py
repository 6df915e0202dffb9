"""crun and runc run the same OCI seccomp object: what they let through must be what our program lets through."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import seccomp_child as child
from seccomp_child import MACHINE, call, in_child

from sandbox.profile import calls

pytestmark = pytest.mark.requires("seccomp", "userns")

POLICY = child.default_policy()


def known_to_libseccomp(name: str) -> bool:
    """Others than ours are dropped by crun and runc, with a warning: they stay refused there."""
    return int(calls.library().resolve_syscall(0, name)) >= 0


# (number, arguments) that either the filter or a bad descriptor or address stops
ATTEMPTS: list[tuple[str, tuple[int, ...]]] = [
    *((name, (-1,) * 6) for rule in POLICY.rules for name in rule.names if not rule.args and known_to_libseccomp(name)),
    *(("clone", (1 << bit | 17 | high, 0, 0, 0, 0)) for bit in (17, 25, 26, 27, 28, 29, 30) for high in (0, 1 << 32)),
    *(("unshare", (flags,)) for flags in (0x80, 0x200, 0x400, 0x10000000, 1 << 32 | 0x20000)),
    *(("socket", (f | h, k, p)) for f in range(50) for k in (1, 2, 3, 5, 10) for p in (0, 9) for h in (0, 1 << 32)),
    *(("ioctl", (-1, cmd | high)) for cmd in (0x5401, 0x5412, 0x541C, 0x5423) for high in (0, 1 << 32, 1 << 40)),
    *(("prctl", (option | high, -1, -1, -1, -1)) for option in (35, 3) for high in (0, 1 << 32)),
    *(("personality", (p | high,)) for p in (0, 8, 0x20000, 0x40000, 0xFFFFFFFF) for high in (0, 1 << 32)),
    *(("mknodat", (-1, 0, mode, dev)) for mode in (0o10644, 0o20644, 0o60644, 0o140644, 0o40644) for dev in (0, 259)),
]  # fmt: skip

PROBE = """
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
result = []
for number, args in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    failed = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in args]) == -1
    result.append(errno.errorcode.get(ctypes.get_errno(), "?") if failed else "ok")
print(json.dumps(result))
"""


def numbered() -> list[tuple[int, tuple[int, ...]]]:
    pairs = [(calls.number(name, MACHINE), args) for name, args in ATTEMPTS]
    return [(number, args) for number, args in pairs if number is not None]


def config(rootfs: Path) -> dict[str, object]:
    bind = {"type": "bind", "options": ["rbind", "ro"]}
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]  # `unshare -r` below makes the caller 0
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/usr/bin"], "noNewPrivileges": True,
            "args": ["/usr/bin/python3", "-ISc", PROBE, json.dumps(numbered())],
        },
        "root": {"path": str(rootfs), "readonly": True},
        "mounts": [
            {"destination": "/usr", "source": "/usr", **bind},
            {"destination": "/proc", "source": "proc", "type": "proc"},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("user", "mount", "pid", "ipc", "uts", "network")],
            "uidMappings": ids, "gidMappings": ids, "seccomp": POLICY.oci(MACHINE),
        },
    }  # fmt: skip


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_same_answers(runtime: str, tmp_path: Path) -> None:
    if shutil.which(runtime) is None:
        pytest.skip(f"probe: {runtime} is installed")
    rootfs = tmp_path / "rootfs"
    for name in ("usr", "proc", "dev", "sys"):
        (rootfs / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (rootfs / name).symlink_to(f"usr/{name}")
    (tmp_path / "config.json").write_text(json.dumps(config(rootfs)))
    # crun refuses to start where cgroup versions are mixed: it is shown version 2 only, whatever the machine has.
    shell = f'mount -t cgroup2 none /sys/fs/cgroup; exec {runtime} --root={tmp_path}/state "$@"'
    manage = {"crun": ["--cgroup-manager=disabled"], "runc": []}[runtime]
    command = ["unshare", "-UrmC", "sh", "-c", shell, "sh", *manage, "run", f"--bundle={tmp_path}", f"o{os.getpid()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    ours = in_child(lambda: [call(number, *args) for number, args in numbered()], child.default_program())
    different = [(n, a, o, t) for (n, a), o, t in zip(numbered(), ours, theirs, strict=True) if o != t]
    assert different == []
