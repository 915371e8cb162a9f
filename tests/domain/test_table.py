"""Table against plain dicts, through any number of changes one after another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketing.domain.table import Filling, Table

KEYS = st.integers(0, 12)
# Each round is one `mutate` … `finish`; None deletes the key, where it is there.
ROUNDS = st.lists(st.lists(st.tuples(KEYS, st.one_of(st.none(), st.integers())), max_size=12), max_size=5)


def assert_same(table: Table[int, int], plain: dict[int, int]) -> None:
    """Every question has the answer that the plain dict gives."""
    assert len(table) == len(plain)
    assert sorted(table) == sorted(plain)
    assert table == plain
    for key in range(14):
        assert (key in table) == (key in plain)
        assert table.get(key) == plain.get(key)
        assert table.get(key, "none") == plain.get(key, "none")
        if key in plain:
            assert table[key] == plain[key]
        else:
            with pytest.raises(KeyError):
                table[key]


@given(ROUNDS)
def test_it_answers_as_a_plain_dict_does(rounds: list[list[tuple[int, int | None]]]) -> None:
    """While it is changed and after; and each table before stays as it was."""
    table, plain = Table[int, int](), dict[int, int]()
    before = []
    for changes in rounds:
        before.append((table, dict(plain)))
        changing = table.mutate()
        for key, value in changes:
            if value is not None:
                changing[key] = plain[key] = value
            elif key in plain:
                del changing[key], plain[key]
            else:
                with pytest.raises(KeyError):
                    del changing[key]
            assert len(changing) == len(plain)
            assert (key in changing) == (key in plain)
            assert changing.get(key) == plain.get(key)
        table = changing.finish()
        assert_same(table, plain)
    for earlier, entries in before:
        assert_same(earlier, entries)


def test_what_was_empty_is_filled_as_a_dict_is() -> None:
    """That is what makes the first fold of a long ledger fast; once there is something, changes are shared."""
    filling = Table[str, int]().mutate()
    assert type(filling) is Filling
    assert type(filling).__setitem__ is dict.__setitem__
    filling["a"] = 1
    assert type(filling.finish().mutate()) is not Filling


def test_an_emptied_table_begins_anew() -> None:
    """What was deleted does not come back."""
    full = Filling({1: 1, 2: 2}).finish()
    changing = full.mutate()
    del changing[1], changing[2]
    empty = changing.finish()
    refilled = empty.mutate()
    refilled[2] = 3
    assert_same(refilled.finish(), {2: 3})
    assert_same(empty, {})
    assert_same(full, {1: 1, 2: 2})
