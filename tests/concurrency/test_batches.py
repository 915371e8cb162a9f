"""Group commit: who comes while a commit is in flight shares the next one, and nobody leads for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import bson
import pytest
from pymongo.database import Database

from tests.domain.rehearsal import Rehearsal, request
from ticketing.clock import SystemClock
from ticketing.domain.commands import Booking, BookMany, Update
from ticketing.domain.model import Answer, EventState
from ticketing.errors import AlreadyBooked, EventNotFound, OrderNotFound
from ticketing.ids import new_order_id
from ticketing.manager import TicketManager, _size
from ticketing.observer import Observer
from ticketing.storage.client import connect
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger, ledger_collection

from .stage import Gate, LossyLedger, WatchedClock, booking, cancellation, opening


def version_of(answer: Answer) -> int:
    """The version of the transition that the answer tells of."""
    assert answer.order is not None
    return answer.order.version


def test_those_who_come_while_a_commit_is_in_flight_share_the_next_one(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Twenty bookings behind a slow one: two commits, in the order in which they came."""
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    others = []
    for number in range(20):
        others.append(pool.submit(manager.execute, booking(f"user {number}")))
        clock.wait_until_waiting(1)
    gate.is_open.set()
    assert version_of(first.result()) == 2
    assert [version_of(other.result()) for other in others] == list(range(3, 23))
    assert ledger.sizes("concert") == [1, 1, 20]


