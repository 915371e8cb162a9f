"""(state, command, at) -> what happens. The rules of booking, one function a command.

First come, first served, strictly, for each ticket type: a booking is confirmed at once only if nobody waits and all
its tickets are free. Else it joins the end of the line, even when fewer tickets would fit around those before it. Every
release serves the line from its head in the same transition, as many as fit, and stops at the first that does
not: whoever is first is never overtaken. Where more move up than one transition holds, the next one goes on, before
anything else happens.

While nothing is sold nobody joins and nobody moves up. When sales open again, the line goes on where it was, before
anything else happens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

from ..errors import (
    AlreadyBooked,
    BelowBookedTickets,
    BulkRefused,
    EventCancelled,
    EventExists,
    EventNotFound,
    ExceedsMaxTicketsPerOrder,
    ExceedsMaxTicketsPerUser,
    ExceedsOrderQuantity,
    ExceedsTotalTickets,
    IdempotencyKeyReused,
    InvalidSchedule,
    InvalidTicketTypes,
    NotEnoughTickets,
    OrderNotConfirmed,
    OrderNotFound,
    Refusal,
    SalesClosed,
    SalesNotOpen,
    TicketTypeRequired,
    TransferClosed,
    UnknownTicketType,
    VersionConflict,
)
from .commands import (
    Book,
    Booking,
    BookMany,
    Cancel,
    CancelEvent,
    Command,
    Initialize,
    Pseudonymize,
    Transfer,
    Update,
)
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
from .tickets import FREE, GENERAL, Stock, TicketType, general

PROMOTIONS_MAX = 10_000
"""In one transition. A commit stays far below MongoDB's 16 MB a document. A longer line moves up in several."""

TICKET_TYPES_MAX = 100
"""Of one event. Each has a stock and a line that are looked at with every cancellation."""


class Decision(NamedTuple):
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
    """What is due before anything else is decided: sales have opened again, and tickets are free for the line.

    There may be more of it than one transition holds: then it is due again.
    """
    if state.event is None or not state.waiting_list_count or not state.event.is_on_sale(at):
        return None
    promoted = tuple(islice(_promotions(state), PROMOTIONS_MAX))
    if not promoted:
        return None
    return Transition(state.version + 1, TransitionType.PROMOTED, at, orders=promoted)


def _initialize(state: EventState, command: Initialize, at: datetime) -> Transition:
    if state.event is not None:
        raise EventExists(command.event_id)
    event = {
        "name": command.name,
        "ticket_types": command.ticket_types or (general(command.total_tickets),),
        "max_tickets_per_order": command.max_tickets_per_order,
        **command.details,
    }
    _check_ticket_types([each.code for each in event["ticket_types"]])
    _check_schedule(Event(event_id=state.event_id, created_at=at, **event))
    return _transition(state, command, at, TransitionType.INITIALIZED, event=_as_written(event))


def _update(state: EventState, command: Update, at: datetime) -> Transition:
    event = _event(state)
    if command.version is not None and command.version != state.version:
        raise VersionConflict(state.version)
    if event.cancelled_at is not None:
        raise EventCancelled
    wanted = _with_types(event, command.fields)
    changed = {name: value for name, value in wanted.items() if getattr(event, name) != value}
    if not changed:
        return _transition(state, command, at, TransitionType.REMEMBERED, event={})
    updated = replace(event, **changed)
    _check_schedule(updated)
    totals = {each.code: each.total_tickets for each in updated.ticket_types}  # no type is ever taken away
    for stock in state.stocks:
        code, minimum = stock.ticket_type.code, stock.booked_tickets + stock.held_tickets
        if totals[code] < minimum:
            raise BelowBookedTickets(minimum, code)
    written = _as_written(changed)
    if updated.is_plain and not event.is_plain:
        written["ticket_types"] = None  # the ledger has said otherwise, and what it has said stays until it is set
    transition = _transition(state, command, at, TransitionType.UPDATED, event=written)
    return _serving_the_line(state, transition)


def _cancel_event(state: EventState, command: CancelEvent, at: datetime) -> Transition:
    if _event(state).cancelled_at is not None:
        return _transition(state, command, at, TransitionType.REMEMBERED, event={})
    transition = _transition(state, command, at, TransitionType.EVENT_CANCELLED, event={"cancelled_at": at})
    return _serving_the_line(state, transition)


def _book(state: EventState, command: Book, at: datetime) -> Transition:
    order, _ = _order_booked(state, command, at)
    kind = TransitionType.BOOKED if order["status"] is OrderStatus.CONFIRMED else TransitionType.WAITLISTED
    return _transition(state, command, at, kind, orders=(order,))


