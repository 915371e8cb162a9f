"""Transitions as documents: what is written is what is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import MinKey, ObjectId, Regex
from bson.codec_options import CodecOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketing.domain.commands import BULK_MAX
from ticketing.domain.model import OrderStatus, RequestKey, Transition, TransitionType
from ticketing.domain.tickets import TicketType
from ticketing.errors import (
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
from ticketing.storage.documents import commit_document, ledger_id, transitions_of

NOW = datetime.now(UTC)
NONCE = b"n" * 16
READ = CodecOptions[dict[str, Any]](tz_aware=False)

# What reaches the ledger from outside is text: any that BSON can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
QUANTITIES = st.integers(1, 2**53)
REFUSED = st.lists(
    st.fixed_dictionaries(
        {
            "index": st.integers(0, BULK_MAX - 1),
            "code": st.just("exceeds_total_tickets"),
            "details": st.fixed_dictionaries({"maximum": QUANTITIES}),
        }
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each["index"],
)
REFUSALS: dict[type[Refusal], st.SearchStrategy[Refusal]] = {
    EventNotFound: st.builds(EventNotFound, TEXT),
    EventExists: st.builds(EventExists, TEXT),
    OrderNotFound: st.builds(OrderNotFound),
    AlreadyBooked: st.builds(AlreadyBooked, TEXT),
    ExceedsMaxTicketsPerOrder: st.builds(ExceedsMaxTicketsPerOrder, QUANTITIES),
    ExceedsTotalTickets: st.builds(ExceedsTotalTickets, QUANTITIES),
    IdempotencyKeyReused: st.builds(IdempotencyKeyReused),
    ExceedsMaxTicketsPerUser: st.builds(ExceedsMaxTicketsPerUser, QUANTITIES),
    SalesNotOpen: st.builds(SalesNotOpen, TEXT, QUANTITIES),
    SalesClosed: st.builds(SalesClosed),
    EventCancelled: st.builds(EventCancelled),
    VersionConflict: st.builds(VersionConflict, QUANTITIES),
    InvalidSchedule: st.builds(InvalidSchedule, TEXT, TEXT),
    BelowBookedTickets: st.builds(BelowBookedTickets, QUANTITIES, TEXT),
    UnknownTicketType: st.builds(UnknownTicketType, TEXT),
    TicketTypeRequired: st.builds(TicketTypeRequired),
    InvalidTicketTypes: st.builds(InvalidTicketTypes, TEXT, TEXT),
    ExceedsOrderQuantity: st.builds(ExceedsOrderQuantity, QUANTITIES),
    OrderNotConfirmed: st.builds(OrderNotConfirmed, TEXT),
    TransferClosed: st.builds(TransferClosed),
    NotEnoughTickets: st.builds(NotEnoughTickets, QUANTITIES),
    BulkRefused: st.builds(BulkRefused, st.just(BULK_MAX), REFUSED),
}
NAMELESS = {"code": "event_exists", "details": {}}
PRICES = st.decimals(min_value=0, max_value=10**9, places=2)
TYPES = st.builds(TicketType, TEXT, TEXT, QUANTITIES, PRICES, st.none() | TEXT)
CHANGES = st.fixed_dictionaries(
    {"order_id": TEXT},
    optional={
        "user_id": TEXT,
        "quantity": QUANTITIES,
        "status": st.sampled_from(OrderStatus),
        "ticket_type": TEXT,
        "unit_price": PRICES,
        "currency": TEXT,
        "transferred_from": TEXT,
    },
)
TRANSITIONS = st.builds(
    Transition,
    version=st.just(0),
    type=st.sampled_from(TransitionType),
    at=TIMES,
    by=st.none() | TEXT,
    event=st.none()
    | st.fixed_dictionaries(
        {"name": TEXT, "total_tickets": QUANTITIES},
        optional={
            "starts_at": st.none() | TIMES,
            "venue": TEXT,
            "ticket_types": st.lists(TYPES, max_size=3).map(tuple),
        },
    ),
    orders=st.lists(CHANGES, max_size=3).map(tuple),
    request=st.none() | st.builds(RequestKey, st.binary(min_size=16, max_size=16), st.binary(max_size=16)),
    refusal=st.none() | st.one_of(*REFUSALS.values()),
    sales_closed=st.booleans(),
    refused=st.lists(st.tuples(QUANTITIES, st.one_of(*REFUSALS.values())), max_size=2).map(tuple),
)


def comparable(transition: Transition) -> Transition:
    """Refusals are exceptions, which are equal to nothing but themselves."""
    refusal: Any = transition.refusal and (type(transition.refusal), transition.refusal.details)
    refused: Any = tuple((index, type(each), each.details) for index, each in transition.refused)
    return transition._replace(refusal=refusal, refused=refused)


@settings(deadline=None)
@given(st.lists(TRANSITIONS, min_size=1, max_size=4), st.integers(1, 10**9))
def test_what_is_written_is_what_is_read(transitions: list[Transition], first: int) -> None:
    """Through BSON and back, every field of every transition of a commit."""
    transitions = [part._replace(version=first + n) for n, part in enumerate(transitions)]
    document = commit_document("concert", transitions, NONCE)
    again = transitions_of(bson.decode(bson.encode(document), READ)["transitions"])
    assert [comparable(part) for part in again] == [comparable(part) for part in transitions]
    assert [type(change.get("status")) for part in again for change in part.orders] == [
        type(change.get("status")) for part in transitions for change in part.orders
    ]


def test_what_was_decided_together_shares_its_time() -> None:
    """A date takes more memory than a number. Those that differ stay apart, all are UTC."""
    early, late = (datetime(2027, 1, 1, hour, tzinfo=UTC) for hour in (1, 2))
    parts = [
        Transition(version, TransitionType.REMEMBERED, at)
        for version, at in enumerate([early, early, late, early], start=1)
    ]
    document = bson.decode(bson.encode(commit_document("concert", parts, NONCE)), READ)
    again = [part.at for part in transitions_of(document["transitions"])]
    assert again == [early, early, late, early]
    assert all(at.tzinfo is UTC for at in again)
    assert again[0] is again[1]


def test_every_refusal_is_tried() -> None:
    """A new refusal must be able to go through the ledger: add it to `REFUSALS` above."""
    assert set(REFUSALS) == set(Refusal.__subclasses__())


OTHERS = [7, 1.5, "x", True, None, {}, [5], [{}], b"\xff", ObjectId(), NOW, Regex("x"), MinKey()]


def refusals(code: object, details: object) -> list[dict[str, Any]]:
    """A transition that is refused so, and one that is in part."""
    refusal = {"code": code, "details": details}
    part = {"version": 1, "type": "remembered", "at": NOW}
    return [part | {"refusal": refusal}, part | {"refused": [{"index": 0, **refusal}]}]


@pytest.mark.parametrize("kind", REFUSALS)
@settings(deadline=None, max_examples=5)
@given(st.data())
def test_details_of_other_types_are_refused(kind: type[Refusal], data: st.DataObject) -> None:
    """They would be shown to clients, and could not be. So are those that are missing, and further ones."""
    details = data.draw(REFUSALS[kind]).details
    damaged = [details | {"another": 5}, *OTHERS[:2]]
    for name, value in details.items():
        damaged.append({other: value for other, value in details.items() if other != name})
        damaged += [details | {name: other} for other in OTHERS if type(other) is not type(value) or other == [5]]
    for transition in refusals(kind.code, details):
        assert transitions_of([transition])
    for each in damaged:
        if kind is AlreadyBooked and each == {"order_id": None}:
            continue  # so it is where the order is none of the caller's
        for transition in refusals(kind.code, each):
            with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
                transitions_of([transition])


def test_places_that_many_bookings_have_not_are_refused() -> None:
    """There would be no answer for each of them, or more answers than fit into memory."""
    one = {"index": 1, "code": "sales_closed", "details": {}}
    for count, refused in ((1, [one]), (BULK_MAX + 1, [one]), (-1, [one]), (2, [one | {"index": "1"}])):
        for transition in refusals("bulk_refused", {"count": count, "refused": refused}):
            with pytest.raises(ValueError, match="other bookings"):
                transitions_of([transition])


def test_a_commit_names_its_event_and_its_versions() -> None:
    """The id is the event and the first version, padded so that ids sort as numbers do."""
    parts = [Transition(version, TransitionType.REMEMBERED, datetime.now(UTC)) for version in (8, 9)]
    document = commit_document("concert", parts, NONCE)
    assert document["_id"] == "concert:000000000008"
    assert (document["event_id"], document["first"], document["last"]) == ("concert", 8, 9)
    assert document["nonce"] == NONCE
    assert ledger_id("concert", 9) < ledger_id("concert", 10) < ledger_id("concert", 10**11)


def test_what_is_not_said_takes_no_room() -> None:
    """A transition without a caller, orders, key or refusal has none of these fields."""
    part = Transition(1, TransitionType.INITIALIZED, datetime(2027, 1, 1, tzinfo=UTC), event={"name": "E"})
    (document,) = commit_document("concert", [part], NONCE)["transitions"]
    assert set(document) == {"version", "type", "at", "event"}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"transitions": None},
        {"transitions": 5},
        {"transitions": "text"},
        {"transitions": [None]},
        {"transitions": [[]]},
        {"transitions": ["text"]},
        {"transitions": [{}]},
        {"transitions": [{"version": 1, "type": "exploded", "at": None}]},
        {"transitions": [{"version": 1, "type": ["booked"], "at": None}]},
        {"transitions": [{"version": 1, "type": "booked", "at": None, "orders": 5}]},
        {"transitions": [{"version": 1, "type": "booked", "at": None, "orders": [5]}]},
        {"transitions": [{"version": 1, "type": "booked", "at": None, "orders": [{"status": "lost"}]}]},
        {"transitions": [{"version": 1, "type": "booked", "at": None, "request": "text"}]},
        {"transitions": [{"version": 1, "type": "booked", "at": None, "request": {"key": b""}}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "request": 0}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "request": {}}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "refusal": ""}]},
        {"transitions": [{"version": 1, "type": "booked", "at": None, "refusal": {"code": "no"}}]},
        {"transitions": [{"version": 1, "type": "booked", "at": None, "refusal": NAMELESS}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "orders": [{"unit_price": 5}]}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "orders": [{"unit_price": "five"}]}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "orders": [{"unit_price": "NaN"}]}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "orders": [{"unit_price": "9e999999"}]}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "orders": [{"unit_price": "-1.00"}]}]},
        {"transitions": [{"version": 1, "type": "booked", "at": NOW, "by": b"ada"}]},
        {"transitions": [{"version": 1, "type": "updated", "at": NOW, "event": {"ticket_types": 5}}]},
        {"transitions": [{"version": 1, "type": "updated", "at": NOW, "event": {"ticket_types": [{"code": "a"}]}}]},
        {"transitions": [{"version": 1, "type": "bulk_booked", "at": NOW, "refused": [{"index": 1}]}]},
    ],
)
def test_what_is_no_commit_is_refused(document: dict[str, Any]) -> None:
    """With one of the errors that the ledger expects, whatever is wrong."""
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        transitions_of(document["transitions"])


def test_a_time_that_is_no_date_is_refused() -> None:
    """It would be shown to clients, and could not be."""
    document = commit_document("e", [Transition(1, TransitionType.BOOKED, datetime(2027, 1, 1, tzinfo=UTC))], b"n")
    document["transitions"][0]["at"] = "yesterday"
    with pytest.raises(TypeError, match="no date"):
        transitions_of(document["transitions"])
