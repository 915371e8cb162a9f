"""Ticket types: a stock and a waiting list each, and the price at which an order was booked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ticketing.audit import audit_event
from ticketing.domain.commands import Update
from ticketing.domain.decide import TICKET_TYPES_MAX
from ticketing.domain.fold import LedgerContradiction, fold
from ticketing.domain.model import Answer, EventState, OrderStatus
from ticketing.domain.tickets import FREE, GENERAL, TicketType
from ticketing.storage.documents import commit_document, transitions_of

from .rehearsal import EVENT_ID, Rehearsal, observed, refusal_of

SEAT = TicketType("seat", "A seat", 2, Decimal("25.00"), "EUR")
BOX = TicketType("box", "A box for four", 1, Decimal("99.50"), "EUR")


def typed(**event: Any) -> Rehearsal:
    """An event with two seats and one box."""
    return Rehearsal(ticket_types=(SEAT, BOX), **event)


def update(play: Rehearsal, **fields: Any) -> Answer:
    """Change the event."""
    return play.play(Update(event_id=EVENT_ID, by="admin", fields=fields)).answer


def test_without_types_there_is_one_that_is_free() -> None:
    """And the ledger says no more of it than how many tickets there are."""
    play = Rehearsal(3)
    play.book("ada")
    assert play.state.event is not None
    (only,) = play.state.event.ticket_types
    assert (only.code, only.total_tickets, only.price, only.currency) == (GENERAL, 3, FREE, None)
    opened, booked = play.transitions
    assert opened.event is not None and "ticket_types" not in opened.event
    assert set(booked.orders[0]) == {"order_id", "user_id", "quantity", "status"}
    order = play.order_of("ada")
    assert (order.ticket_type, order.unit_price, order.total_price, order.currency) == (GENERAL, FREE, FREE, None)


def test_each_type_has_its_own_stock_and_line() -> None:
    """Who waits for one does not keep others from another, and is promoted by its tickets only."""
    play = typed()
    for user_id, code in (("ada", "seat"), ("bob", "seat"), ("cyd", "seat"), ("dan", "box"), ("eve", "box")):
        play.book(user_id, 1, code)
    assert [play.order_of(user_id).status for user_id in ("ada", "bob", "cyd", "dan", "eve")] == [
        OrderStatus.CONFIRMED,
        OrderStatus.CONFIRMED,
        OrderStatus.WAITING,
        OrderStatus.CONFIRMED,
        OrderStatus.WAITING,
    ]
    assert [play.state.waiting_position(play.order_of(user_id)) for user_id in ("cyd", "eve")] == [1, 1]
    assert play.line() == ["cyd", "eve"]
    assert [order.user_id for order in play.cancel("dan").promoted] == ["eve"]
    assert play.line() == ["cyd"]
    assert [(stock.booked_tickets, stock.waiting_list_count) for stock in play.state.stocks] == [(2, 1), (1, 0)]
    assert (play.state.total_tickets, play.state.booked_tickets, play.state.waiting_list_count) == (3, 3, 1)


def test_what_is_held_for_one_type_is_available_for_another() -> None:
    """booked + available + held = total, over all types."""
    play = typed()
    play.book("ada", 1, "seat")
    play.book("bob", 2, "seat")
    state = play.state
    assert (state.booked_tickets, state.available_tickets, state.held_tickets) == (1, 1, 1)
    assert [stock.held_tickets for stock in state.stocks] == [1, 0]


def test_one_active_order_over_all_types() -> None:
    """A user who has a seat cannot have a box too."""
    play = typed()
    play.book("ada", 1, "seat")
    assert refusal_of(play.book("ada", 1, "box")) == "already_booked"


@pytest.mark.parametrize(
    ("code", "quantity", "refusal"),
    [(None, 1, "ticket_type_required"), ("vip", 1, "unknown_ticket_type"), ("box", 2, "exceeds_total_tickets")],
)
def test_a_booking_names_a_type_that_there_is(code: str | None, quantity: int, refusal: str) -> None:
    """And no more tickets than it has; nothing is changed."""
    play = typed()
    assert refusal_of(play.book("ada", quantity, code)) == refusal
    assert play.state.version == 1


def test_an_order_keeps_the_price_at_which_it_was_booked() -> None:
    """Confirmed or waiting: a new price is for new orders."""
    play = typed()
    play.book("ada", 1, "box")
    play.book("bob", 1, "box")
    update(play, ticket_types=[{"code": "box", "price": Decimal("120.00")}])
    play.book("cyd", 1, "box")
    play.cancel("ada")
    assert [play.order_of(user_id).unit_price for user_id in ("bob", "cyd")] == [Decimal("99.50"), Decimal("120.00")]
    assert play.order_of("bob").status is OrderStatus.CONFIRMED
    assert (play.order_of("bob").currency, play.order_of("bob").ticket_type) == ("EUR", "box")


def test_the_total_price_is_exact() -> None:
    """With the digits of its currency."""
    price = Decimal("0.10")
    play = Rehearsal(ticket_types=(TicketType("seat", "A seat", 5, price, "EUR"),))
    play.book("ada", 3)
    assert str(play.order_of("ada").total_price) == "0.30"


def test_more_tickets_of_a_type_promote_who_waits_for_it() -> None:
    """In the same transition; the other line stays as it is."""
    play = typed()
    for user_id, code in (("ada", "box"), ("bob", "box"), ("cyd", "seat"), ("dan", "seat"), ("eve", "seat")):
        play.book(user_id, 1, code)
    answer = update(play, ticket_types=[{"code": "box", "total_tickets": 2}])
    assert [order.user_id for order in answer.promoted] == ["bob"]
    assert play.line() == ["eve"]
    assert play.state.total_tickets == 4


def test_fewer_tickets_of_a_type_have_a_floor() -> None:
    """What is booked of that type, whatever is free of another."""
    play = typed()
    play.book("ada", 2, "seat")
    refused = update(play, ticket_types=[{"code": "seat", "total_tickets": 1}, {"code": "box", "total_tickets": 9}])
    assert refused.refusal is not None
    assert (refused.refusal.code, refused.refusal.details) == (
        "below_booked_tickets",
        {"minimum": 2, "ticket_type": "seat"},
    )
    assert play.state.version == 2


def test_a_type_may_come_later() -> None:
    """An event that began with one free type gets a second one; what was booked stays general and free."""
    play = Rehearsal(1)
    play.book("ada")
    new = {"code": "seat", "total_tickets": 4, "price": Decimal("5.00"), "currency": "EUR"}
    assert update(play, ticket_types=[new]).refusal is None
    play.book("bob", 1, "seat")
    assert [stock.booked_tickets for stock in play.state.stocks] == [1, 1]
    assert (play.order_of("ada").unit_price, play.order_of("bob").unit_price) == (FREE, Decimal("5.00"))
    assert play.state.event is not None and play.state.event.ticket_types[1].name == "seat"


@pytest.mark.parametrize(
    "fields",
    [
        {"total_tickets": 9},
        {"ticket_types": [{"code": "new"}]},
        {"ticket_types": [{"code": f"t{number}", "total_tickets": 1} for number in range(TICKET_TYPES_MAX)]},
    ],
)
def test_types_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    """A total of several types, a new one without tickets, too many."""
    play = typed()
    assert refusal_of(update(play, **fields)) == "invalid_ticket_types"
    assert play.state.version == 1


@pytest.mark.parametrize("types", [[SEAT, SEAT], [SEAT._replace(code=f"t{place}") for place in range(101)]])
def test_an_event_opens_with_types_that_can_be(types: list[TicketType]) -> None:
    """Each once, and not too many."""
    play = Rehearsal()
    assert refusal_of(play.initialize(ticket_types=tuple(types))) == "invalid_ticket_types"
    assert play.state.version == 0


def test_the_total_of_one_type_may_be_changed_without_naming_it() -> None:
    """And price and name stay."""
    play = Rehearsal(ticket_types=(SEAT,))
    assert update(play, total_tickets=5).refusal is None
    assert play.state.event is not None
    assert play.state.event.ticket_types == (SEAT._replace(total_tickets=5),)


def test_an_event_may_become_plain_again() -> None:
    """Its one type loses its own name: the ledger says that there are no types any more, and goes on without them."""
    play = Rehearsal(ticket_types=(TicketType(GENERAL, "Standing", 5),))
    play.book("ada")
    update(play, ticket_types=[{"code": GENERAL, "name": "General admission"}])
    update(play, total_tickets=7)
    play.book("bob")
    named, grown = (transition.event for transition in play.transitions[2:4])
    assert (named, grown) == ({"ticket_types": None, "total_tickets": 5}, {"total_tickets": 7})
    document = commit_document(EVENT_ID, play.transitions, b"n" * 16)
    assert audit_event(EVENT_ID, [document]).findings == []
    assert observed(fold(EventState(EVENT_ID), transitions_of(document["transitions"]))) == observed(play.state)


def test_a_fold_leads_to_the_same() -> None:
    """From the transitions alone, and what each type has is checked: never more booked than it has."""
    play = typed()
    for user_id, code in (("ada", "box"), ("bob", "box"), ("cyd", "seat")):
        play.book(user_id, 1, code)
    update(play, ticket_types=[{"code": "box", "total_tickets": 2}])
    assert observed(fold(EventState(EVENT_ID), play.transitions)) == observed(play.state)
    wrong = play.transitions[2]._replace(orders=({**play.transitions[2].orders[0], "status": OrderStatus.CONFIRMED},))
    with pytest.raises(LedgerContradiction, match="leaves 2 of 1 tickets booked"):
        fold(EventState(EVENT_ID), [*play.transitions[:2], wrong])


OTHER_TYPES: list[Any] = [5, b"x", ["EUR"], {}, True]


@pytest.mark.parametrize(
    "event",
    [
        {"total_tickets": 4, "ticket_types": (SEAT, BOX)},
        {"ticket_types": (SEAT, BOX)},
        {"total_tickets": 0, "ticket_types": ()},
        {"total_tickets": 4, "ticket_types": (SEAT, SEAT)},
        {"total_tickets": 4, "ticket_types": ("seat",)},
        {"total_tickets": 2, "ticket_types": (SEAT._replace(total_tickets=True), BOX._replace(total_tickets=True))},
        *(
            {"total_tickets": SEAT.total_tickets, "ticket_types": (TicketType(**SEAT._asdict() | {name: value}),)}
            for name in ("code", "name", "price", "currency")
            for value in OTHER_TYPES
        ),
    ],
)
def test_types_that_contradict_themselves_are_damage(event: dict[str, Any]) -> None:
    """A total that is not their sum, none at all, one that is there twice, one with a field of another type."""
    opened = typed().transitions[0]
    assert opened.event is not None
    about = {name: opened.event[name] for name in ("name", "max_tickets_per_order")}
    with pytest.raises(LedgerContradiction):
        fold(EventState(EVENT_ID), [opened._replace(event=about | event)])
