"""A stuck ledger, a lost answer, a mistake in a batch: everybody is answered, and nothing stays behind."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.database import Database

from tests.domain.rehearsal import request
from ticketing.clock import SystemClock
from ticketing.domain.model import EventState, Transition
from ticketing.errors import (
    AlreadyBooked,
    EventExists,
    EventNotFound,
    IdempotencyKeyReused,
    LedgerDamaged,
    Overloaded,
    StorageUnavailable,
)
from ticketing.manager import DAMAGE_REMEMBERED_S, PROBE_DEADLINE_S, PROBE_EVERY_S, TicketManager
from ticketing.storage.client import connect
from ticketing.storage.ledger import Ledger, ledger_collection

from .stage import (
    Gate,
    LossyLedger,
    LostAnswer,
    MemoryLedger,
    WatchedClock,
    assert_nothing_is_left_behind,
    booking,
    cancellation,
    opening,
)

# The deadline.


def test_who_waits_behind_a_stuck_commit_gives_up_at_the_deadline(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """They were never decided: when the storage is back, only the stuck booking has happened."""
    gate = Gate()
    ledger.appends = [gate]
    stuck = pool.submit(manager.execute, booking("stuck"))
    gate.wait_until_reached()
    others: list[Future[Any]] = [pool.submit(manager.execute, booking(f"user {n}")) for n in range(5)]
    others.append(pool.submit(manager.state_of, "concert"))
    clock.wait_until_waiting(6)
    clock.end_patience()
    assert all(isinstance(other.exception(), StorageUnavailable) for other in others)
    gate.is_open.set()
    assert stuck.result().order is not None
    assert manager.state_of("concert").booked_tickets == 1
    assert manager.execute(booking("user 1")).order is not None


def test_who_waits_in_a_stuck_batch_gives_up_without_knowing(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """It was decided already: "unavailable" does not say that it did not happen, and here it did."""
    first, second = Gate(), Gate()
    ledger.appends = [first, second]
    leader = pool.submit(manager.execute, booking("first"))
    first.wait_until_reached()
    follower = pool.submit(manager.execute, booking("follower"))
    clock.wait_until_waiting(1)
    youngest = pool.submit(manager.execute, booking("youngest"))
    clock.wait_until_waiting(1)
    first.is_open.set()
    second.wait_until_reached()
    clock.end_patience()
    assert isinstance(follower.exception(), StorageUnavailable)
    second.is_open.set()
    assert leader.result().order is not None
    assert youngest.result().order is not None
    assert [order.user_id for order in manager.state_of("concert").orders_by_arrival()] == [
        "first",
        "follower",
        "youngest",
    ]


def test_a_leader_without_a_storage_answers_its_whole_batch(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Unavailable for all of them, and the next request is served."""
    gate = Gate()
    ledger.appends = [gate, StorageUnavailable()]
    first = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    batch = [pool.submit(manager.execute, booking(f"user {number}")) for number in range(5)]
    clock.wait_until_waiting(5)
    gate.is_open.set()
    assert first.result().order is not None
    assert all(isinstance(part.exception(), StorageUnavailable) for part in batch)
    assert manager.execute(booking("next")).order is not None


