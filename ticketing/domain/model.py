"""What there is: an event, its orders, the transitions in its ledger, and the state folded from them.

Everything here is immutable. A state is shared by all threads that read it, and a decision that did not make
it into the ledger is dropped without a trace. What comes with each transition is a named tuple, for there are
hundreds of thousands of them and a tuple is made three times as fast as a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from heapq import merge
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

from ..errors import Refusal
from .ranked import RankedSet
from .table import Table
from .tickets import FREE, GENERAL, Stock, TicketType

MAX_TICKETS_PER_ORDER = 10


class OrderStatus(StrEnum):
    """The life of an order: confirmed or waiting at first; waiting may become confirmed; cancelled is final."""

    __hash__ = str.__hash__  # Enum's own is written in Python, and a fold looks up each order's

    CONFIRMED = "confirmed"
    WAITING = "waiting"
    CANCELLED = "cancelled"


class EventStatus(StrEnum):
    """Whether a booking made now could be confirmed, and if not, why."""

    SCHEDULED = "scheduled"  # sales have not begun
    ON_SALE = "on_sale"
    SOLD_OUT = "sold_out"
    SALES_CLOSED = "sales_closed"
    ENDED = "ended"
    CANCELLED = "cancelled"


class TransitionType(StrEnum):
    """What a transition did. `remembered`: nothing but keep an answer for its Idempotency-Key; `pseudonymized`: a
    user was erased, and this alone gives orders to another name."""

    __hash__ = str.__hash__  # as above

    INITIALIZED = "initialized"
    BOOKED = "booked"
    WAITLISTED = "waitlisted"
    BULK_BOOKED = "bulk_booked"
    CANCELLED = "cancelled"  # an order, or a part of its tickets
    TRANSFERRED = "transferred"
    PROMOTED = "promoted"  # sales opened again by the clock, and the line moves up
    UPDATED = "updated"
    EVENT_CANCELLED = "event_cancelled"
    REMEMBERED = "remembered"
    PSEUDONYMIZED = "pseudonymized"


@dataclass(frozen=True, slots=True)
class Event:
    """The concert: what its organizer said about it. Tickets are counted, not seated.

    Tickets are sold from `sales_open_at` until `sales_close_at` or `ends_at`, whichever is first; None is no bound.
    They change hands until `transfer_close_at`, or until the event starts.
    `organizer` is who opened it with credentials: an organizer runs his own events only.
    """

    event_id: str
    name: str
    ticket_types: tuple[TicketType, ...]
    max_tickets_per_order: int
    created_at: datetime
    max_tickets_per_user: int | None = None
    venue: str | None = None
    description: str | None = None
    timezone: str | None = None  # of the venue, an IANA name, for people: all times here are UTC
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    sales_open_at: datetime | None = None
    sales_close_at: datetime | None = None
    transfer_close_at: datetime | None = None
    cancelled_at: datetime | None = None
    organizer: str | None = None

    @property
    def total_tickets(self) -> int:
        """All tickets, of all types."""
        return sum(ticket_type.total_tickets for ticket_type in self.ticket_types)

    @property
    def is_plain(self) -> bool:
        """Whether there is one type, free, and nothing to say about it but the number of its tickets."""
        return len(self.ticket_types) == 1 and self.ticket_types[0].is_plain

    def ticket_type(self, code: str) -> TicketType | None:
        """The type with this code."""
        return next((ticket_type for ticket_type in self.ticket_types if ticket_type.code == code), None)

    def sales_have_begun(self, at: datetime) -> bool:
        """Whether the time to book had come at `at`."""
        return self.sales_open_at is None or self.sales_open_at <= at

    def sales_are_over(self, at: datetime) -> bool:
        """Whether nobody could book any more at `at`, for whatever reason."""
        ends = (self.sales_close_at, self.ends_at)
        return self.cancelled_at is not None or any(end is not None and end <= at for end in ends)

    def transfers_are_over(self, at: datetime) -> bool:
        """Whether tickets could no longer change hands at `at`."""
        end = self.transfer_close_at or self.starts_at
        return end is not None and end <= at

    def is_on_sale(self, at: datetime) -> bool:
        """Whether tickets were sold at `at`, as far as there were any."""
        return self.sales_have_begun(at) and not self.sales_are_over(at)

    def status_at(self, at: datetime, available_tickets: int) -> EventStatus:
        """What a booking made at `at` would meet, with so many tickets to be had."""
        if self.cancelled_at is not None:
            return EventStatus.CANCELLED
        if self.ends_at is not None and self.ends_at <= at:
            return EventStatus.ENDED
        if self.sales_are_over(at):
            return EventStatus.SALES_CLOSED
        if not self.sales_have_begun(at):
            return EventStatus.SCHEDULED
        return EventStatus.ON_SALE if available_tickets else EventStatus.SOLD_OUT


class Order(NamedTuple):
    """`quantity` tickets of one type of one user for one event; all of them are confirmed, or none.

    `number` is the order's place in the order of arrival (1, 2, 3, …) and never changes. `version` is that of
    the transition which changed the order last. `is_authenticated`: it was booked with credentials, by its user or by
    staff; else its `user_id` is no more than what somebody has typed. `unit_price` and `currency` are those of the
    moment at which it was booked.
    """

    order_id: str
    event_id: str
    user_id: str
    quantity: int
    status: OrderStatus
    number: int
    created_at: datetime
    updated_at: datetime
    version: int
    is_authenticated: bool = False
    ticket_type: str = GENERAL
    unit_price: Decimal = FREE
    currency: str | None = None

    @property
    def total_price(self) -> Decimal:
        """Of all its tickets."""
        return self.unit_price * self.quantity

    @property
    def is_active(self) -> bool:
        """Holds tickets or waits for them."""
        return self.status is not OrderStatus.CANCELLED


class OrderChange(TypedDict, total=False):
    """What a transition sets on one order: all fields of a new order, the changed one of an older order.

    Type and price stand only where the tickets are not general and free.
    `transferred_from` is the id of the order that a new one has its tickets from.
    """

    order_id: str
    user_id: str
    quantity: int
    status: OrderStatus
    ticket_type: str
    unit_price: Decimal
    currency: str
    transferred_from: str


class RequestKey(NamedTuple):
    """An Idempotency-Key and what it was used for.

    `key` is a digest of caller, method, path and the header (16 bytes), `fingerprint` one of the request's
    body (16 bytes).
    """

    key: bytes
    fingerprint: bytes


class Transition(NamedTuple):
    """One change of one event. `version` counts them: 1, 2, 3, … without gaps.

    `at` is for people, never for ordering. `by` is the authenticated user, if any. `event` holds the fields of the
    event that are set (none of them: it is remembered as it is), `orders` the changes of orders in the order in which
    they happened. `sales_closed`: decided while nothing was sold, so that nobody moved up. `refused` are the bookings
    of a bulk that were refused, each with its place among all of them, counted from 0.
    """

    version: int
    type: TransitionType
    at: datetime
    by: str | None = None
    event: dict[str, Any] | None = None
    orders: tuple[OrderChange, ...] = ()
    request: RequestKey | None = None
    refusal: Refusal | None = None
    sales_closed: bool = False
    refused: tuple[tuple[int, Refusal], ...] = ()


class Answer(NamedTuple):
    """What a command led to, as it was at that moment; a repeat with the same key gets the same one.

    Exactly one of `order` (of an order's command), `event` (of an event's), `bulk` (an answer for each booking) and
    `refusal` is set. `sender` is the order that a transfer took the tickets of `order` from.
    """

    order: Order | None = None
    waiting_position: int | None = None
    promoted: tuple[Order, ...] = ()
    event: EventState | None = None
    refusal: Refusal | None = None
    sender: Order | None = None
    bulk: tuple[Answer, ...] = ()
    replayed: bool = False


class Remembered(NamedTuple):
    """The answer that an Idempotency-Key got, and the fingerprint of the request that got it."""

    fingerprint: bytes
    answer: Answer


class EventState(NamedTuple):
    """One event at one version, folded from its ledger.

    Orders are kept by number; `numbers` finds the number of an order id, `active` that of a user's one active
    order. `booked` and `lines` hold, by ticket type, how many tickets are booked and the numbers of those who wait,
    first come first.
    """

    event_id: str
    version: int = 0
    event: Event | None = None
    updated_at: datetime | None = None
    booked: Mapping[str, int] = MappingProxyType({})
    lines: Mapping[str, RankedSet] = MappingProxyType({})
    orders: Table[int, Order] = Table()
    numbers: Table[str, int] = Table()
    active: Table[str, int] = Table()
    keys: Table[bytes, Remembered] = Table()

    @property
    def stocks(self) -> list[Stock]:
        """What is left of each ticket type, in the organizer's order; nothing before the event is initialized."""
        types = self.event.ticket_types if self.event else ()
        return [Stock(each, self.booked[each.code], self.lines[each.code]) for each in types]

    def stock(self, code: str) -> Stock:
        """What is left of one ticket type. Raises KeyError for none of this event."""
        for stock in self.stocks:
            if stock.ticket_type.code == code:
                return stock
        raise KeyError(code)

    @property
    def total_tickets(self) -> int:
        """All tickets of the event; 0 before it is initialized."""
        return self.event.total_tickets if self.event else 0

    @property
    def booked_tickets(self) -> int:
        """Tickets of confirmed orders."""
        return sum(self.booked.values())

    @property
    def available_tickets(self) -> int:
        """What new bookings could get now, of all types."""
        return sum(stock.available_tickets for stock in self.stocks)

    @property
    def held_tickets(self) -> int:
        """Free tickets that belong to the waiting lists."""
        return sum(stock.held_tickets for stock in self.stocks)

    @property
    def waiting_list_count(self) -> int:
        """Orders that wait."""
        return sum(len(line) for line in self.lines.values())

    def status_at(self, at: datetime) -> EventStatus:
        """What a booking made at `at` would meet. Raises ValueError before the event is initialized."""
        if self.event is None:
            raise ValueError(f"the event {self.event_id!r} is not initialized")
        return self.event.status_at(at, self.available_tickets)

    @property
    def weight(self) -> int:
        """The memory that the state takes, counted in orders."""
        return 1 + len(self.orders) + len(self.keys)

    def order(self, order_id: str) -> Order | None:
        """The order with this id, whatever its status."""
        number = self.numbers.get(order_id)
        return None if number is None else self.orders[number]

    def active_order_of(self, user_id: str) -> Order | None:
        """The one order of this user that is confirmed or waits."""
        number = self.active.get(user_id)
        return None if number is None else self.orders[number]

    def waiting_position(self, order: Order) -> int | None:
        """1 for the first in line for its ticket type; None for an order that does not wait."""
        is_waiting = order.status is OrderStatus.WAITING
        return self.lines[order.ticket_type].rank(order.number) if is_waiting else None

    def waiting_orders(self, after: int = 0) -> Iterator[Order]:
        """Those who wait for any type, first come first, from the first whose number is greater than `after`."""
        return (self.orders[number] for number in merge(*(line.after(after) for line in self.lines.values())))

    def orders_by_arrival(self, after: int = 0) -> Iterator[Order]:
        """All orders, cancelled ones too, from the first whose number is greater than `after`."""
        return (self.orders[number] for number in range(after + 1, len(self.orders) + 1))
