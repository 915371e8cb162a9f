"""Two workers, 32 connections, one event: what clients were told is what the ledger says, whoever is killed."""

from __future__ import annotations

import signal

import pytest

from tests.service.running import kill

from .conftest import (
    Start,
    broken_promises,
    embedded_uri,
    gunicorn_of,
    kill_workers,
    mongod_of,
    new_load,
    new_watch,
    reload_workers,
    unanswered,
)

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

TICKETS = 150


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
    assert unanswered(load) == set()
    assert watch.leaks() == []


def test_killed_workers_lose_nothing(start_service: Start) -> None:
    """SIGKILL of a random worker each second: each answered booking is there once, and new workers go on."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    watch = new_watch(service, embedded_uri(service))
    with load.running():
        load.wait_for_answers(300)
        kill_workers(service, load)
        load.wait_for_answers(300)
    assert broken_promises(load, embedded_uri(service)) == []
    assert unanswered(load) == {"cut off"}, "no request met a kill, or somebody was turned away"
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
    assert unanswered(load) == set()
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
    assert unanswered(load) == {"turned away"}
    service.start().wait_until_serving(times=2)
    assert broken_promises(load, embedded_uri(service)) == []


def test_reloading_under_load_cuts_nobody_off(start_service: Start) -> None:
    """SIGHUP, to the supervisor and to gunicorn itself, which runs alone in production: new workers take over, no
    client can tell, and nothing of the old ones is left."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    watch = new_watch(service, embedded_uri(service))
    with load.running():
        for told in (service.pid, gunicorn_of(service)):
            load.wait_for_answers(150)
            reload_workers(service, told)
        load.wait_for_answers(150)
    assert unanswered(load) == set()
    assert broken_promises(load, embedded_uri(service)) == []
    assert watch.leaks() == []
