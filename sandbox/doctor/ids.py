"""Probes of the user namespace and of the id maps, and why they are refused.  (cold)"""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess

from sandbox import idmap, linux, userns
from sandbox.doctor import inside
from sandbox.doctor.packages import as_root, install
from sandbox.doctor.probe import DEADLINE, MISSING, WEAKER, WORKS, Refused, Scratch, Verdict
from sandbox.errors import ENOSPC, SandboxError

ENOUGH = 65536  # what images and useradd(8) count on
OUTER = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined ..."
_EUSERS = 87


def setting(name: str) -> str:
    """The value of a sysctl such as `kernel.ngroups_max`, "" when this kernel has none of that name."""
    try:
        with open("/proc/sys/" + name.replace(".", "/"), encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def own_status(key: str) -> str:
    """A field of /proc/self/status, for example `NoNewPrivs`."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == key:
                return value.strip()
    return ""


def user_namespace(scratch: Scratch) -> Verdict:
    """Unshare, write both maps, and use a capability: AppArmor of Ubuntu 24.04 allows the first and takes the last."""
    try:
        inside.enter(linux.CLONE_NEWUTS)
        try:
            linux.sethostname(b"doctor")
        except OSError as error:
            raise SandboxError.of("use a capability in", "user namespace", error) from None
    except SandboxError as error:
        cause, fix = why_no_userns(error)
        return Verdict(MISSING, cause, fix)
    return Verdict(WORKS)


def why_no_userns(error: SandboxError) -> tuple[str, str]:
    """(cause, fix) of a refused user namespace, by the settings that are known to refuse it, likeliest first."""
    if setting("kernel.unprivileged_userns_clone") == "0":
        return ("kernel.unprivileged_userns_clone is 0", _sysctl("kernel.unprivileged_userns_clone=1"))
    if setting("user.max_user_namespaces") == "0":
        return "user.max_user_namespaces is 0", _sysctl("user.max_user_namespaces=28633")
    if error.errno in (ENOSPC, _EUSERS):
        return (
            "the limit of user namespaces is reached, or 32 are nested already",
            _sysctl("user.max_user_namespaces=28633"),
        )
    if setting("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"AppArmor allows user namespaces to listed programs only, and sbx has no profile ({error})",
            apparmor_fix(),
        )
    confined = apparmor_profile()
    if confined:
        return (
            f"AppArmor's profile `{confined}`, which this program is confined by, refuses it ({error})",
            apparmor_fix(),
        )
    if not os.path.exists("/proc/self/ns/user"):
        return "this kernel was built without user namespaces (CONFIG_USER_NS)", ""
    if own_status("Seccomp") == "2":
        return (f"a seccomp filter around this shell refuses it ({error}): probably a container", OUTER)
    if in_chroot():
        return ("this shell runs in a chroot, where the kernel refuses user namespaces", "leave the chroot")
    return str(error), ""


def apparmor_profile() -> str:
    """The AppArmor profile that this process is confined by, "" for none; after unshare it may be another one."""
    try:
        with open("/proc/self/attr/apparmor/current", encoding="utf-8", errors="replace") as file:
            name, _, mode = file.read().strip("\n\0").rpartition(" ")
    except OSError:
        return ""
    return name if mode == "(enforce)" else ""


def in_chroot() -> bool:
    """Whether our root folder is not the root of a mount."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return not any(line.split()[4] == "/" for line in file)
    except OSError:
        return False


def _sysctl(assignment: str) -> str:
    return f"echo {assignment} | {as_root('tee')} /etc/sysctl.d/60-sbx.conf && {as_root('sysctl')} -w {assignment}"


def apparmor_fix() -> str:
    """One command that gives the installed launcher a profile; contrib/apparmor/sbx is the same, with its reasons."""
    launcher = os.path.realpath(shutil.which("sbx") or "/usr/local/bin/sbx")
    profile = (
        f"abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile sbx {launcher} flags=(unconfined) {{\\n  userns,\\n}}\\n"
    )
    return f"printf '{profile}' | {as_root('tee')} /etc/apparmor.d/sbx && {as_root('apparmor_parser')} -r /etc/apparmor.d/sbx"


# -- id maps --


def id_maps(scratch: Scratch) -> Verdict:
    """Let newuidmap and newgidmap map one id and the whole subordinate range of a real namespace, and read it back."""
    _check_programs()
    found = {"uid": idmap.subordinate(group=False), "gid": idmap.subordinate(group=True)}
    for kind, ranges in found.items():
        if not ranges:
            raise Refused(_no_range(kind), add_range())
    uid, gid = os.getuid(), os.getgid()
    with inside.bare() as pid:
        for kind, own in (("uid", uid), ("gid", gid)):
            # Root of the host is never mapped: its ordinary map has subordinate ids only.
            first = [] if uid == 0 else [(0, own, 1)]
            entries = [*first, *idmap.entries_of(found[kind], len(first))]
            _map(pid, kind, entries)
    counts = [sum(count for _, count in ranges) for ranges in found.values()]
    if min(counts) < ENOUGH:
        return Verdict(WEAKER, f"only {min(counts)} subordinate ids; images use ids up to {ENOUGH - 1}", add_range())
    return Verdict(WORKS, f"{min(counts)} ids from {found['uid'][0][0]}")


def _map(pid: int, kind: str, entries: list[tuple[int, int, int]]) -> None:
    program = f"new{kind}map"
    arguments = [userns.find(program), str(pid), *(str(number) for entry in entries for number in entry)]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=0.8 * DEADLINE, check=False)
    if done.returncode:
        said = (done.stderr.decode("utf-8", "replace").strip().split("\n") or [""])[-1]
        cause, fix = _why_no_map(program, entries)
        raise Refused(f"{cause} ({said})" if said else cause, fix)
    with open(f"/proc/{pid}/{kind}_map", encoding="ascii") as file:
        count = sum(int(line.split()[2]) for line in file)
    if count != sum(entry[2] for entry in entries):
        raise Refused(f"{program} mapped {count} ids of {sum(entry[2] for entry in entries)}")