def _order_booked(state: EventState, wanted: Book | Booking, at: datetime) -> tuple[OrderChange, Stock]:
    """The new order, confirmed or waiting, and the stock of its type before it."""
    event = _event(state)
    _check_sales(event, at)
    stock = state.stock(_ticket_type(event, wanted.ticket_type).code)
    _check_limits(state, wanted.user_id, wanted.quantity)
    if wanted.quantity > stock.ticket_type.total_tickets:
        raise ExceedsTotalTickets(stock.ticket_type.total_tickets)
    confirmed = wanted.quantity <= stock.available_tickets
    order: OrderChange = {
        "order_id": wanted.order_id,
        "user_id": wanted.user_id,
        "quantity": wanted.quantity,
        "status": OrderStatus.CONFIRMED if confirmed else OrderStatus.WAITING,
        **_priced(stock.ticket_type.code, stock.ticket_type.price, stock.ticket_type.currency),
    }
    return order, stock


def _book_many(state: EventState, command: BookMany, at: datetime) -> Transition:
    orders: list[OrderChange] = []
    refused: list[tuple[int, Refusal]] = []
    _check_sales(_event(state), at)
    seen = state
    for index, booking in enumerate(command.bookings):
        try:
            order, stock = _order_booked(seen, booking, at)
            if command.all_or_none and order["status"] is not OrderStatus.CONFIRMED:
                raise NotEnoughTickets(stock.available_tickets)
        except Refusal as refusal:
            refused.append((index, refusal.anew()))
            continue
        orders.append(order)
        seen = fold(seen, (Transition(seen.version + 1, TransitionType.BULK_BOOKED, at, orders=(order,)),))
    if command.all_or_none and refused:
        told = [{"index": index, "code": no.code, "details": no.details} for index, no in refused]
        raise BulkRefused(len(command.bookings), told)
    kind = TransitionType.BULK_BOOKED if orders else TransitionType.REMEMBERED
    return _transition(state, command, at, kind, orders=tuple(orders), refused=tuple(refused))


def _cancel(state: EventState, command: Cancel, at: datetime) -> Transition:
    order = _order_to_cancel(state, command)
    if not order.is_active:
        return _transition(
            state, command, at, TransitionType.REMEMBERED, orders=({"order_id": order.order_id},)
        )
    change = _taken_from(order, command.quantity)
    return _serving_the_line(
        state, _transition(state, command, at, TransitionType.CANCELLED, orders=(change,))
    )


def _order_to_cancel(state: EventState, command: Cancel) -> Order:
    if command.order_id is not None:
        order = state.order(command.order_id)
    else:
        _event(state)
        order = state.active_order_of(command.user_id or "")
    if order is None:
        raise OrderNotFound
    return order


def _transfer(state: EventState, command: Transfer, at: datetime) -> Transition:
    order = state.order(command.order_id)
    if order is None:
        raise OrderNotFound
    event = _event(state)
    if event.cancelled_at is not None:
        raise EventCancelled
    if event.transfers_are_over(at):
        raise TransferClosed
    if order.status is not OrderStatus.CONFIRMED:
        raise OrderNotConfirmed(order.status.value)
    given = _taken_from(order, command.quantity)
    quantity = command.quantity or order.quantity
    try:
        _check_limits(state, command.to_user_id, quantity)
    except AlreadyBooked:
        raise AlreadyBooked(None) from None  # the id is for who books under that name, not for who gives to it
    received: OrderChange = {
        "order_id": command.new_order_id,
        "user_id": command.to_user_id,
        "quantity": quantity,
        "status": OrderStatus.CONFIRMED,
        "transferred_from": order.order_id,
        **_priced(order.ticket_type, order.unit_price, order.currency),
    }
    return _transition(state, command, at, TransitionType.TRANSFERRED, orders=(given, received))


def _taken_from(order: Order, quantity: int | None) -> OrderChange:
    """What becomes of an active order that loses so many tickets, or all."""
    if quantity is not None and quantity > order.quantity:
        raise ExceedsOrderQuantity(order.quantity)
    if quantity is None or quantity == order.quantity:
        return {"order_id": order.order_id, "status": OrderStatus.CANCELLED}
    return {"order_id": order.order_id, "quantity": order.quantity - quantity}


def _serving_the_line(state: EventState, transition: Transition) -> Transition:
    """The transition, and after what it does the promotions that it makes possible, if anything is sold then.

    Of more than one transition holds, the first; the others are due next. Until then all that is free of their ticket
    types is held for them. Only changes of the event bring so many, no cancellation does.
    """
    after = fold(state, (transition._replace(request=None),))
    if not _event(after).is_on_sale(transition.at):
        return transition._replace(sales_closed=True)
    promoted = tuple(islice(_promotions(after), PROMOTIONS_MAX))
    return transition._replace(orders=transition.orders + promoted)


