"""Filters on paper: the form that tells of ids, compared with what it is made of."""

import random

import pytest

from sandbox import filters, linux
from sandbox.errors import ENOSYS
from sandbox.profile import calls, compile, load

TOLD = linux.SECCOMP_RET_USER_NOTIF
IDS = [
    0,
    1,
    4,
    5,
    7,
    8,
    9,
    10,
    19,
    20,
    29,
    30,
    34,
    35,
    99,
    100,
    101,
    999,
    1000,
    65536,
    65537,
    1 << 31,
    0xFFFFFFFE,
    0xFFFFFFFF,
]
MAPS = [
    [(0, 65537)], [(0, 1)], [(1000, 1)], [(0, 1), (1, 65536)], [(0, 10), (20, 10), (30, 5), (100, 1)], [(0, 0xFFFFFFFF)],
    [(5, 3), (0, 5)],
]  # fmt: skip


@pytest.fixture(scope="module")
def program() -> bytes:
    return compile.program(load.effective("default")[0].policy.oci(calls.machine()))


def names() -> dict[int, str]:
    return {number: name for name, number in calls.table(calls.machine()).items()}


def of_ids(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Arguments of a call that are user and group ids, by its manual page."""
    return {
        "chown": ((1,), (2,)), "fchown": ((1,), (2,)), "lchown": ((1,), (2,)), "fchownat": ((2,), (3,)), "setuid": ((0,), ()),
        "setgid": ((), (0,)), "setreuid": ((0, 1), ()), "setregid": ((), (0, 1)), "setresuid": ((0, 1, 2), ()),
        "setresgid": ((), (0, 1, 2)),
    }.get(name, ((), ()))  # fmt: skip


@pytest.mark.parametrize("mapped", MAPS, ids=str)
def test_only_calls_with_other_ids_are_told_of(program: bytes, mapped: list[tuple[int, int]]) -> None:
    """Whatever the plain filter says of all others stays, in other entries of the kernel too."""
    generator = random.Random(7)
    telling, without = filters.telling(program, mapped, mapped), filters.telling(program)
    for number, name in names().items():
        users, groups = of_ids(name)
        for _ in range(200 if users or groups else 2):
            more = [generator.choice([0, 1 << 32, 0xFFFFFFFF << 32]) for _ in range(6)]
            args = tuple(generator.choice(IDS) | high for high in more)
            numbers = [args[index] & 0xFFFFFFFF for index in (*users, *groups)]
            known = all(n == 0xFFFFFFFF or any(first <= n < first + count for first, count in mapped) for n in numbers)
            wanted = filters.answer(without, number, args) if known else TOLD
            assert filters.answer(telling, number, args) == wanted, (name, args)
        for arch, high in ((0x40000003, 0), (0, 0x40000000)):  # i386; x32
            assert filters.answer(telling, number | high, args, arch) == filters.answer(
                without, number | high, args, arch
            )


def test_ids_of_a_call() -> None:
    number = calls.table(calls.machine())["fchownat"]
    assert filters.ids(number, (3, 0, 5 | 1 << 32, 0xFFFFFFFF, 0, 0)) == (5,)
    assert filters.ids(number, (3, 0, 5, 5, 0, 0)) == (5,)
    assert filters.ids(calls.table(calls.machine())["read"], (1, 2, 3, 4, 5, 6)) == ()


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"])
def test_a_filter_that_does_more_than_to_refuse_is_told_of_no_ids(action: str) -> None:
    """The one who listens can only let a call go on or fail."""
    rules = load.effective("default")[0].policy.oci(calls.machine())
    rules["syscalls"].append({"names": ["clone3"], "action": action})
    program = compile.program(rules)
    mapped = [(0, 1)]
    assert filters.telling(program, mapped, mapped) == filters.telling(program) != b""
    number = calls.table(calls.machine())["fchownat"]
    assert filters.answer(filters.telling(program, mapped, mapped), number, (0, 0, 9, 9, 0, 0)) == filters.RET_ALLOW


def test_maps_of_very_many_ranges_are_not_looked_at(program: bytes) -> None:
    many = [(10 * n, 5) for n in range(100)]
    assert filters.telling(program, many, many) == filters.telling(program)
    assert filters.answer(program, calls.table(calls.machine())["clone3"]) == filters.RET_ERRNO | ENOSYS
