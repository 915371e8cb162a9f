"""Bookings that stand in a row in the ledger, by columns, so that a fold takes each step for all of them at once.

A loop over objects in Python costs microseconds a booking; `zip`, `map`, `dict.update` and sets, which loop in C, a
fraction of it. What is not as most bookings are has no columns: the fold takes it one by one, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import repeat
from operator import itemgetter
from types import NoneType
from typing import Any, NamedTuple

from .model import Order, OrderStatus, RequestKey, Transition, TransitionType
from .tickets import FREE, GENERAL

STATUSES: Mapping[TransitionType, OrderStatus] = {
    TransitionType.BOOKED: OrderStatus.CONFIRMED,
    TransitionType.WAITLISTED: OrderStatus.WAITING,
}
"""The transitions that have columns, and the status of their orders."""

_PLAIN: Callable[[Any], tuple[Any, ...]] = itemgetter("order_id", "user_id", "quantity", "status")


class Columns(NamedTuple):
    """Each field has a value for each of the bookings, in their order."""

    versions: tuple[int, ...]
    times: tuple[datetime, ...]
    callers: tuple[str | None, ...]
    requests: tuple[RequestKey | None, ...]
    order_ids: tuple[str, ...]
    user_ids: tuple[str, ...]
    quantities: tuple[int, ...]
    statuses: tuple[OrderStatus, ...]
    ticket_types: Sequence[str]
    unit_prices: Sequence[Decimal]
    currencies: Sequence[str | None]

    def orders(self, event_id: str, numbers: Sequence[int]) -> list[Order]:
        """The orders that were made, given their numbers."""
        fields = zip(
            self.order_ids,
            repeat(event_id),
            self.user_ids,
            self.quantities,
            self.statuses,
            numbers,
            self.times,
            self.times,
            self.versions,
            [caller is not None for caller in self.callers],
            self.ticket_types,
            self.unit_prices,
            self.currencies,
        )
        return list(map(Order._make, fields))


def columns_of(row: Sequence[Transition]) -> Columns | None:
    """The columns of transitions of one of these types, each of which made one order of its own, with fields that an
    order can have; else None."""
    try:
        versions, types, times, callers, events, orders, requests, refusals, _, refused = zip(*row, strict=True)
        changes = [change for (change,) in orders]
        order_ids, user_ids, quantities, statuses = zip(*map(_PLAIN, changes), strict=True)
        columns = Columns(
            versions,
            times,
            callers,
            requests,
            order_ids,
            user_ids,
            quantities,
            statuses,
            [change.get("ticket_type", GENERAL) for change in changes],
            [change.get("unit_price", FREE) for change in changes],
            [change.get("currency") for change in changes],
        )
        is_usual = (
            events.count(None) == refusals.count(None) == refused.count(()) == len(row)
            and set(statuses) == {STATUSES[types[0]]}
            and len(set(order_ids)) == len(set(user_ids)) == len(row)
            and _types(order_ids) == _types(user_ids) == {str}
            and _types(quantities) == {int}
            and min(quantities) >= 1
            and _types(columns.ticket_types) == {str}
            and _types(columns.unit_prices) == {Decimal}
            and _types(columns.currencies) <= {str, NoneType}
            and _types(request.key for request in requests if request is not None) <= {bytes}
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return columns if is_usual else None


def _types(values: Iterable[object]) -> set[type]:
    return set(map(type, values))