def _promotions(state: EventState) -> Iterator[OrderChange]:
    """Those who move up for the tickets that are free: from the head of each line, until one does not fit."""
    for stock in state.stocks:
        free_tickets = stock.free_tickets
        for number in stock.line:
            order = state.orders[number]
            if order.quantity > free_tickets:
                break
            free_tickets -= order.quantity
            yield {"order_id": order.order_id, "status": OrderStatus.CONFIRMED}


def _pseudonymize(state: EventState, command: Pseudonymize, at: datetime) -> Transition:
    event = {"organizer": command.pseudonym} if _event(state).organizer == command.user_id else None
    changes: list[OrderChange] = []
    for order in state.orders_by_arrival():
        if order.user_id == command.pseudonym:
            raise AlreadyBooked(order.order_id)
        if order.user_id == command.user_id:
            changes.append(OrderChange(order_id=order.order_id, user_id=command.pseudonym))
    orders = tuple(changes)
    if not orders and event is None:
        return _transition(state, command, at, TransitionType.REMEMBERED, event={})
    return _transition(state, command, at, TransitionType.PSEUDONYMIZED, event=event, orders=orders)


def _ticket_type(event: Event, code: str | None) -> TicketType:
    """The type that a booking names, or the only one."""
    if code is None:
        if len(event.ticket_types) > 1:
            raise TicketTypeRequired
        return event.ticket_types[0]
    found = event.ticket_type(code)
    if found is None:
        raise UnknownTicketType(code)
    return found


def _check_limits(state: EventState, user_id: str, quantity: int) -> None:
    """Raise the refusal of a new order that its user may not have."""
    event = _event(state)
    active = state.active_order_of(user_id)
    if active is not None:
        raise AlreadyBooked(active.order_id)
    if quantity > event.max_tickets_per_order:
        raise ExceedsMaxTicketsPerOrder(event.max_tickets_per_order)
    if event.max_tickets_per_user is not None and quantity > event.max_tickets_per_user:
        raise ExceedsMaxTicketsPerUser(event.max_tickets_per_user)


def _priced(ticket_type: str, unit_price: Decimal, currency: str | None) -> OrderChange:
    """What a new order says of its tickets beside their number: nothing where they are general and free."""
    if (ticket_type, unit_price, currency) == (GENERAL, FREE, None):
        return {}
    priced: OrderChange = {"ticket_type": ticket_type, "unit_price": unit_price}
    if currency is not None:
        priced["currency"] = currency
    return priced


def _with_types(event: Event, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields to set, in the place of changes of ticket types all types as they will be."""
    wanted = dict(fields)
    of_one = {name: wanted.pop(name) for name in ("total_tickets", "price", "currency") if name in wanted}
    changes = wanted.pop("ticket_types", ())
    types = {each.code: each for each in event.ticket_types}
    if of_one:
        if len(types) > 1 or changes:
            raise InvalidTicketTypes(next(iter(of_one)), "Not for several ticket types: set it for each of them.")
        changes = [{"code": event.ticket_types[0].code, **of_one}]
    for change in changes:
        code, before = change["code"], types.get(change["code"])
        if before is not None:
            types[code] = before._replace(**change)
        elif "total_tickets" in change:
            types[code] = TicketType(**{"name": code, **change})
        else:
            raise InvalidTicketTypes("ticket_types", f"The new type {code!r} needs total_tickets.")
    _check_ticket_types(list(types))
    return wanted | {"ticket_types": tuple(types.values())}


def _check_ticket_types(codes: list[str]) -> None:
    """Raise `InvalidTicketTypes` for too many, and for one that is there twice."""
    if len(codes) > TICKET_TYPES_MAX:
        raise InvalidTicketTypes("ticket_types", f"An event has {TICKET_TYPES_MAX} ticket types at most.")
    if len(set(codes)) < len(codes):
        raise InvalidTicketTypes("ticket_types", "Each ticket type has a code of its own.")


def _as_written(event: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an event for the ledger: of types only where there is more to say than how many tickets there are."""
    types = event.get("ticket_types")
    if types is None:
        return dict(event)
    fields = {**event, "total_tickets": sum(each.total_tickets for each in types)}
    if len(types) == 1 and types[0].is_plain:
        del fields["ticket_types"]
    return fields


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
    BookMany: _book_many,
    Cancel: _cancel,
    Transfer: _transfer,
    Pseudonymize: _pseudonymize,
}
