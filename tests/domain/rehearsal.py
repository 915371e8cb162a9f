"""Test support: an event played by hand, command after command, with neither storage nor clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ticketing.domain.commands import Book, Booking, BookMany, Cancel, Command, Initialize, Transfer, Update
from ticketing.domain.decide import Decision, decide, promote_due
from ticketing.domain.model import Answer, EventState, Order, RequestKey, Transition

EVENT_ID = "concert-2027"
OPENING = datetime(2027, 1, 1, 20, 0, tzinfo=UTC)


class Rehearsal:
    """One event. Keeps its state, and all transitions that led there.

    Time goes on by a second a command, and the order ids hold numbers: a rehearsal repeats exactly.
    """

    def __init__(self, total_tickets: int | None = None, event_id: str = EVENT_ID, **event: Any) -> None:
        self.event_id = event_id
        self.state = EventState(event_id)
        self.transitions: list[Transition] = []
        self.commands = 0
        if total_tickets is not None or event:
            self.initialize(total_tickets or 0, **event)

    def initialize(
        self, total_tickets: int = 0, *, name: str = "Concert", request: RequestKey | None = None, **event: Any
    ) -> Answer:
        """Open the event."""
        command = Initialize(
            event_id=self.event_id,
            by="admin",
            request=request,
            name=name,
            total_tickets=total_tickets,
            **event,
        )
        return self.play(command).answer

    def book(
        self, user_id: str, quantity: int = 1, ticket_type: str | None = None, *, request: RequestKey | None = None
    ) -> Answer:
        """Book for a user, under a new order id."""
        return self.play(self.booking(user_id, quantity, ticket_type, request=request)).answer

    def book_many(
        self, *bookings: tuple[Any, ...], all_or_none: bool = False, request: RequestKey | None = None
    ) -> Answer:
        """Book for many: each is a user, a quantity and a ticket type, as far as they are named."""
        return self.play(
            BookMany(
                event_id=self.event_id,
                by="admin",
                request=request,
                bookings=tuple(Booking(self.new_order_id(place), *each) for place, each in enumerate(bookings)),
                all_or_none=all_or_none,
            )
        ).answer

    def cancel(
        self,
        user_id: str | None = None,
        quantity: int | None = None,
        *,
        order_id: str | None = None,
        request: RequestKey | None = None,
    ) -> Answer:
        """Cancel a user's active order, or the order with an id, or some of its tickets."""
        command = Cancel(
            event_id=self.event_id,
            by="admin",
            request=request,
            user_id=user_id,
            order_id=order_id,
            quantity=quantity,
        )
        return self.play(command).answer

    def transfer(
        self, order_id: str, to_user_id: str, quantity: int | None = None, *, request: RequestKey | None = None
    ) -> Answer:
        """Give tickets of an order to a user."""
        return self.play(
            Transfer(
                event_id=self.event_id,
                by="admin",
                request=request,
                order_id=order_id,
                new_order_id=self.new_order_id(),
                to_user_id=to_user_id,
                quantity=quantity,
            )
        ).answer

    def booking(
        self, user_id: str, quantity: int = 1, ticket_type: str | None = None, *, request: RequestKey | None = None
    ) -> Book:
        """The command that `book` plays."""
        return Book(
            event_id=self.event_id,
            order_id=self.new_order_id(),
            user_id=user_id,
            quantity=quantity,
            ticket_type=ticket_type,
            request=request,
        )

    def new_order_id(self, place: int = 0) -> str:
        """One that no command before the next has drawn."""
        return f"{self.event_id}.{place:06d}{self.commands + 1:016d}"

    def play(self, command: Command) -> Decision:
        """Decide a command and go on from the state after it."""
        self.commands += 1
        decision = decide(self.state, command, OPENING + timedelta(seconds=self.commands))
        self.state = decision.state
        if decision.transition is not None:
            self.transitions.append(decision.transition)
        return decision

    def order_of(self, user_id: str) -> Order:
        """The active order of a user who has one."""
        order = self.state.active_order_of(user_id)
        assert order is not None
        return order

    def line(self) -> list[str]:
        """The users who wait, first come first."""
        return [order.user_id for order in self.state.waiting_orders()]


def reopened(*line: str) -> list[Transition]:
    """Sales are opened again over a line of people who want a ticket each, with three for them. The last transition but
    one opens them and gives away as many as one holds, the last one goes on with the line."""
    play = Rehearsal(3)
    play.book("ada", 3)
    for user_id in line:
        play.book(user_id)
    play.play(Update(event_id=EVENT_ID, fields={"sales_close_at": OPENING}))
    play.cancel("ada")
    play.play(Update(event_id=EVENT_ID, fields={"sales_close_at": None}))
    due = promote_due(play.state, OPENING + timedelta(hours=1))
    assert due is not None
    return [*play.transitions, due]


def request(key: str, body: str = "") -> RequestKey:
    """An Idempotency-Key and the fingerprint of a body, 16 bytes each."""
    return RequestKey(key.encode().ljust(16, b"."), body.encode().ljust(16, b"."))


def refusal_of(answer: Answer) -> str | None:
    """The code of the refusal that an answer is, if it is one."""
    return None if answer.refusal is None else answer.refusal.code


def observed_answer(answer: Answer) -> dict[str, Any]:
    """All that a client can learn from an answer, comparable with `==`."""
    return {
        "order": answer.order,
        "waiting_position": answer.waiting_position,
        "promoted": answer.promoted,
        "event": answer.event and observed_event(answer.event),
        "refusal": answer.refusal and (answer.refusal.code, answer.refusal.details),
        "sender": answer.sender,
        "bulk": [observed_answer(each) for each in answer.bulk],
    }


def observed_event(state: EventState) -> dict[str, Any]:
    """What a client can learn about the event as a whole."""
    return {
        "event": state.event,
        "status": state.event and state.status_at(OPENING),
        "version": state.version,
        "updated_at": state.updated_at,
        "total": state.total_tickets,
        "available": state.available_tickets,
        "booked": state.booked_tickets,
        "held": state.held_tickets,
        "waiting": state.waiting_list_count,
        "stocks": [(stock.ticket_type, stock.booked_tickets, list(stock.line)) for stock in state.stocks],
    }


def observed(state: EventState) -> dict[str, Any]:
    """All that anybody can learn from a state, comparable with `==`."""
    orders = list(state.orders_by_arrival())
    return {
        **observed_event(state),
        "orders": orders,
        "found by id": [state.order(order.order_id) for order in orders],
        "found by user": {order.user_id: state.active_order_of(order.user_id) for order in orders},
        "positions": [state.waiting_position(order) for order in orders],
        "line": list(state.waiting_orders()),
        "keys": {key: (kept.fingerprint, observed_answer(kept.answer)) for key, kept in state.keys.items()},
        "weight": state.weight,
    }
