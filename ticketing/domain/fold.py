"""(state, transitions) -> state. Total: whatever is in the ledger has happened, there is nothing to decide.

What a ledger says is checked as it is folded: a number out of turn or more tickets booked than there are can
only mean a damaged ledger, and a service that went on from there would sell tickets twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import NoneType
from typing import Any

from .model import (
    Answer,
    Event,
    EventState,
    Order,
    OrderChange,
    OrderStatus,
    Remembered,
    Transition,
    TransitionType,
)

# What may follow what; None is an order that was not there before.
NEXT_STATUSES: Mapping[OrderStatus | None, frozenset[OrderStatus]] = {
    None: frozenset({OrderStatus.CONFIRMED, OrderStatus.WAITING}),
    OrderStatus.WAITING: frozenset({OrderStatus.CONFIRMED, OrderStatus.CANCELLED}),
    OrderStatus.CONFIRMED: frozenset({OrderStatus.CANCELLED}),
    OrderStatus.CANCELLED: frozenset(),
}


_CHANGES_EVENT = frozenset({TransitionType.UPDATED, TransitionType.EVENT_CANCELLED})

_TEXT, _TIME = (str, NoneType), (datetime, NoneType)
_EVENT_FIELDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "total_tickets": (int,),
    "max_tickets_per_order": (int,),
    "max_tickets_per_user": (int, NoneType),
    "organizer": _TEXT,
    "venue": _TEXT,
    "description": _TEXT,
    "timezone": _TEXT,
    "starts_at": _TIME,
    "ends_at": _TIME,
    "sales_open_at": _TIME,
    "sales_close_at": _TIME,
    "cancelled_at": _TIME,
}


class LedgerContradiction(Exception):
    """The transitions contradict each other or the state before them. The message says where."""


def fold(state: EventState, transitions: Iterable[Transition]) -> EventState:
    """The state after `transitions`. Raises `LedgerContradiction`; the given state stays as it is."""
    folding = Folding(state)
    folding.add(transitions)
    return folding.state()


def answer_to(state: EventState, transition: Transition) -> Answer:
    """What the sender of the command is told, given the state right after its transition."""
    if transition.refusal is not None:
        return Answer(refusal=transition.refusal)
    if _is_about_event(transition):
        return Answer(event=state, promoted=_orders_named(state, transition))
    if transition.type is TransitionType.PSEUDONYMIZED:
        return Answer()
    return _order_answer(state, transition)


class Folding:
    """A fold that goes on from page to page. Its tables are changed in place, which saves a third of its time."""

    def __init__(self, state: EventState) -> None:
        self._begin(state)

    def _begin(self, state: EventState) -> None:
        self.event_id = state.event_id
        self.version = state.version
        self.event = state.event
        self.updated_at = state.updated_at
        self.booked_tickets = state.booked_tickets
        self.orders = state.orders.mutate()
        self.numbers = state.numbers.mutate()
        self.active = state.active.mutate()
        self.waiting = state.waiting.mutate()
        self.keys = state.keys.mutate()

    def add(self, transitions: Iterable[Transition]) -> None:
        """Fold these too. Raises `LedgerContradiction`; then the fold is of no use any more."""
        for transition in transitions:
            try:
                self._apply(transition)
            except (KeyError, TypeError, ValueError) as error:  # fields that are missing, or of the wrong type
                raise self._contradiction(transition, f"is damaged: {error!r}") from error

    def state(self) -> EventState:
        """The result, which ends the fold: nothing may be added any more."""
        return EventState(
            event_id=self.event_id,
            version=self.version,
            event=self.event,
            updated_at=self.updated_at,
            booked_tickets=self.booked_tickets,
            orders=self.orders.finish(),
            numbers=self.numbers.finish(),
            active=self.active.finish(),
            waiting=self.waiting.finish(),
            keys=self.keys.finish(),
        )

    def _apply(self, transition: Transition) -> None:
        if transition.version != self.version + 1:
            raise self._contradiction(transition, f"follows {self.version}")
        self.version = transition.version
        if transition.type is TransitionType.PSEUDONYMIZED:
            self.updated_at = transition.at
            self._pseudonymize(transition)
            self._check_tickets(transition)
        elif transition.type is not TransitionType.REMEMBERED:
            self.updated_at = transition.at
            if transition.event is not None:
                self._set_event(transition.event, transition)
            for change in transition.orders:
                number = self.numbers.get(change["order_id"])
                if number is None:
                    self._add_order(change, transition)
                else:
                    self._change_order(number, change, transition)
            self._check_tickets(transition)
        if transition.request is not None:
            key, fingerprint = transition.request
            self.keys[key] = Remembered(fingerprint, self._answer_to(transition))

    def waiting_position(self, order: Order) -> int | None:
        """As `EventState.waiting_position`."""
        if order.status is not OrderStatus.WAITING:
            return None
        is_newest = order.number == len(self.numbers)  # then it is the last in line, and nobody need be counted
        return len(self.waiting) if is_newest else self.waiting.rank(order.number)

    def _set_event(self, fields: dict[str, Any], transition: Transition) -> None:
        if transition.type is TransitionType.INITIALIZED:
            if self.event is not None:
                raise self._contradiction(transition, "initializes the event again")
            about = {"created_at": transition.at, "organizer": transition.by, **fields}
            event = Event(event_id=self.event_id, **about)
        elif self.event is not None and transition.type in _CHANGES_EVENT:
            event = replace(self.event, **fields)
        else:
            raise self._contradiction(transition, "sets fields of the event")
        for name, kinds in _EVENT_FIELDS.items():
            if not isinstance(getattr(event, name), kinds):
                raise TypeError(f"{name} is of the wrong type")
        self.event = event

    def _add_order(self, change: OrderChange, transition: Transition) -> None:
        order_id, user_id, quantity = change["order_id"], change["user_id"], change["quantity"]
        if not (isinstance(order_id, str) and isinstance(user_id, str) and isinstance(quantity, int)):
            raise TypeError("an order's fields are of the wrong type")
        status, number, at = change["status"], len(self.numbers) + 1, transition.at
        is_authenticated = transition.by is not None
        order = Order(
            order_id, self.event_id, user_id, quantity, status, number, at, at, transition.version, is_authenticated
        )
        if status not in NEXT_STATUSES[None]:
            raise self._contradiction(transition, f"makes the order {order_id} {status}")
        if user_id in self.active:
            raise self._contradiction(transition, f"gives {user_id!r} a second order")
        self.numbers[order_id] = self.active[user_id] = number
        self.orders[number] = order
        self._count_in(order)

    def _change_order(self, number: int, change: OrderChange, transition: Transition) -> None:
        before = self.orders[number]
        after = before._replace(**change, updated_at=transition.at, version=transition.version)
        if after.status not in NEXT_STATUSES[before.status]:
            raise self._contradiction(transition, f"makes the order {after.order_id} {after.status}")
        if after.user_id != before.user_id:
            raise self._contradiction(transition, f"gives the order {after.order_id} to {after.user_id!r}")
        if not after.is_active:
            del self.active[after.user_id]
        self.orders[number] = after
        self._count_out(before)
        self._count_in(after)

    def _pseudonymize(self, transition: Transition) -> None:
        """Orders get another name, and so do the answers that are kept of them.

        In a ledger where the name has been replaced they have it already, some or all.
        """
        organizer = (transition.event or {}).get("organizer")
        if self.event is not None and organizer is not None:
            self.event = replace(self.event, organizer=organizer)
        names = {change["order_id"]: change["user_id"] for change in transition.orders}
        for order_id, name in names.items():
            number = self.numbers[order_id]
            before = self.orders[number]
            after = before._replace(user_id=name, updated_at=transition.at, version=transition.version)
            self.orders[number] = after
            if before.is_active:
                del self.active[before.user_id]
                self.active[name] = number
        keys = self.keys.finish()
        self.keys = keys.mutate()
        for key, kept in keys.items():
            self.keys[key] = kept._replace(answer=_renamed(kept.answer, names, organizer))

    def _count_in(self, order: Order) -> None:
        """Its tickets are booked, or its place in line is taken."""
        if order.status is OrderStatus.CONFIRMED:
            self.booked_tickets += order.quantity
        elif order.status is OrderStatus.WAITING:
            self.waiting.add(order.number)

    def _count_out(self, order: Order) -> None:
        if order.status is OrderStatus.CONFIRMED:
            self.booked_tickets -= order.quantity
        elif order.status is OrderStatus.WAITING:
            self.waiting.discard(order.number)

    def _check_tickets(self, transition: Transition) -> None:
        if self.event is None:
            raise self._contradiction(transition, "comes before the event is initialized")
        if not 0 <= self.booked_tickets <= self.event.total_tickets:
            booked = f"{self.booked_tickets} of {self.event.total_tickets}"
            raise self._contradiction(transition, f"leaves {booked} tickets booked")

    def _answer_to(self, transition: Transition) -> Answer:
        if transition.refusal is not None:
            return Answer(refusal=transition.refusal)
        if _is_about_event(transition):
            if transition.type is TransitionType.REMEMBERED and (self.event is None or self.event.cancelled_at is None):
                raise self._contradiction(transition, "remembers nothing")
            state = self.state()
            self._begin(state)  # and goes on from there: such answers are few
            return answer_to(state, transition)
        return _order_answer(self, transition)

    def _contradiction(self, transition: Transition, finding: str) -> LedgerContradiction:
        where = f"event {self.event_id!r}: transition {transition.version} ({transition.type})"
        return LedgerContradiction(f"{where} {finding}")


def _renamed(answer: Answer, names: Mapping[str, str], organizer: str | None) -> Answer:
    """An answer with these names in the place of those of the orders, by order id, and of the organizer."""

    def renamed(order: Order) -> Order:
        return order._replace(user_id=names.get(order.order_id, order.user_id))

    seen = answer.event
    if seen is not None and seen.event is not None and organizer is not None:
        seen = replace(seen, event=replace(seen.event, organizer=organizer))
    return answer._replace(
        order=answer.order and renamed(answer.order),
        promoted=tuple(renamed(order) for order in answer.promoted),
        event=seen,
    )


def _order_answer(seen: EventState | Folding, transition: Transition) -> Answer:
    """The first order that a transition names is the command's own; the others were promoted by it."""
    orders = _orders_named(seen, transition)
    return Answer(orders[0], seen.waiting_position(orders[0]), orders[1:])


def _orders_named(seen: EventState | Folding, transition: Transition) -> tuple[Order, ...]:
    return tuple([seen.orders[seen.numbers[change["order_id"]]] for change in transition.orders])


def _is_about_event(transition: Transition) -> bool:
    """Whether its answer is the event: it changed it, or remembers that there was nothing to change."""
    if transition.type is TransitionType.REMEMBERED:
        return not transition.orders
    return transition.type is TransitionType.INITIALIZED or transition.type in _CHANGES_EVENT
