"""What there is: an event, its orders, the transitions in its ledger, and the state folded from them.

Everything here is immutable. A state is shared by all threads that read it, and a decision that did not make
it into the ledger is dropped without a trace. What comes with each transition is a named tuple, for there are
hundreds of thousands of them and a tuple is made three times as fast as a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict

from immutables import Map

from ..errors import Refusal
from .ranked import RankedSet

MAX_TICKETS_PER_ORDER = 10


class OrderStatus(StrEnum):
    """The life of an order: confirmed or waiting at first; waiting may become confirmed; cancelled is final."""

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

    INITIALIZED = "initialized"
    BOOKED = "booked"
    WAITLISTED = "waitlisted"
    CANCELLED = "cancelled"
    PROMOTED = "promoted"  # sales opened again by the clock, and the line moves up
    UPDATED = "updated"
    EVENT_CANCELLED = "event_cancelled"
    REMEMBERED = "remembered"
    PSEUDONYMIZED = "pseudonymized"


@dataclass(frozen=True, slots=True)
class Event:
    """The concert: what its organizer said about it. Tickets are counted, not seated.

    Tickets are sold from `sales_open_at` until `sales_close_at` or `ends_at`, whichever is first; None is no bound.
    `organizer` is who opened it with credentials: an organizer runs his own events only.
    """

    event_id: str
    name: str
    total_tickets: int
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
    cancelled_at: datetime | None = None
    organizer: str | None = None

    def sales_have_begun(self, at: datetime) -> bool:
        """Whether the time to book had come at `at`."""
        return self.sales_open_at is None or self.sales_open_at <= at

    def sales_are_over(self, at: datetime) -> bool:
        """Whether nobody could book any more at `at`, for whatever reason."""
        ends = (self.cancelled_at, self.sales_close_at, self.ends_at)
        return any(end is not None and end <= at for end in ends)

    def is_on_sale(self, at: datetime) -> bool:
        """Whether tickets were sold at `at`, as far as there were any."""
        return self.sales_have_begun(at) and not self.sales_are_over(at)


class Order(NamedTuple):
    """`quantity` tickets of one user for one event; all of them are confirmed, or none.

    `number` is the order's place in the order of arrival (1, 2, 3, …) and never changes. `version` is that of
    the transition which changed the order last. `is_authenticated`: it was booked with credentials, by its user or by
    staff; else its `user_id` is no more than what somebody has typed.
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

    @property
    def is_active(self) -> bool:
        """Holds tickets or waits for them."""
        return self.status is not OrderStatus.CANCELLED


class OrderChange(TypedDict, total=False):
    """What a transition sets on one order: all fields of a new order, the changed ones of an older order."""

    order_id: str
    user_id: str
    quantity: int
    status: OrderStatus


class RequestKey(NamedTuple):
    """An Idempotency-Key and what it was used for.

    `key` is a digest of caller, method, path and the header (16 bytes), `fingerprint` one of the request's
    body (16 bytes).
    """

    key: bytes
    fingerprint: bytes


class Transition(NamedTuple):
    """One change of one event. `version` counts them: 1, 2, 3, … without gaps.

    `at` is for people, never for ordering. `by` is the authenticated user, if any. `event` holds the fields
    of the event that are set, `orders` the changes of orders in the order in which they happened.
    `sales_closed`: decided while nothing was sold, so that nobody moved up.
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


class Answer(NamedTuple):
    """What a command led to, as it was at that moment; a repeat with the same key gets the same one.

    Exactly one of `order` (of an order's command), `event` (of an event's) and `refusal` is set.
    """

    order: Order | None = None
    waiting_position: int | None = None
    promoted: tuple[Order, ...] = ()
    event: EventState | None = None
    refusal: Refusal | None = None
    replayed: bool = False


class Remembered(NamedTuple):
    """The answer that an Idempotency-Key got, and the fingerprint of the request that got it."""

    fingerprint: bytes
    answer: Answer


@dataclass(frozen=True, slots=True)
class EventState:
    """One event at one version, folded from its ledger.

    Orders are kept by number; `numbers` finds the number of an order id, `active` that of a user's one active
    order, `waiting` holds the numbers of those who wait, first come first.
    """

    event_id: str
    version: int = 0
    event: Event | None = None
    updated_at: datetime | None = None
    booked_tickets: int = 0
    orders: Map[int, Order] = field(default_factory=Map)
    numbers: Map[str, int] = field(default_factory=Map)
    active: Map[str, int] = field(default_factory=Map)
    waiting: RankedSet = field(default_factory=RankedSet)
    keys: Map[bytes, Remembered] = field(default_factory=Map)

    @property
    def total_tickets(self) -> int:
        """All tickets of the event; 0 before it is initialized."""
        return self.event.total_tickets if self.event else 0

    @property
    def free_tickets(self) -> int:
        """Tickets that nobody holds, whether or not somebody waits for them."""
        return self.total_tickets - self.booked_tickets

    @property
    def available_tickets(self) -> int:
        """What a new booking could get now: nothing while anybody waits."""
        return 0 if self.waiting else self.free_tickets

    @property
    def held_tickets(self) -> int:
        """Free tickets that belong to the waiting list, whose first order needs more of them than are free."""
        return self.free_tickets if self.waiting else 0

    @property
    def waiting_list_count(self) -> int:
        """Orders that wait."""
        return len(self.waiting)

    def status_at(self, at: datetime) -> EventStatus:
        """What a booking made at `at` would meet. Raises ValueError before the event is initialized."""
        event = self.event
        if event is None:
            raise ValueError(f"the event {self.event_id!r} is not initialized")
        if event.cancelled_at is not None:
            return EventStatus.CANCELLED
        if event.ends_at is not None and event.ends_at <= at:
            return EventStatus.ENDED
        if event.sales_are_over(at):
            return EventStatus.SALES_CLOSED
        if not event.sales_have_begun(at):
            return EventStatus.SCHEDULED
        return EventStatus.ON_SALE if self.available_tickets else EventStatus.SOLD_OUT

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
        """1 for the first in line; None for an order that does not wait."""
        return self.waiting.rank(order.number) if order.status is OrderStatus.WAITING else None

    def waiting_orders(self, after: int = 0) -> Iterator[Order]:
        """Those who wait, first come first, from the first whose number is greater than `after`."""
        return (self.orders[number] for number in self.waiting.after(after))

    def orders_by_arrival(self, after: int = 0) -> Iterator[Order]:
        """All orders, cancelled ones too, from the first whose number is greater than `after`."""
        return (self.orders[number] for number in range(after + 1, len(self.orders) + 1))
