"""Workers of one host take turns, and leave each other copies of what they commit: fewer races for the next place in a
ledger, and fewer looks into it; and nothing rests on either."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.domain.rehearsal import observed
from ticketing import turns as module
from ticketing.clock import SystemClock
from ticketing.domain.fold import LedgerContradiction
from ticketing.domain.model import Transition
from ticketing.errors import AlreadyBooked, StorageUnavailable
from ticketing.manager import TicketManager
from ticketing.turns import PATIENCE_S, SharedTurns, share, shared_turns

from .stage import PATIENCE_S as LONG_S
from .stage import CopyingLedger, LostAnswer, MemoryLedger, booking, cancellation, opening

FORK = multiprocessing.get_context("fork")


class PatientClock(SystemClock):
    """Time passes only where somebody sleeps; what happens then is for the test to say."""

    def __init__(self) -> None:
        self.slept_s = 0.0
        self.on_sleep: Any = lambda: None

    def monotonic(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.on_sleep()


@pytest.fixture
def clock() -> PatientClock:
    return PatientClock()


@pytest.fixture
def turns(clock: PatientClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedTurns]:
    """Turns that a process forked from this one shares."""
    monkeypatch.setattr(module, "_shared", None)
    share()
    ours = module._shared
    share()  # once is enough
    assert module._shared is ours and ours is not None
    shared = shared_turns(clock)
    assert isinstance(shared, SharedTurns)
    yield shared
    for each in ours:
        each.close()


class Neighbour:
    """Another process that has its turn at "concert", and leaves the event at version 7."""

    def __init__(self, turns: SharedTurns) -> None:
        self._has_turn, self._may_end = FORK.Event(), FORK.Event()
        self._process = FORK.Process(target=self._work, args=(turns,))
        self._process.start()
        assert self._has_turn.wait(LONG_S)

    def _work(self, turns: SharedTurns) -> None:
        with turns.turn("concert") as turn:
            self._has_turn.set()
            self._may_end.wait(LONG_S)
            turn.version = 7
        os._exit(0)  # nothing of pytest's in this process

    def end(self) -> None:
        """Let it end its turn, and wait for that."""
        self._may_end.set()
        self._process.join(LONG_S)

    def kill(self) -> None:
        """In the middle of its turn."""
        self._process.kill()
        self._process.join(LONG_S)


def test_a_turn_is_waited_for(turns: SharedTurns, clock: PatientClock) -> None:
    """It comes when the neighbour has had its own, with the version that was left."""
    neighbour = Neighbour(turns)
    clock.on_sleep = neighbour.end
    with turns.turn("concert") as turn:
        assert turn.version == 7
        assert 0 < clock.slept_s < PATIENCE_S
        turn.version = 9
    with turns.turn("concert") as turn:
        assert turn.version == 9


def test_another_event_is_not(turns: SharedTurns, clock: PatientClock) -> None:
    """And no more is known of it."""
    neighbour = Neighbour(turns)
    with turns.turn("another") as turn:
        assert (turn.version, clock.slept_s) == (0, 0.0)
    neighbour.end()


def test_the_dead_have_no_turn(turns: SharedTurns, clock: PatientClock) -> None:
    """The kernel gives back what a process had that was killed."""
    neighbour = Neighbour(turns)
    clock.on_sleep = neighbour.kill
    with turns.turn("concert") as turn:
        assert turn.version == 0
        assert 0 < clock.slept_s < PATIENCE_S


def test_patience_ends(turns: SharedTurns, clock: PatientClock) -> None:
    """A neighbour that is stopped holds nobody up for long: bookings go on without a turn."""
    ledger = MemoryLedger()
    manager = TicketManager(ledger, clock, turns=turns)
    manager.execute(opening())
    neighbour = Neighbour(turns)
    manager.execute(booking("ada"))
    assert PATIENCE_S <= clock.slept_s < 2 * PATIENCE_S
    neighbour.end()


def test_who_knows_that_he_is_behind_does_not_try(turns: SharedTurns, clock: PatientClock) -> None:
    """Two workers book in turns. None of their commits is in vain; without the turns every other one is."""
    for shared, lost in ((turns, 0), (None, 9)):
        ledger = MemoryLedger()
        workers = [TicketManager(ledger, clock, turns=shared) for _ in range(2)]
        workers[0].execute(opening())
        for number in range(20):
            workers[number % 2].execute(booking(f"user {number}"))
        assert ledger.attempts - len(ledger.commits["concert"]) >= lost
        assert shared is None or ledger.attempts == len(ledger.commits["concert"])


def test_a_read_needs_no_turn(turns: SharedTurns, clock: PatientClock) -> None:
    """Whoever only looks waits for nobody."""
    manager = TicketManager(MemoryLedger(), clock, turns=turns)
    manager.execute(opening())
    neighbour = Neighbour(turns)
    manager.state_of("concert")
    assert clock.slept_s == 0.0
    neighbour.end()


def test_without_a_master_there_are_none(monkeypatch: pytest.MonkeyPatch, clock: PatientClock) -> None:
    """A process alone shares nothing, and waits for nobody."""
    monkeypatch.setattr(module, "_shared", None)
    with shared_turns(clock).turn("concert") as turn:
        assert turn.version == 0


# Copies of commits.


class Host:
    """Two workers that take turns and leave copies, of an event that both know, at version 2."""

    def __init__(self, turns: SharedTurns, clock: PatientClock, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        self.one, self.other = (TicketManager(ledger, clock, turns=turns) for _ in range(2))
        self.elsewhere = TicketManager(ledger, clock)  # a worker of another host, which needs no turn of this one
        self.one.execute(opening())
        self.other.execute(booking("the first"))
        self.elsewhere.state_of("concert")
        self.one.state_of("concert")
        ledger.reads.clear()

    def book_elsewhere(self, user_id: str) -> None:
        """Through another host: no copy is left here."""
        assert isinstance(self.ledger, CopyingLedger)
        self.ledger.copies_to_lose = 1
        self.elsewhere.execute(booking(user_id))
        assert self.ledger.copies_to_lose == 0
        self.ledger.reads.clear()


@pytest.fixture
def host(turns: SharedTurns, clock: PatientClock) -> Host:
    return Host(turns, clock, CopyingLedger())


def copies_of(host: Host) -> CopyingLedger:
    """Its ledger, which leaves copies."""
    assert isinstance(host.ledger, CopyingLedger)
    return host.ledger


def users(ledger: MemoryLedger) -> list[str]:
    """Whose bookings are in the ledger, in order."""
    parts = [part for commit in ledger.commits["concert"] for part in commit]
    return [change["user_id"] for part in parts for change in part.orders if "user_id" in change]


def test_who_has_copies_need_not_read(turns: SharedTurns, clock: PatientClock) -> None:
    """Two workers book in turns, and read nothing after the first touch; without copies each reads each time."""
    for ledger, reads in ((CopyingLedger(), 0), (MemoryLedger(), 20)):
        host = Host(turns, clock, ledger)
        attempts = ledger.attempts
        names = [f"user {number}" for number in range(20)]
        for number, name in enumerate(names):
            (host.one, host.other)[number % 2].execute(booking(name))
        assert users(ledger) == ["the first", *names]
        assert ledger.attempts == attempts + 20, "a commit was tried in vain"
        assert reads - 1 <= len(ledger.reads) <= reads


def test_who_meets_an_event_reads_it(turns: SharedTurns, clock: PatientClock, host: Host) -> None:
    """Though there are copies of all that has ever happened to it."""
    late = TicketManager(host.ledger, clock, turns=turns)
    late.execute(booking("ada"))
    assert host.ledger.reads == [("concert", 0)]
    assert users(host.ledger) == ["the first", "ada"]


def test_where_a_copy_is_missing_the_ledger_is_read(host: Host) -> None:
    """Nothing is lost, nothing is tried in vain, and from there on copies do again."""
    copies_of(host).copies_to_lose = 1
    host.one.execute(booking("ada"))
    host.one.execute(booking("ben"))
    attempts = host.ledger.attempts
    host.other.execute(booking("cleo"))
    assert host.ledger.reads == [("concert", 2)]
    for manager, name in ((host.one, "dan"), (host.other, "eve")):
        manager.execute(booking(name))
    assert host.ledger.reads == [("concert", 2)]
    assert host.ledger.attempts == attempts + 3
    assert users(host.ledger) == ["the first", "ada", "ben", "cleo", "dan", "eve"]


def test_copies_that_do_not_lead_far_enough(host: Host) -> None:
    """They are folded, and the rest is read: the note knows of more."""
    host.one.execute(booking("ada"))
    copies_of(host).copies_to_lose = 1
    host.one.execute(booking("ben"))
    attempts = host.ledger.attempts
    host.other.execute(booking("cleo"))
    assert (host.ledger.reads, host.ledger.attempts) == ([("concert", 3)], attempts + 1)


def test_what_another_host_has_written_is_found_by_the_race(host: Host) -> None:
    """Copies lead to what this host knows; the ledger says that its next place is taken, and is read."""
    host.one.execute(booking("ada"))
    host.book_elsewhere("ben")
    host.other.execute(booking("cleo"))
    assert host.ledger.reads == [("concert", 3)]
    assert users(host.ledger) == ["the first", "ada", "ben", "cleo"]


def of_a_user_with_an_order(copy: list[Transition]) -> list[Transition]:
    """The copy of another booking: whoever has an order gets a second one."""
    (part,) = copy
    return [part._replace(orders=({**part.orders[0], "user_id": "the first"},))]


def out_of_turn(copy: list[Transition]) -> list[Transition]:
    """The copy of a later version."""
    return [copy[0]._replace(version=9)]


@pytest.mark.parametrize("spoilt", [of_a_user_with_an_order, out_of_turn])
def test_a_copy_that_contradicts_the_state_is_not_believed(host: Host, spoilt: Any) -> None:
    """The ledger is read, which is sound: no error, and nothing of the copy stays."""
    host.one.execute(booking("ada"))
    known = host.one.state_of("concert")
    ledger = copies_of(host)
    ledger.recent = lambda event_id, after: spoilt(ledger.copies["concert"][-1])  # type: ignore[method-assign]
    ledger.reads.clear()
    host.other.execute(booking("ben"))
    assert ledger.reads == [("concert", 2)]
    assert users(ledger) == ["the first", "ada", "ben"]
    state = host.other.state_of("concert")
    assert state.orders[2] == known.orders[2]
    assert observed(state) == observed(host.one.state_of("concert"))


def test_copies_that_cannot_be_read_are_not_missed(host: Host) -> None:
    """Whatever is wrong with them, the ledger is read."""
    host.one.execute(booking("ada"))

    def refuse(event_id: str, after: int) -> list[Transition]:
        raise LedgerContradiction("no commit after concert:000000000002")

    host.ledger.recent = refuse  # type: ignore[method-assign]
    host.other.execute(booking("ben"))
    assert host.ledger.reads == [("concert", 2)]
    assert users(host.ledger) == ["the first", "ada", "ben"]


def test_after_a_commit_with_an_unknown_end_the_ledger_is_read(host: Host) -> None:
    """Copies are not even looked for, though they would lead on: the worker's own commit may be in."""
    ledger = copies_of(host)
    ledger.appends = [LostAnswer()]
    with pytest.raises(StorageUnavailable):
        host.one.execute(booking("ada"))
    host.other.execute(booking("ben"))
    ledger.copies["concert"].insert(-1, ledger.commits["concert"][-2])
    assert len(ledger.recent("concert", 2)) == 2
    ledger.looks.clear()
    ledger.reads.clear()
    with pytest.raises(AlreadyBooked):
        host.one.execute(booking("ada"))
    assert ledger.reads[0] == ("concert", 2)
    assert ledger.looks == []
    assert users(ledger) == ["the first", "ada", "ben"]


