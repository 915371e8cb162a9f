"""The views that people read agree with the state that the service folds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.domain.rehearsal import OPENING, Rehearsal, request
from ticketing.domain.commands import Update
from ticketing.domain.model import EventState, Order
from ticketing.storage.client import connect
from ticketing.storage.ledger import COLLECTION, Ledger, ledger_collection
from ticketing.storage.schema import INDEXES, create_indexes_and_views
from ticketing.storage.webhooks import opened_between

from .fakes import FakeClock
from .ledger_suite import append_in_commits

Document = dict[str, Any]


@pytest.fixture
def ticketing(mongod: str, database: Database[Document]) -> Iterator[Database[Document]]:
    """A database with views, read as the service reads it."""
    with connect(mongod) as client:
        create_indexes_and_views(client[database.name])
        yield client[database.name]


def random_history(event_id: str, chance: random.Random, commands: int) -> Rehearsal:
    """Bookings and cancellations by few users, so that each of them comes again and again."""
    play = Rehearsal(chance.randint(3, 12), event_id)
    for number in range(commands):
        user_id = f"user {chance.randint(1, 12)}"
        key = request(f"{event_id} {number}") if chance.random() < 0.3 else None
        orders = list(play.state.orders_by_arrival())
        what = chance.random()
        if what < 0.6 or not orders:
            play.book(user_id, chance.randint(1, 4), request=key)
        elif what < 0.8:
            play.cancel(user_id, request=key)
        else:
            play.cancel(order_id=chance.choice(orders).order_id, request=key)
    return play


def write(database: Database[Document], play: Rehearsal, chance: random.Random) -> None:
    """All transitions, in commits of random size."""
    clock = FakeClock()
    sizes, left = [], len(play.transitions)
    while left:
        sizes.append(chance.randint(1, min(5, left)))
        left -= sizes[-1]
    ledger = Ledger(ledger_collection(database), clock)
    append_in_commits(ledger, play.event_id, play.transitions, sizes, clock.monotonic() + 60)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_views_agree_with_the_folded_state(ticketing: Database[Document], seed: int) -> None:
    """Several events with random histories: every order and every event, field by field."""
    chance = random.Random(seed)
    plays = [random_history(event_id, chance, 80) for event_id in ("concert", "concert-2", "Opera", "x")]
    for play in plays:
        write(ticketing, play, chance)
    orders = {document["_id"]: document for document in ticketing["orders"].find()}
    assert orders == {
        order.order_id: order_as_viewed(order) for play in plays for order in play.state.orders_by_arrival()
    }
    events = {document["_id"]: document for document in ticketing["events"].find()}
    assert events == {play.event_id: event_as_viewed(play.state) for play in plays}


def test_an_event_that_was_just_opened_is_viewed(ticketing: Database[Document]) -> None:
    """It has no orders yet, and counts none."""
    play = Rehearsal(5)
    write(ticketing, play, random.Random(0))
    assert ticketing["events"].find_one() == event_as_viewed(play.state)
    assert ticketing["orders"].find_one() is None


def test_what_is_only_remembered_counts_as_a_version_and_updates_nothing(
    ticketing: Database[Document],
) -> None:
    """As in the status of the event."""
    play = Rehearsal(5)
    play.book("ada")
    play.book("ada", request=request("again"))
    write(ticketing, play, random.Random(0))
    (event,) = ticketing["events"].find()
    assert event == event_as_viewed(play.state)
    assert (event["version"], event["updated_at"]) == (3, play.transitions[1].at)


def test_a_second_cancellation_that_is_remembered_does_not_touch_the_order(
    ticketing: Database[Document],
) -> None:
    """Its version and time are those of the first."""
    play = Rehearsal(5)
    play.book("ada")
    (order,) = play.state.orders_by_arrival()
    play.cancel(order_id=order.order_id)
    play.cancel(order_id=order.order_id, request=request("again"))
    write(ticketing, play, random.Random(0))
    (cancelled,) = play.state.orders_by_arrival()
    assert cancelled.version == 3
    assert list(ticketing["orders"].find()) == [order_as_viewed(cancelled)]


def test_people_find_what_they_look_for(ticketing: Database[Document]) -> None:
    """The orders of a user, those who wait for an event."""
    play = Rehearsal(1)
    for user_id in ("ada", "bob", "cyd"):
        play.book(user_id)
    write(ticketing, play, random.Random(0))
    assert [order["status"] for order in ticketing["orders"].find({"user_id": "ada"})] == ["confirmed"]
    waiting = ticketing["orders"].find({"event_id": play.event_id, "status": "waiting"}).sort("version", 1)
    assert [order["user_id"] for order in waiting] == ["bob", "cyd"]


def test_making_indexes_and_views_again_changes_nothing(ticketing: Database[Document]) -> None:
    """`init-db` may run at every start."""
    before = described(ticketing)
    create_indexes_and_views(ticketing)
    assert described(ticketing) == before
    assert set(before["indexes"]) == {"_id_", *(index.document["name"] for index in INDEXES)}
    assert {"orders", "events", COLLECTION} <= set(before["collections"])


def test_an_older_view_is_brought_up_to_date(ticketing: Database[Document]) -> None:
    """Without dropping it: who reads it meanwhile finds it."""
    ticketing.command("collMod", "orders", viewOn=COLLECTION, pipeline=[{"$match": {"_id": "nothing"}}])
    create_indexes_and_views(ticketing)
    write(ticketing, random_history("concert", random.Random(3), 10), random.Random(3))
    assert ticketing["orders"].find_one() is not None


def test_the_index_finds_a_key_without_reading_the_ledger(ticketing: Database[Document]) -> None:
    """The look-up that every request with a key makes."""
    write(ticketing, random_history("concert", random.Random(4), 60), random.Random(4))
    query = {"transitions.request.key": {"$in": [request("concert 1").key]}}
    plan = ledger_collection(ticketing).find(query).explain()
    assert "request_key" in str(plan["queryPlanner"]["winningPlan"])


def test_the_index_finds_sales_that_opened_without_reading_the_ledger(ticketing: Database[Document]) -> None:
    """Those who deliver ask for them every 10 s: the details of events are looked at, and no booking."""
    opens_at = OPENING + timedelta(days=1)
    for event_id in ("concert", "opera"):
        play = Rehearsal(3, event_id)
        play.book("ada")
        play.play(Update(event_id=event_id, fields={"sales_open_at": opens_at if event_id == "opera" else None}))
        write(ticketing, play, random.Random(4))
    query = opened_between(opens_at - timedelta(seconds=1), opens_at)
    assert ledger_collection(ticketing).distinct("event_id", query) == ["opera"]
    assert ledger_collection(ticketing).distinct("event_id", opened_between(opens_at, opens_at + timedelta(1))) == []
    plan = ticketing.command("explain", {"distinct": COLLECTION, "key": "event_id", "query": query})
    assert "event_details" in str(plan["queryPlanner"]["winningPlan"])


def described(database: Database[Document]) -> Document:
    """What init-db makes."""
    collections = {part["name"]: part.get("options") for part in database.list_collections()}
    return {"collections": collections, "indexes": database[COLLECTION].index_information()}


def order_as_viewed(order: Order) -> Document:
    """The document of an order, all fields."""
    return {
        "_id": order.order_id,
        "order_id": order.order_id,
        "event_id": order.event_id,
        "user_id": order.user_id,
        "quantity": order.quantity,
        "status": order.status,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "version": order.version,
    }


def event_as_viewed(state: EventState) -> Document:
    """The document of an event, all fields."""
    assert state.event is not None
    return {
        "_id": state.event_id,
        "event_id": state.event_id,
        "name": state.event.name,
        "total_tickets": state.event.total_tickets,
        "max_tickets_per_order": state.event.max_tickets_per_order,
        "booked_tickets": state.booked_tickets,
        "waiting_list_count": state.waiting_list_count,
        "created_at": state.event.created_at,
        "updated_at": state.updated_at,
        "version": state.version,
    }


def test_an_event_is_viewed_as_it_was_changed_last(ticketing: Database[Document]) -> None:
    """Changes that promote, and name orders, and changes that do not, in any order: the last one counts."""
    for number in range(8):
        play = Rehearsal(1, f"concert-{number}")
        for user in range(9):
            play.book(f"user-{user}")
        for total_tickets in (2, 3, 4, 7, 50):
            play.play(Update(event_id=play.event_id, fields={"total_tickets": total_tickets}))
        write(ticketing, play, random.Random(number))
    assert {event["total_tickets"] for event in ticketing["events"].find()} == {50}
