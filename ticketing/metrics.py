"""What Prometheus is told: requests and how long each took, bookings and commits, and the events that changed last.

Under gunicorn with our settings each worker counts in files of its own, in the folder that
`PROMETHEUS_MULTIPROC_DIR` names (`gunicorn_conf.py` sets it before this module is imported), and whoever is
asked adds up all of them. A file outlives its worker, so no counter goes back when a worker dies. Without that
variable an app counts for itself, in memory.

Every label has few values, whatever clients send: a rule instead of a path, and no method of their own making.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from flask import Flask, Response, current_app
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from .clock import Clock
from .current import asked, facts
from .domain.commands import Book, BookMany, Command
from .domain.model import Answer, EventState, OrderStatus
from .errors import LedgerDamaged, Overloaded, Refusal, StorageUnavailable, TicketingError
from .event_table import EventRow, EventTable
from .observer import Observer

EXTENSION = "ticketing.metrics"
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = "text/plain"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# A booking takes a few milliseconds, and no answer longer than 10 s.
DURATIONS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# A commit holds up to some 5,000 changes, and as many requests wait for one event as QUEUE_LENGTH_MAX says.
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)

BOOKED = (OrderStatus.CONFIRMED, OrderStatus.WAITING)
ALARMING = (StorageUnavailable, Overloaded, LedgerDamaged)


def init_metrics(app: Flask, clock: Clock) -> Observer:
    """Count each answer of `app`, and return what counts for its manager.

    Register it right after the request logging, whose time it takes: so it sees the answers of all later hooks too,
    and what they refuse is counted.
    """
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    registry = CollectorRegistry()
    requests = Counter(
        "ticketing_http_requests_total",
        "Requests that were answered.",
        ["method", "route", "status"],
        registry=registry,
    )
    durations = Histogram(
        "ticketing_http_request_duration_seconds",
        "How long requests took to be answered.",
        ["route"],
        buckets=DURATIONS_S,
        registry=registry,
    )
    table = EventTable(Path(folder) if folder else None)
    observer = CountingObserver(registry, table, clock)

    @cache  # to find them takes longer than to count; there are few
    def series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return requests.labels(method, route, str(status)), durations.labels(route)

    def count(response: Response) -> Response:
        request = asked()
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in METHODS else "other"
        answered, took = series(method, route, response.status_code)
        answered.inc()
        took.observe(clock.monotonic() - facts().request_begun_s)
        return response

    app.after_request(count)
    if folder:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(EventCollector(table))
    app.extensions[EXTENSION] = registry
    return observer


def exposition() -> Response:
    """What was counted so far, as Prometheus reads it."""
    return Response(generate_latest(current_app.extensions[EXTENSION]), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class CountingObserver(Observer):
    """Counts what a manager does."""

    def __init__(self, registry: CollectorRegistry, table: EventTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._bookings = Counter(
            "ticketing_bookings_total",
            "Bookings that were asked for: confirmed, waiting, replayed, or the code of the error.",
            ["outcome"],
            registry=registry,
        )
        self._bookings_with = cache(self._bookings.labels)  # to find one takes as long as to count
        for outcome in (*(status.value for status in BOOKED), *(error.code for error in ALARMING)):
            self._bookings_with(outcome)  # 0 from the start: a rate needs a value before the first one
        self._batch_requests = Histogram(
            "ticketing_batch_requests",
            "Requests for one event that had queued up and were answered together, reads among them.",
            buckets=BATCH_SIZES,
            registry=registry,
        )
        self._commit_transitions = Histogram(
            "ticketing_commit_transitions",
            "Transitions that were written as one commit.",
            buckets=BATCH_SIZES,
            registry=registry,
        )
        self._commit_duration = Histogram(
            "ticketing_commit_duration_seconds",
            "How long it took until a majority of MongoDB's nodes had a commit in the journal.",
            buckets=DURATIONS_S,
            registry=registry,
        )
        self._lost_races = Counter(
            "ticketing_lost_races_total",
            "Commits whose place in the ledger another worker had taken: the compare-and-set was lost.",
            registry=registry,
        )
        self._catch_ups = Counter(
            "ticketing_catch_ups_total",
            "How often a ledger was read for what is new.",
            registry=registry,
        )
        self._orders_kept = Gauge(
            "ticketing_state_orders",
            "Orders and keys that the living workers keep in memory.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._queued = Gauge(
            "ticketing_queued_requests",
            "Requests of the living workers that waited for their turn when a batch was last answered.",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def executed(self, command: Command, outcome: Answer | TicketingError) -> None:
        """Count bookings; each of many by itself, unless all were refused together."""
        if isinstance(command, Book | BookMany):
            for name in _outcomes(outcome):
                self._bookings_with(name).inc()

    def served(self, requests: int, orders_kept: int, waiting: int) -> None:
        """Once a batch."""
        self._batch_requests.observe(requests)
        self._orders_kept.set(orders_kept)
        self._queued.set(waiting)

    def appended(self, transitions: int, duration_s: float, is_in: bool) -> None:
        """Once a commit, or the try of one."""
        if not is_in:
            self._lost_races.inc()
            return
        self._commit_transitions.observe(transitions)
        self._commit_duration.observe(duration_s)

    def caught_up(self) -> None:
        """Once a look into the ledger."""
        self._catch_ups.inc()

    def changed(self, state: EventState) -> None:
        """Once a batch that changed something."""
        if state.event is not None:
            self._table.put(
                EventRow(
                    event_id=state.event_id,
                    version=state.version,
                    available_tickets=state.available_tickets,
                    booked_tickets=state.booked_tickets,
                    waiting_list_count=state.waiting_list_count,
                    changed_s=self._clock.monotonic(),
                )
            )


def _outcomes(outcome: Answer | TicketingError) -> list[str]:
    if isinstance(outcome, TicketingError):
        return ["replayed" if isinstance(outcome, Refusal) and outcome.replayed else outcome.code]
    answers = outcome.bulk or (outcome,)
    return ["replayed" if outcome.replayed else _name(answer) for answer in answers]


def _name(answer: Answer) -> str:
    if answer.refusal is not None:
        return answer.refusal.code
    assert answer.order is not None
    return answer.order.status.value


class EventCollector(Collector):
    """The events that changed last, as gauges."""

    def __init__(self, table: EventTable) -> None:
        self._table = table

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A family for each figure."""
        rows = self._table.rows()
        for field, name, meaning in (
            ("available_tickets", "ticketing_event_available_tickets", "What a new booking could get."),
            ("booked_tickets", "ticketing_event_booked_tickets", "Tickets that are booked."),
            ("waiting_list_count", "ticketing_event_waiting_orders", "Orders that wait."),
            ("version", "ticketing_event_version", "The number of the last transition."),
        ):
            family = GaugeMetricFamily(name, f"{meaning} Of the events that changed last.", labels=["event_id"])
            for row in rows:
                family.add_metric([row.event_id], getattr(row, field))
            yield family
