"""The compiled program against the plain reading of the rules, for both architectures and hostile arguments."""

import itertools
import random

import pytest
from hypothesis import given, settings, strategies as st

from sandbox.errors import SandboxError
from sandbox.profile import calls, compile, language, load, patterns, simulate
from sandbox.profile.groups import GROUPS
from sandbox.profile.policy import Answer, Comparison, Policy, Rule

ENOSYS, EPERM, EAFNOSUPPORT = (Answer("SCMP_ACT_ERRNO", n) for n in (38, 1, 97))
ALLOW = Answer("SCMP_ACT_ALLOW")
NATIVE = calls.machine()
INTERESTING = (
    0, 1, 2, 3, 5, 8, 10, 15, 16, 17, 35, 38, 40, 0x80, 0x5401, 0x5412, 0x541C, 0x5423, 0x20000, 0x20008, 0xFFFFFFFF,
    0o10644, 0o20644, 0o60644, 0o100644, 0o140644, 0x10000000, 0x7E020000, 17 | 0x10000000,
)  # fmt: skip
FLIPS = (0, 0, 0, 1, 2, 1 << 31, 1 << 32, 1 << 63, 0xFFFFFFFF << 32)


def default() -> Policy:
    path, _ = load.find("default")
    return language.parse(path, load.read(path)).policy


@pytest.mark.parametrize("machine", calls.MACHINES)
def test_program_answers_every_call_as_the_rules_read(machine: str) -> None:
    policy, rng = default(), random.Random(1)
    program = compile.program(policy.oci(machine), machine)
    audit_arch = calls.MACHINES[machine][0]
    for name, number in calls.table(machine).items():
        by_number = calls.library().resolve_syscall(0, name) == -1
        if by_number and machine != NATIVE:
            continue  # calls newer than libseccomp can only be added on the machine itself
        for _ in range(40):
            args = tuple(rng.choice(INTERESTING) ^ rng.choice(FLIPS) for _ in range(6))
            assert simulate.answer(program, number, args, audit_arch) == policy.answer(name, args), (name, args)


def test_numbers_outside_the_table_and_foreign_entries_get_enosys() -> None:
    program = compile.program(default().oci("x86_64"), "x86_64")
    known = set(calls.table("x86_64").values())
    for number in set(range(1024)) - known | {0x7FFFFFFF, 0xFFFFFFFF, 0x40000000, 0x40000001, 0x40000000 | 425}:
        assert simulate.answer(program, number, (0,) * 6, 0xC000003E) == ENOSYS
    for foreign in (0x40000003, 0xC00000B7, 0x40000028, 0):
        assert simulate.answer(program, 1, (0,) * 6, foreign) == ENOSYS


@pytest.mark.parametrize(
    ("name", "args", "wanted"),
    [
        ("clone", (17,), ALLOW),
        ("clone", (0x3D0F00,), ALLOW),  # a thread of glibc
        *(("clone", (1 << bit | 17,), EPERM) for bit in (17, 25, 26, 27, 28, 29, 30)),
        ("clone", (1 << 32 | 1 << 28,), EPERM),
        ("unshare", (0x80,), EPERM),
        ("unshare", (0x400,), ALLOW),
        ("clone3", (0, 88), ENOSYS),
        ("socket", (1, 3, 0), ALLOW),
        ("socket", (2, 1 | 0o2004000, 6), ALLOW),
        ("socket", (10, 2, 17), ALLOW),
        ("socket", (2, 3, 1), EPERM),
        ("socket", (2, 3 | 0o2000000, 1), EPERM),
        ("socket", (1 << 32 | 2, 1 << 32 | 3, 1), EPERM),
        ("socket", (10, 10, 0), EPERM),
        ("socket", (16, 3, 0), ALLOW),
        ("socket", (16, 3, 9), EAFNOSUPPORT),
        ("socket", (16, 3, 1 << 32), ALLOW),  # the kernel sees protocol 0
        *(("socket", (family | high, 1, 0), EAFNOSUPPORT) for family in (0, 17, 38, 40, 44, 46) for high in (0, 1 << 32)),
        ("ioctl", (0, 0x5401), ALLOW),
        *(("ioctl", (0, cmd | high), EPERM) for cmd in (0x5412, 0x541C, 0x5423) for high in (0, 1 << 32, 1 << 63)),
        ("ioctl", (0, 0xFFFFFFFF80045430), ALLOW),  # musl sends the number with its sign
        ("prctl", (35, 1), EPERM),
        ("prctl", (1 << 32 | 35, 1), EPERM),
        ("prctl", (38, 1), ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x40000,), EPERM),
        ("personality", (1 << 40 | 0x40000,), EPERM),
        ("mknod", (0, 0o10644, 0), ALLOW),
        ("mknod", (0, 0o20644, 0), ALLOW),
        ("mknod", (0, 0o20644, 0x103), EPERM),
        ("mknod", (0, 1 << 32 | 0o60644, 0), EPERM),
        ("mknodat", (3, 0, 0o60644, 0), EPERM),
        ("mknodat", (3, 0, 0o140644, 7), ALLOW),
        *((name, (), EPERM) for name in ("mount", "setns", "bpf", "perf_event_open", "userfaultfd", "reboot", "syslog")),
        *((name, (), ENOSYS) for name in ("io_uring_setup", "keyctl", "fsopen", "move_mount", "memfd_secret", "listns")),
        *((name, (), ALLOW) for name in ("mseal", "cachestat", "futex_requeue", "setxattrat", "landlock_restrict_self")),
    ],
)  # fmt: skip
def test_default_answers(name: str, args: tuple[int, ...], wanted: Answer) -> None:
    args = (*args, *(0,) * (6 - len(args)))
    policy = default()
    assert policy.answer(name, args) == wanted
    number = calls.number(name, NATIVE)
    if number is not None:
        program = compile.program(policy.oci(NATIVE))
        assert simulate.answer(program, number, args, calls.MACHINES[NATIVE][0]) == wanted


