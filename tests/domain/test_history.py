"""The history of an order: what each transition meant for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from ticketing.domain.commands import Update
from ticketing.domain.fold import LedgerContradiction
from ticketing.domain.history import order_history
from ticketing.domain.model import OrderChange, OrderStatus, Transition, TransitionType

from .rehearsal import Rehearsal, request

AT = datetime(2027, 1, 1, 20, 0, tzinfo=UTC)
CONFIRMED, CANCELLED = OrderStatus.CONFIRMED, OrderStatus.CANCELLED


def told(play: Rehearsal, order_id: str) -> list[tuple[Any, ...]]:
    """(version, type, status, is_own) of each entry."""
    entries = order_history(order_id, play.transitions)
    return [(entry.version, entry.type, entry.status, entry.is_own) for entry in entries]


def test_an_order_from_its_booking_to_its_end() -> None:
    """It waits, moves up because of others, and is cancelled; what is only remembered is no part of it."""
    play = Rehearsal(1)
    play.book("ada")
    play.book("bob")
    ada, bob = (play.order_of(user).order_id for user in ("ada", "bob"))
    play.cancel("ada")
    play.cancel(order_id=ada, request=request("again"))
    play.cancel("bob")
    assert told(play, ada) == [(2, "booked", "confirmed", True), (4, "cancelled", "cancelled", True)]
    assert told(play, bob) == [
        (3, "waitlisted", "waiting", True),
        (4, "promoted", "confirmed", False),
        (6, "cancelled", "cancelled", True),
    ]
    assert [entry.by for entry in order_history(bob, play.transitions)] == [None, "admin", "admin"]
    assert order_history("another", play.transitions) == []


def test_more_tickets_move_an_order_up() -> None:
    """Whoever brought them was not concerned with it, though it is the only order that the change names."""
    play = Rehearsal(1)
    for user in ("ada", "bob"):
        play.book(user)
    play.play(Update(event_id=play.event_id, by="olga", fields={"total_tickets": 2}))
    bob = play.order_of("bob").order_id
    assert told(play, bob)[-1] == (4, "promoted", "confirmed", False)


def transition(version: int, kind: str, *changes: dict[str, Any], by: str | None = "ada") -> Transition:
    """A transition of any type, as a ledger may hold it."""
    orders = tuple(cast(OrderChange, change) for change in changes)
    return Transition(version, cast(TransitionType, kind), AT + timedelta(seconds=version), by, orders=orders)


def test_tickets_that_change_hands() -> None:
    """Each side names the other; the sender's order shrinks, then ends. So the chain can be followed both ways."""
    ledger = [
        transition(2, "booked", {"order_id": "a", "user_id": "ada", "quantity": 3, "status": CONFIRMED}),
        transition(
            3,
            "transferred",
            {"order_id": "a", "quantity": 2},
            {"order_id": "b", "user_id": "bob", "quantity": 1, "status": CONFIRMED, "transferred_from": "a"},
        ),
        transition(
            4,
            "transferred",
            {"order_id": "a", "status": CANCELLED},
            {"order_id": "c", "user_id": "cyd", "quantity": 2, "status": CONFIRMED, "transferred_from": "a"},
        ),
        transition(
            5,
            "transferred",
            {"order_id": "b", "status": CANCELLED},
            {"order_id": "d", "user_id": "dan", "quantity": 1, "status": CONFIRMED, "transferred_from": "b"},
            by="bob",
        ),
    ]
    chains = {
        order_id: [
            (entry.type, entry.status, entry.quantity, entry.sender, entry.recipient, entry.is_own)
            for entry in order_history(order_id, ledger)
        ]
        for order_id in "abcd"
    }
    assert chains == {
        "a": [
            ("booked", "confirmed", 3, None, None, True),
            ("transferred", "confirmed", 2, None, "b", True),
            ("transferred", "cancelled", 2, None, "c", True),
        ],
        "b": [
            ("transferred", "confirmed", 1, "a", None, True),
            ("transferred", "cancelled", 1, None, "d", True),
        ],
        "c": [("transferred", "confirmed", 2, "a", None, True)],
        "d": [("transferred", "confirmed", 1, "b", None, True)],
    }


def test_a_part_is_given_back_and_the_rest_moves_up() -> None:
    """Both in one transition: an entry each."""
    ledger = [
        transition(2, "waitlisted", {"order_id": "a", "user_id": "ada", "quantity": 3, "status": OrderStatus.WAITING}),
        transition(3, "cancelled", {"order_id": "a", "quantity": 2}, {"order_id": "a", "status": CONFIRMED}),
    ]
    entries = order_history("a", ledger)
    assert [(entry.type, entry.status, entry.quantity) for entry in entries] == [
        ("waitlisted", "waiting", 3),
        ("cancelled", "waiting", 2),
        ("promoted", "confirmed", 2),
    ]


BOOKED = {"order_id": "a", "user_id": "ada", "quantity": 2, "status": CONFIRMED}


@pytest.mark.parametrize(
    "ledger",
    [
        [transition(2, "booked", {name: value for name, value in BOOKED.items() if name != "status"})],
        [transition(2, "booked", {name: value for name, value in BOOKED.items() if name != "quantity"})],
        [transition(2, "booked", BOOKED | {"quantity": b"2"})],
        [transition(2, "booked", BOOKED), transition(3, "cancelled", {"order_id": "a", "quantity": 1.5})],
        [transition(2, "booked", BOOKED | {"transferred_from": 5})],
        [transition(2, "booked", BOOKED, {"order_id": 5, "transferred_from": "a"})],
        [transition(2, "booked", BOOKED, cast(Any, ["order_id"]))],
        [transition(2, "booked", BOOKED, {"user_id": "ben"})],
        [transition(3, "booked", BOOKED), transition(2, "cancelled", {"order_id": "a", "status": CANCELLED})],
        [transition(2, "booked", BOOKED)._replace(version=cast(Any, "x"))],
        [transition(2, "booked", BOOKED)._replace(version=cast(Any, {}))],
    ],
)
def test_what_makes_no_history_is_a_contradiction(ledger: list[Transition]) -> None:
    """Whatever has happened to the ledger since it was folded."""
    with pytest.raises(LedgerContradiction, match="the history of the order a is damaged"):
        order_history("a", ledger)


def test_many_orders_in_one_transition() -> None:
    """Each has become what its status says; who booked for many was concerned with all of them."""
    changes = [
        {"order_id": name, "user_id": name, "quantity": 1, "status": status}
        for name, status in (("a", CONFIRMED), ("b", OrderStatus.WAITING))
    ]
    ledger = [transition(2, "bulk_booked", *changes)]
    entries = [entry for order_id in "ab" for entry in order_history(order_id, ledger)]
    assert [(entry.type, entry.is_own) for entry in entries] == [("booked", True), ("waitlisted", True)]
