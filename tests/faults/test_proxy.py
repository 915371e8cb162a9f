"""Between the service and mongod a network that cuts, delays and swallows: what was answered is true all the same."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.database import Database

from tests.service.running import Service, eventually
from ticketing.clock import SystemClock
from ticketing.domain.commands import Book, Initialize
from ticketing.manager import TicketManager
from ticketing.storage.client import connect
from ticketing.storage.ledger import Ledger, ledger_collection

from .checker import violations
from .conftest import Start, broken_promises, new_load, new_watch, unanswered
from .history import Attempt, History
from .leaks import Watch
from .load import LONGEST_S, Load
from .proxy import Cut, Proxy
from .simulator.controls import AmbiguousMeansFailed
from .simulator.world import NothingWasDone

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

TICKETS = 150
CUTS = 3  # of each kind, in the commits alone
CUT_CHANCE = 0.2
DELAY_S = 0.2


@pytest.fixture
def proxy(mongod: str) -> Iterator[Proxy]:
    """A proxy before the suite's mongod."""
    with Proxy(mongod) as proxy:
        yield proxy


@pytest.fixture
def service(proxy: Proxy, database: Database[dict[str, Any]], start_service: Start) -> Service:
    """A service behind the proxy."""
    return start_service(MONGODB_URI=proxy.uri, MONGODB_DATABASE=database.name)


@pytest.fixture
def load(service: Service) -> Load:
    """Its clients."""
    clients = new_load(service)
    clients.initialize(TICKETS)
    return clients


@pytest.fixture
def watch(service: Service, load: Load, mongod: str) -> Watch:
    """What it holds before it has any trouble."""
    return new_watch(service, mongod)


def test_connections_that_are_cut_again_and_again(
    proxy: Proxy, load: Load, watch: Watch, mongod: str, database: Database[dict[str, Any]]
) -> None:
    """Before a request, before its answer and in the middle of it: no client notices more than a 503."""
    with load.running():
        load.wait_for_answers(150)
        with proxy.cutting(CUT_CHANCE):
            eventually(lambda: all(proxy.cuts[cut, "insert"] >= CUTS for cut in Cut))
        load.wait_for_answers(150)
    assert broken_promises(load, mongod, database.name) == []
    assert unanswered(load) == set()
    assert watch.leaks() == []


def test_a_long_way_to_mongod(
    proxy: Proxy, load: Load, watch: Watch, mongod: str, database: Database[dict[str, Any]]
) -> None:
    """200 ms in each direction: no answer comes before it can be known to be true, and all of them are."""
    with load.running():
        load.wait_for_answers(150)
        with proxy.delaying(DELAY_S):
            before, began = load.answered, len(load.attempts)
            eventually(lambda: load.answered >= before + 64)
            ended_s = time.monotonic()
    assert broken_promises(load, mongod, database.name) == []
    took_s = [
        attempt.returned_s - attempt.invoked_s
        for attempt in load.attempts[began:]
        if attempt.outcome != "unavailable" and attempt.returned_s is not None and attempt.returned_s < ended_s
    ]
    assert took_s
    assert min(took_s) >= 2 * DELAY_S, "an answer that did not ask mongod"
    assert unanswered(load) == set()
    assert watch.leaks() == []


def test_a_network_that_swallows_everything(
    proxy: Proxy, load: Load, watch: Watch, mongod: str, database: Database[dict[str, Any]]
) -> None:
    """Nothing arrives until clients are told 503; then what was under way lands late, and all is well again."""
    with load.running():
        load.wait_for_answers(150)
        before = load.unavailable
        with proxy.holding("insert"):
            eventually(lambda: load.unavailable >= before + 32)
        load.wait_for_answers(150)
    assert proxy.held["insert"], "no commit was under way"
    assert broken_promises(load, mongod, database.name) == []
    assert unanswered(load) == set()
    assert watch.leaks() == []


def test_a_commit_whose_answer_is_cut_off_is_found(proxy: Proxy, database: Database[dict[str, Any]]) -> None:
    """Each booking is answered, and stands in the ledger as answered."""
    history = _book_while_answers_are_cut(proxy, database, Ledger)
    assert violations(history) == []
    assert {attempt.outcome for attempt in history.attempts} == {"confirmed"}


def test_a_ledger_that_takes_silence_for_failure_is_noticed(
    proxy: Proxy, database: Database[dict[str, Any]]
) -> None:
    """The negative control: the same, but who hears nothing is told that nothing was done."""
    history = _book_while_answers_are_cut(proxy, database, AmbiguousMeansFailed)
    assert any("told that nothing was done" in violation for violation in violations(history))


def _book_while_answers_are_cut(
    proxy: Proxy, database: Database[dict[str, Any]], ledger_class: type[Ledger]
) -> History:
    """One booking after the other, until three of their commits went unheard."""
    clock, attempts = SystemClock(), list[Attempt]()
    with connect(proxy.uri) as client:
        manager = TicketManager(ledger_class(ledger_collection(client[database.name]), clock), clock)
        manager.execute(Initialize(event_id="hot", name="Event", total_tickets=TICKETS))
        with proxy.cutting(0.3, Cut.BEFORE_THE_ANSWER):
            for number in itertools.count():
                attempts.append(_book(manager, number))
                if proxy.cuts[Cut.BEFORE_THE_ANSWER, "insert"] >= 3:
                    break
    return History(attempts, list(database["ledger"].find().sort("_id", 1)), LONGEST_S)


def _book(manager: TicketManager, number: int) -> Attempt:
    asked: dict[str, Any] = {"user_id": f"user-{number}", "quantity": 1}
    attempt = Attempt("client", "book", "hot", asked, None, 2 * number, time.monotonic())
    attempt.new_order_ids = [f"hot.{number:022}"]
    try:
        answer = manager.execute(Book(event_id="hot", order_id=attempt.new_order_ids[0], **asked))
    except NothingWasDone:
        attempt.outcome = "failed"
    else:
        assert answer.order is not None
        attempt.outcome, attempt.order_id = answer.order.status.value, answer.order.order_id
        attempt.version = answer.order.version
    attempt.returned, attempt.returned_s = 2 * number + 1, time.monotonic()
    return attempt
