"""The audit of ticket types, prices, transfers, bulk bookings and parts of orders: each damage has a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.domain.rehearsal import EVENT_ID, OPENING, Rehearsal, request
from ticketing.audit import audit_event
from ticketing.domain.commands import Update
from ticketing.domain.tickets import TicketType
from ticketing.storage.documents import commit_document

Document = dict[str, Any]
Parts = list[Document]
SEAT = TicketType("seat", "A seat", 4, Decimal("25.00"), "EUR")
BOX = TicketType("box", "A box", 1, Decimal("99.50"), "EUR")
REFUSED = {"code": "order_not_found", "details": {}}


def fair_played() -> Rehearsal:
    """Four seats and one box.

    Ada books three seats (version 2); of many bookings (3) bob gets the last, dan the box, cyd waits for two seats and
    eve for the box. Ada gives one back (4) and cyd wants one less, and gets it (5). Ada hands one on to fay (6), dan
    his box to gus (7). Seats cost more (8), hal waits for one (9), bob hands his on to ivy (10). Remembered are two
    refused bookings (11), all or none (12), and a change that changes nothing (13).
    """
    details = {"starts_at": OPENING + timedelta(days=1)}
    play = Rehearsal(ticket_types=(SEAT, BOX), max_tickets_per_order=3, details=details)
    play.book("ada", 3, "seat")
    bookings = (("bob", 1, "seat"), ("ada", 1, "seat"), ("cyd", 2, "seat"), ("dan", 1, "box"), ("eve", 1, "box"))
    play.book_many(*bookings, request=request("bulk"))
    play.cancel("ada", 1)
    play.cancel("cyd", 1)
    play.transfer(play.order_of("ada").order_id, "fay", 1, request=request("hand on"))
    play.transfer(play.order_of("dan").order_id, "gus")
    dearer = {"ticket_types": [{"code": "seat", "price": Decimal("30.00")}]}
    play.play(Update(event_id=EVENT_ID, fields=dearer))
    play.book("hal", 1, "seat")
    play.transfer(play.order_of("bob").order_id, "ivy")
    play.book_many(("ada", 1, "seat"), ("jon", 9, "seat"), request=request("refused"))
    play.book_many(("jon", 1, "seat"), ("kim", 1, "box"), all_or_none=True, request=request("none"))
    play.play(Update(event_id=EVENT_ID, fields=dearer, request=request("same")))
    return play


def fair() -> Parts:
    """Its transitions as they are stored."""
    transitions: Parts = commit_document(EVENT_ID, fair_played().transitions, b"n" * 16)["transitions"]
    return transitions


def findings(transitions: Parts) -> str:
    """What the audit says of these, as one commit."""
    document = {
        "_id": f"{EVENT_ID}:{1:012d}",
        "event_id": EVENT_ID,
        "first": 1,
        "last": len(transitions),
        "nonce": b"n" * 16,
        "transitions": transitions,
    }
    return "\n".join(audit_event(EVENT_ID, [document]).findings)


def test_a_sound_fair_has_no_findings() -> None:
    """With orders of every kind in it."""
    assert [part["type"] for part in fair()] == [
        "initialized", "booked", "bulk_booked", "cancelled", "cancelled", "transferred", "transferred", "updated",
        "waitlisted", "transferred", "remembered", "remembered", "remembered",
    ]  # fmt: skip
    assert [[sorted(change) for change in part["orders"]] for part in fair()[3:5]] == [
        [["order_id", "quantity"]],
        [["order_id", "quantity"], ["order_id", "status"]],
    ]
    assert findings(fair()) == ""


def order(version: int, place: int = 0, /, **fields: Any) -> Callable[[Parts], object]:
    """Set fields of an order of a version; None takes one away."""

    def damage(parts: Parts) -> None:
        change = parts[version - 1]["orders"][place]
        change.update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            del change[name]

    return damage


def put(version: int, /, **fields: Any) -> Callable[[Parts], object]:
    """Set fields of a transition."""
    return lambda parts: parts[version - 1].update(fields)


def types(version: int, *types: Any, total: int = 5) -> Callable[[Parts], object]:
    """Set the ticket types of an event."""
    return lambda parts: parts[version - 1]["event"].update(ticket_types=list(types), total_tickets=total)


def named(version: int, place: int = 0) -> str:
    """The id of an order that a version names."""
    return str(fair()[version - 1]["orders"][place]["order_id"])


def bulk_refused(refused: Any, count: int = 2) -> Document:
    """The refusal of two bookings, or so many, with these details."""
    return {"code": "bulk_refused", "details": {"refused": refused, "count": count}}


SEATS = {"code": "seat", "name": "A seat", "total_tickets": 4, "price": "25.00", "currency": "EUR"}
BOXES = {"code": "box", "name": "A box", "total_tickets": 1, "price": "99.50", "currency": "EUR"}
DAMAGES: list[tuple[Callable[[Parts], object], str]] = [
    # Types and prices.
    (types(1, SEATS, BOXES, total=6), "version 1 .*has ticket types that are none"),
    (types(1, SEATS, SEATS, total=8), "version 1 .*of which one is there twice"),
    (types(1, SEATS, {**BOXES, "price": "dear"}), "version 1 .*has ticket types that are none"),
    (types(1, SEATS, {**BOXES, "price": 99.5}), "version 1 .*has ticket types that are none"),
    (types(1, SEATS, {**BOXES, "currency": 5}), "version 1 .*has ticket types that are none"),
    (types(1, SEATS, {**BOXES, "colour": "red"}), "version 1 .*has ticket types that are none"),
    (types(1, "seat"), "version 1 .*has ticket types that are none"),
    (types(1, {**SEATS, "total_tickets": 3}, BOXES, total=4), "version 3 .*confirms the order .* with 0 free"),
    (types(8, {**SEATS, "price": "30.00"}, total=4), "version 8 .*takes a ticket type away"),
    (types(8, {**SEATS, "total_tickets": 3}, BOXES, total=4), "version 8 .*oversold: 4 of 3"),
    (put(8, event={"total_tickets": 5, "ticket_types": None}), "version 8 .*takes a ticket type away"),
    (put(8, event={"total_tickets": 5}), "version 8 .*takes a ticket type away"),
    (put(8, event={"ticket_types": None}), "version 8 .*has ticket types that are none"),
    (put(8, event={"ticket_types": [{**SEATS, "price": "30.00"}, BOXES]}), "version 8 .*or whose total is another"),
    (order(2, unit_price="20.00"), r"version 2 .*at \('20.00', 'EUR'\), where the price is \('25.00', 'EUR'\)"),
    (order(2, unit_price=None), "version 2 .*at .*, where the price is"),
    (order(2, currency="USD"), "version 2 .*at .*, where the price is"),
    (order(9, unit_price="25.00"), "version 9 .*at .*, where the price is .'30.00'"),
    (order(2, ticket_type="vip"), "version 2 .*of the unknown ticket type 'vip'"),
    (order(2, ticket_type=None), "version 2 .*of the unknown ticket type 'general'"),
    (order(2, ticket_type=5), "version 2 .*does not hold one new order"),
    (order(2, transferred_from="x"), "version 2 .*where the price is"),
    (order(3, 2, quantity=2), "version 3 .*of 2 tickets, more than there are of its type"),
    # Many at once.
    (order(3, 1, status="confirmed"), "version 3 .*confirms the order .* of 2 tickets with 0 free"),
    (order(3, 0, status="waiting"), "version 3 .*lets the order .* wait, though nobody waits and it fits"),
    (order(3, 3, status="confirmed"), "version 3 .*confirms the order .* with 0 free"),
    (order(3, 0, user_id=None), "version 3 .*books many, and not all of them are new orders"),
    (put(3, orders=[]), "version 3 .*books many, and not all of them are new orders"),
    (put(3, refused=[{"index": 9, **REFUSED}]), "version 3 .*refuses bookings that are none"),
    (put(3, refused=[{"index": 1, **REFUSED}] * 2), "version 3 .*refuses bookings that are none"),
    (put(3, refused=[{"index": "1", **REFUSED}]), "version 3 .*refuses bookings that are none"),
    (put(3, refused=[{"index": 1, "code": "no"}]), "version 3 .*refuses bookings that are none"),
    (put(3, refused=[]), "version 3 .*refuses bookings that are none"),
    (put(3, refused=None), "version 3 .*refuses bookings that are none"),
    (put(3, refused=5), "version 3 .*refuses bookings that are none"),
    (put(2, refused=[{"index": 0, **REFUSED}]), "version 2 .*refuses bookings that are not its own"),
    (put(2, refusal=REFUSED), "version 2 .*is a refusal, and acts"),
    # Parts of orders.
    (order(4, quantity=3), "version 4 .*changes the order .*, confirmed, from 3 tickets to 3"),
    (order(4, quantity=4), "version 4 .*from 3 tickets to 4"),
    (order(4, quantity=0), "version 4 .*changes the order .* to 0 tickets"),
    (order(4, quantity=1.5), "version 4 .*changes the order .* to 1.5 tickets"),
    (order(4, status="cancelled"), "version 4 .*changes the order .* to 2 tickets"),
    (order(4, order_id="concert-2027.x"), "version 4 .*changes the order 'concert-2027.x', which there is not"),
    (order(4, order_id=named(3, 0), quantity=None), "version 4 .*cancels no order"),
    (put(4, orders=[]), "version 4 .*cancels no order"),
    (lambda parts: parts[3]["orders"].append(parts[4]["orders"][1]), "version 4 .*promotes the order .*does not fit"),
    (lambda parts: parts[4]["orders"].pop(), "version 5 .*leaves .* waiting for 1 tickets, first in line, with 1 free"),
    (order(5, 1, order_id=named(3, 3)), "version 5 .*promotes the order .*, which does not fit"),
    (order(5, 1, status="waiting"), "version 5 .*promotes the order .* to 'waiting'"),
    # Transfers.
    (order(6, 1, quantity=2), "version 6 .*takes 1 tickets and gives 2"),
    (order(6, quantity=2), "version 6 .*from 2 tickets to 2"),
    (lambda parts: parts[5]["orders"].pop(), "version 6 .*transfers no tickets to one new order"),
    (order(6, 1, user_id=None), "version 6 .*transfers no tickets to one new order"),
    (order(6, 1, transferred_from=named(3)), "version 6 .*of tickets that it did not get"),
    (order(6, 1, transferred_from=None), "version 6 .*of tickets that it did not get"),
    (order(6, 1, status="waiting"), "version 6 .*of tickets that it did not get"),
    (order(6, 1, unit_price="30.00"), "version 6 .*changes type or price of the tickets"),
    (order(6, 1, ticket_type="box"), "version 6 .*changes type or price of the tickets"),
    (order(6, 1, ticket_type="vip"), "version 6 .*of the unknown ticket type 'vip'"),
    (order(6, 1, user_id="gus"), "version 7 .*gives 'gus' a second active order"),
    (order(6, 1, order_id=named(3)), "version 6 .*makes the order .* again"),
    (order(6, order_id=named(3, 3)), "version 6 .*transfers from the order .*, which is not confirmed"),
    (order(6, order_id="concert-2027.x"), "version 6 .*transfers from the order .*, which is not confirmed"),
    (put(6, at=OPENING + timedelta(days=1)), "version 6 .*transfers tickets when it is too late for that"),
    (order(7, status="confirmed"), "version 7 .*which is confirmed, 'confirmed'"),
    (order(10, 1, unit_price="30.00"), "version 10 .*changes type or price of the tickets"),
    (put(10, event=None), "version 10 .*has fields of the event that are none"),
    # What is remembered.
    (put(11, refused=[]), "version 11 .*remembers refused bookings that are none"),
    (put(11, refused=[{"index": 1, **REFUSED}]), "version 11 .*remembers refused bookings that are none"),
    (put(11, refusal=REFUSED), "version 11 .*remembers neither one refusal nor one order"),
    (put(12, refusal=bulk_refused([5])), "version 12 .*remembers a refusal that is none"),
    (put(12, refusal=bulk_refused([])), "version 12 .*remembers a refusal that is none"),
    (put(12, refusal=bulk_refused(5)), "version 12 .*remembers a refusal that is none"),
    (put(12, refusal=bulk_refused([{"index": 2, **REFUSED}])), "version 12 .*remembers a refusal that is none"),
    (put(12, refusal=bulk_refused([{"index": 0.0, **REFUSED}])), "version 12 .*remembers a refusal that is none"),
    (put(12, refusal=bulk_refused([{"index": 1, **REFUSED}] * 2)), "version 12 .*remembers a refusal that is none"),
    (put(12, refusal=bulk_refused([REFUSED])), "version 12 .*remembers a refusal that is none"),
    (put(12, refusal=bulk_refused([], count=501)), "version 12 .*remembers a refusal that is none"),
    (put(13, event={"venue": "x"}), "version 13 .*remembers, and changes the event"),
    (put(13, event=5), "version 13 .*remembers, and changes the event"),
    (lambda parts: parts[12].pop("event"), "version 13 .*remembers neither one refusal nor one order"),
]


@pytest.mark.parametrize(("damage", "finding"), DAMAGES, ids=[finding for _, finding in DAMAGES])
def test_each_damage_is_named(damage: Callable[[Parts], object], finding: str) -> None:
    """With the version at which it was found."""
    parts = fair()
    damage(parts)
    assert re.search(finding, findings(parts)), findings(parts)
