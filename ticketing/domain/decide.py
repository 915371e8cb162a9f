"""(state, command, at) -> what happens. The rules of booking, one function a command.

First come, first served, strictly: a booking is confirmed at once only if nobody waits and all its tickets
are free. Else it joins the end of the line, even when fewer tickets would fit around those before it. Every
release serves the line from its head in the same transition, as many as fit, and stops at the first that does
not: whoever is first is never overtaken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import (
    AlreadyBooked,
    EventExists,
    EventNotFound,
    ExceedsMaxTicketsPerOrder,
    ExceedsTotalTickets,
    IdempotencyKeyReused,
    OrderNotFound,
    Refusal,
)
from .commands import Book, Cancel, Command, Initialize
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
        if command.request is None or state.event is None:
            return Decision(state, Answer(refusal=refusal.anew()))
        transition = _transition(state, command, at, TransitionType.REMEMBERED, refusal=refusal.anew())
    if transition.type is TransitionType.REMEMBERED and command.request is None:
        return Decision(state, answer_to(state, transition))
    after = fold(state, (transition,))
    return Decision(after, answer_to(after, transition), transition)


def _initialize(state: EventState, command: Initialize, at: datetime) -> Transition:
    if state.event is not None:
        raise EventExists(command.event_id)
    event = {
        "name": command.name,
        "total_tickets": command.total_tickets,
        "max_tickets_per_order": command.max_tickets_per_order,
    }
    return _transition(state, command, at, TransitionType.INITIALIZED, event=event)


def _book(state: EventState, command: Book, at: datetime) -> Transition:
    event = _event(state)
    active = state.active_order_of(command.user_id)
    if active is not None:
        raise AlreadyBooked(active.order_id)
    if command.quantity > event.max_tickets_per_order:
        raise ExceedsMaxTicketsPerOrder(event.max_tickets_per_order)
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
    released = order.quantity if order.status is OrderStatus.CONFIRMED else 0
    promoted = _promotions(state, state.free_tickets + released, leaving=order)
    cancelled: OrderChange = {"order_id": order.order_id, "status": OrderStatus.CANCELLED}
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


def _promotions(state: EventState, free_tickets: int, leaving: Order) -> Iterator[OrderChange]:
    """Those who move up when `free_tickets` are there for the line: from its head, until one does not fit."""
    for order in state.waiting_orders():
        if order is leaving:
            continue
        if order.quantity > free_tickets:
            return
        free_tickets -= order.quantity
        yield {"order_id": order.order_id, "status": OrderStatus.CONFIRMED}


def _event(state: EventState) -> Event:
    if state.event is None:
        raise EventNotFound(state.event_id)
    return state.event


def _transition(
    state: EventState, command: Command, at: datetime, kind: TransitionType, **what: Any
) -> Transition:
    return Transition(state.version + 1, kind, at, command.by, request=command.request, **what)


_RULES: dict[type[Command], Callable[..., Transition]] = {
    Initialize: _initialize,
    Book: _book,
    Cancel: _cancel,
}
