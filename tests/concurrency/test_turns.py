"""Workers of one host take turns: fewer races for the next place in a ledger, and nothing rests on them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ticketing import turns as module
from ticketing.clock import SystemClock
from ticketing.manager import TicketManager
from ticketing.turns import PATIENCE_S, SharedTurns, share, shared_turns

from .stage import PATIENCE_S as LONG_S
from .stage import MemoryLedger, booking, opening

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
    file = module._shared
    share()  # once is enough
    assert module._shared is file and file is not None
    shared = shared_turns(clock)
    assert isinstance(shared, SharedTurns)
    yield shared
    file.close()


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
