"""Ledgers made for a run: written as the service would have written them, only faster."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from pymongo.database import Database

from ticketing.domain.model import MAX_TICKETS_PER_ORDER, OrderStatus, Transition, TransitionType
from ticketing.storage.checksums import with_checksum
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import ledger_collection

AT = datetime(2027, 1, 1, tzinfo=UTC)
COMMIT = 10
COMMITS_AT_ONCE = 1_000


def prepare(
    database: Database[dict[str, Any]], event_id: str, total_tickets: int, confirmed: int = 0, waiting: int = 0
) -> None:
    """The ledger of an event with orders of one ticket: first those confirmed, then those who wait.

    The order number n, from 1 on, is that of `user-n`, and its id ends in n.
    """
    statuses = [OrderStatus.CONFIRMED] * confirmed + [OrderStatus.WAITING] * waiting
    transitions = iter((opening(total_tickets), *orders(event_id, statuses)))
    commits = iter(lambda: list(islice(transitions, COMMIT)), [])
    documents = (with_checksum(commit_document(event_id, commit, random.randbytes(16))) for commit in commits)
    while page := list(islice(documents, COMMITS_AT_ONCE)):
        ledger_collection(database).insert_many(page)


def prepare_many(database: Database[dict[str, Any]], event_ids: Iterable[str], total_tickets: int) -> None:
    """The ledgers of events without orders."""
    ledger_collection(database).insert_many(
        with_checksum(commit_document(event_id, [opening(total_tickets)], random.randbytes(16)))
        for event_id in event_ids
    )


def opening(total_tickets: int) -> Transition:
    """The first transition of an event."""
    event = {"name": "Concert", "total_tickets": total_tickets, "max_tickets_per_order": MAX_TICKETS_PER_ORDER}
    return Transition(1, TransitionType.INITIALIZED, AT, "admin", event)


def orders(event_id: str, statuses: Iterable[OrderStatus]) -> Iterator[Transition]:
    """The transitions that make these orders, without credentials."""
    for number, status in enumerate(statuses, 1):
        kind = TransitionType.BOOKED if status is OrderStatus.CONFIRMED else TransitionType.WAITLISTED
        order_id = f"{event_id}.{number:022d}"
        change = {"order_id": order_id, "user_id": f"user-{number}", "quantity": 1, "status": status}
        yield Transition(number + 1, kind, AT, orders=(change,))  # type: ignore[arg-type]
