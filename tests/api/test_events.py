"""The views of an event: status, event, availability, waiting list, orders."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import ADMIN, EVENT_ID, Api, refused
from .test_bookings import EVENT_MEMBERS, ORDER_MEMBERS, TIMESTAMP, on_both

GENERAL = {
    "code": "general",
    "name": "General admission",
    "price": "0.00",
    "currency": None,
    "total_tickets": 2,
    "available_tickets": 0,
    "booked_tickets": 2,
    "held_tickets": 0,
    "waiting_list_count": 2,
}
STATUS_MEMBERS = EVENT_MEMBERS[:10]
VIEWS = [
    f"/status/{EVENT_ID}",
    f"/events/{EVENT_ID}",
    f"/events/{EVENT_ID}/availability",
    f"/events/{EVENT_ID}/waiting-list",
    f"/events/{EVENT_ID}/orders",
]


@pytest.fixture
def sold_out(api: Api) -> Api:
    """Two tickets: ada and bob have them, cyd waits for one and dan for two."""
    api.initialize(2)
    for user, quantity in (("ada", 1), ("bob", 1), ("cyd", 1), ("dan", 2)):
        api.book(user, quantity)
    return api


@on_both
def test_the_status(sold_out: Api) -> None:
    """Exactly these members, no more and no less."""
    answer = sold_out.get(f"/status/{EVENT_ID}")
    assert answer.status_code == 200
    assert list(answer.json) == STATUS_MEMBERS
    assert answer.json == {
        "event_id": EVENT_ID,
        "name": "Concert",
        "status": "sold_out",
        "total_tickets": 2,
        "available_tickets": 0,
        "booked_tickets": 2,
        "held_tickets": 0,
        "waiting_list_count": 2,
        "version": 5,
        "ticket_types": [GENERAL],
    }


def test_the_status_follows_what_happens(api: Api) -> None:
    """On sale while a booking could be confirmed, and again after a cancellation."""
    api.initialize(1)
    assert api.status()["status"] == "on_sale"
    api.book("ada")
    assert api.status()["status"] == "sold_out"
    api.cancel("ada")
    assert (api.status()["status"], api.status()["version"]) == ("on_sale", 3)


@on_both
def test_the_event(sold_out: Api) -> None:
    """The status and the details: exactly the same members as /initialize answers."""
    event = sold_out.get(f"/events/{EVENT_ID}").json
    assert list(event) == EVENT_MEMBERS
    assert {name: event[name] for name in STATUS_MEMBERS} == sold_out.status()
    assert event["max_tickets_per_order"] == 10
    assert TIMESTAMP.fullmatch(event["created_at"]) and TIMESTAMP.fullmatch(event["updated_at"])
    assert event["updated_at"] > event["created_at"]


def test_the_etag_is_the_version(sold_out: Api) -> None:
    """Quoted and strong (RFC 9110, 8.8.3); it changes with each transition."""
    assert sold_out.get(f"/events/{EVENT_ID}").headers["ETag"] == '"5"'
    sold_out.cancel("dan")
    assert sold_out.get(f"/events/{EVENT_ID}").headers["ETag"] == '"6"'


@pytest.mark.parametrize("header", ['"5"', 'W/"5"', '"4", "5"', "*"])
def test_an_unchanged_event_is_not_sent_again(sold_out: Api, header: str) -> None:
    """304 without a body, with the ETag (RFC 9110, 15.4.5)."""
    answer = sold_out.get(f"/events/{EVENT_ID}", headers={"If-None-Match": header})
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", '"5"')


@pytest.mark.parametrize("header", ['"4"', '"55"', '"', "nonsense"])
def test_a_changed_event_is_sent_again(sold_out: Api, header: str) -> None:
    """200 where the version is another, or none."""
    answer = sold_out.get(f"/events/{EVENT_ID}", headers={"If-None-Match": header})
    assert (answer.status_code, answer.json["version"]) == (200, 5)


@pytest.mark.parametrize("header", ['"5"', '"4", "5"', "*"])
def test_the_event_at_a_version(sold_out: Api, header: str) -> None:
    """With `If-Match` of its version the event is shown as without (RFC 9110, 13.1.1)."""
    answer = sold_out.get(f"/events/{EVENT_ID}", headers={"If-Match": header})
    assert (answer.status_code, answer.json["version"]) == (200, 5)


@pytest.mark.parametrize("header", ['"4"', 'W/"5"', '"', "", "nonsense"])
def test_the_event_at_another_version(sold_out: Api, header: str) -> None:
    """412 where that is another version, or none, or a weak one."""
    refused(sold_out.get(f"/events/{EVENT_ID}", headers={"If-Match": header}), 412, "precondition_failed")


def test_availability(sold_out: Api) -> None:
    """What a new booking could get now."""
    answer = sold_out.get(f"/events/{EVENT_ID}/availability")
    assert answer.status_code == 200
    assert answer.json == {
        "event_id": EVENT_ID,
        "available_tickets": 0,
        "total_tickets": 2,
        "version": 5,
        "ticket_types": [GENERAL],
    }
    for user in ("dan", "cyd", "bob"):
        sold_out.cancel(user)
    assert sold_out.get(f"/events/{EVENT_ID}/availability").json["available_tickets"] == 1


@on_both
def test_the_waiting_list_hides_who_waits(sold_out: Api) -> None:
    """Everybody sees places, quantities and times, and nothing that tells whose they are."""
    answer = sold_out.get(f"/events/{EVENT_ID}/waiting-list")
    assert answer.status_code == 200
    assert list(answer.json) == ["items", "next"] and answer.json["next"] is None
    assert [list(item) for item in answer.json["items"]] == [["position", "ticket_type", "quantity", "joined_at"]] * 2
    assert [(item["position"], item["quantity"]) for item in answer.json["items"]] == [(1, 1), (2, 2)]
    assert all(TIMESTAMP.fullmatch(item["joined_at"]) for item in answer.json["items"])
    assert "Link" not in answer.headers


def test_the_waiting_list_shows_staff_who_waits(sold_out: Api) -> None:
    """With the ids of order and user, in the order of arrival."""
    items = sold_out.get(f"/events/{EVENT_ID}/waiting-list", staff=True).json["items"]
    assert [item["user_id"] for item in items] == ["cyd", "dan"]
    for item in items:
        order = sold_out.order(item.pop("order_id"))
        assert item == {
            "position": order["waiting_position"],
            "ticket_type": order["ticket_type"],
            "quantity": order["quantity"],
            "joined_at": order["created_at"],
            "user_id": order["user_id"],
        }


def test_the_waiting_list_hides_it_from_customers(sold_out: Api, customer: tuple[str, str]) -> None:
    """A customer sees what everybody sees."""
    seen = sold_out.client.get(f"/events/{EVENT_ID}/waiting-list", auth=customer).json
    assert seen == sold_out.get(f"/events/{EVENT_ID}/waiting-list").json


def test_the_waiting_list_may_be_empty(api: Api) -> None:
    """No items, and no next page."""
    api.initialize()
    assert api.get(f"/events/{EVENT_ID}/waiting-list").json == {"items": [], "next": None}


@on_both
def test_the_orders_of_an_event(sold_out: Api) -> None:
    """For staff: all orders in the order of arrival, cancelled ones too, as each of them shows itself."""
    sold_out.cancel("ada")
    answer = sold_out.get(f"/events/{EVENT_ID}/orders", staff=True)
    assert answer.status_code == 200
    assert list(answer.json) == ["items", "next"] and answer.json["next"] is None
    items = answer.json["items"]
    assert all(list(item) == ORDER_MEMBERS for item in items)
    assert [(item["user_id"], item["status"], item["waiting_position"]) for item in items] == [
        ("ada", "cancelled", None),
        ("bob", "confirmed", None),
        ("cyd", "confirmed", None),
        ("dan", "waiting", 1),
    ]
    assert [sold_out.order(item["order_id"]) for item in items] == items


@pytest.mark.parametrize(
    ("query", "users"),
    [
        ({"status": "confirmed"}, ["bob", "cyd"]),
        ({"status": "waiting"}, ["dan"]),
        ({"status": "cancelled"}, ["ada", "eve"]),
        ({"user_id": "bob"}, ["bob"]),
        ({"user_id": "eve", "status": "cancelled"}, ["eve"]),
        ({"user_id": "bob", "status": "waiting"}, []),
        ({"user_id": "nobody"}, []),
        ({"user_id": "$ne"}, []),
        ({"user_id": "日本"}, []),
    ],
)
def test_the_orders_can_be_filtered(sold_out: Api, query: dict[str, str], users: list[str]) -> None:
    """By status, by user, by both."""
    sold_out.cancel("ada")
    sold_out.book("eve")
    sold_out.cancel("eve")
    answer = sold_out.get(f"/events/{EVENT_ID}/orders", staff=True, query_string=query)
    assert [item["user_id"] for item in answer.json["items"]] == users


def test_the_orders_of_a_user_who_came_back(api: Api) -> None:
    """Each order is there, the cancelled one and the new one."""
    api.initialize()
    for _ in range(2):
        api.book("ada")
        api.cancel("ada")
    items = api.get(f"/events/{EVENT_ID}/orders?user_id=ada", staff=True).json["items"]
    assert [item["status"] for item in items] == ["cancelled", "cancelled"]
    assert items[0]["order_id"] != items[1]["order_id"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=lost", "status"),
        ("status=", "status"),
        ("status[$ne]=confirmed", "status[$ne]"),
        ("user_id[$gt]=", "user_id[$gt]"),
        ("colour=red", "colour"),
    ],
)
def test_other_filters_are_refused(sold_out: Api, query: str, field: str) -> None:
    """422, naming the parameter: a misspelt filter must not show everybody's orders."""
    problem = refused(sold_out.get(f"/events/{EVENT_ID}/orders?{query}", staff=True), 422, "validation_failed")
    assert list(problem["errors"]) == [field]