def test_the_lead_goes_on_to_who_is_left_when_the_next_leader_has_given_up(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """All who wait give up while the storage is stuck; who comes afterwards does not wait for ever."""
    gate = Gate()
    ledger.appends = [gate]
    stuck = pool.submit(manager.execute, booking("stuck"))
    gate.wait_until_reached()
    gone = [pool.submit(manager.execute, booking(f"user {number}")) for number in range(3)]
    clock.wait_until_waiting(3)
    clock.end_patience()
    for part in gone:
        assert isinstance(part.exception(), StorageUnavailable)
    clock.is_patience_over = False
    late = pool.submit(manager.execute, booking("late"))
    clock.wait_until_waiting(1)
    gate.is_open.set()
    assert stuck.result().order is not None
    assert late.result().order is not None


def test_who_is_made_leader_while_giving_up_passes_the_lead_on(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Its deadline has passed, and in that moment it is its turn: the next one must not wait for it."""
    gate, clock.giving_up = Gate(), Gate()
    ledger.appends = [gate]
    stuck = pool.submit(manager.execute, booking("stuck"))
    gate.wait_until_reached()
    gone = pool.submit(manager.execute, booking("gone"))
    clock.wait_until_waiting(1)
    clock.end_patience()
    clock.giving_up.wait_until_reached()
    clock.is_patience_over = False
    gate.is_open.set()
    assert stuck.result().order is not None
    late = pool.submit(manager.execute, booking("late"))
    clock.wait_until_waiting(1)
    clock.giving_up.is_open.set()
    assert isinstance(gone.exception(), StorageUnavailable)
    assert late.result().order is not None
    assert [order.user_id for order in manager.state_of("concert").orders_by_arrival()] == ["stuck", "late"]


def test_an_answer_that_comes_while_giving_up_is_taken(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Better late than unknown."""
    first, second = Gate(), Gate()
    clock.giving_up = Gate()
    ledger.appends = [first, second]
    leader = pool.submit(manager.execute, booking("first"))
    first.wait_until_reached()
    follower = pool.submit(manager.execute, booking("follower"))
    clock.wait_until_waiting(1)
    youngest = pool.submit(manager.execute, booking("youngest"))
    clock.wait_until_waiting(1)
    first.is_open.set()
    second.wait_until_reached()
    clock.end_patience()
    clock.giving_up.wait_until_reached()
    second.is_open.set()
    assert youngest.result().order is not None
    clock.giving_up.is_open.set()
    assert leader.result().order is not None
    assert follower.result().order is not None


# The unknown.


def test_after_a_lost_answer_the_ledger_is_read_before_the_next_decision(
    manager: TicketManager, ledger: LossyLedger
) -> None:
    """The booking that nobody knew of is there: the user has an order, and it is not made twice."""
    ledger.appends = [LostAnswer()]
    with pytest.raises(StorageUnavailable):
        manager.execute(booking("ada"))
    attempts = ledger.attempts
    with pytest.raises(AlreadyBooked):
        manager.execute(booking("ada"))
    assert ledger.attempts == attempts
    assert manager.state_of("concert").booked_tickets == 1


def test_a_repeat_with_the_same_key_after_a_lost_answer_gets_the_answer(
    manager: TicketManager, ledger: LossyLedger
) -> None:
    """This is what 503 asks the client to do. From then on nobody needs to look for the key elsewhere."""
    ledger.appends = [LostAnswer()]
    with pytest.raises(StorageUnavailable):
        manager.execute(booking("ada", request=request("key")))
    answer = manager.execute(booking("ada", request=request("key")))
    assert answer.replayed
    assert answer.order is not None
    assert answer.order.version == 2
    lookups = ledger.key_lookups
    assert manager.execute(booking("ada", request=request("key"))).replayed
    assert ledger.key_lookups == lookups


def test_a_commit_that_really_failed_leaves_no_trace(manager: TicketManager, ledger: LossyLedger) -> None:
    """The state that was decided on the way is dropped."""
    ledger.appends = [StorageUnavailable()]
    with pytest.raises(StorageUnavailable):
        manager.execute(booking("ada"))
    assert manager.state_of("concert").booked_tickets == 0
    assert manager.execute(booking("ada")).order is not None


def test_who_decided_on_stale_knowledge_decides_again(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock
) -> None:
    """Two workers in turn: each loses the compare-and-set, catches up, and answers what is true then."""
    other = TicketManager(ledger, clock)
    manager.execute(opening("small", total_tickets=1))
    assert other.state_of("small").available_tickets == 1
    manager.execute(booking("ada", "small"))
    answer = other.execute(booking("bob", "small"))
    assert answer.waiting_position == 1
    promoted = manager.execute(cancellation("ada", "small")).promoted
    assert [order.user_id for order in promoted] == ["bob"]
    assert_nothing_is_left_behind(other)


def test_a_taken_place_that_cannot_be_seen_yet_is_waited_for(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock
) -> None:
    """The compare-and-set is lost, and a majority shows the winner only at the third look."""
    other = TicketManager(ledger, clock)
    other.state_of("concert")
    manager.execute(booking("ada"))
    ledger.hidden_reads = 2
    attempts = ledger.attempts
    with pytest.raises(AlreadyBooked):
        other.execute(booking("ada"))
    assert ledger.attempts == attempts + 1
    assert other.execute(booking("bob")).order is not None


def test_a_taken_place_that_nobody_ever_sees_ends_at_the_deadline(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock
) -> None:
    """The compare-and-set is lost, and no majority shows to whom: unavailable, and well again afterwards."""
    other = TicketManager(ledger, clock, deadline_s=0.05)
    other.state_of("concert")
    manager.execute(booking("ada"))
    ledger.hidden_reads = 1_000_000
    with pytest.raises(StorageUnavailable):
        other.execute(booking("bob"))
    ledger.hidden_reads = 0
    assert other.state_of("concert").booked_tickets == 1
    assert_nothing_is_left_behind(other)


@pytest.mark.parametrize("gets_out_of_step", [True, False], ids=["as it is", "control"])
def test_who_is_far_from_the_ledger_does_not_lose_every_race(
    gets_out_of_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In step with a rival who commits as often as one can read and write, it would lose until its deadline."""
    random.seed(1)
    if not gets_out_of_step:
        monkeypatch.setattr(TicketManager, "_get_out_of_step", lambda *_: None)
    clock = SteppedClock()
    ledger = FarLedger(clock, rival_every_s=0.8)
    manager = TicketManager(ledger, clock)
    if gets_out_of_step:
        assert manager.execute(booking("ada")).order is not None
        assert ledger.attempts > 2, "there was no race"
    else:
        with pytest.raises(StorageUnavailable):
            manager.execute(booking("ada"))


def test_a_read_sees_what_another_worker_was_told(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock
) -> None:
    """Also a refusal and an answer without effect rest on what is current."""
    other = TicketManager(ledger, clock)
    other.state_of("concert")
    manager.execute(booking("ada"))
    assert other.state_of("concert").booked_tickets == 1
    manager.execute(cancellation("ada"))
    assert other.execute(booking("ada")).order is not None


# Keys of other events.


def test_a_key_belongs_to_the_event_that_it_was_used_for(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock
) -> None:
    """On every worker, also on one that never touched the other event."""
    manager.execute(opening("opera"))
    manager.execute(booking("ada", request=request("key")))
    other = TicketManager(ledger, clock)
    with pytest.raises(IdempotencyKeyReused):
        other.execute(booking("ada", "opera", request=request("key")))
    assert other.state_of("opera").booked_tickets == 0
    assert other.execute(booking("ada", request=request("key"))).replayed


def test_a_key_that_is_reused_harms_nobody_else_in_its_batch(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """One is refused, the others are booked, with keys of their own and without."""
    manager.execute(opening("opera"))
    manager.execute(booking("ada", request=request("key")))
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("first", "opera"))
    gate.wait_until_reached()
    batch = []
    for user_id, key in (("ada", request("key")), ("bob", request("other key")), ("cyd", None)):
        batch.append(pool.submit(manager.execute, booking(user_id, "opera", request=key)))
        clock.wait_until_waiting(1)
    gate.is_open.set()
    first.result()
    assert isinstance(batch[0].exception(), IdempotencyKeyReused)
    assert [part.result().order is not None for part in batch[1:]] == [True, True]


# Too many, and mistakes.


def test_more_than_may_wait_are_refused_before_anything_is_tried(
    ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """Three may wait for this event; the fourth is told to come back. Another event is not affected."""
    manager = TicketManager(ledger, clock, queue_length_max=3)
    manager.execute(opening())
    manager.execute(opening("opera"))
    gate = Gate()
    ledger.appends = [gate]
    stuck = pool.submit(manager.execute, booking("stuck"))
    gate.wait_until_reached()
    waiting = [pool.submit(manager.execute, booking(f"user {number}")) for number in range(3)]
    clock.wait_until_waiting(3)
    with pytest.raises(Overloaded):
        manager.execute(booking("one too many"))
    with pytest.raises(Overloaded):
        manager.state_of("concert")
    assert manager.execute(booking("ada", "opera")).order is not None
    gate.is_open.set()
    assert all(part.result().order is not None for part in [stuck, *waiting])
    assert manager.execute(booking("one too many")).order is not None
    assert_nothing_is_left_behind(manager)


class Mistake(Exception):
    """What nobody expected."""


@pytest.mark.parametrize(
    ("mistake", "others"), [(Mistake(), Mistake), (SystemExit(1), StorageUnavailable)], ids=["error", "exit"]
)
def test_an_unexpected_exception_answers_everyone(
    manager: TicketManager,
    ledger: LossyLedger,
    clock: WatchedClock,
    pool: ThreadPoolExecutor,
    mistake: BaseException,
    others: type[Exception],
) -> None:
    """An error reaches the whole batch; an exit ends its own thread, and for the others it is unknown."""
    gate = Gate()
    ledger.appends = [gate, mistake]
    first = pool.submit(manager.execute, booking("first"))
    gate.wait_until_reached()
    batch = []
    for number in range(4):
        batch.append(pool.submit(manager.execute, booking(f"user {number}")))
        clock.wait_until_waiting(1)
    gate.is_open.set()
    assert first.result().order is not None
    assert [type(part.exception()) for part in batch] == [others] * 3 + [type(mistake)]
    assert manager.execute(booking("next")).order is not None


def test_an_unknown_event_leaves_nothing_behind(manager: TicketManager) -> None:
    """Asking for thousands of events that do not exist costs no memory."""
    for number in range(50):
        with pytest.raises(EventNotFound):
            manager.state_of(f"event-{number}")
        with pytest.raises(EventNotFound):
            manager.execute(booking("ada", f"event-{number}"))
    assert_nothing_is_left_behind(manager)


# A damaged ledger.


def test_a_hole_stops_its_event_and_no_other(mongod: str, database: Database[dict[str, Any]]) -> None:
    """A document removed under the service: this event is damaged for every worker, the others are served."""
    clock = SystemClock()
    with connect(mongod) as client:
        real = Ledger(ledger_collection(client[database.name]), clock)
        manager, fresh = TicketManager(real, clock), TicketManager(real, clock)
        for event_id in ("concert", "opera"):
            manager.execute(opening(event_id))
            for user_id in ("ada", "bob", "cyd"):
                manager.execute(booking(user_id, event_id))
        database["ledger"].delete_one({"_id": "concert:000000000003"})
        for _ in range(2):
            with pytest.raises(LedgerDamaged, match="concert"):
                fresh.state_of("concert")
            with pytest.raises(LedgerDamaged):
                fresh.execute(booking("dan"))
            with pytest.raises(LedgerDamaged):
                fresh.execute(opening())
        assert fresh.execute(booking("dan", "opera")).order is not None
        assert_nothing_is_left_behind(fresh)
        assert "concert" not in fresh._queues  # what was read of it takes no memory
    assert database["ledger"].count_documents({"event_id": "concert"}) == 3


def test_a_damage_is_remembered_for_a_while() -> None:
    """Its event is refused without reading all of the ledger again; the other events are served meanwhile."""
    ledger, clock = damaged_ledger(), SteppedClock()
    manager = TicketManager(ledger, clock)
    with pytest.raises(LedgerDamaged):
        manager.state_of("concert")
    reads = len(ledger.reads)
    clock.passed_s += DAMAGE_REMEMBERED_S - 0.1
    for _ in range(3):
        with pytest.raises(LedgerDamaged, match="concert") as caught:
            manager.execute(booking("dan"))
        assert "follows 0" in caught.value.finding
    assert len(ledger.reads) == reads, "the ledger was read again"
    manager.execute(opening("opera"))
    assert manager.execute(booking("dan", "opera")).order is not None
    clock.passed_s += 0.1
    reads = len(ledger.reads)
    with pytest.raises(LedgerDamaged):
        manager.execute(booking("dan"))
    assert len(ledger.reads) > reads, "nobody looked again"
    assert_nothing_is_left_behind(manager)


def test_a_repaired_ledger_is_served_again() -> None:
    """Nobody needs to restart anything."""
    ledger, clock = damaged_ledger(), SteppedClock()
    manager = TicketManager(ledger, clock)
    with pytest.raises(LedgerDamaged):
        manager.state_of("concert")
    ledger.commits["concert"].insert(0, ledger.lost)
    clock.passed_s += DAMAGE_REMEMBERED_S
    assert manager.state_of("concert").booked_tickets == 1
    assert manager.execute(booking("bob")).order is not None
    assert manager._damage == {}


@pytest.mark.parametrize("is_damaged", [True, False])
def test_damage_that_somebody_else_has_met(is_damaged: bool) -> None:
    """Behind what the worker has in memory: nothing rests on that any more. A ledger that is sound is served."""
    ledger = MemoryLedger()
    manager = TicketManager(ledger, SteppedClock())
    manager.execute(opening())
    manager.execute(booking("ada"))
    if is_damaged:
        ledger.commits["concert"].pop(0)
    manager.doubt(LedgerDamaged("concert", "somebody has seen it"))
    manager.doubt(LedgerDamaged("another", "which is not in memory"))
    ledger.reads.clear()
    if is_damaged:
        with pytest.raises(LedgerDamaged):
            manager.execute(booking("ben"))
    else:
        assert manager.execute(booking("ben")).order is not None
    assert ledger.reads == [("concert", 0)], "once is enough"
    assert_nothing_is_left_behind(manager)


def test_damage_that_somebody_else_has_met_while_the_event_is_at_work(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """The commit under way goes its way; whoever leads next begins anew, though the queue is never empty."""
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("ada"))
    gate.wait_until_reached()
    second = pool.submit(manager.execute, booking("ben"))
    clock.wait_until_waiting(1)
    manager.doubt(LedgerDamaged("concert", "somebody has seen it"))
    ledger.reads.clear()
    gate.is_open.set()
    assert first.result().order is not None and second.result().order is not None
    assert ledger.reads == [("concert", 0)]
    assert_nothing_is_left_behind(manager)


def test_who_waits_while_a_damage_is_found_is_refused_with_it(
    clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """One look answers all: they do not read the whole ledger one after the other."""
    ledger, gate = damaged_ledger(), Gate()
    manager = TicketManager(ledger, clock)
    ledger.before_read = gate
    first = pool.submit(manager.state_of, "concert")
    gate.wait_until_reached()
    others = [pool.submit(manager.execute, booking(f"user {number}")) for number in range(5)]
    clock.wait_until_waiting(5)
    gate.is_open.set()
    assert isinstance(first.exception(), LedgerDamaged)
    assert all(isinstance(other.exception(), LedgerDamaged) for other in others)
    assert len(ledger.reads) == 2, "more than one of them has read the ledger"
    assert_nothing_is_left_behind(manager)


def test_a_damage_that_is_remembered_says_nothing_about_the_storage() -> None:
    """Refused from memory while the storage is away: the others are not let in because of it."""
    ledger, clock = damaged_ledger(), SteppedClock()
    manager = TicketManager(ledger, clock)
    manager.execute(opening("opera"))
    with pytest.raises(LedgerDamaged):
        manager.state_of("concert")
    ledger.appends = [StorageUnavailable(), StorageUnavailable()]
    for user in ("the first to meet it", "the probe"):
        with pytest.raises(StorageUnavailable):
            manager.execute(booking(user, "opera"))
    attempts = ledger.attempts
    with pytest.raises(LedgerDamaged):
        manager.state_of("concert")
    with pytest.raises(StorageUnavailable):
        manager.execute(booking("ada", "opera"))
    assert ledger.attempts == attempts, "somebody tried who should have been told at once"


def test_a_state_that_contradicts_the_ledger_is_dropped_for_the_ledgers(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock
) -> None:
    """Restored from a backup under a running worker: it reads the event anew, and serves what is there."""
    manager.execute(booking("ada"))
    restored = LossyLedger()
    other = TicketManager(restored, clock)
    other.execute(opening())
    other.execute(booking("bob"))
    other.execute(cancellation("bob"))
    ledger.commits = restored.commits
    assert [order.user_id for order in manager.state_of("concert").orders_by_arrival()] == ["bob"]
    assert manager.execute(booking("ada")).order is not None


def test_a_hole_is_not_filled_by_who_opens_the_event_again(
    manager: TicketManager,
    ledger: LossyLedger,
    clock: WatchedClock,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first commit is lost while the event is served, and somebody waits to initialize it: refused."""
    monkeypatch.setattr("ticketing.manager.DAMAGE_REMEMBERED_S", 0.0)
    manager.execute(booking("ada"))
    gate = Gate()
    ledger.appends = [gate]
    first = pool.submit(manager.execute, booking("bob"))
    gate.wait_until_reached()
    opener = pool.submit(manager.execute, opening())
    clock.wait_until_waiting(1)
    # Bob's place is taken by the same booking once more, so he will look, and read all of it again.
    beginning, (booked,) = ledger.commits["concert"]
    ledger.commits["concert"] = [[booked], [booked._replace(version=3)]]
    gate.is_open.set()
    assert isinstance(first.exception(), LedgerDamaged)
    assert isinstance(opener.exception(), LedgerDamaged)
    ledger.commits["concert"] = [beginning, [booked]]
    with pytest.raises(EventExists):
        manager.execute(opening())


def test_while_the_storage_is_away_one_request_a_second_tries_it() -> None:
    """After a failure one request tries the storage, the others are told at once; the first success lets all in."""
    ledger, clock = MemoryLedger(), SteppedClock()
    manager = TicketManager(ledger, clock)
    manager.execute(opening())
    ledger.appends = [StorageUnavailable(), StorageUnavailable()]
    for user in ("the first to meet it", "the probe"):
        with pytest.raises(StorageUnavailable):
            manager.execute(booking(user))
    for number in range(20):
        with pytest.raises(StorageUnavailable):
            manager.execute(booking(f"user {number}"))
    assert ledger.attempts == 3, "somebody tried who should have been told at once"
    clock.passed_s += PROBE_EVERY_S
    assert manager.execute(booking("the next probe")).order is not None
    assert manager.execute(booking("all are let in again")).order is not None


def test_a_probe_has_less_time_than_another_request() -> None:
    """Who waited for a thread while the storage went away is still answered in time."""
    ledger, clock = MemoryLedger(), SteppedClock()
    deadlines: list[float] = []
    append = ledger.append

    def noting(state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        deadlines.append(deadline - clock.monotonic())
        return append(state, transitions, deadline)

    ledger.append = noting  # type: ignore[method-assign]
    manager = TicketManager(ledger, clock, deadline_s=6.0)
    manager.execute(opening())
    ledger.appends = [StorageUnavailable()]
    with pytest.raises(StorageUnavailable):
        manager.execute(booking("ada"))
    manager.execute(booking("ben"))
    assert deadlines == [6.0, 6.0, PROBE_DEADLINE_S]


def test_who_has_little_time_does_not_say_that_the_storage_is_away() -> None:
    """It may be sound, and slower than that. Two more try it before the others are told at once."""
    ledger, clock = MemoryLedger(), SteppedClock()
    manager = TicketManager(ledger, clock)
    manager.execute(opening())
    ledger.appends = [StorageUnavailable()] * 3
    with pytest.raises(StorageUnavailable):
        manager.execute(booking("in a hurry"), within_s=0.5)
    for user in ("the first to meet it", "the probe", "told at once"):
        with pytest.raises(StorageUnavailable):
            manager.execute(booking(user))
    assert ledger.attempts == 4


def test_the_lead_goes_to_who_has_the_most_time(
    manager: TicketManager, ledger: LossyLedger, clock: WatchedClock, pool: ThreadPoolExecutor
) -> None:
    """The youngest may have little left: it was on its way for long. All are decided in the order of their arrival."""
    gate, left_s = Gate(), list[float]()
    append = ledger.append

    def noting(state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        left_s.append(deadline - clock.monotonic())
        return append(state, transitions, deadline)

    ledger.append = noting  # type: ignore[method-assign]
    ledger.appends = [gate]
    pool.submit(manager.execute, booking("stuck"))
    gate.wait_until_reached()
    waiting = []
    for user, within_s in (("first", 3.0), ("patient", 6.0), ("youngest", 1.0)):
        waiting.append(pool.submit(manager.execute, booking(user), within_s=within_s))
        clock.wait_until_waiting(1)
    gate.is_open.set()
    assert all(each.result().order is not None for each in waiting)
    assert left_s[1] > 3.0
    arrived = [order.user_id for order in manager.state_of("concert").orders_by_arrival()]
    assert arrived == ["stuck", "first", "patient", "youngest"]


class DamagedLedger(MemoryLedger):
    """A ledger from which a commit was lost, and in front of whose reads there may be a gate."""

    lost: list[Transition]
    before_read: Gate | None = None

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
        if self.before_read is not None:
            self.before_read.pass_through()
        return super().read(event_id, after, deadline)


def damaged_ledger() -> DamagedLedger:
    """The event `concert` with one booking, and without its first commit, which is kept in `lost`."""
    ledger = DamagedLedger()
    manager = TicketManager(ledger, SystemClock())
    manager.execute(opening())
    manager.execute(booking("ada"))
    ledger.lost = ledger.commits["concert"].pop(0)
    ledger.reads.clear()
    return ledger


class SteppedClock(SystemClock):
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


class FarLedger(MemoryLedger):
    """0.2 s away in each direction; a rival who is near commits every `rival_every_s`."""

    def __init__(self, clock: SteppedClock, rival_every_s: float) -> None:
        super().__init__()
        near = MemoryLedger()
        near.commits = self.commits
        self._clock = clock
        self._rival = TicketManager(near, clock)
        self._rival.execute(opening())
        self._rival_every_s = rival_every_s
        self._rival_at_s = rival_every_s / 2

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        self._travel(deadline)
        is_in = super().append(state, transitions, deadline)
        self._travel(deadline)
        return is_in

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
        self._travel(deadline)
        page = list(super().read(event_id, after, deadline))
        self._travel(deadline)
        yield from page

    def _travel(self, deadline: float) -> None:
        self._clock.passed_s += 0.2
        if self._clock.passed_s > deadline:
            raise StorageUnavailable
        while self._rival_at_s <= self._clock.passed_s:
            self._rival.execute(booking(f"user at {self._rival_at_s}"))
            self._rival_at_s += self._rival_every_s
