"""(state, transitions) -> state. Total: whatever is in the ledger has happened, there is nothing to decide.

What a ledger says is checked as it is folded: a number out of turn or more tickets booked than there are can
only mean a damaged ledger, and a service that went on from there would sell tickets twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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

# What may follow what; None is an order that was not there before.
NEXT_STATUSES: Mapping[OrderStatus | None, frozenset[OrderStatus]] = {
    None: frozenset({OrderStatus.CONFIRMED, OrderStatus.WAITING}),
    OrderStatus.WAITING: frozenset({OrderStatus.CONFIRMED, OrderStatus.CANCELLED}),
    OrderStatus.CONFIRMED: frozenset({OrderStatus.CANCELLED}),
    OrderStatus.CANCELLED: frozenset(),
}


class LedgerContradiction(Exception):
    """The transitions contradict each other or the state before them. The message says where."""


def fold(state: EventState, transitions: Iterable[Transition]) -> EventState:
    """The state after `transitions`. Raises `LedgerContradiction`; the given state stays as it is."""
    folding = _Folding(state)
    for transition in transitions:
        try:
            folding.apply(transition)
        except (KeyError, TypeError, ValueError) as error:  # fields that are missing, unknown or of the wrong type
            raise folding.contradiction(transition, f"is damaged: {error!r}") from error
    return folding.state()


def answer_to(state: EventState, transition: Transition) -> Answer:
    """What the sender of the command is told, given the state right after its transition."""
    if transition.refusal is not None:
        return Answer(refusal=transition.refusal)
    if transition.type is TransitionType.INITIALIZED:
        return Answer(initialized=state)
    return _order_answer(state, transition)


class _Folding:
    """A state under change. The maps are mutated in place, which halves the time of a long fold."""

    def __init__(self, state: EventState) -> None:
        self.event_id = state.event_id
        self.version = state.version
        self.event = state.event
        self.updated_at = state.updated_at
        self.booked_tickets = state.booked_tickets
        self.orders = state.orders.mutate()
        self.numbers = state.numbers.mutate()
        self.active = state.active.mutate()
        self.waiting: RankedSet = state.waiting
        self.keys = state.keys.mutate()

    def state(self) -> EventState:
        """The result. Nothing may be applied afterwards."""
        return EventState(
            event_id=self.event_id,
            version=self.version,
            event=self.event,
            updated_at=self.updated_at,
            booked_tickets=self.booked_tickets,
            orders=self.orders.finish(),
            numbers=self.numbers.finish(),
            active=self.active.finish(),
            waiting=self.waiting,
            keys=self.keys.finish(),
        )

    def apply(self, transition: Transition) -> None:
        if transition.version != self.version + 1:
            raise self.contradiction(transition, f"follows {self.version}")
        self.version = transition.version
        if transition.type is not TransitionType.REMEMBERED:
            self.updated_at = transition.at
            if transition.event is not None:
                self._open_event(transition)
            for change in transition.orders:
                self._change_order(change, transition)
            self._check_tickets(transition)
        if transition.request is not None:
            answer = self._answer_to(transition)
            self.keys[transition.request.key] = Remembered(transition.request.fingerprint, answer)

    def _open_event(self, transition: Transition) -> None:
        if self.event is not None:
            raise self.contradiction(transition, "initializes the event again")
        opened = Event(event_id=self.event_id, created_at=transition.at, **(transition.event or {}))
        tickets = (opened.total_tickets, opened.max_tickets_per_order)
        if not isinstance(opened.name, str) or not all(isinstance(number, int) for number in tickets):
            raise TypeError("an event's fields are of the wrong type")
        self.event = opened

    def _change_order(self, change: OrderChange, transition: Transition) -> None:
        number = self.numbers.get(change["order_id"])
        if number is None:
            number = len(self.numbers) + 1
            before, after = None, self._new_order(change, number, transition)
            self.numbers[after.order_id] = number
        else:
            before = self.orders[number]
            after = before._replace(**change, updated_at=transition.at, version=transition.version)
        if after.status not in NEXT_STATUSES[before and before.status]:
            raise self.contradiction(transition, f"makes the order {after.order_id} {after.status}")
        self.orders[number] = after
        self._count_tickets(before, after)
        self._move_in_line(before, after)
        self._keep_active(after, transition)

    def _new_order(self, change: OrderChange, number: int, transition: Transition) -> Order:
        at = transition.at
        order_id, user_id, quantity = change["order_id"], change["user_id"], change["quantity"]
        if not (isinstance(order_id, str) and isinstance(user_id, str) and isinstance(quantity, int)):
            raise TypeError("an order's fields are of the wrong type")
        return Order(
            order_id,
            self.event_id,
            user_id,
            quantity,
            change["status"],
            number,
            at,
            at,
            transition.version,
        )

    def _count_tickets(self, before: Order | None, after: Order) -> None:
        if before is not None and before.status is OrderStatus.CONFIRMED:
            self.booked_tickets -= before.quantity
        if after.status is OrderStatus.CONFIRMED:
            self.booked_tickets += after.quantity

    def _move_in_line(self, before: Order | None, after: Order) -> None:
        if after.status is OrderStatus.WAITING:
            self.waiting = self.waiting.add(after.number)
        elif before is not None and before.status is OrderStatus.WAITING:
            self.waiting = self.waiting.discard(after.number)

    def _keep_active(self, after: Order, transition: Transition) -> None:
        if after.is_active:
            if self.active.get(after.user_id, after.number) != after.number:
                raise self.contradiction(transition, f"gives {after.user_id!r} a second order")
            self.active[after.user_id] = after.number
        else:
            del self.active[after.user_id]

    def _check_tickets(self, transition: Transition) -> None:
        if self.event is None:
            raise self.contradiction(transition, "comes before the event is initialized")
        if not 0 <= self.booked_tickets <= self.event.total_tickets:
            booked = f"{self.booked_tickets} of {self.event.total_tickets}"
            raise self.contradiction(transition, f"leaves {booked} tickets booked")

    def _answer_to(self, transition: Transition) -> Answer:
        if transition.refusal is not None:
            return Answer(refusal=transition.refusal)
        if transition.type is TransitionType.INITIALIZED:
            opened = fold(EventState(self.event_id), [transition._replace(request=None)])
            return Answer(initialized=opened)
        return _order_answer(self, transition)

    def contradiction(self, transition: Transition, finding: str) -> LedgerContradiction:
        where = f"event {self.event_id!r}: transition {transition.version} ({transition.type})"
        return LedgerContradiction(f"{where} {finding}")


def _order_answer(seen: EventState | _Folding, transition: Transition) -> Answer:
    """The first order that a transition names is the command's own; the others were promoted by it."""
    first, *promoted = (seen.orders[seen.numbers[change["order_id"]]] for change in transition.orders)
    position = seen.waiting.rank(first.number) if first.status is OrderStatus.WAITING else None
    return Answer(order=first, waiting_position=position, promoted=tuple(promoted))
