"""Two workers, 32 connections, one event: what clients were told is what the ledger says, whoever is killed."""

from __future__ import annotations

import random
import signal
import time

from tests.service.running import eventually, kill

from .conftest import (
    Start,
    broken_promises,
    embedded_uri,
    gunicorn_workers,
    mongod_of,
    new_load,
    new_watch,
)
from .load import Load

TICKETS = 150
KILLS = 6
KILL_EVERY_S = 1.0


def test_two_workers_serve_one_event_as_one(start_service: Start) -> None:
    """Over HTTP, through two workers: exact, fair, and no read goes back."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    watch = new_watch(service, embedded_uri(service))
    with load.running():
        load.wait_for_answers(1_200)
    assert broken_promises(load, embedded_uri(service)) == []
    assert {attempt.outcome for attempt in load.attempts} >= {"confirmed", "waiting", "cancelled", "read"}
    assert _unanswered(load) == set()
    assert watch.leaks() == []


def test_killed_workers_lose_nothing(start_service: Start) -> None:
    """SIGKILL of a random worker each second: each answered booking is there once, and new workers go on."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    watch = new_watch(service, embedded_uri(service))
    with load.running():
        load.wait_for_answers(300)
        for number in range(KILLS):
            kill(random.Random(number).choice(gunicorn_workers(service)))
            next_at_s = time.monotonic() + KILL_EVERY_S
            # More than were under way: whoever is left has answered them, or whoever came.
            load.wait_for_answers(40)
            time.sleep(max(0.0, next_at_s - time.monotonic()))
        load.wait_for_answers(300)
    assert broken_promises(load, embedded_uri(service)) == []
    assert any(attempt.returned is None for attempt in load.attempts), "no request met a kill"
    assert watch.leaks() == []


def test_a_killed_mongod_comes_back_and_nothing_is_lost(start_service: Start) -> None:
    """SIGKILL of the embedded mongod under load, twice: 503 at most, then everything goes on."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    watch = new_watch(service, embedded_uri(service))
    with load.running():
        for _ in range(2):
            load.wait_for_answers(200)
            kill(mongod_of(service))
            load.wait_for_answers(200)
    assert broken_promises(load, embedded_uri(service)) == []
    assert watch.leaks() == []


def test_stopping_under_load_cuts_nobody_off(start_service: Start) -> None:
    """SIGTERM: each request that found a connection is answered, as the ledger says, and nothing is left running."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    with load.running():
        load.wait_for_answers(300)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        load.stop()
    assert service.processes() == []
    assert _unanswered(load) == {"turned away"}
    service.start().wait_until_serving(times=2)
    assert broken_promises(load, embedded_uri(service)) == []


def test_reloading_under_load_cuts_nobody_off(start_service: Start) -> None:
    """SIGHUP: new workers take over, and no client can tell."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    with load.running():
        for _ in range(2):
            load.wait_for_answers(150)
            before = gunicorn_workers(service)
            service.signal(signal.SIGHUP)
            eventually(lambda: not set(before) & set(gunicorn_workers(service)))  # noqa: B023
        load.wait_for_answers(150)
    assert _unanswered(load) == set()
    assert broken_promises(load, embedded_uri(service)) == []


def _unanswered(load: Load) -> set[str]:
    """What became of the requests without an answer."""
    return {attempt.outcome for attempt in load.attempts if attempt.returned is None}