def test_a_leader_serves_one_batch_and_hands_over(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Each leader has its answer while the commit after its own is in flight: another thread is at it."""
    gates = [Gate(), Gate(), Gate()]
    ledger.appends = list(gates)
    rounds = []
    for number, gate in enumerate(gates):
        rounds.append(pool.submit(manager.execute, booking(f"user {number}")))
        if number == 0:
            gate.wait_until_reached()
            continue
        clock.wait_until_waiting(1)
        gates[number - 1].is_open.set()
        gate.wait_until_reached()
        assert version_of(rounds[number - 1].result()) == number + 1
    gates[-1].is_open.set()
    assert version_of(rounds[-1].result()) == 4


def test_readers_share_one_catch_up(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Ten reads behind a booking cost one look at the ledger, and see the booking."""
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    ledger.reads.clear()
    readers = [pool.submit(manager.state_of, "concert") for _ in range(10)]
    clock.wait_until_waiting(10)
    gate.is_open.set()
    assert version_of(first.result()) == 2
    assert {reader.result().version for reader in readers} == {2}
    assert ledger.reads == [("concert", 2)]


def test_readers_are_answered_by_the_commit_they_wait_with(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """A commit that succeeded proves that nobody wrote in between: no look at the ledger at all."""
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    ledger.reads.clear()
    reader = pool.submit(manager.state_of, "concert")
    clock.wait_until_waiting(1)
    second = pool.submit(manager.execute, booking("second"))
    clock.wait_until_waiting(1)
    gate.is_open.set()
    assert (version_of(first.result()), version_of(second.result())) == (2, 3)
    assert reader.result().version == 3
    assert ledger.reads == []


def test_a_batch_may_hold_everything_at_once(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Bookings, their cancellations, refusals and reads, each decided on what came before it in the batch."""
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    requests: list[Future[Any]] = []
    acts: list[tuple[Callable[[Any], Any], Any]] = [
        (manager.execute, booking("ada")),
        (manager.execute, booking("ada")),
        (manager.execute, cancellation("ada")),
        (manager.execute, cancellation("ada")),
        (manager.state_of, "concert"),
        (manager.execute, booking("ada")),
    ]
    for act, argument in acts:
        requests.append(pool.submit(act, argument))
        clock.wait_until_waiting(1)
    gate.is_open.set()
    first.result()
    booked, refused, cancelled, not_found, read, again = requests
    assert version_of(booked.result()) == 3
    assert isinstance(refused.exception(), AlreadyBooked)
    assert version_of(cancelled.result()) == 4
    assert isinstance(not_found.exception(), OrderNotFound)
    assert version_of(again.result()) == 5
    assert isinstance(read.result(), EventState)
    assert ledger.sizes("concert") == [1, 1, 3]


def test_a_batch_too_large_for_one_commit_becomes_several(
    manager: TicketManager,
    ledger: LossyLedger,
    clock: WatchedClock,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everybody is answered, in order, and reads at its end as well."""
    monkeypatch.setattr("ticketing.manager.BATCH_CHANGES_MAX", 6)
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    others = []
    for number in range(8):
        others.append(pool.submit(manager.execute, booking(f"user {number}")))
        clock.wait_until_waiting(1)
    reader = pool.submit(manager.state_of, "concert")
    clock.wait_until_waiting(1)
    gate.is_open.set()
    first.result()
    assert [version_of(other.result()) for other in others] == list(range(3, 11))
    assert reader.result().version == 10
    assert ledger.sizes("concert") == [1, 1, 3, 3, 2]


def test_a_line_longer_than_one_transition_comes_before_who_shares_the_batch(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Sales are opened again over a line of 12,000, with a ticket for each and one more, and somebody books in the same
    batch: the line is served first."""
    manager.execute(booking("ada"))
    manager.execute(Update(event_id="concert", fields={"total_tickets": 1}))
    for first in range(0, 12_000, 500):
        users = [Booking(new_order_id("concert"), f"user {first + place}", 1) for place in range(500)]
        manager.execute(BookMany(event_id="concert", bookings=tuple(users)))
    manager.execute(Update(event_id="concert", fields={"sales_close_at": clock.now()}))
    manager.execute(Update(event_id="concert", fields={"total_tickets": 12_002}))
    gate = Gate()
    ledger.appends = [gate]
    before = pool.submit(manager.execute, Update(event_id="concert", fields={"venue": "City Hall"}))
    gate.wait_until_reached()
    reopened = pool.submit(manager.execute, Update(event_id="concert", fields={"sales_close_at": None}))
    clock.wait_until_waiting(1)
    booked = pool.submit(manager.execute, booking("zoe"))
    clock.wait_until_waiting(1)
    gate.is_open.set()
    before.result()
    assert len(reopened.result().promoted) == 10_000
    (updated,), (promoted, last) = ledger.commits["concert"][-2:]
    assert [(part.type, len(part.orders)) for part in (updated, promoted, last)] == [
        ("updated", 10_000), ("promoted", 2_000), ("booked", 1),
    ]  # fmt: skip
    assert version_of(booked.result()) == last.version


def test_events_do_not_wait_for_each_other(
    manager: TicketManager, ledger: LossyLedger, pool: ThreadPoolExecutor
) -> None:
    """While the commit of one is stuck, another is opened, booked and read."""
    gate = Gate()
    ledger.appends = [gate]
    stuck = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    manager.execute(opening("opera"))
    manager.execute(booking("ada", "opera"))
    assert manager.state_of("opera").booked_tickets == 1
    with pytest.raises(EventNotFound):
        manager.state_of("nowhere")
    gate.is_open.set()
    assert version_of(stuck.result()) == 2


class Listener(Observer):
    """Keeps what it was told of those who wait."""

    def __init__(self) -> None:
        self.waiting: list[int] = []

    def served(self, requests: int, orders_kept: int, waiting: int) -> None:
        self.waiting.append(waiting)


def test_how_many_wait_is_told_with_each_batch_of_any_event(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Those of all events who have not come to their turn; not who is being served."""
    listener = manager.observer = Listener()
    gate = Gate()
    ledger.appends = [gate]
    stuck = [pool.submit(manager.execute, booking("first"))]
    gate.wait_until_reached()
    stuck += [pool.submit(manager.execute, booking(f"user {number}")) for number in range(3)]
    clock.wait_until_waiting(3)
    manager.execute(opening("opera"))
    assert listener.waiting == [3]
    gate.is_open.set()
    for each in stuck:
        each.result()
    manager.state_of("concert")
    assert listener.waiting[-1] == 0


# On the real thing: counts, not times.

THREADS = 16
SHARE = 40


@pytest.fixture
def real_manager(mongod: str, database: Database[dict[str, Any]]) -> Iterator[TicketManager]:
    """On a real mongod, whose commits take a while."""
    clock = SystemClock()
    with connect(mongod) as client:
        yield TicketManager(Ledger(ledger_collection(client[database.name]), clock), clock)


def test_batches_form_and_nobody_starves(
    real_manager: TicketManager, database: Database[dict[str, Any]], pool: ThreadPoolExecutor
) -> None:
    """Sixteen threads: far fewer commits than bookings, and everybody gets on at about the same pace."""
    real_manager.execute(opening(total_tickets=THREADS * SHARE // 2))
    start = threading.Barrier(THREADS)

    def book_share(thread: int) -> list[int]:
        start.wait()
        return [version_of(real_manager.execute(booking(f"{thread}-{number}"))) for number in range(SHARE)]

    versions = [part.result() for part in [pool.submit(book_share, thread) for thread in range(THREADS)]]
    bookings = THREADS * SHARE
    assert sorted(version for share in versions for version in share) == list(range(2, bookings + 2))
    commits = database["ledger"].count_documents({}) - 1
    assert commits < bookings / 3
    # Nobody is done with all of its share before the slowest has done a good part of its own.
    first_done = min(share[-1] for share in versions)
    assert min(sum(version < first_done for version in share) for share in versions) > SHARE / 4


def test_what_a_commit_has_room_for_is_not_orders_alone() -> None:
    """Refusals that are kept, and an event's details, take room too: a commit must stay below MongoDB's 16 MB."""
    play = Rehearsal(1)
    play.book("ada")
    many = [("ada",)] * 400
    play.book_many(*many, request=request("each"))
    play.book_many(*many, all_or_none=True, request=request("all"))
    play.play(Update(event_id=play.event_id, fields={"description": "x" * 5_000}))
    sizes = [_size(transition) for transition in play.transitions]
    for transition, size in zip(play.transitions, sizes, strict=True):
        assert len(bson.encode(commit_document(play.event_id, [transition], b"n" * 16))) < 500 + size * 200
    assert sizes[1] == 2 and sizes[2] > 400 and sizes[3] > 400