@pytest.fixture
def believing_copies(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """For controls: the workers of this host take copies for all that there is."""

    def only_copies(event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
        yield host.ledger.recent(event_id, after)

    monkeypatch.setattr(host.ledger, "read", only_copies)


def look_after_another_host(host: Host) -> int:
    """The version that a worker sees when another one of its host has booked, and then one of another host."""
    host.other.execute(booking("ada"))
    host.book_elsewhere("ben")
    assert len(host.ledger.recent("concert", 2)) == 1, "there is no copy to be misled by"
    return host.one.state_of("concert").version


def test_who_looks_asks_the_ledger(host: Host) -> None:
    """Copies are there, and other hosts leave none: a read rests on the ledger."""
    assert look_after_another_host(host) == 4
    assert host.ledger.reads == [("concert", 2)]


@pytest.mark.usefixtures("believing_copies")
def test_who_looked_at_copies_would_miss_some(host: Host) -> None:
    """The control."""
    assert look_after_another_host(host) == 3


def book_what_was_cancelled_elsewhere(host: Host) -> None:
    """By the copies the user has an order, which was cancelled through another host."""
    host.other.execute(booking("ada"))
    copies_of(host).copies_to_lose = 1
    host.elsewhere.execute(cancellation("ada"))
    host.ledger.reads.clear()
    host.one.execute(booking("ada"))


def test_a_refusal_rests_on_the_ledger_too(host: Host) -> None:
    """What has led to it may have changed since the last copy."""
    book_what_was_cancelled_elsewhere(host)
    assert host.ledger.reads == [("concert", 3)]
    assert users(host.ledger) == ["the first", "ada", "ada"]


@pytest.mark.usefixtures("believing_copies")
def test_a_refusal_that_rested_on_copies_would_be_untrue(host: Host) -> None:
    """The control."""
    with pytest.raises(AlreadyBooked):
        book_what_was_cancelled_elsewhere(host)
