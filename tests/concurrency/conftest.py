"""A manager on a stage: its ledger and its clock do what the test says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ticketing.manager import TicketManager

from .stage import LossyLedger, WatchedClock, assert_nothing_is_left_behind, opening


@pytest.fixture
def ledger() -> LossyLedger:
    return LossyLedger()


@pytest.fixture
def clock() -> WatchedClock:
    return WatchedClock()


@pytest.fixture
def manager(ledger: LossyLedger, clock: WatchedClock) -> Iterator[TicketManager]:
    """With the event `concert` of 100 tickets. Whatever a test does, nothing may be left behind."""
    manager = TicketManager(ledger, clock)
    manager.execute(opening())
    yield manager
    assert_nothing_is_left_behind(manager)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for those who act at the same time."""
    with ThreadPoolExecutor(40) as pool:
        yield pool
