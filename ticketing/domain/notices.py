"""What others are told of a change: the notices of an order confirmed, of an event cancelled, and so on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from .changes import Change, ChangedOrder
from .model import OrderStatus


class NoticeType(StrEnum):
    """What a notice tells."""

    ORDER_CONFIRMED = "order.confirmed"
    ORDER_WAITLISTED = "order.waitlisted"
    ORDER_PROMOTED = "order.promoted"
    ORDER_UPDATED = "order.updated"  # a part of its tickets was given back
    ORDER_CANCELLED = "order.cancelled"
    ORDER_TRANSFERRED = "order.transferred"
    EVENT_UPDATED = "event.updated"
    EVENT_CANCELLED = "event.cancelled"


class Notice(NamedTuple):
    """`number` counts the notices of one change: 0, 1, 2, … `changed` is the order that it is about, if any."""

    number: int
    type: NoticeType
    change: Change
    changed: ChangedOrder | None = None


# By the type of the transition, whatever it did to orders.
_OF_EVENTS: Mapping[str, NoticeType] = {
    "updated": NoticeType.EVENT_UPDATED,
    "event_cancelled": NoticeType.EVENT_CANCELLED,
}
_TRANSFERRED = "transferred"
_CANCELLED = "cancelled"

# By what became of an order: its status before and after.
_OF_ORDERS: Mapping[tuple[OrderStatus | None, OrderStatus], NoticeType] = {
    (None, OrderStatus.CONFIRMED): NoticeType.ORDER_CONFIRMED,
    (None, OrderStatus.WAITING): NoticeType.ORDER_WAITLISTED,
    (OrderStatus.WAITING, OrderStatus.CONFIRMED): NoticeType.ORDER_PROMOTED,
    (OrderStatus.WAITING, OrderStatus.CANCELLED): NoticeType.ORDER_CANCELLED,
    (OrderStatus.CONFIRMED, OrderStatus.CANCELLED): NoticeType.ORDER_CANCELLED,
}


def notices_of(change: Change) -> Iterator[Notice]:
    """The notices of a change: of the event first, then of its orders in their order. The same for ever."""
    told: list[tuple[NoticeType, ChangedOrder | None]] = []
    if change.type in _OF_EVENTS:
        told.append((_OF_EVENTS[change.type], None))
    for changed in change.orders:
        kind = _OF_ORDERS.get((changed.before, changed.order.status))
        if change.type == _TRANSFERRED:
            kind = NoticeType.ORDER_TRANSFERRED
        elif kind is None and change.type == _CANCELLED:
            kind = NoticeType.ORDER_UPDATED
        if kind is not None:
            told.append((kind, changed))
    return (Notice(number, kind, change, changed) for number, (kind, changed) in enumerate(told))
