"""Eight processes of sixteen threads on one event, and the same checker with the protection taken out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.database import Database

from ticketing.clock import SystemClock
from ticketing.domain.commands import Initialize
from ticketing.manager import TicketManager
from ticketing.storage.client import connect
from ticketing.storage.ledger import Ledger, ledger_collection
from ticketing.storage.schema import create_indexes_and_views

from .checker import broken_promises
from .crowd import Plan, send_crowd

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

EVENT_ID = "concert"
TICKETS = 500


@pytest.fixture
def ticketing(mongod: str, database: Database[dict[str, Any]]) -> Iterator[Database[dict[str, Any]]]:
    """A database with one event."""
    clock = SystemClock()
    with connect(mongod) as client:
        create_indexes_and_views(client[database.name])
        manager = TicketManager(Ledger(ledger_collection(client[database.name]), clock), clock)
        manager.execute(Initialize(event_id=EVENT_ID, name="Concert", total_tickets=TICKETS))
        yield client[database.name]


def test_a_crowd_of_workers_breaks_no_promise(mongod: str, ticketing: Database[dict[str, Any]]) -> None:
    """The ledger is audited clean, every answer equals it, and no read is older than what was told before it.

    And as long as anybody waits, exactly 500 tickets are booked, at every version.
    """
    plan = Plan(processes=8, threads=16, bookings=10, cancel_chance=0.4, read_chance=0.4, shared_user=True)
    seen = send_crowd(plan, mongod, ticketing.name, EVENT_ID)
    assert broken_promises(ticketing, EVENT_ID, seen) == []
    bookings = [s for s in seen if s.answer and s.answer.order and s.answer.order.status != "cancelled"]
    assert len(bookings) > 2 * TICKETS
    assert any(s.answer and s.answer.promoted for s in seen)
    assert any(s.error == "already_booked" for s in seen)
    (event,) = ticketing["events"].find()
    assert event["booked_tickets"] == TICKETS
    assert event["waiting_list_count"] > 0


def test_without_the_compare_and_set_the_event_is_oversold(
    mongod: str, ticketing: Database[dict[str, Any]]
) -> None:
    """The negative control: the checker sees what the compare-and-set prevents."""
    plan = Plan(processes=4, threads=16, bookings=12, compare_and_set=False)
    seen = send_crowd(plan, mongod, ticketing.name, EVENT_ID)
    confirmed = [s for s in seen if s.answer and s.answer.order and s.answer.order.status == "confirmed"]
    assert len(confirmed) > TICKETS
    assert any("oversold" in finding for finding in broken_promises(ticketing, EVENT_ID, seen))
