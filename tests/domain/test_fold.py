"""Folding a ledger: the same state as deciding led to, and a contradiction wherever the ledger has one."""

from __future__ import annotations

from typing import Any

import pytest

from ticketing.domain.fold import NEXT_STATUSES, Folding, LedgerContradiction, fold
from ticketing.domain.model import EventState, OrderStatus, Transition, TransitionType
from ticketing.errors import OrderNotFound

from .rehearsal import EVENT_ID, OPENING, Rehearsal, observed, request


def played() -> Rehearsal:
    """Two tickets: ada and bob have them, cyd and dan wait, keys on some of it."""
    play = Rehearsal()
    play.initialize(2, request=request("open"))
    for user_id in ("ada", "bob", "cyd", "dan"):
        play.book(user_id, request=request(user_id))
    play.cancel("eve", request=request("eve"))
    play.cancel("ada", request=request("ada's"))
    play.book("ada")
    return play


def test_the_ledger_leads_to_the_state_that_deciding_led_to() -> None:
    """Folded in one go from nothing, in steps of one, in pages of one, and from any version in between."""
    play = played()
    assert observed(fold(EventState(EVENT_ID), play.transitions)) == observed(play.state)
    state, folding = EventState(EVENT_ID), Folding(EventState(EVENT_ID))
    for transition in play.transitions:
        state = fold(state, [transition])
        folding.add([transition])
    assert observed(state) == observed(play.state)
    assert observed(folding.state()) == observed(play.state)
    for middle in range(len(play.transitions)):
        half = fold(EventState(EVENT_ID), play.transitions[:middle])
        assert observed(fold(half, play.transitions[middle:])) == observed(play.state)


def test_folding_nothing_changes_nothing() -> None:
    """No transitions, no difference."""
    play = played()
    assert observed(fold(play.state, [])) == observed(play.state)


def test_the_folded_state_leaves_the_older_one_alone() -> None:
    """Also when the fold ends in a contradiction half way."""
    play = played()
    before = observed(play.state)
    more = Rehearsal(2)
    more.state, more.commands = play.state, 100
    more.cancel("bob")
    more.book("zoe")
    fold(play.state, more.transitions[1:])
    with pytest.raises(LedgerContradiction):
        fold(play.state, [*more.transitions[1:], more.transitions[1]])
    assert observed(play.state) == before


def change(order: str, **fields: Any) -> dict[str, Any]:
    """What a transition sets on an order."""
    return {"order_id": f"{EVENT_ID}.{order}", **fields}


def new(order: str, user_id: str, status: str = "confirmed", quantity: int = 1) -> dict[str, Any]:
    """A new order, all fields."""
    return change(order, user_id=user_id, quantity=quantity, status=OrderStatus(status))


def transition(version: int, kind: str, *orders: dict[str, Any], **fields: Any) -> Transition:
    """A transition as a damaged ledger might hold it."""
    changes: Any = orders
    return Transition(version, TransitionType(kind), OPENING, orders=changes, **fields)


EVENT_FIELDS = {"name": "Concert", "total_tickets": 2, "max_tickets_per_order": 10}
OPENED = transition(1, "initialized", event=EVENT_FIELDS)
BOOKED = transition(2, "booked", new("a", "ada"))
CANCELLED = transition(3, "cancelled", change("a", status=OrderStatus.CANCELLED))

