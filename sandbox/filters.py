"""Compiled seccomp filters, read on paper: what one answers, and its forms that tell the keeper of calls.  (core, hot)

Only the instructions that seccomp(2) accepts and libseccomp writes.
"""

from sandbox import linux
from sandbox.errors import ENOSYS, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Ranges = Sequence[tuple[int, int]]

RET_ERRNO, RET_ALLOW = 0x0005_0000, 0x7FFF_0000
_RETURN = 0x06
_KILLING = (0x8000_0000, 0x0000_0000, 0x0003_0000)  # SECCOMP_RET_KILL_PROCESS, _KILL_THREAD, _TRAP
_NO_ARGS = (0,) * 6
_NOBODY = 0xFFFFFFFF  # -1: this id is left as it is
_TO_WRITE = 0x243  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_MOST_RANGES = 20  # of ids, that are looked at: jumps count 255 instructions
# Calls by their numbers, and which of their arguments are user and group ids.  One that is not mapped is no id here, and
# the call fails with EINVAL.
_BY_IDS: "dict[str, dict[int, tuple[tuple[int, ...], tuple[int, ...]]]]" = {
    "x86_64": {
        92: ((1,), (2,)), 93: ((1,), (2,)), 94: ((1,), (2,)),  # chown, fchown, lchown
        105: ((0,), ()), 106: ((), (0,)), 113: ((0, 1), ()), 114: ((), (0, 1)),  # setuid, setgid, setreuid, setregid
        117: ((0, 1, 2), ()), 119: ((), (0, 1, 2)), 260: ((2,), (3,)),  # setresuid, setresgid, fchownat
    },
    "aarch64": {
        54: ((2,), (3,)), 55: ((1,), (2,)), 143: ((), (0, 1)), 144: ((), (0,)), 145: ((0, 1), ()), 146: ((0,), ()),
        147: ((0, 1, 2), ()), 149: ((), (0, 1, 2)),
    },
}  # fmt: skip


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


def telling(program: bytes, users: "Ranges" = (), groups: "Ranges" = (), ahead: bytes = b"") -> bytes:
    """`program` with a notification in place of each refusal; b"" when there is none, or the init could not hand it over.

    ENOSYS is no refusal: it says that the kernel is older, and programs ask often.  `users` and `groups` are the ids that
    are mapped, (first, count): who listens is told of calls with others too, which `program` allows and which fail.
    `ahead`: more that is told of, see `watching`.
    """
    if answer(program, linux.NR["sendmsg"]) != RET_ALLOW:
        return b""
    made = bytearray(program)
    notify = linux.SECCOMP_RET_USER_NOTIF.to_bytes(4, "little")
    found, plain = False, True
    at = program.find(b"\x06\0\0\0")
    while at >= 0:
        if at % 8 == 0:
            k = int.from_bytes(program[at + 4 : at + 8], "little")
            if k & 0xFFFF0000 == RET_ERRNO:
                if k & 0xFFFF not in (0, ENOSYS):
                    made[at + 4 : at + 8] = notify
                    found = True
            elif k != RET_ALLOW:
                plain = False  # it kills, logs or traces, and what is told of does nothing of that
        at = program.find(b"\x06\0\0\0", at + 1)
    return (ahead + _strangers(users, groups) if plain else b"") + bytes(made) if found or ahead else b""


def ids(number: int, args: "tuple[int, ...]") -> "tuple[int, ...]":
    """The ids that a call is about, each once, users before groups; () for a call about none."""
    users, groups = _BY_IDS.get(linux.MACHINE, {}).get(number, ((), ()))
    found = dict.fromkeys(args[index] & _NOBODY for index in (*users, *groups))
    return tuple(number for number in found if number != _NOBODY)


def _strangers(users: "Ranges", groups: "Ranges") -> bytes:
    """What goes in front of a program: it tells of calls with ids that are not mapped, and passes over all others."""
    calls = _BY_IDS.get(linux.MACHINE, {})
    if not calls or not users or not groups or len(users) + len(groups) > _MOST_RANGES:
        return b""
    by_users, by_groups = _tell(users), _tell(groups)
    # The low half of an argument is all that the kernel looks at.
    loads = [_instruction(0x20, 16 + 8 * index) for index in range(4)]
    blocks = {
        kinds: b"".join([loads[n] + by_users for n in kinds[0]] + [loads[n] + by_groups for n in kinds[1]])
        for kinds in calls.values()
    }
    # Behind the dispatch the blocks, each of which ends with a jump to the program; where they begin, in instructions.
    size = sum(len(block) // 8 + 1 for block in blocks.values())
    body, starts = b"", {}
    for kinds, block in blocks.items():
        starts[kinds] = len(body) // 8
        body += block
        body += _instruction(0x05, size - len(body) // 8 - 1)
    rest = len(calls) + 1 + size
    if rest > 250:
        return b""
    ahead = [
        _instruction(0x20, 4),
        _instruction(0x15, linux.AUDIT_ARCH[linux.MACHINE], 0, rest + 3),
        _instruction(0x20, 0),
        _instruction(0x35, min(calls), 0, rest + 1),
        _instruction(0x25, max(calls), rest, 0),
    ]
    for place, (number, kinds) in enumerate(calls.items()):
        ahead.append(_instruction(0x15, number, starts[kinds] + len(calls) - place, 0))
    return b"".join([*ahead, _instruction(0x05, size), body])


def watching(calls: "Sequence[int]", opens: "dict[int, int]") -> bytes:
    """What goes in front of a program so that it tells of all `calls`, and of those in `opens` whose argument of that index
    has flags of open(2) to write or to make a file."""
    size = 3 * len(opens) + 1  # a block of three for each of these; the last is the notification
    tests = len(calls) + len(opens)
    made = [
        _instruction(0x20, 4),
        _instruction(0x15, linux.AUDIT_ARCH[linux.MACHINE], 0, tests + size + 2),
        _instruction(0x20, 0),
    ]
    for place, number in enumerate((*opens, *calls)):
        left = tests - place  # instructions from behind this one to the first block
        made.append(_instruction(0x15, number, left + (3 * place if place < len(opens) else size - 1), 0))
    made.append(_instruction(0x05, size))
    for place, index in enumerate(opens.values()):
        left = size - 3 * place - 3  # instructions behind this block
        made += [_instruction(0x20, 16 + 8 * index), _instruction(0x45, _TO_WRITE, left, 0), _instruction(0x05, left)]
    return b"".join([*made, _instruction(_RETURN, linux.SECCOMP_RET_USER_NOTIF)])


def _tell(mapped: "Ranges") -> bytes:
    """Tell, when what is loaded is neither in one of the ranges nor -1; else go on behind these instructions."""
    tests: list[tuple[int, bool]] = []  # compared with what, whether it is the end of a range
    for first, count in sorted(mapped):
        if tests and tests[-1][0] == first:
            tests.pop()  # it goes on where the last one ends
        else:
            tests.append((first, False))
        tests.append((min(first + count, _NOBODY), True))
    tests = [test for test in tests if test != (0, False)]
    made = [_instruction(0x15, _NOBODY, len(tests) + 1, 0)]
    for place, (number, end) in enumerate(tests):
        left = len(tests) - place  # instructions from behind this one to behind the notification
        # In a range, which is behind its beginning and before its end: go on.  Before it and behind the last one: tell.
        made.append(_instruction(0x35, number, 0, left if end else left - 1))
    return b"".join([*made, _instruction(_RETURN, linux.SECCOMP_RET_USER_NOTIF)])


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
    return (code | true << 16 | false << 24 | k << 32).to_bytes(8, "little")
