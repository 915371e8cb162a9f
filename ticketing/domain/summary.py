"""What an event is after a commit, in a few numbers: for lists of events, which must not fold ledgers.

A ledger's truth is its transitions. A summary is written with them, so that who lists ten thousand events need not read
them all; the fold passes it by, and `ledger verify` counts it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from .fold import LedgerContradiction, fold
from .model import Event, EventState, EventStatus, Transition
from .tickets import TicketType


class Summary(NamedTuple):
    """Tickets booked, tickets that a new booking could get, orders that wait: after the last transition of a commit.

    `updated_at` is the time of the last transition that was more than a memory for an Idempotency-Key.
    """

    booked: int
    available: int
    waiting: int
    updated_at: datetime


def summary_of(state: EventState) -> Summary:
    """The summary of an event that is initialized. Raises ValueError for another."""
    if state.updated_at is None:
        raise ValueError(f"the event {state.event_id!r} is not initialized")
    return Summary(state.booked_tickets, state.available_tickets, state.waiting_list_count, state.updated_at)


def event_of(event_id: str, transitions: Iterable[Transition]) -> Event:
    """The details of an event, from those of its transitions that set any, in their order; the others may be left out.

    Raises `LedgerContradiction`.
    """
    setting = [transition for transition in transitions if transition.event is not None]
    alone = [
        transition._replace(version=number, orders=(), request=None, refusal=None)
        for number, transition in enumerate(setting, start=1)
    ]
    event = fold(EventState(event_id), alone).event
    if event is None:
        raise LedgerContradiction(f"event {event_id!r} is not initialized")
    return event


class Offer(NamedTuple):
    """A ticket type, without what is left of it."""

    ticket_type: TicketType


@dataclass(frozen=True, slots=True)
class SummarizedEvent:
    """An event as far as its summary goes: what there is to see of an `EventState`, but for its orders."""

    event: Event
    version: int
    summary: Summary

    @property
    def event_id(self) -> str:
        return self.event.event_id

    @property
    def updated_at(self) -> datetime:
        return self.summary.updated_at

    @property
    def stocks(self) -> list[Offer]:
        return [Offer(ticket_type) for ticket_type in self.event.ticket_types]

    @property
    def total_tickets(self) -> int:
        return self.event.total_tickets

    @property
    def booked_tickets(self) -> int:
        return self.summary.booked

    @property
    def available_tickets(self) -> int:
        return self.summary.available

    @property
    def held_tickets(self) -> int:
        return self.total_tickets - self.summary.booked - self.summary.available

    @property
    def waiting_list_count(self) -> int:
        return self.summary.waiting

    def status_at(self, at: datetime) -> EventStatus:
        """What a booking made at `at` would meet."""
        return self.event.status_at(at, self.available_tickets)
