"""The clients of the load tests notice what no service may do to them. Clients that notice nothing prove nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import httpx
import pytest

from tests.service.running import DEADLINE_S, eventually

from . import load
from .checker import violations
from .conftest import CREDENTIALS, unanswered
from .history import Attempt, History
from .load import LONGEST_S, Load, _note

PATIENCE_S = 0.2  # of these clients
HELD_S = 0.2  # how long one of them is left waiting before it is cut off


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for 15 s here."""
    monkeypatch.setattr(load, "CLIENT_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A service that accepts nobody: the kernel lets one client in, and a second one on some systems."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as listener:
        yield listener


def test_a_connection_that_is_cut_is_noticed(listener: socket.socket) -> None:
    """A worker that dies with a request leaves it without an answer."""
    with _cutting_all(listener):
        clients = _ask_until(listener, lambda clients: bool(unanswered(clients)))
    assert "cut off" in unanswered(clients)
    assert not any("no answer within" in violation for violation in _violations(clients))


def test_a_connection_that_is_cut_late_is_a_violation(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that hangs, and ends before its clients lose their patience: they have waited all the same."""
    monkeypatch.setattr(load, "CLIENT_TIMEOUT_S", DEADLINE_S)
    with _cutting_all(listener, after_s=HELD_S):
        clients = _ask_until(listener, lambda clients: bool(unanswered(clients)), connections=1)
    assert unanswered(clients) == {"cut off"}
    late = [violation for violation in _violations(clients, longest_s=HELD_S / 2) if "no answer within" in violation]
    assert len(late) == len(clients.attempts)


def test_who_is_turned_away_has_waited_for_that() -> None:
    """Nobody listens there. In time is no violation."""
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        clients = _ask_until(nobody, lambda clients: bool(unanswered(clients)), connections=1)
    assert unanswered(clients) == {"turned away"}
    assert len(_violations(clients, longest_s=0.0)) == len(clients.attempts)
    assert _violations(clients) == []


def test_a_request_without_an_answer_is_a_violation(listener: socket.socket) -> None:
    """A worker that hangs: the connection stands, and nothing comes."""
    clients = _ask_until(listener, lambda clients: any(each.returned for each in clients.attempts), connections=1)
    assert any("error:no answer" in violation for violation in _violations(clients))


def test_a_connection_that_is_not_made_is_a_violation(listener: socket.socket) -> None:
    """A service that accepts nobody for so long that a client gives up."""
    with closing(socket.socket()) as first, closing(socket.socket()) as second:
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        clients = _ask_until(listener, lambda clients: any(each.returned for each in clients.attempts))
    assert any("error:no answer" in violation for violation in _violations(clients))


@pytest.mark.parametrize(
    ("code", "headers", "outcome"),
    [
        ("storage_unavailable", {"Retry-After": "1"}, "unavailable"),
        ("overloaded", {"Retry-After": "1"}, "unavailable"),
        ("storage_unavailable", {}, "error:503 without Retry-After"),
        ("ledger_damaged", {"Retry-After": "60"}, "error:ledger_damaged"),
    ],
)
def test_not_every_503_is_the_storage_or_the_load(code: str, headers: dict[str, str], outcome: str) -> None:
    """Under load and faults a ledger is never damaged: who says so has made a mistake."""
    attempt = Attempt("client", "book", "hot", {}, None, 1, 0.0)
    _note(attempt, httpx.Response(503, json={"code": code}, headers=headers))
    assert attempt.outcome == outcome


def test_a_refusal_of_many_names_those_that_were_refused() -> None:
    """Those that failed with the others were not refused themselves."""
    errors = ["failed_dependency", "not_enough_tickets", "failed_dependency", "already_booked"]
    body = {"code": "bulk_refused", "results": [{"status": 409, "error": {"code": code}} for code in errors]}
    attempt = Attempt("client", "bulk", "hot", {}, None, 1, 0.0)
    _note(attempt, httpx.Response(409, json=body))
    assert attempt.told["refused"] == [
        {"index": 1, "code": "not_enough_tickets"},
        {"index": 3, "code": "already_booked"},
    ]


def _ask_until(listener: socket.socket, is_enough: Callable[[Load], bool], connections: int = 4) -> Load:
    """What clients of a listener have seen, who went on until it was enough."""
    clients = Load(f"http://127.0.0.1:{listener.getsockname()[1]}", CREDENTIALS, "hot", connections=connections)
    with clients.running():
        eventually(lambda: is_enough(clients))
    return clients


@contextmanager
def _cutting_all(listener: socket.socket, after_s: float = 0.0) -> Iterator[None]:
    """Take a request of each, and close the connection when it has waited."""
    has_ended = threading.Event()

    def cut_all() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # the test has ended
            with client:
                client.recv(1)
                has_ended.wait(after_s)

    thread = threading.Thread(target=cut_all)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _violations(clients: Load, longest_s: float = LONGEST_S) -> list[str]:
    return violations(History(clients.attempts, [], longest_s))
