"""Probes of the root file system's storage: both overlays on the store's disk, and the store itself.  (cold)"""

import errno
import fcntl
import os
import shutil
import stat
import subprocess

from sandbox import linux, paths, userns
from sandbox.doctor import inside
from sandbox.doctor.packages import as_root, install
from sandbox.doctor.probe import DEADLINE, MISSING, WEAKER, WORKS, Refused, Scratch, Verdict, nearest_existing, step
from sandbox.errors import SandboxError

ELSEWHERE = 'export SBX_STORE="/var/tmp/sbx-$(id -u)"'
OUTER_FUSE = "docker run --device /dev/fuse ..."
# f_type of statfs(2): names of linux/magic.h and of the projects' own sources
NETWORK_FILE_SYSTEMS = {
    0x6969: "nfs", 0x0BD00BD0: "lustre", 0x47504653: "gpfs", 0xFF534D42: "cifs", 0xFE534D42: "smb3", 0x517B: "smb",
    0x01021997: "9p", 0x00C36400: "ceph", 0x19830326: "beegfs", 0x5346414F: "afs", 0x6B414653: "kafs", 0x7461636F: "ocfs2",
    0x01161970: "gfs2", 0xAAD7AAEA: "panfs", 0x20030528: "orangefs", 0x65735546: "fuse",
}  # fmt: skip
_OVERLAY, _TMPFS = 0x794C7630, 0x01021994
_ENOUGH_SPACE = 200 << 20


def _layers(folder: str) -> str:
    """lower/{file,gone,moved,folder/inner}, upper, work and merged below `folder`; gives mount options for them."""
    os.makedirs(f"{folder}/lower/folder")
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{folder}/{name}")
    for name in ("file", "gone", "moved", "folder/inner"):
        with open(f"{folder}/lower/{name}", "w", encoding="ascii") as file:
            file.write("lower")
    return f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"


def _use(folder: str, *, kernel: bool) -> None:
    """What programs do to a root file system, with a look at what arrives in `upper`; SandboxError where it fails."""
    merged, upper = f"{folder}/merged", f"{folder}/upper"
    with step("write file", "in the overlay"):
        with open(f"{merged}/file", "a", encoding="ascii") as file:
            file.write("upper")
        os.mkdir(f"{merged}/new")
    with step("delete file", "of the lower layer"):
        os.unlink(f"{merged}/gone")
    with step("rename file", "of the lower layer"):
        os.rename(f"{merged}/moved", f"{merged}/new/moved")
    with step("rename folder", "in the overlay"):
        os.rename(f"{merged}/new", f"{merged}/newer")
    with step("replace folder", "of the lower layer"):
        shutil.rmtree(f"{merged}/folder")
        os.mkdir(f"{merged}/folder")
    seen = sorted(os.listdir(merged)) + os.listdir(f"{merged}/folder") + os.listdir(f"{merged}/newer")
    if seen != ["file", "folder", "newer", "moved"]:
        raise Refused(f"the merged folder shows {' '.join(seen)} instead of what was written")
    with open(f"{merged}/file", encoding="ascii") as file:
        if file.read() != "lowerupper":
            raise Refused("a written file does not read back")
    if kernel and not stat.S_ISCHR(os.lstat(f"{upper}/gone").st_mode):
        raise Refused("a deleted file leaves no whiteout")


def kernel_overlay(scratch: Scratch) -> Verdict:
    """Mount overlay with `userxattr` in a user namespace, on the store's file system, and use it."""
    folder = scratch.folder("overlay")
    options = _layers(folder)
    inside.enter(linux.CLONE_NEWNS)
    try:
        linux.mount("overlay", f"{folder}/merged", "overlay", 0, f"{options},userxattr")
    except OSError as error:
        cause, fix = _why_no_overlay(error, folder)
        return Verdict(MISSING, f"{cause}; fuse-overlayfs or a copy is used instead", fix)
    try:
        _use(folder, kernel=True)
    except SandboxError as error:
        cause = f"{error} (no user.* attributes on {file_system(folder)}?); fuse-overlayfs or a copy is used instead"
        return Verdict(MISSING, cause, ELSEWHERE)
    return Verdict(WORKS, f"on {file_system(folder)}")


def _why_no_overlay(error: OSError, folder: str) -> tuple[str, str]:
    if error.errno == errno.EPERM:
        return (
            "the kernel refuses overlay in a user namespace (Linux 5.11 or newer allows it)",
            install("fuse-overlayfs"),
        )
    if error.errno == errno.ENODEV:
        return "the kernel has no overlay, or its module is not loaded", as_root("modprobe overlay")
    if error.errno == errno.EINVAL:
        return f"{file_system(folder)} can not be an overlay's upper layer", ELSEWHERE
    return f"mount overlay: {error.strerror}", ""


