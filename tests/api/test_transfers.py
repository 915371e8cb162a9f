"""POST /orders/<order_id>/transfer, and cancelling a part of an order."""

from __future__ import annotations

import pytest
from flask import Flask

from ticketing.api.auth import Role

from .conftest import ADMIN, Api, Json, add_account, refused

ADA, BOB = ("ada", "a password of ada's"), ("bob", "a password of bob's")

on_both = pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)


@pytest.fixture
def users(app: Flask) -> None:
    """Ada and Bob have accounts."""
    add_account(app, ADA, Role.CUSTOMER)
    add_account(app, BOB, Role.CUSTOMER)


@on_both
def test_tickets_change_hands(api: Api, users: None) -> None:
    """201 with both orders and the path of the new one, also when all is sold out."""
    api.initialize(3)
    sent = api.post("/book", {"event_id": "concert-2027", "quantity": 3}, auth=ADA).json
    api.book("cyd")
    answer = api.transfer(sent["order_id"], "bob", quantity=1, auth=ADA)
    assert answer.status_code == 201
    assert list(answer.json) == ["order", "from"]
    order, sender = answer.json["order"], answer.json["from"]
    assert (order["user_id"], order["quantity"], order["status"]) == ("bob", 1, "confirmed")
    assert (sender["order_id"], sender["quantity"], sender["status"]) == (sent["order_id"], 2, "confirmed")
    assert answer.headers["Location"] == f"/orders/{order['order_id']}"
    assert api.get(f"/orders/{order['order_id']}", auth=BOB).status_code == 200
    assert (api.status()["booked_tickets"], api.line()) == (3, [(1, "cyd")])


def test_the_recipient_owns_what_was_transferred(api: Api, users: None) -> None:
    """He may hand it on and cancel it; who sent it may not any more."""
    api.initialize(3)
    sent = api.post("/book", {"event_id": "concert-2027"}, auth=ADA).json
    order_id = api.transfer(sent["order_id"], "bob", auth=ADA).json["order"]["order_id"]
    assert api.post("/cancel", {"order_id": order_id}, auth=ADA).status_code == 403
    assert api.post("/cancel", {"order_id": order_id}, auth=BOB).status_code == 200
    assert api.order(sent["order_id"])["code"] == "order_not_found"  # it is Ada's, and she has an account


def test_only_the_owner_and_staff_may(api: Api, users: None) -> None:
    """Others get 403 and change nothing; without credentials 401."""
    api.initialize(3)
    sent = api.post("/book", {"event_id": "concert-2027"}, auth=ADA).json
    refused(api.transfer(sent["order_id"], "bob", auth=BOB), 403, "forbidden")
    path = f"/orders/{sent['order_id']}/transfer"
    refused(api.client.post(path, json={"to_user_id": "bob"}), 401, "unauthorized")
    assert api.status()["version"] == 2