def test_the_orders_are_for_staff(sold_out: Api, customer: tuple[str, str]) -> None:
    """401 for anybody, 403 for a customer."""
    path = f"/events/{EVENT_ID}/orders"
    refused(sold_out.get(path), 401, "unauthorized")
    refused(sold_out.client.get(path, auth=(ADMIN[0], "wrong")), 401, "unauthorized")
    refused(sold_out.client.get(path, auth=customer), 403, "forbidden")


@pytest.mark.parametrize("view", VIEWS)
def test_an_unknown_event(api: Api, view: str) -> None:
    """404 in each of its views, whether the id could be one or not."""
    for event_id in ("nowhere", "x" * 64, "x" * 65, "x" * 4000, "n%C3%B6", "%00", "$ne", "-", "a.b", "%FF", "a%0A"):
        refused(api.get(view.replace(EVENT_ID, event_id), staff=True), 404, "event_not_found")


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_changes_nothing(sold_out: Api, view: str) -> None:
    """GET and HEAD are safe; HEAD answers as GET does, without the body."""
    before = sold_out.ledger()
    shown = sold_out.get(view, staff=True)
    head = sold_out.client.head(view, auth=ADMIN)
    assert (shown.status_code, head.status_code, head.data) == (200, 200, b"")
    assert _lasting(head.headers) == _lasting(shown.headers)
    assert sold_out.ledger() == before


def _lasting(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers if name not in ("Date", "X-Request-ID")}


@pytest.mark.parametrize("view", VIEWS)
def test_wrong_credentials_are_refused_everywhere(sold_out: Api, view: str) -> None:
    """Nobody who means to be somebody is served as nobody: 401, with the way to do better."""
    answer = sold_out.client.get(view, auth=(ADMIN[0], "wrong"))
    refused(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="ticketing"'
