"""GET /orders, on a real mongod: the orders of a user, over all events."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database

from tests.damage import changed, garbled, removed
from ticketing.api.auth import Role
from ticketing.storage.ledger import ledger_collection

from .conftest import ADMIN, Answer, Api, Json, MakeApp, add_account, refused
from .test_bookings import ORDER_MEMBERS

pytestmark = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)

ADA = ("ada", "a password of ada's")
OLGA = ("olga", "a password of an organizer")
OTTO = ("otto", "a password of another organizer")
EVENTS = {"a": OLGA, "a-b": OTTO, "ab": OLGA, "b": OTTO}


@pytest.fixture
def api(app: Flask) -> Api:
    """Ada has an order in each event, in one of them three, of which two are cancelled."""
    api = Api(app)
    for credentials, role in ((ADA, Role.CUSTOMER), (OLGA, Role.ORGANIZER), (OTTO, Role.ORGANIZER)):
        add_account(app, credentials, role)
    for event_id, organizer in EVENTS.items():
        api.initialize(1, event_id, auth=organizer)
        api.book("ben", event_id=event_id)
        book(api, event_id)
    for _ in range(2):
        assert api.post("/cancel", {"event_id": "a", "user_id": "ada"}, auth=ADA).status_code == 200
        book(api, "a")
    api.cancel("ben", "a")
    return api


def book(api: Api, event_id: str, auth: tuple[str, str] = ADA) -> Answer:
    """Book as Ada, or somebody else."""
    answer = api.post("/book", {"event_id": event_id}, auth=auth)
    assert answer.status_code in (201, 202)
    return answer


def found(api: Api, auth: tuple[str, str], **query: Any) -> list[Json]:
    """The orders of all pages."""
    items: list[Json] = []
    after: dict[str, str] = {}
    while True:
        answer = api.client.get("/orders", query_string={**query, **after}, auth=auth)
        assert answer.status_code == 200, answer.text
        items += answer.json["items"]
        if answer.json["next"] is None:
            return items
        assert answer.json["next"] in answer.headers["Link"]
        after = {"after": answer.json["next"]}


def events_of(orders: list[Json]) -> list[str]:
    """The events of orders."""
    return sorted(order["event_id"] for order in orders)


def test_a_customer_finds_his_own_orders(api: Api) -> None:
    """All of them as they are now, cancelled ones too, event by event; pages of any size have them once."""
    orders = found(api, ADA)
    assert events_of(orders) == ["a", "a", "a", "a-b", "ab", "b"]
    assert list(orders[0]) == ORDER_MEMBERS
    assert orders == [api.client.get(f"/orders/{order['order_id']}", auth=ADA).json for order in orders]
    assert sorted((order["status"], order["waiting_position"]) for order in orders if order["event_id"] == "a") == [
        ("cancelled", None),
        ("cancelled", None),
        ("confirmed", None),
    ]
    for limit in (1, 2, 4, 5, 6):
        assert found(api, ADA, limit=limit) == orders
    assert found(api, ADA, user_id="ada") == orders
    refused(api.client.get("/orders?user_id=ben", auth=ADA), 403, "forbidden")


def test_staff_find_those_in_their_events(api: Api) -> None:
    """An organizer those of his own events, and what he has booked himself elsewhere; an admin all."""
    assert events_of(found(api, OLGA, user_id="ada")) == ["a", "a", "a", "ab"]
    assert events_of(found(api, OTTO, user_id="ada", limit=1)) == ["a-b", "b"]
    assert events_of(found(api, ADMIN, user_id="ada")) == ["a", "a", "a", "a-b", "ab", "b"]
    assert events_of(found(api, ADMIN, user_id="ben")) == sorted(EVENTS)
    assert found(api, OLGA) == found(api, ADMIN) == found(api, ADMIN, user_id="nobody") == []
    book(api, "a-b", OLGA)
    assert events_of(found(api, OLGA)) == ["a-b"]


def test_what_was_booked_without_credentials_is_nobodys(api: Api) -> None:
    """Who registers a name later does not find what others have booked under it; staff do."""
    ben = ("ben", "a password of ben's")
    add_account(api.app, ben, Role.CUSTOMER)
    assert found(api, ben) == []
    book(api, "a", ben)
    assert events_of(found(api, ben)) == ["a"]
    assert events_of(found(api, ADMIN, user_id="ben")) == ["a", *sorted(EVENTS)]


def test_an_erased_user_is_not_found(api: Api) -> None:
    """By his name there is nothing; by the pseudonym staff find everything, once each."""
    before = found(api, ADMIN, user_id="ada")
    assert api.client.delete("/users/ada", auth=ADMIN).status_code == 204
    assert found(api, ADMIN, user_id="ada") == []
    pseudonym = api.get("/events/ab/orders?limit=2", staff=True).json["items"][1]["user_id"]
    after = found(api, ADMIN, user_id=pseudonym, limit=2)
    assert [order["order_id"] for order in after] == [order["order_id"] for order in before]
    assert {order["user_id"] for order in after} == {pseudonym}


def test_a_page_ends_where_its_time_does(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one event at least, so that who goes on comes to the end."""
    monkeypatch.setattr("ticketing.api.orders.is_late", lambda: True)
    orders = found(api, ADA)
    assert events_of(orders) == ["a", "a", "a", "a-b", "ab", "b"]
    assert events_of(api.client.get("/orders", auth=ADA).json["items"]) == ["a-b"]


