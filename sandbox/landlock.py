"""Landlock: which files, ports and processes are in reach of a process and of all that it starts.  (mechanism, hot)

What is to be confined comes as lines `KEY VALUE`, from a profile's [landlock] table:

    read PATH, write PATH, execute PATH    files below PATH may be; a key that is not there leaves all files as they are
    connect PORT, bind PORT                TCP ports; likewise
    KEY -                                  nothing, but for what other lines of this key allow
    scoped WORD                            abstract_unix_socket, signal: only those of processes that are confined with us
    tried WORD                             as `scoped`, where the kernel can do it

/dev and /proc are always among `read` and `write`: what may be done there is said by mounts.  Constants: linux/landlock.h.
"""

import os

from sandbox import linux, linux_rare
from sandbox.errors import EACCES, EINVAL, ELOOP, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REFER, _TRUNCATE = 0x1, 0x2, 0x4, 0x8, 0x2000, 0x4000
_MAKE_AND_REMOVE = 0x1FF0  # REMOVE_DIR to MAKE_SYM
_RIGHTS = {
    "read": _READ_FILE | _READ_DIR, "write": _WRITE_FILE | _TRUNCATE | _REFER | _MAKE_AND_REMOVE, "execute": _EXECUTE,
}  # fmt: skip
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # the others are rights to a folder
_PORTS = {"bind": 1, "connect": 2}
_SCOPES = {"abstract_unix_socket": 1, "signal": 2}
_ALWAYS = {"read": ("/dev", "/proc"), "write": ("/dev", "/proc")}
# The first version of Landlock that can do it, and the kernel that has it; before truncation could be denied (3),
# what may not be written could be emptied.
_SINCE = {"read": 2, "execute": 2, "write": 3, "bind": 4, "connect": 4, "scoped": 6}


def restrict(text: str, warn: "Callable[[str], None]") -> None:
    """Confine this process, for good; needs no_new_privs or CAP_SYS_ADMIN.

    SandboxError "confine" for what this kernel can not do; of what was only `tried` it warns.
    """
    wanted: dict[str, list[str]] = {}
    for line in text.split("\n"):
        key, _, value = line.partition(" ")
        if value:
            wanted.setdefault(key, [])
            wanted[key] += [value] if value != "-" else []
    try:
        version = linux_rare.landlock_abi()
    except OSError as error:
        if error.errno not in (ENOSYS, EOPNOTSUPP):
            raise
        version = 0
    for key in wanted:
        if version < _SINCE.get(key, 0):
            detail = f"the kernel has version {version} of Landlock, and [landlock] {key} takes {_SINCE[key]}"
            raise SandboxError("confine", key, EOPNOTSUPP, detail, "`sbx doctor` shows what this machine has")
    tried = [word for word in wanted.get("tried", ()) if word not in wanted.get("scoped", ())]
    if tried and version < _SINCE["scoped"]:
        warn("network host: this kernel can not keep the host's abstract unix sockets out of reach")
        tried = []
    _enforce(wanted, [*tried, *wanted.get("scoped", ())])


def _enforce(wanted: "dict[str, list[str]]", scopes: list[str]) -> None:
    files = sum(_RIGHTS[key] for key in _RIGHTS if key in wanted)
    # Moving between folders is refused as soon as anything about files is handled, so it is said who may.
    files |= _REFER if files else 0
    ports = sum(right for key, right in _PORTS.items() if key in wanted)
    if not (files or ports or scopes):
        return  # the kernel makes no such ruleset
    ruleset = linux_rare.landlock_create(files, ports, sum(_SCOPES[word] for word in scopes))
    try:
        for key, rights in _RIGHTS.items():
            for path in (*_ALWAYS.get(key, ()), *wanted[key]) if key in wanted else ():
                _allow(ruleset, path, rights)
        if files and "write" not in wanted:
            _allow(ruleset, "/", _REFER)
        for key, right in _PORTS.items():
            for port in wanted.get(key, ()):
                linux_rare.landlock_allow_port(ruleset, int(port), right)
        linux_rare.landlock_restrict_self(ruleset)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """A path that is not there has nothing to be allowed, and it can not be made where nothing may be written."""
    # A link of the image may lead to a volume that nobody wanted to have written to.
    links = linux.RESOLVE_NO_SYMLINKS if rights & _WRITE_FILE else linux.RESOLVE_NO_MAGICLINKS
    try:
        fd = linux.openat2(linux.AT_FDCWD, path, os.O_PATH, links)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR, EACCES):
            return
        if error.errno == ELOOP:
            detail = f"[landlock] write: the image has a link there, to {os.path.realpath(path)}"
            raise SandboxError("confine", path, ELOOP, detail, "name what it leads to, if that is meant") from None
        raise SandboxError.of("confine", path, error) from None
    try:
        if os.stat(fd).st_mode & 0o170000 != 0o040000:
            rights &= _OF_FILES
        if rights:
            linux_rare.landlock_allow_path(ruleset, fd, rights)
    except OSError as error:
        words = "it is of a file system that Landlock does not know" if error.errno == EINVAL else ""
        raise SandboxError.of("confine", path, error, words) from None
    finally:
        os.close(fd)
