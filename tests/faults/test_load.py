"""The clients of the load tests notice what no service may do to them. Clients that notice nothing prove nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.service.running import eventually

from . import load
from .checker import violations
from .conftest import CREDENTIALS, unanswered
from .history import History
from .load import LONGEST_S, Load

PATIENCE_S = 0.2  # of these clients


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
    thread = threading.Thread(target=_cut_all, args=(listener,))
    thread.start()
    clients = _ask_until(listener, lambda clients: bool(unanswered(clients)))
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert "cut off" in unanswered(clients)


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


def _ask_until(listener: socket.socket, is_enough: Callable[[Load], bool], connections: int = 4) -> Load:
    """What clients of a listener have seen, who went on until it was enough."""
    clients = Load(f"http://127.0.0.1:{listener.getsockname()[1]}", CREDENTIALS, "hot", connections=connections)
    with clients.running():
        eventually(lambda: is_enough(clients))
    return clients


def _cut_all(listener: socket.socket) -> None:
    """Take a request of each, and close the connection."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # the test has ended
        with client:
            client.recv(1)


def _violations(clients: Load) -> list[str]:
    return violations(History(clients.attempts, [], LONGEST_S))
