"""POST /initialize, /book, /cancel: what they do and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import ADMIN, EVENT_ID, Api, Client, refused

on_both = pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)

EVENT_MEMBERS = [
    "event_id",
    "name",
    "status",
    "total_tickets",
    "available_tickets",
    "booked_tickets",
    "held_tickets",
    "waiting_list_count",
    "version",
    "ticket_types",
    "max_tickets_per_order",
    "max_tickets_per_user",
    "venue",
    "description",
    "timezone",
    "starts_at",
    "ends_at",
    "sales_open_at",
    "sales_close_at",
    "transfer_close_at",
    "cancelled_at",
    "created_at",
    "updated_at",
]
DETAILS = EVENT_MEMBERS[EVENT_MEMBERS.index("max_tickets_per_user") : EVENT_MEMBERS.index("created_at")]
ORDER_MEMBERS = [
    "order_id",
    "event_id",
    "user_id",
    "ticket_type",
    "quantity",
    "unit_price",
    "total_price",
    "currency",
    "status",
    "waiting_position",
    "created_at",
    "updated_at",
    "version",
]
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def counts(status: dict[str, Any]) -> tuple[int, ...]:
    """Available, booked, held, waiting."""
    assert status["available_tickets"] + status["booked_tickets"] + status["held_tickets"] == status["total_tickets"]
    return tuple(
        status[name] for name in ("available_tickets", "booked_tickets", "held_tickets", "waiting_list_count")
    )


@on_both
def test_the_whole_story(api: Api) -> None:
    """Three tickets, five people: three are confirmed, two wait, and a cancellation promotes the fourth."""
    assert api.initialize(3).status_code == 201
    booked = [api.book(user) for user in ("ada", "bob", "cyd", "dan", "eve")]
    assert [answer.status_code for answer in booked] == [201, 201, 201, 202, 202]
    assert [answer.json["status"] for answer in booked] == ["confirmed"] * 3 + ["waiting"] * 2
    assert [answer.json["waiting_position"] for answer in booked] == [None, None, None, 1, 2]
    assert counts(api.status()) == (0, 3, 0, 2)

    cancelled = api.cancel("ada")
    assert cancelled.status_code == 200
    assert cancelled.json["order"]["user_id"] == "ada"
    assert cancelled.json["order"]["status"] == "cancelled"
    assert [(order["user_id"], order["status"]) for order in cancelled.json["promoted"]] == [("dan", "confirmed")]
    assert counts(api.status()) == (0, 3, 0, 1)
    assert api.order(booked[3].json["order_id"]) == cancelled.json["promoted"][0]
    assert api.order(booked[4].json["order_id"])["waiting_position"] == 1


class TestInitialize:
    """POST /initialize."""

    @on_both
    def test_opens_an_event(self, api: Api) -> None:
        """201 with the event, exactly its members, and the path where it is."""
        answer = api.initialize(100)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/events/{EVENT_ID}"
        assert list(answer.json) == EVENT_MEMBERS
        event = dict(answer.json)
        assert TIMESTAMP.fullmatch(event.pop("created_at"))
        assert event.pop("updated_at") == answer.json["created_at"]
        assert event == {
            "event_id": EVENT_ID,
            "name": "Concert",
            "status": "on_sale",
            "total_tickets": 100,
            "available_tickets": 100,
            "booked_tickets": 0,
            "held_tickets": 0,
            "waiting_list_count": 0,
            "version": 1,
            "ticket_types": [
                {
                    "code": "general",
                    "name": "General admission",
                    "price": "0.00",
                    "currency": None,
                    "total_tickets": 100,
                    "available_tickets": 100,
                    "booked_tickets": 0,
                    "held_tickets": 0,
                    "waiting_list_count": 0,
                }
            ],
            "max_tickets_per_order": 10,
            **dict.fromkeys(DETAILS),
        }
        assert api.get(answer.headers["Location"]).json == answer.json

    def test_makes_an_id_where_none_is_sent(self, api: Api) -> None:
        """Each such request opens an event of its own."""
        first, second = (api.initialize(event_id=None) for _ in range(2))
        assert first.json["event_id"] != second.json["event_id"]
        for answer in (first, second):
            assert answer.status_code == 201
            assert answer.headers["Location"] == f"/events/{answer.json['event_id']}"
            assert api.get(answer.headers["Location"]).json == answer.json

    @on_both
    def test_refuses_an_id_that_is_taken(self, api: Api) -> None:
        """409, and the event is as it was."""
        event = api.initialize(3).json
        problem = refused(api.initialize(5, name="Another"), 409, "event_exists")
        assert problem["event_id"] == EVENT_ID
        assert api.get(f"/events/{EVENT_ID}").json == event

    @pytest.mark.parametrize("event_id", ["a", "7", "A-b_c", "x" * 64, "0-", "CON", "concert_"])
    def test_takes_ids_of_1_to_64_characters(self, api: Api, event_id: str) -> None:
        """An accepted id leads to the event, and to its orders."""
        assert api.initialize(event_id=event_id).json["event_id"] == event_id
        order = api.book("ada", event_id=event_id)
        assert api.get(order.headers["Location"]).json == order.json
        assert api.status(event_id)["booked_tickets"] == 1

    @pytest.mark.parametrize(
        "event_id", ["", "x" * 65, "-a", "_a", "a b", "a/b", "a:b", "a;", "a.b", "é", "a\n", "\n", "a\0", "٣", "$ne"]
    )
    def test_refuses_other_ids(self, api: Api, event_id: str) -> None:
        """422, naming the field."""
        problem = refused(api.initialize(event_id=event_id), 422, "validation_failed")
        assert list(problem["errors"]) == ["event_id"]
        assert api.ledger() == []

    @pytest.mark.parametrize("total_tickets", [1, 10_000_000])
    def test_takes_totals_up_to_the_bounds(self, api: Api, total_tickets: int) -> None:
        """One ticket is the least."""
        assert api.initialize(total_tickets).json["available_tickets"] == total_tickets

    @pytest.mark.parametrize("total_tickets", [0, -1, 10_000_001, 2**63, 10**400])
    def test_refuses_totals_beyond_the_bounds(self, api: Api, total_tickets: int) -> None:
        """422, naming the field."""
        problem = refused(api.initialize(total_tickets), 422, "validation_failed")
        assert list(problem["errors"]) == ["total_tickets"]
        assert api.ledger() == []

    @pytest.mark.parametrize("name", ["C", "c" * 200, "Zoë & the 日本 Band 🎸", "<b>", "{{7*7}}", "Ca$h.", "e\u0301"])
    def test_keeps_a_name_as_it_was_sent(self, api: Api, name: str) -> None:
        """No character is changed, escaped or normalized."""
        assert api.initialize(name=name).json["name"] == name
        assert api.status()["name"] == name

    @pytest.mark.parametrize("name", ["", "c" * 201, " ", " Concert", "Concert\n", "Con\0cert", "Con\x1bcert"])
    def test_refuses_names_that_cannot_be_shown(self, api: Api, name: str) -> None:
        """Empty, too long, blank ends, control characters: 422."""
        assert list(refused(api.initialize(name=name), 422, "validation_failed")["errors"]) == ["name"]
        assert api.ledger() == []

    def test_names_each_missing_field(self, api: Api) -> None:
        """422 with a message for each."""
        problem = refused(api.post("/initialize", {}), 422, "validation_failed")
        assert problem["errors"].keys() == {"name", "total_tickets"}


class TestBook:
    """POST /book."""

    @on_both
    def test_confirms_while_there_are_tickets(self, api: Api) -> None:
        """201 with the order, exactly its members, and the path where it is."""
        api.initialize(3)
        answer = api.book("ada")
        assert answer.status_code == 201
        assert list(answer.json) == ORDER_MEMBERS
        order = dict(answer.json)
        assert re.fullmatch(rf"{EVENT_ID}\.[A-Za-z0-9_-]{{22}}", order["order_id"])
        assert answer.headers["Location"] == f"/orders/{order.pop('order_id')}"
        assert TIMESTAMP.fullmatch(order.pop("created_at"))
        assert order.pop("updated_at") == answer.json["created_at"]
        assert order == {
            "event_id": EVENT_ID,
            "user_id": "ada",
            "ticket_type": "general",
            "quantity": 1,
            "unit_price": "0.00",
            "total_price": "0.00",
            "currency": None,
            "status": "confirmed",
            "waiting_position": None,
            "version": 2,
        }
        assert api.get(answer.headers["Location"]).json == answer.json

    @on_both
    def test_makes_people_wait_in_line(self, api: Api) -> None:
        """202 with the order and its place, counted from 1."""
        api.initialize(1)
        api.book("ada")
        for position, user in enumerate(("bob", "cyd", "dan"), start=1):
            answer = api.book(user)
            assert answer.status_code == 202
            assert list(answer.json) == ORDER_MEMBERS
            assert answer.json["status"] == "waiting"
            assert answer.json["waiting_position"] == position
            assert api.get(answer.headers["Location"]).json == answer.json
        assert api.line() == [(1, "bob"), (2, "cyd"), (3, "dan")]

    def test_needs_no_credentials_and_takes_right_ones(self, api: Api) -> None:
        """The endpoint is public; who says who he is must be right about it."""
        api.initialize(3)
        body = {"event_id": EVENT_ID, "user_id": "ada"}
        assert api.client.post("/book", json=body, auth=ADMIN).status_code == 201
        before = api.ledger()
        wrong = api.client.post("/book", json=body | {"user_id": "bob"}, auth=("admin", "wrong"))
        refused(wrong, 401, "unauthorized")
        assert api.ledger() == before

    @on_both
    @pytest.mark.parametrize("user_id", ["ada", "dan"])
    def test_refuses_a_second_order_of_a_user(self, api: Api, user_id: str) -> None:
        """409 with the id of the order that is there, whether that is confirmed or waits."""
        api.initialize(1)
        orders = {user: api.book(user).json["order_id"] for user in ("ada", "dan")}
        before = api.ledger()
        problem = refused(api.book(user_id), 409, "already_booked")
        assert problem["order_id"] == orders[user_id]
        assert api.ledger() == before

    def test_takes_a_new_order_after_a_cancelled_one(self, api: Api) -> None:
        """A cancelled order is no active one; the new one has an id of its own."""
        api.initialize(1)
        first = api.book("ada").json
        api.cancel("ada")
        second = api.book("ada")
        assert second.status_code == 201
        assert second.json["order_id"] != first["order_id"]
        assert api.order(first["order_id"])["status"] == "cancelled"

    def test_a_user_may_book_at_several_events(self, api: Api) -> None:
        """One active order an event, not one in all."""
        for event_id in ("one", "two"):
            api.initialize(event_id=event_id)
            assert api.book("ada", event_id=event_id).status_code == 201

    def test_refuses_an_event_that_is_not_there(self, api: Api) -> None:
        """404, and no event comes into being by it."""
        problem = refused(api.book("ada", event_id="nowhere"), 404, "event_not_found")
        assert problem["event_id"] == "nowhere"
        assert api.ledger() == []

    @pytest.mark.parametrize("quantity", [1, 2, 10])
    def test_takes_quantities_up_to_the_maximum(self, api: Api, quantity: int) -> None:
        """All tickets of an order, or none."""
        api.initialize(12)
        assert api.book("ada", quantity).json["quantity"] == quantity
        assert counts(api.status()) == (12 - quantity, quantity, 0, 0)

    def test_refuses_more_than_an_order_may_hold(self, api: Api) -> None:
        """422 with the maximum, however many tickets there are."""
        api.initialize(100)
        before = api.ledger()
        for quantity in (11, 100, 101, 10**400):
            problem = refused(api.book("ada", quantity), 422, "exceeds_max_tickets_per_order")
            assert problem["maximum"] == 10
            assert list(problem["errors"]) == ["quantity"]
        assert api.ledger() == before

    def test_refuses_more_than_the_event_has(self, api: Api) -> None:
        """422 with the total: such an order would wait for ever."""
        api.initialize(3)
        before = api.ledger()
        problem = refused(api.book("ada", 4), 422, "exceeds_total_tickets")
        assert problem["maximum"] == 3
        assert list(problem["errors"]) == ["quantity"]
        assert api.ledger() == before

    @pytest.mark.parametrize("quantity", [0, -1, -(10**400)])
    def test_refuses_quantities_below_one(self, api: Api, quantity: int) -> None:
        """422, naming the field."""
        api.initialize(3)
        problem = refused(api.book("ada", quantity), 422, "validation_failed")
        assert list(problem["errors"]) == ["quantity"]

    @on_both
    def test_holds_free_tickets_for_the_first_in_line(self, api: Api) -> None:
        """Two are free and the first needs three: nobody gets the two, and the status says that they are held."""
        api.initialize(5)
        api.book("ada", 3)
        assert api.book("bob", 3).status_code == 202
        status = api.status()
        assert counts(status) == (0, 3, 2, 1)
        assert status["status"] == "sold_out"
        late = api.book("cyd", 1)
        assert (late.status_code, late.json["waiting_position"]) == (202, 2)
        assert api.get(f"/events/{EVENT_ID}/availability").json["available_tickets"] == 0

    @pytest.mark.parametrize("user_id", ["a", "u" * 128, "日本", "👩‍🚀", "o'neil", "$where", "a.b", "..", "\xe9"])
    def test_keeps_a_user_id_as_it_was_sent(self, api: Api, user_id: str) -> None:
        """The same characters lead to the same user, and others only where they are the same to people: see
        test_user_ids.py."""
        api.initialize(3)
        assert api.book(user_id).json["user_id"] == user_id
        refused(api.book(user_id), 409, "already_booked")
        assert api.cancel(user_id).json["order"]["user_id"] == user_id

    @pytest.mark.parametrize("user_id", ["", "u" * 129, " ada", "ada\t", "a\0da", "ada\r\n", "\x7f", "\x85a"])
    def test_refuses_user_ids_that_cannot_be_shown(self, api: Api, user_id: str) -> None:
        """Empty, too long, blank ends, control characters: 422."""
        api.initialize(3)
        before = api.ledger()
        assert list(refused(api.book(user_id), 422, "validation_failed")["errors"]) == ["user_id"]
        assert api.ledger() == before


class TestCancel:
    """POST /cancel."""

    @on_both
    def test_by_the_order(self, api: Api) -> None:
        """200 with the order as it is now and those that moved up, exactly these members."""
        api.initialize(1)
        booked, waiting = api.book("ada").json, api.book("bob").json
        answer = api.cancel_order(booked["order_id"])
        assert answer.status_code == 200
        assert list(answer.json) == ["order", "promoted"]
        changed = {"version": 4, "updated_at": answer.json["order"]["updated_at"]}
        assert TIMESTAMP.fullmatch(changed["updated_at"]) and changed["updated_at"] > booked["updated_at"]
        assert answer.json["order"] == booked | changed | {"status": "cancelled"}
        assert answer.json["promoted"] == [waiting | changed | {"status": "confirmed", "waiting_position": None}]
        assert list(answer.json["order"]) == list(answer.json["promoted"][0]) == ORDER_MEMBERS
        assert api.order(booked["order_id"]) == answer.json["order"]

    def test_by_the_user(self, api: Api) -> None:
        """The one active order of the user is cancelled."""
        api.initialize(1)
        booked = api.book("ada").json
        answer = api.cancel("ada")
        assert answer.json["order"]["order_id"] == booked["order_id"]
        assert answer.json["promoted"] == []
        assert counts(api.status()) == (1, 0, 0, 0)

    @on_both
    def test_promotes_as_many_as_fit_from_the_head(self, api: Api) -> None:
        """In the order of arrival, and it stops at the first that does not fit."""
        api.initialize(4)
        api.book("ada", 4)
        for user, quantity in (("bob", 1), ("cyd", 2), ("dan", 2), ("eve", 1)):
            api.book(user, quantity)
        promoted = api.cancel("ada").json["promoted"]
        assert [order["user_id"] for order in promoted] == ["bob", "cyd"]
        assert counts(api.status()) == (0, 3, 1, 2)
        assert api.line() == [(1, "dan"), (2, "eve")]

    @on_both
    def test_takes_a_waiting_order_out_of_the_line(self, api: Api) -> None:
        """Those behind it move up a place; nobody gets a ticket by it."""
        api.initialize(1)
        for user in ("ada", "bob", "cyd", "dan"):
            api.book(user)
        answer = api.cancel("cyd")
        assert (answer.json["order"]["status"], answer.json["promoted"]) == ("cancelled", [])
        assert answer.json["order"]["waiting_position"] is None
        assert api.line() == [(1, "bob"), (2, "dan")]
        assert counts(api.status()) == (0, 1, 0, 2)

    def test_frees_those_behind_a_waiting_order_that_did_not_fit(self, api: Api) -> None:
        """The head needed more than were free: when it leaves, the held tickets go to those behind."""
        api.initialize(5)
        api.book("ada", 3)
        for user, quantity in (("bob", 3), ("cyd", 1), ("dan", 1), ("eve", 1)):
            api.book(user, quantity)
        assert [order["user_id"] for order in api.cancel("bob").json["promoted"]] == ["cyd", "dan"]
        assert counts(api.status()) == (0, 5, 0, 1)

    @on_both
    def test_twice_by_the_order(self, api: Api) -> None:
        """200 with the same order and nobody promoted; a later order of the user is not touched."""
        api.initialize(1)
        booked = api.book("ada").json
        api.book("bob")
        first = api.cancel_order(booked["order_id"])
        api.book("ada")
        before = api.ledger()
        again = api.cancel_order(booked["order_id"])
        assert again.status_code == 200
        assert again.json == {"order": first.json["order"], "promoted": []}
        assert api.ledger() == before

    def test_twice_by_the_user(self, api: Api) -> None:
        """404: the user has no active order any more."""
        api.initialize(1)
        api.book("ada")
        api.cancel("ada")
        before = api.ledger()
        refused(api.cancel("ada"), 404, "order_not_found")
        assert api.ledger() == before

    @pytest.mark.parametrize(
        "order_id",
        [
            f"{EVENT_ID}.AAAAAAAAAAAAAAAAAAAAAA",
            "nowhere.AAAAAAAAAAAAAAAAAAAAAA",
            EVENT_ID,
            f"{EVENT_ID}.",
            "nonsense",
            "$ne",
            "x" * 128,
            "日本",
        ],
    )
    def test_refuses_an_order_that_is_not_there(self, api: Api, order_id: str) -> None:
        """404, whether the event is there or not, and whether the id looks like one or not."""
        api.initialize(1)
        api.book("ada")
        before = api.ledger()
        refused(api.cancel_order(order_id), 404, "order_not_found")
        assert api.ledger() == before

    def test_refuses_a_user_without_an_order(self, api: Api) -> None:
        """404."""
        api.initialize(1)
        refused(api.cancel("ada"), 404, "order_not_found")

    def test_refuses_an_event_that_is_not_there(self, api: Api) -> None:
        """404, and no event comes into being by it."""
        refused(api.cancel("ada", "nowhere"), 404, "event_not_found")
        assert api.ledger() == []

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"user_id": "ada"},
            {"order_id": "x", "event_id": EVENT_ID},
            {"order_id": "x", "user_id": "ada"},
            {"order_id": "x", "event_id": EVENT_ID, "user_id": "ada"},
        ],
    )
    def test_refuses_what_does_not_name_one_order(self, api: Api, body: dict[str, str]) -> None:
        """Either the order, or the event and the user: anything else is 422."""
        api.initialize(1)
        api.book("ada")
        before = api.ledger()
        refused(api.post("/cancel", body), 422, "validation_failed")
        assert api.ledger() == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/initialize", {"name": "Concert", "total_tickets": 3, "event_id": "another"}),
        ("/cancel", {"event_id": EVENT_ID, "user_id": "ada"}),
    ],
)
class TestWhoMay:
    """/initialize and /cancel want staff."""

    def test_not_just_anybody(self, api: Api, client: Client, path: str, body: dict[str, Any]) -> None:
        """401 without credentials, with wrong ones, and with a header that holds none; nothing is changed."""
        api.initialize()
        api.book("ada")
        before = api.ledger()
        refused(client.post(path, json=body), 401, "unauthorized")
        for header in ("Basic !", "Basic", "Bearer abc", "Digest x", "Basic YWRtaW4=", "Basic YWRtaW46d3Jvbmc="):
            answer = client.post(path, json=body, headers={"Authorization": header})
            refused(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="ticketing"'
        assert api.ledger() == before

    def test_the_body_of_a_stranger_is_not_looked_at(self, client: Client, path: str, body: Any) -> None:
        """Who may not, learns nothing about his body."""
        refused(client.post(path, data=b"not JSON"), 401, "unauthorized")

    def test_not_a_customer(self, api: Api, customer: tuple[str, str], path: str, body: Any) -> None:
        """403: known, but not allowed."""
        api.initialize()
        api.book("ada")
        before = api.ledger()
        refused(api.post(path, body, auth=customer), 403, "forbidden")
        assert api.ledger() == before

    def test_the_admin(self, api: Api, path: str, body: dict[str, Any]) -> None:
        """The first admin of the settings may."""
        api.initialize()
        api.book("ada")
        assert api.post(path, body).status_code in (200, 201)