def test_a_damaged_event_is_left_out(api: Api, make_app: MakeApp, database: Database[dict[str, Any]]) -> None:
    """The orders in all others are found."""
    removed(1)(ledger_collection(database), "a-b")
    assert events_of(found(Api(make_app()), ADA)) == ["a", "a", "a", "ab", "b"]


def test_an_id_that_is_no_text_is_left_out(api: Api, make_app: MakeApp, database: Database[dict[str, Any]]) -> None:
    """The user's other orders are found, also with the event's damage still unknown to the worker."""
    garbled(3, "order_id")(ledger_collection(database), "a-b")
    for worker in (api, Api(make_app())):
        assert [each for each in events_of(found(worker, ADA)) if each != "a-b"] == ["a", "a", "a", "ab", "b"]


ORDER_ID = "a-b.AAAAAAAAAAAAAAAAAAAAAA"


@pytest.mark.parametrize("order_id", ["a/b", "a-b.x", "a-b", "", "a-b.\u00fc", f"{ORDER_ID}\n", [ORDER_ID], 5, None])
def test_each_cursor_is_accepted(
    api: Api, make_app: MakeApp, database: Database[dict[str, Any]], order_id: Any
) -> None:
    """Wherever a damaged id stands in the list, orders behind it are reached."""
    changed(3, orders__0__order_id=order_id)(ledger_collection(database), "a-b")
    for worker in (api, Api(make_app())):
        for limit in (1, 2, 3):
            assert events_of(found(worker, ADA, limit=limit)) == ["a", "a", "a", "ab", "b"]


def test_an_index_finds_them(api: Api, database: Database[dict[str, Any]]) -> None:
    """However many others have booked."""
    plan = ledger_collection(database).find({"transitions.orders.user_id": "ada"}).explain()
    assert "order_user" in str(plan["queryPlanner"]["winningPlan"])


def test_a_query_that_is_wrong(api: Api) -> None:
    """422; also for a cursor of another list."""
    for query in ("after=MTp4", "after=", "limit=0", "limit=501", "status=waiting"):
        refused(api.client.get(f"/orders?{query}", auth=ADA), 422, "validation_failed")


def test_a_cursor_is_no_way_to_an_order_that_is_not_shown(api: Api) -> None:
    """An order booked without credentials is for who has its id: an organizer of another event does not get that."""
    api.initialize(5, "hidden-1")
    api.initialize(5, "hidden-2")
    secret = [api.book("lou", event_id=event_id).json["order_id"] for event_id in ("hidden-1", "hidden-2")]
    after: dict[str, str] = {}
    cursors = []
    while True:
        page = api.client.get("/orders", query_string={"user_id": "lou", "limit": 1, **after}, auth=OTTO).json
        assert page["items"] == []
        if page["next"] is None:
            break
        after = {"after": page["next"]}
        cursors.append(base64.urlsafe_b64decode(page["next"] + "==").decode())
    assert len(cursors) == 1
    assert all(len(cursor) < len(order_id) - 18 for cursor in cursors for order_id in secret)
