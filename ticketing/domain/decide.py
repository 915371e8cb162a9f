"""(state, command, at) -> what happens. The rules of booking, one function a command.

First come, first served, strictly: a booking is confirmed at once only if nobody waits and all its tickets
are free. Else it joins the end of the line, even when fewer tickets would fit around those before it. Every
release serves the line from its head in the same transition, as many as fit, and stops at the first that does
not: whoever is first is never overtaken.

While nothing is sold nobody joins and nobody moves up. When sales open again, the line goes on where it was, before
anything else happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from ..errors import (
    AlreadyBooked,
    BelowBookedTickets,
    EventCancelled,
    EventExists,
    EventNotFound,
    ExceedsMaxTicketsPerOrder,
    ExceedsMaxTicketsPerUser,
    ExceedsTotalTickets,
    IdempotencyKeyReused,
    InvalidSchedule,
    OrderNotFound,
    Refusal,
    SalesClosed,
    SalesNotOpen,
    TooManyPromotions,
    VersionConflict,
)
from .commands import Book, Cancel, CancelEvent, Command, Initialize, Pseudonymize, Update
from .fold import answer_to, fold
from .model import (
    Answer,
    Event,
    EventState,
    Order,
    OrderChange,
    OrderStatus,
    Transition,
    TransitionType,
)

PROMOTIONS_MAX = 10_000
"""In one transition. A commit stays far below MongoDB's 16 MB a document."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command leads to: the state after it, the answer, and the transition to write, if any."""

    state: EventState
    answer: Answer
    transition: Transition | None = None


def decide(state: EventState, command: Command, at: datetime) -> Decision:
    """Decide `command` on `state` at the time `at` (UTC, whole milliseconds).

    A repeated Idempotency-Key gets the answer that it got before. With a key, an answer without effect (a
    refusal, or the second cancellation of an order) is written down too, so that it stays the answer.
    """
    if command.request is not None:
        remembered = state.keys.get(command.request.key)
        if remembered is not None:
            if remembered.fingerprint != command.request.fingerprint:
                return Decision(state, Answer(refusal=IdempotencyKeyReused()))
            return Decision(state, remembered.answer._replace(replayed=True))
    try:
        transition = _RULES[type(command)](state, command, at)
    except Refusal as refusal:
        if command.request is None or state.event is None or not refusal.is_final:
            return Decision(state, Answer(refusal=refusal.anew()))
        transition = _transition(state, command, at, TransitionType.REMEMBERED, refusal=refusal.anew())
    if transition.type is TransitionType.REMEMBERED and command.request is None:
        return Decision(state, answer_to(state, transition))
    after = fold(state, (transition,))
    return Decision(after, answer_to(after, transition), transition)


def promote_due(state: EventState, at: datetime) -> Transition | None:
    """What is due before anything else is decided: sales have opened again, and tickets are free for the line."""
    if state.event is None or not state.waiting or not state.event.is_on_sale(at):
        return None
    promoted = tuple(islice(_promotions(state, state.free_tickets), PROMOTIONS_MAX))
    if not promoted:
        return None
    return Transition(state.version + 1, TransitionType.PROMOTED, at, orders=promoted)


def _initialize(state: EventState, command: Initialize, at: datetime) -> Transition:
    if state.event is not None:
        raise EventExists(command.event_id)
    event = {
        "name": command.name,
        "total_tickets": command.total_tickets,
        "max_tickets_per_order": command.max_tickets_per_order,
        **command.details,
    }
    _check_schedule(Event(event_id=state.event_id, created_at=at, **event))
    return _transition(state, command, at, TransitionType.INITIALIZED, event=event)


def _update(state: EventState, command: Update, at: datetime) -> Transition:
    event = _event(state)
    if command.version is not None and command.version != state.version:
        raise VersionConflict(state.version)
    if event.cancelled_at is not None:
        raise EventCancelled
    changed = {name: value for name, value in command.fields.items() if getattr(event, name) != value}
    if not changed:
        return _transition(state, command, at, TransitionType.REMEMBERED)
    updated = replace(event, **changed)
    _check_schedule(updated)
    minimum = state.booked_tickets + state.held_tickets
    if updated.total_tickets < min(minimum, event.total_tickets):
        raise BelowBookedTickets(minimum)
    if not updated.is_on_sale(at):
        return _transition(state, command, at, TransitionType.UPDATED, event=changed, sales_closed=True)
    free_tickets = updated.total_tickets - state.booked_tickets
    promoted = tuple(islice(_promotions(state, free_tickets), PROMOTIONS_MAX + 1))
    if len(promoted) > PROMOTIONS_MAX:
        raise TooManyPromotions(PROMOTIONS_MAX)
    return _transition(state, command, at, TransitionType.UPDATED, event=changed, orders=promoted)


