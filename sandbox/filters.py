"""Compiled seccomp filters, read on paper: what one answers, and its form that tells the keeper of refusals.  (core, hot)

Only the instructions that seccomp(2) accepts and libseccomp writes.
"""

from sandbox import linux
from sandbox.errors import ENOSYS, SandboxError

RET_ERRNO, RET_ALLOW = 0x0005_0000, 0x7FFF_0000
_RETURN = 0x06
_KILLING = (0x8000_0000, 0x0000_0000, 0x0003_0000)  # SECCOMP_RET_KILL_PROCESS, _KILL_THREAD, _TRAP
_NO_ARGS = (0,) * 6


def answer(program: bytes, number: int, args: "tuple[int, ...]" = _NO_ARGS, arch: int = 0) -> int:
    """The SECCOMP_RET_* value for call `number` with six arguments of 64 bits; `arch` is an AUDIT_ARCH_*, ours if 0."""
    words = {
        0: number & 0xFFFFFFFF,
        4: arch or linux.AUDIT_ARCH.get(linux.MACHINE, 0),
        8: 0,
        12: 0,
    }  # struct seccomp_data
    for index, argument in enumerate(args):
        words[16 + 8 * index], words[20 + 8 * index] = argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF
    return _run(program, words)


def answer_by_number(program: bytes, number: int) -> int:
    """As `answer`, when that is the same whatever the arguments are; else -1."""
    try:
        return _run(program, {0: number, 4: linux.AUDIT_ARCH.get(linux.MACHINE, 0)})
    except KeyError:
        return -1


def _run(program: bytes, words: "dict[int, int]") -> int:
    """What the program returns; `words` of struct seccomp_data by their offset, KeyError for one that is not there."""
    value = position = 0
    while True:
        at = position * 8
        code, true, false = program[at], program[at + 2], program[at + 3]
        k = int.from_bytes(program[at + 4 : at + 8], "little")
        position += 1
        if code == _RETURN:
            return k
        if code == 0x20:  # load a word
            value = words[k]
        elif code == 0x00:  # load a constant
            value = k
        elif code == 0x54:  # and
            value &= k
        elif code == 0x05:  # jump
            position += k
        elif code == 0x15:
            position += true if value == k else false
        elif code == 0x25:
            position += true if value > k else false
        elif code == 0x35:
            position += true if value >= k else false
        elif code == 0x45:
            position += true if value & k else false
        else:
            raise SandboxError("read BPF program", f"instruction {position - 1}", detail=f"code {code:#x}")


def witness(program: bytes) -> str:
    """A call that fails with ENOSYS when this filter is in force, and otherwise when it is not; "" when there is none.

    Both are called with (NULL, 0), which no kernel takes.
    """
    for name in ("clone3", "io_uring_setup"):
        if answer(program, linux.NR[name]) == RET_ERRNO | ENOSYS:
            return name
    return ""


def kills(program: bytes) -> bool:
    """Whether some call ends the process: by SIGSYS, or by a SIGSYS that it could catch (SCMP_ACT_TRAP)."""
    returned = [program[at : at + 8] for at in range(0, len(program), 8) if program[at] == _RETURN]
    return any(int.from_bytes(one[4:], "little") & 0xFFFF0000 in _KILLING for one in returned)


def telling(program: bytes) -> bytes:
    """`program` with a notification in place of each refusal; b"" when there is none, or the init could not hand it over.

    ENOSYS is no refusal: it says that the kernel is older, and programs ask often.
    """
    if answer(program, linux.NR["sendmsg"]) != RET_ALLOW:
        return b""
    made = bytearray(program)
    notify = linux.SECCOMP_RET_USER_NOTIF.to_bytes(4, "little")
    found = False
    at = program.find(b"\x06\0\0\0")
    while at >= 0:
        k = int.from_bytes(program[at + 4 : at + 8], "little")
        if at % 8 == 0 and k & 0xFFFF0000 == RET_ERRNO and k & 0xFFFF not in (0, ENOSYS):
            made[at + 4 : at + 8] = notify
            found = True
        at = program.find(b"\x06\0\0\0", at + 1)
    return bytes(made) if found else b""


def observing(program: bytes, quiet: "tuple[int, ...]") -> bytes:
    """`program` that asks about every call but those numbered in `quiet`, which it must allow whatever their arguments are.

    Whoever listens asks `program` itself, on paper, and has its answer carried out: see observe.py.  ENOSYS and kills stay as
    they are.
    """
    made = bytearray(program)
    notify = linux.SECCOMP_RET_USER_NOTIF.to_bytes(4, "little")
    at = program.find(b"\x06\0\0\0")
    while at >= 0:
        k = int.from_bytes(program[at + 4 : at + 8], "little")
        refused = k & 0xFFFF0000 == RET_ERRNO and k & 0xFFFF not in (0, ENOSYS)
        if at % 8 == 0 and (refused or k == RET_ALLOW):
            made[at + 4 : at + 8] = notify
        at = program.find(b"\x06\0\0\0", at + 1)
    # In front: calls of our own architecture that are in `quiet` are allowed at once.  Jumps count 255 instructions at most.
    ahead = [
        _instruction(0x20, 4),
        _instruction(0x15, linux.AUDIT_ARCH[linux.MACHINE], 0, len(quiet) + 3),
        _instruction(0x20, 0),
    ]
    ahead += [_instruction(0x15, number, len(quiet) - place, 0) for place, number in enumerate(quiet)]
    ahead += [_instruction(0x05, 1), _instruction(_RETURN, RET_ALLOW)]
    return b"".join(ahead) + bytes(made)


def _instruction(code: int, k: int, true: int = 0, false: int = 0) -> bytes:
    """struct sock_filter"""
    return code.to_bytes(2, "little") + bytes((true, false)) + k.to_bytes(4, "little")
