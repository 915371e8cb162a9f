"""(state, transitions) -> state. Total: whatever is in the ledger has happened, there is nothing to decide.

What a ledger says is checked as it is folded: a number out of turn or more tickets booked than there are can
only mean a damaged ledger, and a service that went on from there would sell tickets twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import repeat
from types import NoneType
from typing import Any, cast

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
from .ranked import RankedSet
from .rows import Row
from .tickets import FREE, GENERAL, TicketType, general

# What may follow what; None is an order that was not there before.
NEXT_STATUSES: Mapping[OrderStatus | None, frozenset[OrderStatus]] = {
    None: frozenset({OrderStatus.CONFIRMED, OrderStatus.WAITING}),
    OrderStatus.WAITING: frozenset({OrderStatus.CONFIRMED, OrderStatus.CANCELLED}),
    OrderStatus.CONFIRMED: frozenset({OrderStatus.CANCELLED}),
    OrderStatus.CANCELLED: frozenset(),
}


# Asked for with each transition, and an enumeration takes three times as long to name its members.
_CONFIRMED, _WAITING = OrderStatus.CONFIRMED, OrderStatus.WAITING
_INITIALIZED, _REMEMBERED = TransitionType.INITIALIZED, TransitionType.REMEMBERED
_BOOKED, _PSEUDONYMIZED = TransitionType.BOOKED, TransitionType.PSEUDONYMIZED
_BULK_BOOKED, _TRANSFERRED = TransitionType.BULK_BOOKED, TransitionType.TRANSFERRED

_PLAIN_ORDER = ("order_id", "user_id", "quantity", "status")  # all that is said of one that is general and free
_CHANGES_EVENT = frozenset({TransitionType.UPDATED, TransitionType.EVENT_CANCELLED})
_ABOUT_EVENT = _CHANGES_EVENT | {TransitionType.INITIALIZED, TransitionType.PSEUDONYMIZED}
_TAKES_TICKETS = frozenset({TransitionType.CANCELLED, TransitionType.TRANSFERRED})  # from an order that goes on

_TEXT, _TIME = (str, NoneType), (datetime, NoneType)
_EVENT_FIELDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "ticket_types": (tuple,),
    "max_tickets_per_order": (int,),
    "max_tickets_per_user": (int, NoneType),
    "created_at": (datetime,),
    "organizer": _TEXT,
    "venue": _TEXT,
    "description": _TEXT,
    "timezone": _TEXT,
    "starts_at": _TIME,
    "ends_at": _TIME,
    "sales_open_at": _TIME,
    "sales_close_at": _TIME,
    "transfer_close_at": _TIME,
    "cancelled_at": _TIME,
}


class LedgerContradiction(Exception):
    """The transitions contradict each other or the state before them. The message says where."""


def fold(state: EventState, parts: Iterable[Transition | Row]) -> EventState:
    """The state after these transitions. Raises `LedgerContradiction`; the given state stays as it is."""
    folding = Folding(state)
    folding.add(parts)
    return folding.state()


def answer_to(state: EventState, transition: Transition) -> Answer:
    """What the sender of the command is told, given the state right after its transition."""
    if transition.refusal is not None:
        return Answer(refusal=transition.refusal)
    if _is_about_event(transition):
        return _answer_about_event(state, state, transition)
    return _answer_about_orders(state, transition, _orders_named(state, transition))


class Folding:
    """A fold that goes on from page to page. Its tables are changed in place, which saves a third of its time.

    A worker that meets a crowded event folds hundreds of thousands of bookings. Those that stand in a row, as most do,
    go in by columns, each step for all of them: where the tables were empty, in half to two thirds of the time.
    """

    def __init__(self, state: EventState) -> None:
        self.event_id = state.event_id
        self.version = state.version
        self.event = state.event
        self.updated_at = state.updated_at
        self.totals = _totals(state.event)
        self.booked = dict(state.booked)
        self.lines = {code: line.mutate() for code, line in state.lines.items()}
        self.orders = state.orders.mutate()
        self.numbers = state.numbers.mutate()
        self.active = state.active.mutate()
        self.keys = state.keys.mutate()

    def add(self, parts: Iterable[Transition | Row]) -> None:
        """Fold these too. Raises `LedgerContradiction`; then the fold is of no use any more."""
        for part in parts:
            if not isinstance(part, Row):
                try:
                    self._apply(part)
                except (LookupError, TypeError, ValueError) as error:  # fields that are missing, or of the wrong type
                    raise self.contradiction(part, f"is damaged: {error!r}") from error
            elif not self._add_row(part):
                self.add(part.transitions())

    def _add_row(self, row: Row) -> bool:
        """Fold bookings by columns. False: nothing is folded, for one of them is not as usual, or wrong."""
        if not (row.is_usual and self._follows(row)):
            return False
        booked = self._booked_with(row)
        if any(booked[code] > total for code, total in self.totals.items()):
            return False
        first = len(self.numbers) + 1
        numbers = range(first, first + len(row))
        orders = row.orders(self.event_id, numbers)
        self.booked = booked
        self.orders.update(zip(numbers, orders, strict=True))
        self.numbers.update(zip(row.order_ids, numbers, strict=True))
        self.active.update(zip(row.user_ids, numbers, strict=True))
        self.version, self.updated_at = row.versions[-1], row.times[-1]
        self.keys.update(row.remembered(orders, self._lined_up(orders)))
        return True

    def _follows(self, row: Row) -> bool:
        """Whether these come next, for ticket types that there are, with orders and users that there were not."""
        first = self.version + 1
        return (
            row.versions == tuple(range(first, first + len(row)))
            and self.totals.keys() >= set(row.ticket_types)
            and self.numbers.isdisjoint(row.order_ids)
            and self.active.isdisjoint(row.user_ids)
        )

    def _booked_with(self, row: Row) -> dict[str, int]:
        """What is booked of each ticket type when these are."""
        booked = dict(self.booked)
        if row.status is _CONFIRMED:
            for code, quantity in zip(row.ticket_types, row.quantities, strict=True):
                booked[code] += quantity
        return booked

    def _lined_up(self, orders: Sequence[Order]) -> Iterable[int | None]:
        """The position in line of each of these, which all have the same status; those who wait join it."""
        if orders[0].status is _CONFIRMED:
            return repeat(None, len(orders))
        positions = []
        for order in orders:
            line = self.lines[order.ticket_type]
            line.add(order.number)
            positions.append(len(line))
        return positions

    def state(self) -> EventState:
        """The result, which ends the fold: nothing may be added any more."""
        return EventState(
            **self._about_event(),
            orders=self.orders.finish(),
            numbers=self.numbers.finish(),
            active=self.active.finish(),
            keys=self.keys.finish(),
        )

    def _about_event(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "version": self.version,
            "event": self.event,
            "updated_at": self.updated_at,
            "booked": dict(self.booked),
            "lines": {code: line.finish() for code, line in self.lines.items()},
        }

    def _apply(self, transition: Transition) -> None:
        if not is_count(transition.version) or transition.version != self.version + 1:
            raise self.contradiction(transition, f"follows {self.version}")
        self.version = transition.version
        if self.event is None and transition.type is not _INITIALIZED:
            raise self.contradiction(transition, "comes before the event is initialized")
        orders: list[Order] = []
        if transition.type is _PSEUDONYMIZED:
            self.updated_at = transition.at
            self._pseudonymize(transition)
        elif transition.type is not _REMEMBERED:
            self.updated_at = transition.at
            if transition.event is not None:
                self._set_event(transition.event, transition)
            orders = [self._set_order(change, transition) for change in transition.orders]
        if transition.request is not None:
            key, fingerprint = transition.request
            self.keys[key] = Remembered(fingerprint, self._answer_to(transition, orders))

    def waiting_position(self, order: Order) -> int | None:
        """As `EventState.waiting_position`."""
        if order.status is not _WAITING:
            return None
        line = self.lines[order.ticket_type]
        is_newest = order.number == len(self.numbers)  # then it is the last in line, and nobody need be counted
        return len(line) if is_newest else line.rank(order.number)

    def _set_event(self, fields: dict[str, Any], transition: Transition) -> None:
        if transition.type is _INITIALIZED:
            if self.event is not None:
                raise self.contradiction(transition, "initializes the event again")
            about = {"created_at": transition.at, "organizer": transition.by, **with_ticket_types(fields)}
            event = Event(event_id=self.event_id, **about)
        elif self.event is not None and transition.type in _CHANGES_EVENT:
            event = replace(self.event, **with_ticket_types(fields))
        else:
            raise self.contradiction(transition, "sets fields of the event")
        for name, kinds in _EVENT_FIELDS.items():
            value = getattr(event, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"{name} is of the wrong type")
        self.event = event
        self.totals = _totals(event)
        for code in self.totals:
            if code not in self.booked:
                self.booked[code], self.lines[code] = 0, RankedSet().mutate()
        for code, booked in self.booked.items():
            if booked > self.totals[code]:
                raise self._oversold(code, transition)

    def _set_order(self, change: OrderChange, transition: Transition) -> Order:
        number = self.numbers.get(change["order_id"])
        if number is None:
            return self._add_order(change, transition)
        return self._change_order(number, change, transition)

    def _add_order(self, change: OrderChange, transition: Transition) -> Order:
        order_id, user_id, quantity = change["order_id"], change["user_id"], change["quantity"]
        if not (isinstance(order_id, str) and isinstance(user_id, str) and is_count(quantity)):
            raise TypeError("an order's fields are of the wrong type")
        ticket_type, unit_price, currency = GENERAL, FREE, None
        if len(change) > len(_PLAIN_ORDER):
            ticket_type, unit_price = change.get("ticket_type", GENERAL), change.get("unit_price", FREE)
            currency = change.get("currency")
            if not (isinstance(unit_price, Decimal) and isinstance(currency, (str, NoneType))):
                raise TypeError("an order's price is none")
        status, number, at = change["status"], len(self.numbers) + 1, transition.at
        order = Order(
            order_id,
            self.event_id,
            user_id,
            quantity,
            status,
            number,
            at,
            at,
            transition.version,
            transition.by is not None,
            ticket_type,
            unit_price,
            currency,
        )
        if status not in NEXT_STATUSES[None]:
            raise self.contradiction(transition, f"makes the order {order_id} {status}")
        if user_id in self.active:
            raise self.contradiction(transition, f"gives {user_id!r} a second order")
        self.numbers[order_id] = self.active[user_id] = number
        self.orders[number] = order
        self._count_in(order, transition)
        return order

    def _change_order(self, number: int, change: OrderChange, transition: Transition) -> Order:
        """Another status, or fewer tickets."""
        before, fields = self.orders[number], cast(dict[str, Any], change)
        after = before._replace(**fields, updated_at=transition.at, version=transition.version)
        if after.user_id != before.user_id:
            raise self.contradiction(transition, f"gives the order {after.order_id} to {after.user_id!r}")
        if "status" in change:
            is_allowed = after.status in NEXT_STATUSES[before.status]
        else:
            is_less = is_count(after.quantity) and after.quantity < before.quantity
            is_allowed = is_less and before.is_active and transition.type in _TAKES_TICKETS
        if not is_allowed or len(change) != 2:
            what = after.status if "status" in change else f"{after.quantity} tickets"
            raise self.contradiction(transition, f"makes the order {after.order_id} {what}")
        if not after.is_active:
            del self.active[after.user_id]
        self.orders[number] = after
        self._count_out(before)
        self._count_in(after, transition)
        return after

    def _pseudonymize(self, transition: Transition) -> None:
        """Orders get another name, and so do the answers that are kept of them.

        In a ledger where the name has been replaced they have it already, some or all.
        """
        organizer = (transition.event or {}).get("organizer")
        if not isinstance(organizer, _TEXT):
            raise TypeError("the organizer's pseudonym is no text")
        if self.event is not None and organizer is not None:
            self.event = replace(self.event, organizer=organizer)
        names = {change["order_id"]: change["user_id"] for change in transition.orders}
        # What a table holds below its changes has the name still.
        self.orders, self.active, self.keys = self.orders.flattened(), self.active.flattened(), self.keys.flattened()
        for order_id, name in names.items():
            if not isinstance(name, str):
                raise TypeError(f"the pseudonym of the order {order_id} is no text")
            number = self.numbers[order_id]
            before = self.orders[number]
            after = before._replace(user_id=name, updated_at=transition.at, version=transition.version)
            self.orders[number] = after
            if before.is_active:
                del self.active[before.user_id]
                if name in self.active:
                    raise self.contradiction(transition, f"gives {name!r} a second order")
                self.active[name] = number
        for key, kept in self.keys.items():
            self.keys[key] = kept._replace(answer=_renamed(kept.answer, names, organizer))

    def _count_in(self, order: Order, transition: Transition) -> None:
        """Its tickets are booked, or its place in line is taken."""
        code = order.ticket_type
        if order.status is _CONFIRMED:
            self.booked[code] = booked = self.booked[code] + order.quantity
            if not 0 <= booked <= self.totals[code]:
                raise self._oversold(code, transition)
        elif order.status is _WAITING:
            self.lines[code].add(order.number)

    def _count_out(self, order: Order) -> None:
        if order.status is _CONFIRMED:
            self.booked[order.ticket_type] -= order.quantity
        elif order.status is _WAITING:
            self.lines[order.ticket_type].discard(order.number)

    def _oversold(self, code: str, transition: Transition) -> LedgerContradiction:
        booked = f"{self.booked[code]} of {self.totals[code]}"
        return self.contradiction(transition, f"leaves {booked} tickets booked")

    def _answer_to(self, transition: Transition, set_orders: Sequence[Order]) -> Answer:
        """`set_orders` are those that it set, each as it was then: one that gives tickets back may be set once more."""
        if transition.type is _BOOKED and len(set_orders) == 1:  # nearly all
            return Answer(set_orders[0], self.waiting_position(set_orders[0]))
        if transition.refusal is not None:
            return Answer(refusal=transition.refusal)
        if _is_about_event(transition):
            # It tells of no orders, and those in it would keep names that are erased later.
            return _answer_about_event(self, EventState(**self._about_event()), transition)
        orders = tuple(set_orders) if len(set_orders) == 1 else _orders_named(self, transition)
        return _answer_about_orders(self, transition, orders)

    def contradiction(self, transition: Transition, finding: str) -> LedgerContradiction:
        """What to raise for a transition with which something is wrong."""
        where = f"event {self.event_id!r}: transition {transition.version} ({transition.type})"
        return LedgerContradiction(f"{where} {finding}")


def with_ticket_types(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an event as the event has them: where the ledger says `total_tickets` alone, one type, free.

    Raises ValueError where total and types differ, TypeError for what is no type.
    """
    about = dict(fields)
    total_tickets = about.pop("total_tickets", None)
    if total_tickets is not None and about.get("ticket_types") is None:
        about["ticket_types"] = (general(total_tickets),)
    types = about.get("ticket_types")
    if types is not None:
        for each in types:
            if not (isinstance(each, TicketType) and _is_of_right_types(each)):
                raise TypeError("total_tickets or ticket_types is of the wrong type")
        if len({each.code for each in types}) < max(1, len(types)):
            raise ValueError("ticket_types are none, or one is there twice")
        if total_tickets != sum(each.total_tickets for each in types):
            raise ValueError("total_tickets is not that of the ticket_types")
    return about