CONTRADICTIONS: dict[str, tuple[list[Transition], str]] = {
    "a truth in the place of a number": ([OPENED._replace(version=True)], "transition True .* follows 0"),
    "a gap": ([OPENED, BOOKED._replace(version=3)], "transition 3 .* follows 1"),
    "a pseudonym that is no text": (
        [OPENED, BOOKED, transition(3, "pseudonymized", change("a", user_id=b"x"))],
        "transition 3 .* is damaged: .* is no text",
    ),
    "a pseudonym with two active orders": (
        [
            OPENED,
            BOOKED,
            transition(3, "booked", new("b", "ben")),
            transition(4, "pseudonymized", *(change(order, user_id="erased:0") for order in "ab")),
        ],
        "transition 4 .* gives 'erased:0' a second order",
    ),
    "a number twice": ([OPENED, BOOKED, BOOKED], "transition 2 .* follows 2"),
    "a ledger without its beginning": ([BOOKED], "transition 2 .* follows 0"),
    "a booking before the event": ([BOOKED._replace(version=1)], "comes before the event is initialized"),
    "an event opened twice": ([OPENED, OPENED._replace(version=2)], "initializes the event again"),
    "more tickets than there are": (
        [OPENED, transition(2, "booked", new("a", "ada", quantity=3))],
        "leaves 3 of 2 tickets booked",
    ),
    "a second active order": (
        [OPENED, BOOKED, transition(3, "booked", new("b", "ada"))],
        "gives 'ada' a second order",
    ),
    "an order that begins cancelled": (
        [OPENED, transition(2, "booked", new("a", "ada", "cancelled"))],
        "makes the order .*a cancelled",
    ),
    "a cancelled order that comes back": (
        [OPENED, BOOKED, CANCELLED, transition(4, "cancelled", change("a", status=OrderStatus.CONFIRMED))],
        "makes the order .*a confirmed",
    ),
    "an order confirmed twice": (
        [OPENED, BOOKED, transition(3, "cancelled", change("a", status=OrderStatus.CONFIRMED))],
        "makes the order .*a confirmed",
    ),
    "an order cancelled twice": (
        [OPENED, BOOKED, CANCELLED, CANCELLED._replace(version=4)],
        "makes the order .*a cancelled",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_found(name: str) -> None:
    """The message names the event and the transition."""
    transitions, finding = CONTRADICTIONS[name]
    with pytest.raises(LedgerContradiction, match=f"event '{EVENT_ID}': .*{finding}"):
        fold(EventState(EVENT_ID), transitions)


DAMAGED: dict[str, Transition] = {
    "a new order without a user": transition(
        2, "booked", change("a", quantity=1, status=OrderStatus.CONFIRMED)
    ),
    "a new order without a quantity": transition(
        2, "booked", change("a", user_id="ada", status=OrderStatus.CONFIRMED)
    ),
    "a quantity that is no number": transition(2, "booked", {**new("a", "ada"), "quantity": "1"}),
    "a quantity that is no whole number, of who waits": transition(
        2, "waitlisted", {**new("a", "ada", "waiting"), "quantity": 1.5}
    ),
    "tickets less than none": transition(2, "booked", new("a", "ada", quantity=-1)),
    "no tickets, of who waits": transition(2, "waitlisted", new("a", "ada", "waiting", quantity=0)),
    "fewer tickets that are no whole number": transition(
        2, "cancelled", new("a", "ada", quantity=2), change("a", quantity=1.5)
    ),
    "a keyed booking without an order": transition(2, "booked", request=request("key")),
    "a keyed transfer of one order": transition(2, "transferred", new("a", "ada"), request=request("key")),
    "refused bookings in places that there are not": transition(
        2, "bulk_booked", new("a", "ada"), request=request("key"), refused=((5, OrderNotFound()),)
    ),
    "two refused bookings in one place": transition(
        2, "bulk_booked", new("a", "ada"), request=request("key"), refused=((0, OrderNotFound()), (0, OrderNotFound()))
    ),
    "a user that is no text": transition(2, "booked", {**new("a", "ada"), "user_id": 5}),
    "an order id that is no text": transition(2, "booked", {**new("a", "ada"), "order_id": b"a"}),
    "a change without an order": transition(2, "cancelled", {"status": OrderStatus.CANCELLED}),
    "a change that is none": transition(2, "booked", "text"),  # type: ignore[arg-type]
    "a change of what orders do not have": transition(
        2, "booked", new("a", "ada"), change("a", colour="red")
    ),
    "an order that changes its user": transition(
        2, "booked", new("a", "ada"), change("a", user_id="bob", status=OrderStatus.CANCELLED)
    ),
    "an answer about an unknown order": transition(2, "remembered", change("b"), request=request("key")),
    "an answer about nothing": transition(2, "remembered", request=request("key")),
    "a truth in the place of a quantity": transition(2, "booked", {**new("a", "ada"), "quantity": True}),
    "a pseudonym of the organizer that is no text": transition(2, "pseudonymized", event={"organizer": 5}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_transition_is_a_contradiction(name: str) -> None:
    """Missing fields and wrong types have no name of their own, and stop the event all the same."""
    with pytest.raises(LedgerContradiction, match=f"event '{EVENT_ID}': transition 2"):
        fold(EventState(EVENT_ID), [OPENED, DAMAGED[name]])


@pytest.mark.parametrize(
    "event",
    [
        {"name": "Concert"},
        {**EVENT_FIELDS, "colour": "red"},
        {**EVENT_FIELDS, "total_tickets": "2"},
        {**EVENT_FIELDS, "max_tickets_per_order": "10"},
        "text",
    ],
)
def test_a_damaged_event_is_a_contradiction(event: Any) -> None:
    """Fields that are missing, or that this service does not know."""
    with pytest.raises(LedgerContradiction, match="transition 1"):
        fold(EventState(EVENT_ID), [transition(1, "initialized", event=event)])


def test_the_life_of_an_order_has_an_end() -> None:
    """Every status is in the table, none leads to itself, and nothing follows `cancelled`."""
    assert set(NEXT_STATUSES) == {None, *OrderStatus}
    assert all(status not in following for status, following in NEXT_STATUSES.items())
    assert not NEXT_STATUSES[OrderStatus.CANCELLED]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 5},
        {"total_tickets": 3.5},
        {"total_tickets": "3"},
        {"total_tickets": True},
        {"max_tickets_per_order": None},
        {"max_tickets_per_order": True},
        {"created_at": "yesterday"},
    ],
)
def test_an_event_with_fields_of_the_wrong_type_is_a_contradiction(wrong: dict[str, Any]) -> None:
    """It would be served, and fail later, in the middle of an answer."""
    fields = {"name": "Concert", "total_tickets": 3, "max_tickets_per_order": 10, **wrong}
    opening = Transition(1, TransitionType.INITIALIZED, OPENING, event=fields)
    with pytest.raises(LedgerContradiction, match="wrong type"):
        fold(EventState("e"), [opening])
