"""What is measured: what is sent to which events, and how those are made ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from .prepare import prepare, prepare_many

USUAL_CONNECTIONS = 32
MANY = 1_000
PLENTY = 10_000_000
WAITING = 100_000
CANCELLED_PER_S_MAX = 4_000
"""So many orders are prepared for each second of a run that cancels. A run that is faster finds none, and fails."""

Prepare = Callable[[Database[dict[str, Any]], str, float], None]
"""(database, event id, seconds): make the event ready for so many seconds."""


@dataclass(frozen=True)
class Place:
    """A service to measure on. A `name` of its own is for what others should not be charged with: its memory."""

    workers: int = 2
    name: str = ""


@dataclass(frozen=True)
class Subject:
    """Something to be measured. `kind` is one of load.lua's.

    `many` follows the event's id in what load.lua is told: so many events, and by which law. `is_kept`: all runs have
    the same event. `connections`: the numbers that it is measured with, unless told. `is_usual`: measured unless told.
    `place`: where.
    """

    title: str
    kind: str
    prepare: Prepare
    many: str = ""
    is_kept: bool = False
    connections: tuple[int, ...] = (USUAL_CONNECTIONS,)
    is_usual: bool = True
    place: Place = Place()

    def event_ids(self, event_id: str) -> list[str]:
        """The events of a run that was given this id."""
        if not self.many:
            return [event_id]
        return [f"{event_id}-{number}" for number in range(int(self.many[1:]))]


def with_orders(confirmed: int = 0, waiting: int = 0, total_tickets: int = PLENTY) -> Prepare:
    """One event with so many orders."""
    return lambda database, event_id, seconds: prepare(database, event_id, total_tickets, confirmed, waiting)


def events(count: int) -> Prepare:
    """Many events without orders."""
    return lambda database, event_id, seconds: prepare_many(
        database, [f"{event_id}-{number}" for number in range(count)], PLENTY
    )


def with_orders_to_cancel(share: float) -> Prepare:
    """One event, sold out, with somebody who waits for each order; `share` of all requests cancel one."""

    def ready(database: Database[dict[str, Any]], event_id: str, seconds: float) -> None:
        count = int(seconds * CANCELLED_PER_S_MAX * share)
        prepare(database, event_id, count, confirmed=count, waiting=count)

    return ready


ALL = (1, 8, USUAL_CONNECTIONS, 64, 256)

SUBJECTS = {
    "book": Subject("book, one hot event", "book", with_orders(), connections=ALL),
    "sold-out": Subject("book, one event, sold out", "book", with_orders(1, total_tickets=1), connections=ALL),
    "book-1000": Subject("book, 1,000 events", "book", events(MANY), f"*{MANY}", is_kept=True, connections=ALL),
    "book-zipf": Subject(
        "book, 1,000 events by Zipf's law", "book", events(MANY), f"~{MANY}", is_kept=True, connections=ALL
    ),
    "status": Subject("status, while nobody writes", "status", with_orders(1_000), is_kept=True, connections=ALL),
    "status-busy": Subject(
        "status, while others book (a tenth)", "look_while_others_book", with_orders(1_000), connections=ALL
    ),
    "position": Subject(
        "place in a line of 100,000",
        "position",
        with_orders(1, WAITING, total_tickets=1),
        is_kept=True,
        connections=ALL,
    ),
    "cancel": Subject(
        "cancel with promotion, Basic auth", "cancel", with_orders_to_cancel(1.0), connections=ALL
    ),
    "mix": Subject("70 % status, 25 % book, 5 % cancel", "mix", with_orders_to_cancel(0.1), connections=ALL),
    **{
        f"book-{orders}-orders": Subject(
            f"book, an event of {orders:,} orders",
            "book",
            with_orders(orders),
            is_kept=True,
            is_usual=False,
            place=Place(name=f"{orders} orders"),
        )
        for orders in (1_000, 100_000, 1_000_000)
    },
    **{
        f"book-{count}-events": Subject(
            f"book, {count:,} events", "book", events(count), f"*{count}", is_kept=True, is_usual=False
        )
        for count in (1, 100, 10_000)
    },
    **{
        f"book-{workers}-workers": Subject(
            f"book, one hot event, WEB_CONCURRENCY={workers}",
            "book",
            with_orders(),
            is_usual=False,
            place=Place(workers),
        )
        for workers in (1, 4)
    },
}
