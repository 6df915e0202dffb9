"""OCI seccomp object -> BPF program, through libseccomp.  (cold)

The same object runs under crun and runc; what they do with it is the yardstick, with two differences that the object
can not express: calls through a foreign entry (int 0x80, x32) get ENOSYS instead of a kill, and calls newer than
libseccomp are added by number instead of being dropped with a warning.
"""

import errno
import os
from typing import Any

from sandbox.errors import SandboxError
from sandbox.profile import calls
from sandbox.profile.policy import ACTIONS, PERMISSIVE

# BPF_MAXINSNS of the kernel
_MAX_INSTRUCTIONS = 4096

# Architectures of the OCI specification that the kernels of our machines can enter, as libseccomp's constants
_ARCHITECTURES = {
    "SCMP_ARCH_X86": "X86", "SCMP_ARCH_X86_64": "X86_64", "SCMP_ARCH_X32": "X32", "SCMP_ARCH_ARM": "ARM",
    "SCMP_ARCH_AARCH64": "AARCH64",
}  # fmt: skip


def program(seccomp: dict[str, Any], machine: str = "") -> bytes:
    """struct sock_filter[] for `machine` (default: this one); b"" for an object that allows everything.

    SandboxError for unknown calls, contradicting rules, or a program longer than the kernel takes.
    """
    machine = machine or calls.machine()
    if seccomp["defaultAction"] == "SCMP_ACT_ALLOW" and not seccomp.get("syscalls"):
        return b""
    own = calls.MACHINES[machine][1]
    result = _filter(seccomp, own)
    foreign = [a for a in dict.fromkeys(seccomp.get("architectures", [])) if a != own and a in _ARCHITECTURES]
    for syscall in seccomp.get("syscalls", []):
        _add(result, seccomp, syscall, machine, own)
    for architecture in foreign:
        # A filter of its own for each: numbers that libseccomp has no name for can not be added to a mixed one.
        other = _filter(seccomp, architecture)
        for syscall in seccomp.get("syscalls", []):
            _add(other, seccomp, syscall, machine, architecture)
        result.merge(other)
    code = _export(result)
    if len(code) > 8 * _MAX_INSTRUCTIONS:
        raise SandboxError(
            "compile seccomp filter", "", errno.E2BIG,
            f"{len(code) // 8} instructions, and the kernel takes {_MAX_INSTRUCTIONS}", "use fewer argument rules",
        )  # fmt: skip
    return code


def _filter(seccomp: dict[str, Any], architecture: str) -> Any:
    library = calls.library()
    attr = library.Attr
    result = library.SyscallFilter(_action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet")))
    wanted = getattr(library.Arch, _ARCHITECTURES[architecture])
    if wanted != library.system_arch():
        result.remove_arch(library.Arch.NATIVE)
        result.add_arch(wanted)
    # Not a kill, which looks like a crash: installers probe with 32-bit programs and can live without them.
    result.set_attr(attr.ACT_BADARCH, library.ERRNO(errno.ENOSYS))
    result.set_attr(attr.CTL_OPTIMIZE, 2)  # a binary tree over the numbers instead of a list of them
    return result


def _action(name: str, number: int | None) -> int:
    library = calls.library()
    fixed: dict[str, int] = {
        "SCMP_ACT_ALLOW": library.ALLOW, "SCMP_ACT_LOG": library.LOG, "SCMP_ACT_TRAP": library.TRAP,
        "SCMP_ACT_KILL": library.KILL_THREAD, "SCMP_ACT_KILL_THREAD": library.KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS": library.KILL_PROCESS,
    }  # fmt: skip
    if name in fixed:
        return fixed[name]
    if name not in ACTIONS:
        raise SandboxError("compile seccomp filter", name, errno.EINVAL, "this action is not supported")
    number = errno.EPERM if number is None else number  # the specification's default
    result: int = library.ERRNO(number) if name == "SCMP_ACT_ERRNO" else library.TRACE(number)
    return result


def _add(result: Any, seccomp: dict[str, Any], syscall: dict[str, Any], machine: str, architecture: str) -> None:
    """Add one entry of `syscalls` to the filter of `architecture`."""
    library = calls.library()
    action = _action(syscall["action"], syscall.get("errnoRet"))
    if action == _action(seccomp["defaultAction"], seccomp.get("defaultErrnoRet")):
        return  # libseccomp refuses to add what is the answer anyway
    args = [
        library.Arg(a["index"], getattr(library, a["op"].removeprefix("SCMP_CMP_")), a["value"], a.get("valueTwo", 0))
        for a in syscall.get("args") or []
    ]
    for name in syscall["names"]:
        number = _number(name, machine, architecture, library)
        if number is None:
            _skip(seccomp, syscall, name)
            continue
        try:
            result.add_rule(action, number, *args)
        except OSError as error:
            detail = "another rule answers the same call differently" if error.errno == errno.EEXIST else ""
            raise SandboxError("add seccomp rule", name, error.errno or 0, detail) from None


def _number(name: str, machine: str, architecture: str, library: Any) -> int | None:
    """What libseccomp wants as number, in terms of the machine that it runs on; None: no rule can be made."""
    try:
        own = calls.number(name, machine)
    except KeyError:
        return None
    known: int = library.resolve_syscall(library.Arch.NATIVE, name)
    if own is None and known == -1:
        return None
    if library.system_arch() == getattr(library.Arch, _ARCHITECTURES[architecture]):
        # A call of another architecture can not happen here: a rule for it would be one that nothing matches.
        return known if own is None else own
    return None if known == -1 else known


def _skip(seccomp: dict[str, Any], syscall: dict[str, Any], name: str) -> None:
    """Leave a call out of the filter, unless that would allow what the rule was to refuse."""
    if calls.came_late(name):
        return  # only another architecture has it
    if seccomp["defaultAction"] in PERMISSIVE and syscall["action"] not in PERMISSIVE:
        best = calls.nearest(name)
        raise SandboxError(
            "add seccomp rule", name, errno.EINVAL, "unknown system call, and the default would allow it",
            f"did you mean `{best}`?" if best else "",
        )  # fmt: skip


def _export(result: Any) -> bytes:
    with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "w+b", buffering=0) as file:
        try:
            result.export_bpf(file)
        except OSError as error:
            raise SandboxError.of("compile seccomp filter", "", error) from None
        file.seek(0)
        return file.read()
