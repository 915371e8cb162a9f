"""What happened to one order, told from its side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from .fold import LedgerContradiction, is_count
from .model import OrderChange, OrderStatus, Transition, TransitionType


class EntryType(StrEnum):
    """What became of the order, whatever the transition was about."""

    BOOKED = "booked"
    WAITLISTED = "waitlisted"
    PROMOTED = "promoted"
    CANCELLED = "cancelled"  # or a part of its tickets
    TRANSFERRED = "transferred"  # to another user, or from one
    PSEUDONYMIZED = "pseudonymized"


class Entry(NamedTuple):
    """One change of an order; `status` and `quantity` are those after it.

    `by` is who made it, if he gave credentials; `is_own`: he was concerned with this order, and did not only cause its
    change. `sender` is the order that the tickets came from, `recipient` the one that they went to.
    """

    version: int
    type: EntryType
    at: datetime
    by: str | None
    is_own: bool
    status: OrderStatus
    quantity: int
    sender: str | None = None
    recipient: str | None = None


# Transitions that say by their type what became of each of their orders.
_BY_TYPE: Mapping[str, EntryType] = {
    "transferred": EntryType.TRANSFERRED,
    "pseudonymized": EntryType.PSEUDONYMIZED,
}


def order_history(order_id: str, transitions: Iterable[Transition]) -> list[Entry]:
    """The changes of an order, in order, from the transitions that name it, in theirs; from its first on.

    Raises `LedgerContradiction` for what makes no history: no fold has seen these transitions as they are now.
    """
    entries: list[Entry] = []
    try:
        for transition in transitions:
            if transition.type is not TransitionType.REMEMBERED:
                _check_version(transition, entries)
                for change in (each for each in transition.orders if each["order_id"] == order_id):
                    entries.append(_entry(order_id, change, transition, entries[-1] if entries else None))
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # fields that are missing, or of a wrong type
        raise LedgerContradiction(f"the history of the order {order_id} is damaged: {error!r}") from error
    return entries


def _check_version(transition: Transition, entries: list[Entry]) -> None:
    if not is_count(transition.version) or (entries and transition.version <= entries[-1].version):
        raise ValueError(f"{transition.version!r} is out of turn")


def _entry(order_id: str, change: OrderChange, transition: Transition, before: Entry | None) -> Entry:
    status = change["status"] if before is None else change.get("status", before.status)
    quantity = change["quantity"] if before is None else change.get("quantity", before.quantity)
    if not is_count(quantity):
        raise TypeError(f"{quantity!r} is no number of tickets")
    return Entry(
        transition.version,
        _BY_TYPE.get(transition.type) or _type(before, status),
        transition.at,
        transition.by,
        is_own=before is None or transition.type in _BY_TYPE or _cancels(transition, order_id),
        status=status,
        quantity=quantity,
        sender=_sender(change),
        recipient=next((_text(each["order_id"]) for each in transition.orders if _sender(each) == order_id), None),
    )


def _cancels(transition: Transition, order_id: str) -> bool:
    """Whether it cancels this order, or a part of it. The first order of a cancellation is the one that was meant."""
    return transition.type is TransitionType.CANCELLED and transition.orders[0]["order_id"] == order_id


def _type(before: Entry | None, after: OrderStatus) -> EntryType:
    if before is None:
        return EntryType.WAITLISTED if after is OrderStatus.WAITING else EntryType.BOOKED
    if before.status is OrderStatus.WAITING and after is OrderStatus.CONFIRMED:
        return EntryType.PROMOTED
    return EntryType.CANCELLED


def _sender(change: Mapping[str, object]) -> str | None:
    sender = change.get("transferred_from")
    return None if sender is None else _text(sender)


def _text(order_id: object) -> str:
    if not isinstance(order_id, str):
        raise TypeError(f"{order_id!r} is no order's id")
    return order_id
