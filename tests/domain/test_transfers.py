"""Tickets change hands: an order of the recipient's own, no stock moves, and nobody in line is passed by."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from ticketing.audit import audit_event
from ticketing.domain.commands import CancelEvent, Update
from ticketing.domain.fold import LedgerContradiction, fold
from ticketing.domain.model import EventState, OrderStatus, TransitionType
from ticketing.domain.tickets import FREE, TicketType
from ticketing.storage.documents import commit_document, transitions_of

from .rehearsal import EVENT_ID, OPENING, Rehearsal, observed, refusal_of, request


def test_an_order_goes_to_another_user() -> None:
    """Also when all is sold out: the sender's is closed, the recipient has one of his own under a new id."""
    play = Rehearsal(2)
    play.book("ada", 2)
    play.book("bob")
    sent = play.order_of("ada")
    answer = play.transfer(sent.order_id, "cyd")
    assert answer.order is not None and answer.sender is not None
    assert (answer.order.user_id, answer.order.quantity, answer.order.status) == ("cyd", 2, OrderStatus.CONFIRMED)
    assert (answer.sender.order_id, answer.sender.status) == (sent.order_id, OrderStatus.CANCELLED)
    assert answer.order.order_id != sent.order_id
    assert (play.state.booked_tickets, play.line()) == (2, ["bob"])
    assert play.state.active_order_of("ada") is None


def test_a_part_of_an_order_goes() -> None:
    """The sender's order shrinks, and stays what it is."""
    play = Rehearsal(5)
    play.book("ada", 3)
    answer = play.transfer(play.order_of("ada").order_id, "bob", 1)
    assert answer.sender is not None
    assert (answer.sender.quantity, answer.sender.status) == (2, OrderStatus.CONFIRMED)
    assert (play.order_of("ada").quantity, play.order_of("bob").quantity, play.state.booked_tickets) == (2, 1, 3)


def test_the_price_goes_with_the_tickets() -> None:
    """And their type."""
    play = Rehearsal(ticket_types=(TicketType("seat", "A seat", 5, Decimal("25.00"), "EUR"),))
    play.book("ada", 2)
    play.transfer(play.order_of("ada").order_id, "bob", 1)
    order = play.order_of("bob")
    assert (order.ticket_type, order.unit_price, order.currency) == ("seat", Decimal("25.00"), "EUR")


@pytest.mark.parametrize("is_paid", [False, True])
def test_the_price_goes_with_the_tickets_whatever_the_event_costs_by_then(is_paid: bool) -> None:
    """What was free stays free in an event that has a price now, and what was paid for stays so in one that is free."""
    free = TicketType("general", "General admission", 5)
    paid: dict[str, Any] = {"price": Decimal("25.00"), "currency": "EUR"}
    play = Rehearsal(ticket_types=(free._replace(**paid) if is_paid else free,))
    play.book("ada", 2)
    price: dict[str, Any] = {"price": FREE, "currency": None} if is_paid else paid
    play.play(Update(event_id=EVENT_ID, fields={"ticket_types": [{"code": "general", **price}]}))
    play.transfer(play.order_of("ada").order_id, "bob", 1)
    play.book("cyd")
    ada, bob, cyd = (play.order_of(user_id) for user_id in ("ada", "bob", "cyd"))
    assert (bob.unit_price, bob.currency) == (ada.unit_price, ada.currency)
    assert (cyd.unit_price, cyd.currency) == (price["price"], price["currency"]) != (bob.unit_price, bob.currency)
    document = commit_document(EVENT_ID, play.transitions, b"n" * 16)
    assert audit_event(EVENT_ID, [document]).findings == []
    assert observed(fold(EventState(EVENT_ID), transitions_of(document["transitions"]))) == observed(play.state)


def test_both_orders_name_the_transition() -> None:
    """The chain: one transition names them both, the sender's first, and the new one says where it comes from."""
    play = Rehearsal(5)
    play.book("ada")
    sent = play.order_of("ada")
    play.transfer(sent.order_id, "bob")
    transition = play.transitions[-1]
    assert transition.type is TransitionType.TRANSFERRED
    assert [change["order_id"] for change in transition.orders] == [sent.order_id, play.order_of("bob").order_id]
    assert transition.orders[1]["transferred_from"] == sent.order_id


