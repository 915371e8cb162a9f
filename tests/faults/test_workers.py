"""Two workers, 32 connections, one event: what clients were told is what the ledger says, whoever is killed."""

from __future__ import annotations

import random
import signal

from tests.service.running import Service, children_of, eventually, kill

from .checker import violations
from .conftest import Start, embedded_uri, new_load
from .load import Load

TICKETS = 150
DATABASE = "ticketing"


def test_two_workers_serve_one_event_as_one(start_service: Start) -> None:
    """Over HTTP, through two workers: exact, fair, and no read goes back."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    with load.running():
        eventually(lambda: load.answered >= 1_200)
    assert violations(load.history(embedded_uri(service), DATABASE)) == []
    assert {attempt.outcome for attempt in load.attempts} >= {"confirmed", "waiting", "cancelled", "read"}
    assert _unanswered(load) == set()


def test_killed_workers_lose_nothing(start_service: Start) -> None:
    """SIGKILL of a random worker, ten times: each answered booking is there once, and new workers go on."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    with load.running():
        for number in range(10):
            _wait_for_answers(load, 80)
            kill(random.Random(number).choice(_workers(service)))
        _wait_for_answers(load, 300)
    assert violations(load.history(embedded_uri(service), DATABASE)) == []
    assert any(attempt.returned is None for attempt in load.attempts), "no request met a kill"


def test_a_killed_mongod_comes_back_and_nothing_is_lost(start_service: Start) -> None:
    """SIGKILL of the embedded mongod under load, twice: 503 at most, then everything goes on."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    with load.running():
        for _ in range(2):
            _wait_for_answers(load, 200)
            kill(_mongod(service))
            _wait_for_answers(load, 200)
    assert violations(load.history(embedded_uri(service), DATABASE)) == []


def test_stopping_under_load_cuts_nobody_off(start_service: Start) -> None:
    """SIGTERM: each request that found a connection is answered, as the ledger says, and nothing is left running."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    with load.running():
        _wait_for_answers(load, 300)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
        load.stop()
    assert service.processes() == []
    assert _unanswered(load) == {"turned away"}
    service.start().wait_until_serving(times=2)
    assert violations(load.history(embedded_uri(service), DATABASE)) == []


def test_reloading_under_load_cuts_nobody_off(start_service: Start) -> None:
    """SIGHUP: new workers take over, and no client can tell."""
    service = start_service()
    load = new_load(service)
    load.initialize(TICKETS)
    with load.running():
        for _ in range(2):
            _wait_for_answers(load, 150)
            before = _workers(service)
            service.signal(signal.SIGHUP)
            eventually(lambda: not set(before) & set(_workers(service)))  # noqa: B023
        _wait_for_answers(load, 150)
    assert _unanswered(load) == set()
    assert violations(load.history(embedded_uri(service), DATABASE)) == []


def _wait_for_answers(load: Load, more: int) -> None:
    enough = load.answered + more
    eventually(lambda: load.answered >= enough)


def _unanswered(load: Load) -> set[str]:
    """What became of the requests without an answer."""
    return {attempt.outcome for attempt in load.attempts if attempt.returned is None}


def _gunicorn(service: Service) -> int:
    return next(pid for pid in children_of(service.pid) if _program(pid) != "mongod")


def _mongod(service: Service) -> int:
    return eventually(
        lambda: next((pid for pid in children_of(service.pid) if _program(pid) == "mongod"), None) or 0
    )


def _workers(service: Service) -> list[int]:
    return eventually(lambda: children_of(_gunicorn(service)))


def _program(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
