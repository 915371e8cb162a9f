"""What is sold: ticket types with their prices, and what is left of each."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from .ranked import RankedSet

GENERAL = "general"
GENERAL_NAME = "General admission"
FREE = Decimal("0.00")


class TicketType(NamedTuple):
    """One kind of ticket of an event, with a stock and a waiting list of its own.

    `price` has as many digits as its currency (ISO 4217) has; None is the currency of what has always been free.
    """

    code: str
    name: str
    total_tickets: int
    price: Decimal = FREE
    currency: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether its number of tickets says all about it."""
        return self == general(self.total_tickets)


def general(total_tickets: int, price: Decimal = FREE, currency: str | None = None) -> TicketType:
    """The one type of an event whose organizer names none."""
    return TicketType(GENERAL, GENERAL_NAME, total_tickets, price, currency)


class Stock(NamedTuple):
    """What is left of one ticket type. `line` holds the numbers of the orders that wait, first come first."""

    ticket_type: TicketType
    booked_tickets: int
    line: RankedSet

    @property
    def free_tickets(self) -> int:
        """Tickets that nobody has, whether or not somebody waits for them."""
        return self.ticket_type.total_tickets - self.booked_tickets

    @property
    def available_tickets(self) -> int:
        """What a new booking could get now: nothing while anybody waits."""
        return 0 if self.line else self.free_tickets

    @property
    def held_tickets(self) -> int:
        """Free tickets that belong to the waiting list, whose first order needs more of them than are free."""
        return self.free_tickets if self.line else 0

    @property
    def waiting_list_count(self) -> int:
        """Orders that wait."""
        return len(self.line)
