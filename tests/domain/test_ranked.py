"""RankedSet against a plain Python set, around the sizes at which its tree grows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketing.domain.ranked import FAN_SIZE, LEAF_SIZE, RankedSet

# 1,024, 32,768, 1,048,576 and 33,554,432: where a leaf, and a tree of one, two and three levels, are full.
GROWTH = [LEAF_SIZE * FAN_SIZE**level for level in range(4)]
NUMBERS = st.one_of(
    st.integers(1, 40),
    st.sampled_from(GROWTH).flatmap(lambda size: st.integers(size - 3, size + 3)),
    st.integers(1, 2 * GROWTH[-1]),
)


def ranked(numbers: set[int]) -> RankedSet:
    """A RankedSet of these."""
    members = RankedSet()
    for number in numbers:
        members = members.add(number)
    return members


def assert_same(members: RankedSet, plain: set[int], probes: list[int]) -> None:
    """Every question has the answer that the plain set gives."""
    assert len(members) == len(plain)
    assert bool(members) == bool(plain)
    assert list(members) == sorted(plain)
    for probe in [*probes, *plain]:
        assert (probe in members) == (probe in plain)
        assert members.rank(probe) == sum(number <= probe for number in plain)
        assert list(members.after(probe)) == sorted(number for number in plain if number > probe)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), NUMBERS), max_size=40), st.lists(NUMBERS, max_size=8))
def test_it_answers_as_a_plain_set_does(changes: list[tuple[bool, int]], probes: list[int]) -> None:
    """After any adds and discards, members and strangers alike, below, between and above."""
    members, plain = RankedSet(), set[int]()
    for add, number in changes:
        members = members.add(number) if add else members.discard(number)
        plain = plain | {number} if add else plain - {number}
    assert_same(members, plain, probes)


@settings(deadline=None)
@given(st.sets(NUMBERS, max_size=30), NUMBERS)
def test_a_change_leaves_the_set_before_it_as_it_was(numbers: set[int], number: int) -> None:
    """Persistent: whoever holds the older set goes on with it."""
    before = ranked(numbers)
    before.add(number)
    before.discard(number)
    for member in numbers:
        before.discard(member)
    assert_same(before, numbers, [number])


@settings(deadline=None)
@given(st.sets(NUMBERS, max_size=20), st.lists(NUMBERS, max_size=40), NUMBERS)
def test_many_changes_in_a_row_lead_to_the_same_set(
    numbers: set[int], changes: list[int], probe: int
) -> None:
    """A mutation answers on its way, may end where it began, and leaves the set it came from as it was."""
    before = ranked(numbers)
    mutation, plain = before.mutate(), set(numbers)
    for number in changes:
        if number in plain:
            mutation.discard(number)
        else:
            mutation.add(number)
        plain ^= {number}
        assert len(mutation) == len(plain)
        if number % 2:  # to ask in between changes nothing
            assert mutation.rank(probe) == sum(member <= probe for member in plain)
    assert_same(mutation.finish(), plain, [probe])
    assert_same(before, numbers, [probe])


@settings(deadline=None)
@given(st.sets(NUMBERS, max_size=30), st.integers(-5, 0))
def test_zero_and_less_are_never_members(numbers: set[int], number: int) -> None:
    """They have rank 0, and everybody comes after them."""
    members = ranked(numbers)
    assert number not in members
    assert members.rank(number) == 0
    assert list(members.after(number)) == sorted(numbers)
    assert members.discard(number) is members
    with pytest.raises(ValueError, match="numbers start at 1"):
        members.add(number)


def test_what_changes_nothing_gives_the_same_set() -> None:
    """Adding a member, discarding a stranger."""
    members = ranked({1, 5000})
    assert members.add(5000) is members
    assert members.discard(6000) is members
    assert members.discard(10**9) is members


@pytest.mark.parametrize("size", GROWTH)
def test_it_grows_and_is_emptied_around_each_size(size: int) -> None:
    """A run of numbers across the border, taken away from its middle, its head and its end."""
    run = set(range(size - 20, size + 20))
    members = ranked(run)
    assert_same(members, run, [size, size - 50, size + 50])
    for number in [size, *sorted(run - {size})]:
        members = members.discard(number)
        run.discard(number)
        assert members.rank(size) == sum(member <= size for member in run)
    assert_same(members, set(), [size])


def test_a_long_line_served_from_its_head() -> None:
    """40,000 in line, the first 39,000 gone: ranks and order are those of the rest."""
    members = ranked(set(range(1, 40_001)))
    for number in range(1, 39_001):
        members = members.discard(number)
    assert len(members) == 1_000
    assert members.rank(39_001) == 1
    assert members.rank(40_000) == 1_000
    assert next(iter(members)) == 39_001


def test_the_memory_of_those_who_left_is_given_back() -> None:
    """Numbers only grow, so the branches that served their time must go: one leaf is left at last."""
    members = ranked(set(range(1, 40_001)))
    for number in range(1, 40_000):
        members = members.discard(number)
    assert leaves(members._root) == 1
    assert leaves(members.discard(40_000)._root) == 0
    served = RankedSet().mutate()
    for number in range(1, 40_001):
        served.add(number)
    for number in range(1, 40_001):
        served.discard(number)
    assert leaves(served.finish()._root) == 0


def leaves(node: Any) -> int:
    """How many leaves with members the tree holds."""
    return sum(map(leaves, node[1])) if isinstance(node, tuple) else node != 0
