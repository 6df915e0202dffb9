"""Run a BPF program on paper: what would the kernel answer to this call?  (cold)

For questions about a filter without loading it, about the other architecture, and for tests that hold the compiled
program against the rules it came from.  Only the instructions that seccomp(2) accepts and libseccomp writes.
"""

import struct

from sandbox.errors import SandboxError
from sandbox.profile.policy import Answer

_LOAD_WORD, _LOAD_IMMEDIATE, _AND, _JUMP = 0x20, 0x00, 0x54, 0x05
_EQUAL, _GREATER, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x15, 0x25, 0x35, 0x45, 0x06

# linux/seccomp.h: high half of the return value -> action
_ACTIONS = {
    0x8000_0000: "SCMP_ACT_KILL_PROCESS", 0x0000_0000: "SCMP_ACT_KILL_THREAD", 0x0003_0000: "SCMP_ACT_TRAP",
    0x0005_0000: "SCMP_ACT_ERRNO", 0x7FF0_0000: "SCMP_ACT_TRACE", 0x7FFC_0000: "SCMP_ACT_LOG",
    0x7FFF_0000: "SCMP_ACT_ALLOW",
}  # fmt: skip


def answer(program: bytes, number: int, args: tuple[int, ...], audit_arch: int) -> Answer:
    """What `program` (struct sock_filter[]) answers to call `number` with six arguments (64 bits each)."""
    data = struct.pack("<iIQ6Q", number if number < 1 << 31 else number - (1 << 32), audit_arch, 0, *args)
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator, position = 0, 0
    while True:
        operation, jump_true, jump_false, k = code[position]
        position += 1
        if operation == _LOAD_WORD:
            accumulator = int.from_bytes(data[k : k + 4], "little")
        elif operation == _LOAD_IMMEDIATE:
            accumulator = k
        elif operation == _AND:
            accumulator &= k
        elif operation == _JUMP:
            position += k
        elif operation in (_EQUAL, _GREATER, _GREATER_EQUAL, _ANY_BIT):
            true = {
                _EQUAL: accumulator == k, _GREATER: accumulator > k, _GREATER_EQUAL: accumulator >= k,
                _ANY_BIT: accumulator & k != 0,
            }[operation]  # fmt: skip
            position += jump_true if true else jump_false
        elif operation == _RETURN:
            action = _ACTIONS[k & 0xFFFF_0000]
            return Answer(action, k & 0xFFFF if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0)
        else:
            raise SandboxError("read BPF program", f"instruction {position - 1}", detail=f"code {operation:#x}")