def fuse_overlay(scratch: Scratch) -> Verdict:
    """Mount fuse-overlayfs through /dev/fuse in a user namespace, and use it."""
    program = userns.find("fuse-overlayfs")
    if not program:
        raise Refused("the program fuse-overlayfs is missing", install("fuse-overlayfs"))
    _open_device("/dev/fuse", "fuse", OUTER_FUSE)
    folder = scratch.folder("fuse")
    options = _layers(folder)
    inside.enter(linux.CLONE_NEWNS)
    helper = inside.Helper([program, "-f", "-o", options, f"{folder}/merged"])
    try:
        for _ in inside.until(0.6 * DEADLINE):
            if os.path.ismount(f"{folder}/merged"):
                break
            if helper.process.poll() is not None:
                return Verdict(MISSING, f"fuse-overlayfs: {helper.last_words()}")
        else:
            return Verdict(MISSING, f"fuse-overlayfs did not mount within {0.6 * DEADLINE:g} s")
        _use(folder, kernel=False)
        linux.umount2(f"{folder}/merged", linux.MNT_DETACH)
    finally:
        helper.stop()
    return Verdict(WORKS, _version(program))


def _open_device(path: str, module: str, outer: str) -> None:
    """Refused with its cause when device `path` can not be opened for reading and writing."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ENOENT:
            fix = outer if os.path.exists("/.dockerenv") else as_root(f"modprobe {module}")
            raise Refused(f"there is no {path}", fix) from None
        if error.errno == errno.EACCES:
            raise Refused(f"{path} is not readable and writable for this user", as_root(f"chmod 666 {path}")) from None
        if error.errno == errno.EPERM:
            raise Refused(f"a device rule of an outer container forbids {path}", outer) from None
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise Refused(f"{path} has no driver", as_root(f"modprobe {module}")) from None
        raise Refused(f"open {path}: {error.strerror}") from None


def open_tun() -> None:
    """Refused with its cause when /dev/net/tun can not be opened."""
    _open_device("/dev/net/tun", "tun", "docker run --device /dev/net/tun ...")


def _version(program: str) -> str:
    done = subprocess.run(
        [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=0.4 * DEADLINE, check=False
    )
    for line in done.stdout.decode("utf-8", "replace").split("\n"):
        if line.startswith("fuse-overlayfs"):
            return line.split()[-1]
    return ""


# -- the store --


def file_system(path: str) -> str:
    """The type of the file system at `path`, from the last mount that is a prefix of it."""
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            if fields[2] == name:
                return fields[fields.index("-") + 1]
    return "an unknown file system"


def store_directory(scratch: Scratch) -> Verdict:
    """Write, lock and rename on the store's file system; say what kind it is."""
    store = paths.store()
    if os.path.lexists(store) and os.stat(store).st_uid != os.geteuid():
        return Verdict(MISSING, f"{store} belongs to uid {os.stat(store).st_uid}, not to you", ELSEWHERE)
    folder = scratch.folder("store")
    try:
        fd = os.open(f"{folder}/file.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(fd, b"x" * 4096)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(f"{folder}/file.new", f"{folder}/file")
        magic = linux.file_system_magic(fd) & 0xFFFFFFFF
        os.close(fd)
    except OSError as error:
        return Verdict(MISSING, f"write a locked file below {nearest_existing(store)}: {error.strerror}", ELSEWHERE)
    place = f"{store} on {file_system(folder)}"
    if magic in NETWORK_FILE_SYSTEMS:
        kind = NETWORK_FILE_SYSTEMS[magic]
        cause = f"{store} is on {kind}, which does not know subordinate ids: layers may fail to unpack"
        return Verdict(WEAKER, cause, ELSEWHERE)
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < _ENOUGH_SPACE:
        return Verdict(WEAKER, f"only {free >> 20} MB are free for {place}", f"df -h {nearest_existing(store)}")
    if magic == _OVERLAY:
        return Verdict(WEAKER, f"{place}: kernel overlay can not stand on overlay", "mount a volume or tmpfs there")
    return Verdict(WORKS, f"{place}, in memory only" if magic == _TMPFS else place)


def runtime_directory(scratch: Scratch) -> Verdict:
    """XDG_RUNTIME_DIR, as other programs left it: sbx itself needs none."""
    path = os.environ.get("XDG_RUNTIME_DIR", "")
    if not path:
        return Verdict(WORKS, "not set, and not needed")
    try:
        owner = os.stat(path).st_uid
    except OSError as error:
        return Verdict(WEAKER, f"{path}: {error.strerror}; not used then", "unset XDG_RUNTIME_DIR")
    if owner != os.geteuid():
        return Verdict(WEAKER, f"{path} belongs to uid {owner} (su, sudo?); not used then", "unset XDG_RUNTIME_DIR")
    if not os.access(path, os.W_OK | os.X_OK):
        return Verdict(WEAKER, f"{path} can not be written; not used then", "unset XDG_RUNTIME_DIR")
    return Verdict(WORKS, path)
