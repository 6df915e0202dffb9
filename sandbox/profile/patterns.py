"""Argument conditions as bit patterns, so that rules can be put in order without libseccomp's help.  (cold)

libseccomp adds rules as a set: when two of one call overlap, which one wins is its own business, and an unconditional
rule swallows the conditional ones.  It also has no masked "not equal", and its plain "not equal" compares 64 bits where
the kernel looks at 32, so `value | 1 << 32` slips through (CVE-2019-10063).  Here each condition is a set of patterns
(which bits are looked at, and what they must be); a later rule gets what earlier ones left over, as patterns that
overlap with nothing.  Those any OCI runtime understands in the same way, as SCMP_CMP_MASKED_EQ.
"""

import errno
import math
from itertools import product

from sandbox.errors import SandboxError

# Six (mask, value) pairs, one per argument of a system call; value has no bit outside mask.
Pattern = tuple[tuple[int, int], ...]

ANYTHING: Pattern = ((0, 0),) * 6
OPERATORS = {
    "SCMP_CMP_EQ": "==", "SCMP_CMP_NE": "!=", "SCMP_CMP_LT": "<", "SCMP_CMP_LE": "<=", "SCMP_CMP_GT": ">",
    "SCMP_CMP_GE": ">=", "SCMP_CMP_MASKED_EQ": "&",
}  # fmt: skip


_MERGED = 200
_MOST = 4096  # each takes an instruction and more, and that is all that the kernel takes
_STEPS = 1 << 20  # of putting one call's rules in order: some seconds


def prefixes(low: int, high: int, width: int) -> list[tuple[int, int]]:
    """The (mask, value) pairs that together match low..high (inclusive) in `width` bits, and nothing else."""
    full = (1 << width) - 1
    result = []
    while low <= high:
        size = low & -low or full + 1  # the largest aligned block that starts at `low` ...
        while low + size - 1 > high:  # ... and still ends inside the range
            size >>= 1
        result.append((full & ~(size - 1), low))
        low += size
    return result


def comparison(op: str, value: int, value_two: int, width: int) -> list[tuple[int, int]]:
    """One OCI comparison, on the low `width` bits, as (mask, value) pairs; an empty list matches nothing."""
    full = (1 << width) - 1
    ranges = {
        "SCMP_CMP_EQ": [(value, value)],
        "SCMP_CMP_NE": [(0, value - 1), (value + 1, full)],
        "SCMP_CMP_LT": [(0, value - 1)],
        "SCMP_CMP_LE": [(0, value)],
        "SCMP_CMP_GT": [(value + 1, full)],
        "SCMP_CMP_GE": [(value, full)],
    }
    if op == "SCMP_CMP_MASKED_EQ":
        return [] if value_two & ~value else [(value, value_two)]
    return [pair for low, high in ranges[op] for pair in prefixes(low, high, width)]


def combine(conditions: list[tuple[int, list[tuple[int, int]]]]) -> list[Pattern]:
    """All of `conditions` (argument index, its alternatives) at once; each index at most once."""
    result = []
    if math.prod(len(pairs) for _, pairs in conditions) > _MOST:
        raise _too_many()
    for choice in product(*(pairs for _, pairs in conditions)):
        pattern = list(ANYTHING)
        for (index, _), pair in zip(conditions, choice, strict=True):
            pattern[index] = pair
        result.append(tuple(pattern))
    return result


def matches(pattern: Pattern, args: tuple[int, ...]) -> bool:
    """Whether six argument values (64 bits each) fit `pattern`."""
    return all(arg & mask == value for arg, (mask, value) in zip(args, pattern, strict=True))


def overlap(a: Pattern, b: Pattern) -> bool:
    return all((va ^ vb) & ma & mb == 0 for (ma, va), (mb, vb) in zip(a, b, strict=True))


def subtract(a: Pattern, b: Pattern) -> list[Pattern]:
    """What `a` matches and `b` does not, as patterns that do not overlap (the "disjoint sharp" of logic design)."""
    if not overlap(a, b):
        return [a]
    result = []
    rest = list(a)
    for index, (mask_b, value_b) in enumerate(b):
        missing = mask_b & ~a[index][0]
        while missing:
            bit = 1 << missing.bit_length() - 1  # from the top: what differs early leaves early
            missing ^= bit
            mask, value = rest[index]
            result.append((*rest[:index], (mask | bit, value | (~value_b & bit)), *rest[index + 1 :]))
            rest[index] = (mask | bit, value | (value_b & bit))
    return result


def merge(whole: list[Pattern]) -> list[Pattern]:
    """The same set in fewer patterns: two that differ in one bit only become one that does not look at it."""
    result = list(dict.fromkeys(whole))
    merged = len(result) <= _MERGED  # more would take minutes, and is no filter that the kernel takes
    while merged:
        merged = False
        present = set(result)
        for pattern in result:
            for index, bit in ((i, 1 << b) for i, (mask, _) in enumerate(pattern) for b in range(64) if mask >> b & 1):
                mask, value = pattern[index]
                twin = (*pattern[:index], (mask, value ^ bit), *pattern[index + 1 :])
                if twin in present:
                    both = (*pattern[:index], (mask & ~bit, value & ~bit), *pattern[index + 1 :])
                    result = [both if p == pattern else p for p in result if p != twin]
                    merged = True
                    break
            if merged:
                break
    return list(dict.fromkeys(result))


def in_order(rows: list[list[Pattern]]) -> list[list[Pattern]]:
    """For rows of which the first that matches wins: the same rows without what earlier ones take."""
    taken: list[Pattern] = []
    result = []
    steps = 0
    for row in rows:
        left: list[Pattern] = []
        for pattern in merge(row):
            pieces = [pattern]
            for earlier in taken:
                steps += len(pieces)
                pieces = [piece for whole in pieces for piece in subtract(whole, earlier)]
                if len(pieces) > _MOST or steps > _STEPS:
                    raise _too_many()
            left += pieces
            if len(left) > _MOST:
                raise _too_many()
            taken.append(pattern)
        result.append(merge(left))
    return result


def _too_many() -> SandboxError:
    return SandboxError(
        "compile seccomp filter", "", errno.E2BIG, f"conditions of one call come to more than {_MOST} patterns",
        "compare with fewer arguments in one rule, or for equality",
    )  # fmt: skip