def is_count(value: object) -> bool:
    """Whether it is a number from 1 on. A bool is none, though Python takes it for an int."""
    return isinstance(value, int) and value >= 1 and value is not True


def _is_of_right_types(each: TicketType) -> bool:
    return (
        isinstance(each.code, str)
        and isinstance(each.name, str)
        and is_count(each.total_tickets)
        and isinstance(each.price, Decimal)
        and isinstance(each.currency, _TEXT)
    )


def _totals(event: Event | None) -> dict[str, int]:
    return {} if event is None else {each.code: each.total_tickets for each in event.ticket_types}


def _renamed(answer: Answer, names: Mapping[str, str], organizer: str | None) -> Answer:
    """An answer with these names in the place of those of the orders, by order id, and of the organizer."""

    def renamed(order: Order) -> Order:
        return order._replace(user_id=names.get(order.order_id, order.user_id))

    seen = answer.event
    if seen is not None and seen.event is not None and organizer is not None:
        seen = seen._replace(event=replace(seen.event, organizer=organizer))
    return answer._replace(
        order=answer.order and renamed(answer.order),
        sender=answer.sender and renamed(answer.sender),
        promoted=tuple(renamed(order) for order in answer.promoted),
        bulk=tuple(_renamed(each, names, organizer) for each in answer.bulk),
        event=seen,
    )


