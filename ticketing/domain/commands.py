"""What can be asked of an event. A command carries all that deciding needs: new ids are drawn at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .model import MAX_TICKETS_PER_ORDER, RequestKey
from .tickets import TicketType

BULK_MAX = 500
"""Bookings of one `BookMany`. Where a ledger tells of more, it is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`by` is the authenticated user, if any; `request` the Idempotency-Key, if one was sent."""

    event_id: str
    by: str | None = None
    request: RequestKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialize(Command):
    """Open an event with these ticket types, or with `total_tickets` (>= 1) of one that is free.

    `details` are further fields of `model.Event`.
    """

    name: str
    total_tickets: int = 0
    ticket_types: tuple[TicketType, ...] = ()
    max_tickets_per_order: int = MAX_TICKETS_PER_ORDER
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Command):
    """Set fields of an event. `version`: refuse unless this is the event's; None: whatever it is.

    `ticket_types` among the fields are changes, each a dict with a `code` and what is to be set of that type. A type
    that is not named stays as it is, a code that is new makes a type. `total_tickets`, `price` and `currency` are for
    an event with one type.
    """

    fields: Mapping[str, Any]
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEvent(Command):
    """Sell no more tickets, for good. Orders stay what they are, and may be cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Book(Command):
    """Book `quantity` (>= 1) tickets, all or nothing; `order_id` is the new order's id.

    `ticket_type` is a code; None where the event has one type.
    """

    order_id: str
    user_id: str
    quantity: int = 1
    ticket_type: str | None = None


class Booking(NamedTuple):
    """One of many: as `Book`."""

    order_id: str
    user_id: str
    quantity: int = 1
    ticket_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookMany(Command):
    """Book one after the other, in one transition. `all_or_none`: all of them are confirmed, or nothing is done."""

    bookings: tuple[Booking, ...]
    all_or_none: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Command):
    """Cancel an order by its id, or the active order of a user. Exactly one of the two is given.

    `quantity` (>= 1): give back only so many of its tickets.
    """

    order_id: str | None = None
    user_id: str | None = None
    quantity: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Command):
    """Give `quantity` (>= 1) tickets of a confirmed order, or all, to a user; `new_order_id` is his order's id."""

    order_id: str
    new_order_id: str
    to_user_id: str
    quantity: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pseudonymize(Command):
    """Give all orders of a user to a pseudonym, and the event too where it is his. `by` must not be his name.

    The answer is the event; up to its version, whatever the name has here is the pseudonym's. A pseudonym that has
    orders here already is refused: with one more it might have two active ones.
    """

    user_id: str
    pseudonym: str