def test_a_place_in_line_cannot_be_given_away() -> None:
    """Nor what was given back."""
    play = Rehearsal(1)
    play.book("ada")
    play.book("bob")
    waiting, held = play.order_of("bob").order_id, play.order_of("ada").order_id
    assert refusal_of(play.transfer(waiting, "cyd")) == "order_not_confirmed"
    play.transfer(held, "dan")
    again = play.transfer(held, "eve")
    assert again.refusal is not None
    assert (again.refusal.code, again.refusal.details) == ("order_not_confirmed", {"order_status": "cancelled"})


def test_the_recipients_limits_count() -> None:
    """One active order, and no more tickets than one order and one user may have."""
    play = Rehearsal(9, max_tickets_per_order=4)
    play.book("ada", 4)
    play.book("bob")
    order_id = play.order_of("ada").order_id
    told = play.transfer(order_id, "bob").refusal
    assert told is not None and (told.code, told.details) == ("already_booked", {"order_id": None})
    assert refusal_of(play.transfer(order_id, "ada")) == "already_booked"
    refused = play.transfer(order_id, "cyd", 5)
    assert refused.refusal is not None and refused.refusal.details == {"maximum": 4}
    assert refusal_of(refused) == "exceeds_order_quantity"
    for name, lower in (("max_tickets_per_order", 2), ("max_tickets_per_user", 2)):
        play = Rehearsal(9, max_tickets_per_order=4)
        play.book("ada", 3)
        play.play(Update(event_id=EVENT_ID, by="admin", fields={name: lower}))
        order_id = play.order_of("ada").order_id
        refused = play.transfer(order_id, "bob", 3)
        assert refused.refusal is not None and refused.refusal.details == {"maximum": 2}
        assert refusal_of(refused) == f"exceeds_{name}"
        assert play.transfer(order_id, "bob", 2).refusal is None


def test_transfers_close_when_the_event_starts_or_before() -> None:
    """`transfer_close_at`, or without it `starts_at`; and there is nothing to hand on of a cancelled event."""
    for details in (
        {"starts_at": OPENING + timedelta(seconds=3)},
        {"starts_at": OPENING + timedelta(days=1), "transfer_close_at": OPENING + timedelta(seconds=3)},
    ):
        play = Rehearsal(4, details=details)
        play.book("ada", 2)
        assert refusal_of(play.transfer(play.order_of("ada").order_id, "bob", 1)) == "transfer_closed"
    play = Rehearsal(4)
    play.book("ada", 2)
    play.play(CancelEvent(event_id=EVENT_ID, by="admin"))
    assert refusal_of(play.transfer(play.order_of("ada").order_id, "bob", 1)) == "event_cancelled"


def test_there_must_be_such_an_order() -> None:
    """Else it is not found, nor is it where there is no event: who asks for an order is told about the order."""
    assert refusal_of(Rehearsal().transfer(f"{EVENT_ID}.nothing", "bob")) == "order_not_found"
    assert refusal_of(Rehearsal(4).transfer(f"{EVENT_ID}.nothing", "bob")) == "order_not_found"


def test_a_repeat_gets_both_orders_again() -> None:
    """As they were, with the same ids: tickets go once."""
    play = Rehearsal(4)
    play.book("ada", 3)
    order_id = play.order_of("ada").order_id
    first = play.transfer(order_id, "bob", 1, request=request("one"))
    play.cancel("bob")
    again = play.transfer(order_id, "bob", 1, request=request("one"))
    assert again.replayed
    assert (again.order, again.sender) == (first.order, first.sender)
    assert observed(fold(EventState(EVENT_ID), play.transitions)) == observed(play.state)


def test_tickets_made_of_nothing_are_damage() -> None:
    """An order that grows, or that a booking makes smaller, is found by the fold."""
    play = Rehearsal(9)
    play.book("ada", 3)
    order_id = play.order_of("ada").order_id
    play.transfer(order_id, "bob", 1)
    *before, sent = play.transitions
    for quantity in (0, 3, 4, -1):
        grown = sent._replace(orders=({"order_id": order_id, "quantity": quantity}, sent.orders[1]))
        with pytest.raises(LedgerContradiction, match=f"{quantity} tickets"):
            fold(EventState(EVENT_ID), [*before, grown])
    with pytest.raises(LedgerContradiction, match="2 tickets"):
        fold(EventState(EVENT_ID), [*before, sent._replace(type=TransitionType.BOOKED, orders=sent.orders[:1])])