@pytest.mark.parametrize("machine", calls.MACHINES)
def test_oci_object_means_the_same_to_every_runtime(machine: str) -> None:
    """Only masked comparisons, each argument once, nothing that repeats the default, nothing that overlaps."""
    policy = default()
    object_ = policy.oci(machine)
    per_call: dict[str, list[tuple[patterns.Pattern, Answer]]] = {}
    for entry in object_["syscalls"]:
        answer = Answer(entry["action"], entry.get("errnoRet", 0))
        assert answer != policy.default
        pattern = list(patterns.ANYTHING)
        for arg in entry.get("args", []):
            assert arg["op"] == "SCMP_CMP_MASKED_EQ"
            assert arg["value"] < 1 << 32 and not arg["valueTwo"] & ~arg["value"]
            assert pattern[arg["index"]] == (0, 0)
            pattern[arg["index"]] = (arg["value"], arg["valueTwo"])
        for name in entry["names"]:
            per_call.setdefault(name, []).append((tuple(pattern), answer))
    for name, rows in per_call.items():
        for (a, answer_a), (b, answer_b) in itertools.combinations(rows, 2):
            assert answer_a == answer_b or not patterns.overlap(a, b), name


def test_groups_are_disjoint_and_all_names_are_known() -> None:
    seen: dict[str, str] = {}
    for group, names in GROUPS.items():
        for name in names:
            assert seen.setdefault(name, group) == group
            for machine in calls.MACHINES:
                calls.number(name, machine)  # KeyError: known nowhere


def test_default_says_something_about_every_call_there_is() -> None:
    """What falls through to the last line does so because it is listed here."""
    said = default().rows
    silent = {name for machine in calls.MACHINES for name in calls.table(machine) if name not in said}
    assert silent == {"rseq_slice_yield"}  # too new to have users


def test_table_of_new_calls_agrees_with_libseccomp() -> None:
    for name, number in calls.FROM_424.items():
        for machine in calls.MACHINES:
            found = calls.library().resolve_syscall(calls.MACHINES[machine][0], name)
            assert found in (number, -1) or found < -1, name
    assert sorted(calls.FROM_424.values()) == list(range(424, 472))


def test_names_of_the_other_architecture_are_skipped() -> None:
    assert calls.number("open", "x86_64") == 2
    assert calls.number("open", "aarch64") is None
    assert calls.number("socketcall", "x86_64") is None
    assert calls.number("mseal", "aarch64") == 462
    with pytest.raises(KeyError):
        calls.number("opne", "x86_64")
    assert calls.nearest("opne") == "open"


def test_a_late_call_of_another_machine_needs_no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """libseccomp has no name for it at all: there is nothing to add, and nothing to complain about."""
    late = {machine: {} if machine == NATIVE else {"of_another": 335} for machine in calls.MACHINES}
    monkeypatch.setattr(calls, "LATE_BELOW_424", late)
    for default_answer, answer in ((ENOSYS, ALLOW), (ALLOW, EPERM)):
        plain = Policy(default_answer, (), (Rule(("getpid",), answer),)).oci(NATIVE)
        more = Policy(default_answer, (), (Rule(("getpid", "of_another"), answer),)).oci(NATIVE)
        assert compile.program(more) == compile.program(plain)


_ANSWERS = st.sampled_from([ALLOW, ENOSYS, EPERM, EAFNOSUPPORT, Answer("SCMP_ACT_LOG"), Answer("SCMP_ACT_TRAP")])
_SMALL = st.sampled_from([0, 1, 2, 7, 0x80, 0x5412, 0xFFFF, 0x80000000, 0xFFFFFFFF])


@st.composite
def _comparisons(draw: st.DrawFn) -> Comparison:
    op = draw(st.sampled_from(sorted(patterns.OPERATORS)))
    value, mask = draw(_SMALL), 0
    if op == "SCMP_CMP_MASKED_EQ":
        mask = draw(_SMALL)
        value &= mask
    return Comparison(draw(st.integers(0, 2)), op, (value,), mask)


_RULES = st.builds(
    lambda answer, args: Rule(("getpid",), answer, tuple({a.index: a for a in args}.values())),
    _ANSWERS,
    st.lists(_comparisons(), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(_ANSWERS, st.lists(_RULES, max_size=4), st.lists(st.tuples(_SMALL, _SMALL, _SMALL), min_size=1, max_size=8))
def test_any_policy_compiles_to_what_it_says(
    answer: Answer, rules: list[Rule], calls_made: list[tuple[int, int, int]]
) -> None:
    policy = Policy(answer, (), tuple(rules))
    try:
        program = compile.program(policy.oci(NATIVE))
    except SandboxError as error:
        assert error.errno == 7, error  # more instructions than the kernel takes: said, not cut off
        return
    number = calls.number("getpid", NATIVE)
    assert number is not None
    for made in calls_made:
        for high in (0, 1 << 32):
            args = (*(v | high for v in made), 0, 0, 0)
            found = simulate.answer(program, number, args, calls.MACHINES[NATIVE][0]) if program else ALLOW
            assert found == policy.answer("getpid", args)