def _answer_about_event(seen: EventState | Folding, event: EventState, transition: Transition) -> Answer:
    is_promoting = transition.type is not _PSEUDONYMIZED
    return Answer(event=event, promoted=_orders_named(seen, transition) if is_promoting else ())


def _answer_about_orders(
    seen: EventState | Folding, transition: Transition, orders: tuple[Order, ...]
) -> Answer:
    """The first order that a transition names is the command's own, and the others were promoted by it; but for a
    transfer, whose own order comes second, and for many bookings, which all are."""
    if transition.type is _BULK_BOOKED or transition.refused:
        return Answer(bulk=_bulk(seen, transition, orders))
    if transition.type is _TRANSFERRED:
        sender, order = orders
        return Answer(order, sender=sender)
    return Answer(orders[0], seen.waiting_position(orders[0]), orders[1:])


def _bulk(seen: EventState | Folding, transition: Transition, orders: tuple[Order, ...]) -> tuple[Answer, ...]:
    """The answer of each booking in its place. Raises ValueError for places that there are not."""
    answers = {place: Answer(refusal=refusal) for place, refusal in transition.refused}
    places = range(len(orders) + len(transition.refused))
    left = [place for place in places if place not in answers]
    for place, order in zip(left, orders, strict=True):
        answers[place] = Answer(order, seen.waiting_position(order))
    return tuple([answers[place] for place in places])


def _orders_named(seen: EventState | Folding, transition: Transition) -> tuple[Order, ...]:
    return tuple([seen.orders[seen.numbers[change["order_id"]]] for change in transition.orders])


def _is_about_event(transition: Transition) -> bool:
    """Whether its answer is the event: it changed it, or gave orders to a pseudonym, or there was nothing to do."""
    if transition.type is _REMEMBERED:
        return transition.event is not None
    return transition.type in _ABOUT_EVENT
