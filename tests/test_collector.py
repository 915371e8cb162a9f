"""The garbage collector pauses while a long ledger is folded, and only then."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from ticketing.clock import SystemClock
from ticketing.collector import collector_paused
from ticketing.domain.model import Transition
from ticketing.errors import EventNotFound
from ticketing.manager import TicketManager


@pytest.fixture(autouse=True)
def _enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_the_collector_pauses_and_goes_on() -> None:
    """After an error too."""
    with pytest.raises(ZeroDivisionError), collector_paused():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_second_pause_neither_ends_the_first_nor_makes_it_longer() -> None:
    """So pauses that overlap for ever cannot keep the collector from running."""
    first, second = collector_paused(), collector_paused()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    """Whoever switched it off had a reason."""
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


def test_a_fold_pauses_it() -> None:
    """While pages come from the ledger, for their orders are kept and are no garbage."""
    seen = []

    class Watched:
        def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
            seen.append(gc.isenabled())
            yield []

    manager = TicketManager(Watched(), SystemClock())  # type: ignore[arg-type]
    with pytest.raises(EventNotFound):
        manager.state_of("concert")
    assert (seen, gc.isenabled()) == ([False], True)
