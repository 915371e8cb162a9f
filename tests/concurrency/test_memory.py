"""The memory budget: events not touched lately are dropped, and folded again at the next touch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.domain.rehearsal import observed
from ticketing.domain.model import Transition
from ticketing.errors import LedgerDamaged, StorageUnavailable
from ticketing.manager import SHORT_FOLD_PAGES, TicketManager

from .stage import Gate, LossyLedger, WatchedClock, assert_nothing_is_left_behind, booking, opening

EVENTS = ["a", "b", "c", "d", "e"]
ORDERS = 10
WEIGHT = 1 + ORDERS  # of one event, counted in orders


def managed(ledger: LossyLedger, clock: WatchedClock, events_kept: int) -> TicketManager:
    """A manager with room for so many of the five events, each of which was touched in order."""
    manager = TicketManager(ledger, clock, state_orders_max=events_kept * WEIGHT)
    for event_id in EVENTS:
        manager.execute(opening(event_id, total_tickets=5))
        for number in range(ORDERS):
            manager.execute(booking(f"user {number}", event_id))
    ledger.reads.clear()
    return manager


def test_the_least_recently_used_events_are_dropped(ledger: LossyLedger, clock: WatchedClock) -> None:
    """Room for two: the last two are read from where they stand, the others from their beginning."""
    manager = managed(ledger, clock, events_kept=2)
    manager.state_of("e")
    manager.state_of("d")
    assert ledger.reads == [("e", WEIGHT), ("d", WEIGHT)]
    ledger.reads.clear()
    manager.state_of("a")
    assert ledger.reads == [("a", 0)]
    ledger.reads.clear()
    manager.state_of("d")
    manager.state_of("e")
    assert ledger.reads == [("d", WEIGHT), ("e", 0)]
    assert_nothing_is_left_behind(manager)


def test_a_dropped_event_is_served_as_before(ledger: LossyLedger, clock: WatchedClock) -> None:
    """Its state is the same as in a process that never dropped it."""
    manager = managed(ledger, clock, events_kept=1)
    roomy = TicketManager(ledger, clock)
    for event_id in [*EVENTS, *reversed(EVENTS)]:
        assert observed(manager.state_of(event_id)) == observed(roomy.state_of(event_id))
        assert manager.state_of(event_id).waiting_list_count == 5
    assert_nothing_is_left_behind(manager)


def test_all_events_stay_where_there_is_room(ledger: LossyLedger, clock: WatchedClock) -> None:
    """The budget is for when it is needed."""
    manager = managed(ledger, clock, events_kept=5)
    for event_id in EVENTS:
        manager.state_of(event_id)
    assert ledger.reads == [(event_id, WEIGHT) for event_id in EVENTS]


def test_an_event_larger_than_the_budget_is_served_all_the_same(
    ledger: LossyLedger, clock: WatchedClock
) -> None:
    """It stays as long as nobody asks for another one."""
    manager = TicketManager(ledger, clock, state_orders_max=1)
    manager.execute(opening("a"))
    for number in range(ORDERS):
        manager.execute(booking(f"user {number}", "a"))
    assert manager.state_of("a").booked_tickets == ORDERS
    assert [after for _, after in ledger.reads] == [0, WEIGHT]
    assert_nothing_is_left_behind(manager)


def test_an_event_at_work_is_not_dropped(
    ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """While its commit is in flight, others come and go over the budget; it is answered all the same."""
    manager = managed(ledger, clock, events_kept=1)
    manager.state_of("a")
    gate = Gate()
    ledger.appends = [gate]
    stuck = pool.submit(manager.execute, booking("late", "a"))
    gate.wait_until_reached()
    for event_id in EVENTS[1:]:
        manager.state_of(event_id)
    gate.is_open.set()
    assert stuck.result().waiting_position == 6
    assert_nothing_is_left_behind(manager)


class InterruptedLedger(LossyLedger):
    """Gives a page a transition. While `interrupted_after` is set, the deadline passes after so many of them."""

    interrupted_after: int | None = None

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
        for page in super().read(event_id, after, deadline):
            for number, transition in enumerate(page):
                if number == self.interrupted_after:
                    raise StorageUnavailable
                yield [transition]


def test_a_ledger_too_long_for_one_deadline_is_read_bit_by_bit(clock: WatchedClock) -> None:
    """What one request has folded when its time is over, the next one need not read again. Nobody is refused for it."""
    ledger = InterruptedLedger()
    wrote = managed(ledger, clock, events_kept=5)
    manager = TicketManager(ledger, clock)
    ledger.interrupted_after = 4
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            manager.state_of("a")
    ledger.interrupted_after = None
    assert observed(manager.state_of("a")) == observed(wrote.state_of("a"))
    assert ledger.reads[:3] == [("a", 0), ("a", 4), ("a", 8)]
    assert_nothing_is_left_behind(manager)


def test_damage_in_a_ledger_too_long_for_one_deadline_is_found(clock: WatchedClock) -> None:
    """Read anew bit by bit as well: the second time that the fold comes to a stop is the verdict."""
    ledger = InterruptedLedger()
    managed(ledger, clock, events_kept=5)
    ledger.commits["a"].pop(-2)
    manager = TicketManager(ledger, clock)
    ledger.interrupted_after = 4
    outcomes: list[type[Exception]] = []
    while outcomes[-1:] != [LedgerDamaged] and len(outcomes) < 20:
        with pytest.raises((StorageUnavailable, LedgerDamaged)) as caught:
            manager.state_of("a")
        outcomes.append(caught.type)
    assert outcomes[:3] == [StorageUnavailable] * 3
    assert outcomes[-1] is LedgerDamaged
    assert [place for _, place in ledger.reads].count(0) == 2
    assert_nothing_is_left_behind(manager)


class CountingLedger(InterruptedLedger):
    """Counts the reads that are far along at once. Who gets there stops at the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.far, self.far_at_most = 0, 0

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
        is_far = False
        for number, page in enumerate(super().read(event_id, after, deadline)):
            if number == SHORT_FOLD_PAGES + 1:
                is_far = True
                self.far += 1
                self.far_at_most = max(self.far_at_most, self.far)
                self.gate.pass_through()
            yield page
        self.far -= is_far


def test_long_ledgers_are_folded_one_at_a_time(clock: WatchedClock, pool: ThreadPoolExecutor) -> None:
    """What all of them take would come on top of the budget. Who waits in vain goes on from what he has."""
    ledger = CountingLedger()
    ledger.gate.is_open.set()
    managed(ledger, clock, events_kept=5)
    ledger.gate.is_open.clear()
    ledger.gate.reached.clear()
    ledger.far = ledger.far_at_most = 0
    manager = TicketManager(ledger, clock)
    first = pool.submit(manager.state_of, "a")
    ledger.gate.wait_until_reached()
    with pytest.raises(StorageUnavailable):
        manager.state_of("b", within_s=0.2)
    others = [pool.submit(manager.state_of, event_id) for event_id in EVENTS[1:]]
    ledger.gate.is_open.set()
    assert [each.result().waiting_list_count for each in (first, *others)] == [5] * len(EVENTS)
    assert ledger.far_at_most == 1
    assert ("b", SHORT_FOLD_PAGES) in ledger.reads
    assert_nothing_is_left_behind(manager)
