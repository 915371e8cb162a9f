"""What happened to an event, told: each transition with the orders that it changed, as they are after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from .fold import Folding
from .model import Order, OrderStatus, Transition, TransitionType
from .rows import Row


class ChangedOrder(NamedTuple):
    """An order right after a transition. `before` is its status before; None for a new order."""

    order: Order
    waiting_position: int | None
    before: OrderStatus | None


class Change(NamedTuple):
    """A transition as others are told of it."""

    version: int
    type: TransitionType
    at: datetime
    by: str | None
    orders: tuple[ChangedOrder, ...]


def fold_and_tell(folding: Folding, parts: Iterable[Transition | Row], after: int = 0) -> Iterator[Change]:
    """Fold `parts`, and tell of each transition after version `after` right after it. Raises `LedgerContradiction`.

    What is only remembered for its Idempotency-Key is told of without orders: nothing happened to them.
    """
    for part in parts:
        if isinstance(part, Row) and folding.version + len(part) > after:
            yield from fold_and_tell(folding, part.transitions(), after)
        elif isinstance(part, Row) or folding.version < after:
            folding.add((part,))
        else:
            yield _told(folding, part)


def _told(folding: Folding, transition: Transition) -> Change:
    named = () if transition.type is TransitionType.REMEMBERED else transition.orders
    try:
        order_ids = list(dict.fromkeys(change["order_id"] for change in named))
        before = [_status(folding, order_id) for order_id in order_ids]
    except (LookupError, TypeError) as error:
        raise folding.contradiction(transition, f"is damaged: {error!r}") from error
    folding.add((transition,))
    orders = [folding.orders[folding.numbers[order_id]] for order_id in order_ids]
    changed = (
        ChangedOrder(order, folding.waiting_position(order), status)
        for order, status in zip(orders, before, strict=True)
    )
    return Change(transition.version, transition.type, transition.at, transition.by, tuple(changed))


def _status(folding: Folding, order_id: str) -> OrderStatus | None:
    number = folding.numbers.get(order_id)
    return None if number is None else folding.orders[number].status
