"""Bookings that stand in a row in the ledger, by columns, so that a fold takes each step for all of them at once.

A loop over objects in Python costs microseconds a booking; `zip`, `map`, `dict.update` and sets, which loop in C, a
fraction of it. A row holds what its commits say, damage too: whether it may be folded is for the fold to ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import repeat
from types import NoneType
from typing import Any, TypeVar, cast

from .model import Answer, Order, OrderChange, OrderStatus, Remembered, RequestKey, Transition, TransitionType
from .tickets import FREE, GENERAL

T = TypeVar("T", bound=tuple[Any, ...])

STATUSES: Mapping[TransitionType, OrderStatus] = {
    TransitionType.BOOKED: OrderStatus.CONFIRMED,
    TransitionType.WAITLISTED: OrderStatus.WAITING,
}
"""The transitions that may stand in a row, and the status of their orders."""


@dataclass(frozen=True, slots=True)
class Row:
    """Transitions of one type, each of which made one order. Each field has a value for each of them, in their order.

    `keys` are None where a booking had no Idempotency-Key.
    """

    type: TransitionType
    versions: tuple[int, ...]
    times: Sequence[datetime]
    callers: Sequence[str | None]
    keys: Sequence[bytes | None]
    fingerprints: Sequence[bytes | None]
    order_ids: Sequence[str]
    user_ids: Sequence[str]
    quantities: Sequence[int]
    ticket_types: Sequence[str]
    unit_prices: Sequence[Decimal]
    currencies: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.versions)

    @property
    def status(self) -> OrderStatus:
        """Of all its orders."""
        return STATUSES[self.type]

    @property
    def is_usual(self) -> bool:
        """Whether there are as many orders and users, and all fields are of the types that the service writes.

        What is not may be right nevertheless: one by one it is seen.
        """
        return (
            _types(self.versions) == {int}
            and _types(self.order_ids) == _types(self.user_ids) == _types(self.ticket_types) == {str}
            and len(set(self.order_ids)) == len(set(self.user_ids)) == len(self)
            and _types(self.quantities) == {int}
            and min(self.quantities) >= 1
            and _types(self.currencies) <= {str, NoneType}
            and _types(self.keys) <= {bytes, NoneType}
        )

    def orders(self, event_id: str, numbers: Sequence[int]) -> list[Order]:
        """The orders that were made, given their numbers."""
        return _made(
            Order,
            self.order_ids,
            repeat(event_id),
            self.user_ids,
            self.quantities,
            repeat(self.status),
            numbers,
            self.times,
            self.times,
            self.versions,
            [caller is not None for caller in self.callers],
            self.ticket_types,
            self.unit_prices,
            self.currencies,
        )

    def remembered(
        self, orders: Sequence[Order], positions: Iterable[int | None]
    ) -> Iterator[tuple[bytes, Remembered]]:
        """The keys that there are, and what was answered, given these orders and their positions in line."""
        if self.keys.count(None) == len(self):
            return iter(())
        defaults = [repeat(Answer._field_defaults[name]) for name in Answer._fields[2:]]
        kept = _made(Remembered, self.fingerprints, _made(Answer, orders, positions, *defaults))
        return ((key, each) for key, each in zip(self.keys, kept, strict=True) if key is not None)

    def transitions(self) -> list[Transition]:
        """The same one by one."""
        requests = [
            None if key is None else RequestKey(key, cast(bytes, fingerprint))
            for key, fingerprint in zip(self.keys, self.fingerprints, strict=True)
        ]
        return _made(
            Transition,
            self.versions,
            repeat(self.type),
            self.times,
            self.callers,
            repeat(None),
            [(change,) for change in self._changes()],
            requests,
            repeat(None),
            repeat(False),
            repeat(()),
        )

    def _changes(self) -> Iterator[OrderChange]:
        orders = zip(self.order_ids, self.user_ids, self.quantities, strict=True)
        costs = zip(self.ticket_types, self.unit_prices, self.currencies, strict=True)
        for (order_id, user_id, quantity), cost in zip(orders, costs, strict=True):
            change: Any = {"order_id": order_id, "user_id": user_id, "quantity": quantity, "status": self.status}
            if cost != (GENERAL, FREE, None):
                change["ticket_type"], change["unit_price"], change["currency"] = cost
            yield change


def versions_of(part: Transition | Row) -> Sequence[int]:
    """Of what a fold takes: one, or those of a row."""
    return part.versions if isinstance(part, Row) else (part.version,)


def transitions_in(parts: Iterable[Transition | Row]) -> Iterator[Transition]:
    """What a fold takes, one by one."""
    for part in parts:
        if isinstance(part, Row):
            yield from part.transitions()
        else:
            yield part


def _made(kind: type[T], *columns: Iterable[Any]) -> list[T]:
    """Named tuples of these fields. Their own `_make` takes as long for its one step in Python as for all else."""
    if len(columns) != len(kind._fields):  # type: ignore[attr-defined]
        raise TypeError(f"a {kind.__name__} has another number of fields")
    return list(map(partial(tuple.__new__, kind), zip(*columns)))


def _types(values: Iterable[object]) -> set[type]:
    return set(map(type, values))