def test_a_repeat_with_its_key_transfers_once(api: Api) -> None:
    """The same answer again, and the same new order."""
    api.initialize(5)
    order_id = api.book("ada", 4).json["order_id"]
    first = api.transfer(order_id, "bob", quantity=1, key="k")
    again = api.transfer(order_id, "bob", quantity=1, key="k")
    assert (again.status_code, again.json) == (201, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert api.order(order_id)["quantity"] == 3


@pytest.mark.parametrize("order_id", ["nothing", "concert-2027.nothing", "nowhere.nothing"])
def test_there_must_be_such_an_order(api: Api, order_id: str) -> None:
    """404, whatever it looks like."""
    api.initialize(5)
    refused(api.transfer(order_id, "bob"), 404, "order_not_found")


def test_a_place_in_line_stays_where_it_is(api: Api) -> None:
    """409 with the order's status."""
    api.initialize(1)
    api.book("ada")
    waiting = api.book("bob").json["order_id"]
    problem = refused(api.transfer(waiting, "cyd"), 409, "order_not_confirmed")
    assert problem["order_status"] == "waiting"


def test_the_recipients_limits_count(api: Api) -> None:
    """One active order an event."""
    api.initialize(5)
    order_id = api.book("ada").json["order_id"]
    api.book("bob")
    problem = refused(api.transfer(order_id, "bob"), 409, "already_booked")
    assert problem["order_id"] is None, "Bob's order is none of the sender's business"


@on_both
@pytest.mark.parametrize("limit", ["max_tickets_per_order", "max_tickets_per_user"])
def test_the_recipient_gets_no_more_than_he_could_book(api: Api, limit: str) -> None:
    """422 with the limit as it is now; the sender keeps what he had before, and may give fewer."""
    api.initialize(5)
    order_id = api.book("ada", 3).json["order_id"]
    fields: Json = {limit: 2}
    api.update(**fields)
    problem = refused(api.transfer(order_id, "bob"), 422, f"exceeds_{limit}")
    assert (problem["maximum"], list(problem["errors"])) == (2, ["quantity"])
    assert api.order(order_id)["quantity"] == 3
    assert api.transfer(order_id, "bob", quantity=2).json["order"]["quantity"] == 2


def test_transfers_end_when_the_event_starts(api: Api) -> None:
    """Unless `transfer_close_at` says otherwise."""
    api.initialize(5, starts_at="2026-12-31T00:00:00Z")
    order_id = api.book("ada", 2).json["order_id"]
    refused(api.transfer(order_id, "bob"), 409, "transfer_closed")
    api.update(transfer_close_at="2027-02-01T00:00:00Z")
    assert api.transfer(order_id, "bob").status_code == 201


def test_names_are_normalized_as_those_of_accounts(api: Api, app: Flask) -> None:
    """A recipient that is typed in another Unicode form is the same user."""
    add_account(app, ("Zoë", "a password of zoë's"), Role.CUSTOMER)
    api.initialize(5)
    order_id = api.book("ada").json["order_id"]
    assert api.transfer(order_id, "Zoe\u0308").json["order"]["user_id"] == "Zoë"


def test_a_customers_repeat_gets_his_first_answer(api: Api, users: None) -> None:
    """His order is gone, and that is just what the first answer said."""
    api.initialize(3)
    api.post("/book", {"event_id": "concert-2027"}, auth=ADA)
    body = {"event_id": "concert-2027", "user_id": "ada"}
    first = api.post("/cancel", body, auth=ADA, key="k")
    again = api.post("/cancel", body, auth=ADA, key="k")
    assert (first.status_code, again.status_code, again.json) == (200, 200, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    refused(api.post("/cancel", body, auth=ADA, key="another"), 404, "order_not_found")


def test_a_customer_need_not_name_himself(api: Api, users: None) -> None:
    """`{"event_id"}` alone is about the caller's order: as for booking, and the same request as with his name."""
    api.initialize(3)
    order = api.post("/book", {"event_id": "concert-2027", "quantity": 3}, auth=ADA).json
    fewer = api.post("/cancel", {"event_id": "concert-2027", "quantity": 1}, auth=ADA)
    assert (fewer.json["order"]["order_id"], fewer.json["order"]["quantity"]) == (order["order_id"], 2)
    refused(api.post("/cancel", {"event_id": "concert-2027"}, auth=BOB), 404, "order_not_found")
    first = api.post("/cancel", {"event_id": "concert-2027"}, auth=ADA, key="k")
    assert (first.status_code, first.json["order"]["status"]) == (200, "cancelled")
    again = api.post("/cancel", {"event_id": "concert-2027", "user_id": "ada"}, auth=ADA, key="k")
    assert (again.json, again.headers["Idempotent-Replayed"]) == (first.json, "true")


def test_staff_who_name_nobody_cancel_their_own(api: Api) -> None:
    """And nobody else's."""
    api.initialize(3)
    api.book("ada")
    refused(api.post("/cancel", {"event_id": "concert-2027"}), 404, "order_not_found")
    assert api.post("/book", {"event_id": "concert-2027"}, auth=ADMIN).status_code == 201
    assert api.post("/cancel", {"event_id": "concert-2027"}).json["order"]["user_id"] == ADMIN[0]
    assert api.status()["booked_tickets"] == 1


def test_a_customer_may_type_his_name_in_any_unicode_form(api: Api, app: Flask) -> None:
    """It is his: as for logging in."""
    zoe = ("Zo\u00eb", "a password of zoe's")
    add_account(app, zoe, Role.CUSTOMER)
    api.initialize(3)
    api.post("/book", {"event_id": "concert-2027", "user_id": "Zoe\u0308"}, auth=zoe)
    assert api.post("/cancel", {"event_id": "concert-2027", "user_id": "Zoe\u0308"}, auth=zoe).status_code == 200


# A part of an order.


@on_both
def test_some_tickets_are_given_back(api: Api) -> None:
    """The order stays, smaller; who waits gets the others in the same step."""
    api.initialize(3)
    order = api.book("ada", 3).json
    api.book("bob")
    answer = api.cancel("ada", quantity=1)
    assert answer.status_code == 200
    assert (answer.json["order"]["quantity"], answer.json["order"]["status"]) == (2, "confirmed")
    assert [promoted["user_id"] for promoted in answer.json["promoted"]] == ["bob"]
    assert api.order(order["order_id"])["quantity"] == 2


def test_all_of_its_tickets_cancel_an_order(api: Api) -> None:
    """More than it has are refused, with what it has."""
    api.initialize(3)
    order = api.book("ada", 3).json
    problem = refused(api.cancel_order(order["order_id"], quantity=4), 422, "exceeds_order_quantity")
    assert (problem["maximum"], list(problem["errors"])) == (3, ["quantity"])
    assert api.cancel_order(order["order_id"], quantity=3).json["order"]["status"] == "cancelled"


@pytest.mark.parametrize("quantity", [0, -1, 1.5, "1", True, None])
def test_what_is_no_quantity_is_refused(api: Api, quantity: object) -> None:
    """422, and the order is as it was."""
    api.initialize(3)
    api.book("ada", 3)
    assert list(refused(api.cancel("ada", quantity=quantity), 422, "validation_failed")["errors"]) == ["quantity"]
    assert api.status()["booked_tickets"] == 3


def test_who_wants_fewer_is_told_the_place_in_line(api: Api) -> None:
    """It is kept, and the repeat says so too."""
    api.initialize(3)
    for user_id, quantity in (("ada", 2), ("bob", 3), ("cyd", 2)):
        api.book(user_id, quantity)
    for _ in range(2):
        order = api.cancel("cyd", quantity=1, key="fewer").json["order"]
        assert (order["quantity"], order["status"], order["waiting_position"]) == (1, "waiting", 2)