def _cancel_event(state: EventState, command: CancelEvent, at: datetime) -> Transition:
    if _event(state).cancelled_at is not None:
        return _transition(state, command, at, TransitionType.REMEMBERED)
    return _transition(
        state, command, at, TransitionType.EVENT_CANCELLED, event={"cancelled_at": at}, sales_closed=True
    )


def _book(state: EventState, command: Book, at: datetime) -> Transition:
    event = _event(state)
    _check_sales(event, at)
    active = state.active_order_of(command.user_id)
    if active is not None:
        raise AlreadyBooked(active.order_id)
    if command.quantity > event.max_tickets_per_order:
        raise ExceedsMaxTicketsPerOrder(event.max_tickets_per_order)
    if event.max_tickets_per_user is not None and command.quantity > event.max_tickets_per_user:
        raise ExceedsMaxTicketsPerUser(event.max_tickets_per_user)
    if command.quantity > event.total_tickets:
        raise ExceedsTotalTickets(event.total_tickets)
    confirmed = command.quantity <= state.available_tickets
    order: OrderChange = {
        "order_id": command.order_id,
        "user_id": command.user_id,
        "quantity": command.quantity,
        "status": OrderStatus.CONFIRMED if confirmed else OrderStatus.WAITING,
    }
    kind = TransitionType.BOOKED if confirmed else TransitionType.WAITLISTED
    return _transition(state, command, at, kind, orders=(order,))


def _cancel(state: EventState, command: Cancel, at: datetime) -> Transition:
    order = _order_to_cancel(state, command)
    if not order.is_active:
        return _transition(
            state, command, at, TransitionType.REMEMBERED, orders=({"order_id": order.order_id},)
        )
    cancelled: OrderChange = {"order_id": order.order_id, "status": OrderStatus.CANCELLED}
    if not _event(state).is_on_sale(at):
        return _transition(
            state, command, at, TransitionType.CANCELLED, orders=(cancelled,), sales_closed=True
        )
    released = order.quantity if order.status is OrderStatus.CONFIRMED else 0
    promoted = _promotions(state, state.free_tickets + released, leaving=order)
    return _transition(state, command, at, TransitionType.CANCELLED, orders=(cancelled, *promoted))


def _order_to_cancel(state: EventState, command: Cancel) -> Order:
    if command.order_id is not None:
        order = state.order(command.order_id)
    else:
        _event(state)
        order = state.active_order_of(command.user_id or "")
    if order is None:
        raise OrderNotFound
    return order


def _promotions(
    state: EventState, free_tickets: int, leaving: Order | None = None
) -> Iterator[OrderChange]:
    """Those who move up when `free_tickets` are there for the line: from its head, until one does not fit."""
    for order in state.waiting_orders():
        if order is leaving:
            continue
        if order.quantity > free_tickets:
            return
        free_tickets -= order.quantity
        yield {"order_id": order.order_id, "status": OrderStatus.CONFIRMED}


def _pseudonymize(state: EventState, command: Pseudonymize, at: datetime) -> Transition:
    event = {"organizer": command.pseudonym} if _event(state).organizer == command.user_id else None
    orders = tuple(
        OrderChange(order_id=order.order_id, user_id=command.pseudonym)
        for order in state.orders_by_arrival()
        if order.user_id == command.user_id
    )
    if not orders and event is None:
        raise OrderNotFound
    return _transition(state, command, at, TransitionType.PSEUDONYMIZED, event=event, orders=orders)


def _event(state: EventState) -> Event:
    if state.event is None:
        raise EventNotFound(state.event_id)
    return state.event


def _check_sales(event: Event, at: datetime) -> None:
    """Raise the refusal of a booking at a time when nothing is sold."""
    if event.cancelled_at is not None:
        raise EventCancelled
    if event.sales_are_over(at):
        raise SalesClosed
    if event.sales_open_at is not None and at < event.sales_open_at:
        opens_at = event.sales_open_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        raise SalesNotOpen(opens_at, math.ceil((event.sales_open_at - at).total_seconds()))


def _check_schedule(event: Event) -> None:
    """Raise `InvalidSchedule` for times that contradict each other."""
    for earlier, later in (("starts_at", "ends_at"), ("sales_open_at", "sales_close_at")):
        first, last = getattr(event, earlier), getattr(event, later)
        if first is not None and last is not None and last <= first:
            raise InvalidSchedule(later, f"{later} must be after {earlier}.")


def _transition(
    state: EventState, command: Command, at: datetime, kind: TransitionType, **what: Any
) -> Transition:
    return Transition(state.version + 1, kind, at, command.by, request=command.request, **what)


_RULES: dict[type[Command], Callable[..., Transition]] = {
    Initialize: _initialize,
    Update: _update,
    CancelEvent: _cancel_event,
    Book: _book,
    Cancel: _cancel,
    Pseudonymize: _pseudonymize,
}
