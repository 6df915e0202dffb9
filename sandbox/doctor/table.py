"""The table of probes: what doctor shows, what test skips are called, and when `run` would work.  (cold)"""

from collections.abc import Iterable

from sandbox.doctor import ids, kernel, login, network, storage
from sandbox.doctor.probe import MISSING, Probe, Row, look

_NS = ("userns",)
PROBES = (
    Probe("userns", "user namespace", ids.user_namespace, "must"),
    Probe("idmap", "subordinate ids", ids.id_maps, needs=_NS),
    Probe("mount", "mount namespace", kernel.mount_namespace, "must", _NS),
    Probe("proc", "own /proc", kernel.proc_mount, "must", _NS),
    Probe("sysfs", "own /sys", kernel.sysfs_mount, needs=_NS),
    Probe("overlay", "kernel overlay", storage.kernel_overlay, needs=_NS),
    Probe("fuse", "fuse-overlayfs", storage.fuse_overlay, needs=_NS),
    Probe("netns", "network namespace", network.network_namespace, "must", _NS),
    Probe("slirp", "slirp4netns", network.slirp4netns, needs=_NS),
    Probe("pasta", "pasta", network.pasta, needs=_NS),
    Probe("seccomp", "seccomp filter", kernel.seccomp_filter, "must"),
    Probe("notify", "seccomp notify", kernel.seccomp_notify),
    Probe("landlock", "Landlock", kernel.landlock),
    Probe("cgroup", "cgroup delegation", kernel.cgroup_delegation),
    Probe("tty", "own terminal", kernel.terminal, "must", _NS),
    Probe("timens", "time namespace", kernel.time_namespace, needs=_NS),
    Probe("store", "image store", storage.store_directory, "must"),
    Probe("runtime", "XDG_RUNTIME_DIR", storage.runtime_directory),
    Probe("linger", "lingering", login.lingering),
)
NAMES = tuple(probe.name for probe in PROBES)


def rows(names: Iterable[str] = NAMES) -> list[Row]:
    """The rows of the probes called `names`, and of no other (what these stand on is tried too, but not returned)."""
    wanted = set(names)
    unknown = wanted - set(NAMES)
    if unknown:
        raise ValueError(f"no such probe: {', '.join(sorted(unknown))}")
    with_roots = wanted | {need for probe in PROBES if probe.name in wanted for need in probe.needs}
    return [row for row in look(p for p in PROBES if p.name in with_roots) if row.name in wanted]


def stops_run(row: Row, *, root: bool) -> bool:
    """Whether `sbx run` fails because of this row: it must work and has no fallback.

    Root needs a subordinate range too: there is no map of one id for it, as root of the host is never mapped.
    """
    return row.status == MISSING and (row.needed == "must" or (root and row.name == "idmap"))


def run_works(found: Iterable[Row], *, root: bool) -> bool:
    """Whether `sbx run` would work on a machine with these rows."""
    return not any(stops_run(row, root=root) for row in found)