def _check_programs() -> None:
    for program in ("newuidmap", "newgidmap"):
        if not userns.find(program):
            raise Refused(f"the program {program} is missing", install("newuidmap"))


def _why_no_map(program: str, entries: list[tuple[int, int, int]]) -> tuple[str, str]:
    """(cause, fix) of a mapping helper that failed: its rights first, then the range."""
    path = os.path.realpath(userns.find(program))
    if own_status("NoNewPrivs") == "1":
        return (
            f"no_new_privs is set on this shell, so {program} gets no rights",
            "start sbx outside of what set it (a container with no-new-privileges, systemd's NoNewPrivileges=)",
        )
    nosuid = os.statvfs(path).f_flag & os.ST_NOSUID
    privileged = os.stat(path).st_mode & stat.S_ISUID and os.stat(path).st_uid == 0
    with contextlib.suppress(OSError):
        privileged = privileged or bool(os.getxattr(path, "security.capability"))
    if not privileged and os.geteuid() != 0:
        return f"{path} is not set-uid root and has no file capabilities", as_root(f"chmod u+s {path}")
    if nosuid and os.geteuid() != 0:
        return f"{path} lies on a file system mounted nosuid", as_root(f"mount -o remount,suid {_mount_point(path)}")
    missing = _outside_of_own_map(program[3:6], entries)
    if missing:
        return (
            f"id {missing} of the range does not exist in the user namespace that this shell is in (a container?)",
            "give the range ids of this container's own map: see /proc/self/uid_map",
        )
    return f"{program} refused the range {entries[-1][1]}:{entries[-1][2]}", add_range()


def _outside_of_own_map(kind: str, entries: list[tuple[int, int, int]]) -> int:
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        own = [[int(word) for word in line.split()] for line in file]
    for _, start, count in entries:
        for wanted in (start, start + count - 1):
            if not any(first <= wanted < first + length for first, _, length in own):
                return wanted
    return 0


def _mount_point(path: str) -> str:
    """The mount that `path` lies on; st_dev does not show bind mounts, mountinfo does."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        points = {line.split()[4].rstrip("/") for line in file}
    while path.rstrip("/") not in points:
        path = os.path.dirname(path)
    return path


def _no_range(kind: str) -> str:
    name = idmap.user_name(os.getuid()) or str(os.getuid())
    if _nsswitch_source():
        return f"no subordinate {kind} range for {name}: nsswitch.conf says `subid: {_nsswitch_source()}`, and getsubids finds none"
    return f"no subordinate {kind} range for {name} in /etc/sub{kind}"


def _nsswitch_source() -> str:
    with contextlib.suppress(OSError), open("/etc/nsswitch.conf", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("subid:") and line[6:].split() not in ([], ["files"]):
                return line[6:].strip()
    return ""


def add_range() -> str:
    """The command that gives the caller 65536 free subordinate ids: by usermod(8), or for users it does not know by hand."""
    first = _free_range()
    last = first + ENOUGH - 1
    uid = os.getuid()
    name = idmap.user_name(uid)
    if name:
        return as_root(f"usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {name}")
    with contextlib.suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
    return f"echo {name or uid}:{first}:{ENOUGH} | {as_root('tee')} -a /etc/subuid /etc/subgid"


def _free_range() -> int:
    """The first multiple of 65536 above what /etc/subuid, /etc/subgid and passwd(5) use, 100000 at least."""
    taken = [(int(entry.pw_uid), 1) for entry in pwd.getpwall()]
    for path in (idmap.SUBUID, idmap.SUBGID):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.strip().split(":")
                if len(fields) == 3 and fields[1].isdecimal() and fields[2].isdecimal():
                    taken.append((int(fields[1]), int(fields[2])))
    first = 100000
    while any(start < first + ENOUGH and first < start + count for start, count in taken):
        first += ENOUGH
    return first
