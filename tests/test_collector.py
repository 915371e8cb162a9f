"""The garbage collector spares the orders of a long ledger, and goes on as before."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from itertools import count

import pytest

from ticketing import collector
from ticketing.clock import SystemClock
from ticketing.collector import FULL_COLLECTION_EVERY, objects_that_stay
from ticketing.domain.model import Transition
from ticketing.errors import EventNotFound
from ticketing.manager import SHORT_FOLD_PAGES, TicketManager


class Thing:
    """Can be watched, and can hold itself."""

    itself: Thing


@pytest.fixture(autouse=True)
def _enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_pauses_and_goes_on() -> None:
    """After an error too."""
    with pytest.raises(ZeroDivisionError), objects_that_stay():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_what_was_made_is_old_at_once() -> None:
    """So the next collections of young objects do not look at it, and the last generation still does."""
    with objects_that_stay():
        made = Thing()
    assert any(each is made for each in gc.get_objects(2))
    assert gc.get_freeze_count() == 0


def garbage_of_a_span() -> weakref.ref[Thing]:
    """What somebody else leaves behind meanwhile."""
    with objects_that_stay():
        garbage = Thing()
        garbage.itself = garbage
        seen = weakref.ref(garbage)
        del garbage
    return seen


def test_garbage_that_others_left_meanwhile_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows old with what stays, and no collection of young objects looks at it again."""
    monkeypatch.setattr(collector, "_spans", count(1))
    seen = [garbage_of_a_span() for _ in range(FULL_COLLECTION_EVERY - 1)]
    assert all(each() for each in seen)
    seen.append(garbage_of_a_span())
    assert not any(each() for each in seen)


def test_garbage_from_before_is_gone() -> None:
    """It does not grow old with what stays."""
    garbage = Thing()
    garbage.itself = garbage
    seen = weakref.ref(garbage)
    del garbage
    with objects_that_stay():
        assert seen() is None


def test_a_second_span_neither_ends_the_first_nor_makes_it_longer() -> None:
    """So spans that overlap for ever cannot keep the collector from running."""
    first, second = objects_that_stay(), objects_that_stay()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    """Whoever switched it off had a reason."""
    gc.disable()
    with objects_that_stay():
        pass
    assert not gc.isenabled()


def test_a_long_fold_pauses_it_and_a_short_one_does_not() -> None:
    """What most requests read is a page, and to prepare for more would take longer than the page."""
    seen = []

    class Watched:
        def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
            for _ in range(SHORT_FOLD_PAGES + 1):
                yield []
                seen.append(gc.isenabled())

    manager = TicketManager(Watched(), SystemClock())  # type: ignore[arg-type]
    with pytest.raises(EventNotFound):
        manager.state_of("concert")
    assert (seen, gc.isenabled()) == ([True] * SHORT_FOLD_PAGES + [False], True)
