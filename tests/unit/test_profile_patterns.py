"""Bit patterns against the plain meaning of the comparisons, on widths small enough to try every value."""

from hypothesis import given, settings, strategies as st

from sandbox.profile import patterns
from sandbox.profile.patterns import ANYTHING, Pattern

WIDTH = 5
VALUES = st.integers(0, (1 << WIDTH) - 1)


@st.composite
def small_patterns(draw: st.DrawFn) -> Pattern:
    """A pattern over 5 bits of argument 0 and 5 bits of argument 1."""
    pairs = []
    for _ in range(2):
        mask = draw(VALUES)
        pairs.append((mask, draw(VALUES) & mask))
    return (*pairs, *ANYTHING[2:])


def points() -> list[tuple[int, ...]]:
    return [(a, b, 0, 0, 0, 0) for a in range(1 << WIDTH) for b in range(1 << WIDTH)]


def covered(some: list[Pattern]) -> set[tuple[int, ...]]:
    return {point for point in points() if any(patterns.matches(p, point) for p in some)}


@given(VALUES, VALUES)
def test_prefixes_match_their_range_and_nothing_else(low: int, high: int) -> None:
    pairs = patterns.prefixes(low, high, WIDTH)
    assert {v for v in range(1 << WIDTH) if any(v & m == w for m, w in pairs)} == set(range(low, high + 1))


@given(st.sampled_from(sorted(patterns.OPERATORS)), VALUES, VALUES)
def test_comparison_means_what_its_operator_says(op: str, value: int, value_two: int) -> None:
    plain = {
        "SCMP_CMP_EQ": lambda v: v == value, "SCMP_CMP_NE": lambda v: v != value, "SCMP_CMP_LT": lambda v: v < value,
        "SCMP_CMP_LE": lambda v: v <= value, "SCMP_CMP_GT": lambda v: v > value, "SCMP_CMP_GE": lambda v: v >= value,
        "SCMP_CMP_MASKED_EQ": lambda v: v & value == value_two,
    }[op]  # fmt: skip
    pairs = patterns.comparison(op, value, value_two, WIDTH)
    for v in range(1 << WIDTH):
        assert any(v & mask == wanted for mask, wanted in pairs) == plain(v)


def test_a_32_bit_comparison_does_not_look_above_32_bits() -> None:
    for op in patterns.OPERATORS:
        for mask, _ in patterns.comparison(op, 0x5412, 0x5412, 32):
            assert mask < 1 << 32


@given(small_patterns(), small_patterns())
def test_subtract_leaves_exactly_the_difference_in_disjoint_pieces(a: Pattern, b: Pattern) -> None:
    pieces = patterns.subtract(a, b)
    assert covered(pieces) == covered([a]) - covered([b])
    assert not any(patterns.overlap(p, q) for i, p in enumerate(pieces) for q in pieces[:i])


@given(st.lists(small_patterns(), max_size=6))
def test_merge_keeps_the_set(some: list[Pattern]) -> None:
    merged = patterns.merge(some)
    assert covered(merged) == covered(some)
    assert len(merged) <= len(some)


@settings(deadline=None)  # how long it takes says what else the machine does
@given(st.lists(st.lists(small_patterns(), max_size=3), max_size=4))
def test_in_order_gives_each_value_to_the_first_row_that_matches(rows: list[list[Pattern]]) -> None:
    left = patterns.in_order(rows)
    taken: set[tuple[int, ...]] = set()
    for row, rest in zip(rows, left, strict=True):
        assert covered(rest) == covered(row) - taken
        taken |= covered(row)
