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
    """Whether a booking made now could be confirmed."""

    ON_SALE = "on_sale"
    SOLD_OUT = "sold_out"


class TransitionType(StrEnum):
    """What a transition did. `remembered`: nothing but keep an answer for its Idempotency-Key."""

    INITIALIZED = "initialized"
    BOOKED = "booked"
    WAITLISTED = "waitlisted"
    CANCELLED = "cancelled"
    REMEMBERED = "remembered"


@dataclass(frozen=True, slots=True)
class Event:
    """The concert: what its organizer said about it. Tickets are counted, not seated."""

    event_id: str
    name: str
    total_tickets: int
    max_tickets_per_order: int
    created_at: datetime


class Order(NamedTuple):
    """`quantity` tickets of one user for one event; all of them are confirmed, or none.

    `number` is the order's place in the order of arrival (1, 2, 3, …) and never changes. `version` is that of
    the transition which changed the order last.
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
    """

    version: int
    type: TransitionType
    at: datetime
    by: str | None = None
    event: dict[str, Any] | None = None
    orders: tuple[OrderChange, ...] = ()
    request: RequestKey | None = None
    refusal: Refusal | None = None


class Answer(NamedTuple):
    """What a command led to, as it was at that moment; a repeat with the same key gets the same one.

    Exactly one of `order` (book, cancel), `initialized` (initialize) and `refusal` is set.
    """

    order: Order | None = None
    waiting_position: int | None = None
    promoted: tuple[Order, ...] = ()
    initialized: EventState | None = None
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

    @property
    def status(self) -> EventStatus:
        """`sold_out` when a new booking could get nothing."""
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
