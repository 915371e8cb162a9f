"""What is told of a transition."""

from __future__ import annotations

from ticketing.domain.changes import Change, fold_and_tell
from ticketing.domain.fold import Folding, fold
from ticketing.domain.model import EventState, OrderStatus, RequestKey, TransitionType

from .rehearsal import EVENT_ID, Rehearsal


def told(rehearsal: Rehearsal) -> list[Change]:
    """All that happened in a rehearsal."""
    return list(fold_and_tell(Folding(EventState(EVENT_ID)), rehearsal.transitions))


def test_orders_are_as_they_are_after_it() -> None:
    """Not as they were, and not as they became later: what the state right after each transition says."""
    rehearsal = Rehearsal(2)
    for user in ("ada", "ben", "cleo", "dan"):
        rehearsal.book(user)
    rehearsal.cancel("cleo")
    rehearsal.cancel("ada")
    for change in told(rehearsal):
        state = fold(EventState(EVENT_ID), rehearsal.transitions[: change.version])
        for changed in change.orders:
            assert changed.order == state.order(changed.order.order_id)
            assert changed.waiting_position == state.waiting_position(changed.order)
            assert changed.order.version == change.version
    [cancelled] = told(rehearsal)[-1:]
    assert [(changed.order.user_id, changed.before, changed.order.status) for changed in cancelled.orders] == [
        ("ada", OrderStatus.CONFIRMED, OrderStatus.CANCELLED),
        ("dan", OrderStatus.WAITING, OrderStatus.CONFIRMED),
    ]


def test_a_new_order_had_no_status() -> None:
    """Confirmed or waiting, it comes from nowhere."""
    rehearsal = Rehearsal(1)
    rehearsal.book("ada")
    rehearsal.book("ben")
    orders = [change.orders[0] for change in told(rehearsal)[1:]]
    assert [(changed.before, changed.waiting_position) for changed in orders] == [(None, None), (None, 1)]


def test_nothing_is_told_of_what_is_only_remembered() -> None:
    """The repeat of a cancellation names its order, which it did not change."""
    rehearsal = Rehearsal(1)
    order = rehearsal.book("ada").order
    assert order is not None
    rehearsal.cancel(order_id=order.order_id)
    rehearsal.cancel(order_id=order.order_id, request=RequestKey(b"k" * 16, b"f" * 16))
    [*_, remembered] = told(rehearsal)
    assert (remembered.type, remembered.orders) == (TransitionType.REMEMBERED, ())
