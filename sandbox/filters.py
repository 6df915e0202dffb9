"""Compiled seccomp filters, read on paper: what one answers, and its form that tells the keeper of refusals.  (core, hot)

Only the instructions that seccomp(2) accepts and libseccomp writes.
"""

from sandbox import linux
from sandbox.errors import ENOSYS, SandboxError

RET_ERRNO, RET_ALLOW = 0x0005_0000, 0x7FFF_0000
_RETURN = 0x06
_NO_ARGS = (0,) * 6


def answer(program: bytes, number: int, args: "tuple[int, ...]" = _NO_ARGS, arch: int = 0) -> int:
    """The SECCOMP_RET_* value for call `number` with six arguments of 64 bits; `arch` is an AUDIT_ARCH_*, ours if 0."""
    words = {0: number & 0xFFFFFFFF, 4: arch or linux.AUDIT_ARCH.get(linux.MACHINE, 0)}  # struct seccomp_data
    for index, argument in enumerate(args):
        words[16 + 8 * index], words[20 + 8 * index] = argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF
    value = position = 0
    while True:
        at = position * 8
        code, true, false = program[at], program[at + 2], program[at + 3]
        k = int.from_bytes(program[at + 4 : at + 8], "little")
        position += 1
        if code == _RETURN:
            return k
        if code == 0x20:  # load a word
            value = words.get(k, 0)
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
