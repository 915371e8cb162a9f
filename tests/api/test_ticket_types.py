"""Ticket types and prices through HTTP: what may be said of them, and what orders show."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import EVENT_ID, Api, refused

SEAT = {"code": "seat", "name": "A seat", "total_tickets": 2, "price": "25.00", "currency": "EUR"}
BOX = {"code": "box", "total_tickets": 1, "price": "1500", "currency": "JPY"}

on_both = pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)


def counts(stock: dict[str, Any]) -> tuple[int, ...]:
    """Total, available, booked, held, waiting of a type."""
    names = ("total_tickets", "available_tickets", "booked_tickets", "held_tickets", "waiting_list_count")
    return tuple(stock[name] for name in names)


@on_both
def test_two_types_are_sold_side_by_side(api: Api) -> None:
    """Each with its price and its line; the event shows both, and their sum."""
    opened = api.initialize(None, ticket_types=[SEAT, BOX])
    assert opened.status_code == 201
    assert opened.json["total_tickets"] == 3
    assert [(each["code"], each["name"], each["price"], each["currency"]) for each in opened.json["ticket_types"]] == [
        ("seat", "A seat", "25.00", "EUR"),
        ("box", "box", "1500", "JPY"),
    ]
    ada = api.book("ada", 2, ticket_type="seat")
    assert (ada.status_code, ada.json["ticket_type"]) == (201, "seat")
    assert (ada.json["unit_price"], ada.json["total_price"], ada.json["currency"]) == ("25.00", "50.00", "EUR")
    assert api.book("bob", ticket_type="seat").json["waiting_position"] == 1
    assert api.book("cyd", ticket_type="box").json["total_price"] == "1500"
    assert api.book("dan", ticket_type="box").json["waiting_position"] == 1
    for path in (f"/status/{EVENT_ID}", f"/events/{EVENT_ID}", f"/events/{EVENT_ID}/availability"):
        assert [counts(each) for each in api.get(path).json["ticket_types"]] == [(2, 0, 2, 0, 1), (1, 0, 1, 0, 1)]
    page = api.get(f"/events/{EVENT_ID}/waiting-list", staff=True).json["items"]
    assert [(item["position"], item["ticket_type"], item["user_id"]) for item in page] == [
        (1, "seat", "bob"),
        (1, "box", "dan"),
    ]
    assert [order["user_id"] for order in api.cancel("cyd").json["promoted"]] == ["dan"]


@pytest.mark.parametrize(
    ("price", "currency", "kept"),
    [
        ("12.5", "EUR", "12.50"),
        ("0", "EUR", "0.00"),
        ("1000", "JPY", "1000"),
        ("1.234", "KWD", "1.234"),
        ("999999999.99", "USD", "999999999.99"),
    ],
)
def test_a_price_has_the_digits_of_its_currency(api: Api, price: str, currency: str, kept: str) -> None:
    """Two for most, none for the yen, three for the dinar; never a float."""
    event = api.initialize(5, price=price, currency=currency).json
    assert event["ticket_types"][0]["price"] == kept
    assert api.book("ada").json["unit_price"] == kept


def test_free_needs_no_currency(api: Api) -> None:
    """ "0.00" without one."""
    event = api.initialize(5, price="0.00").json
    assert (event["ticket_types"][0]["price"], event["ticket_types"][0]["currency"]) == ("0.00", None)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"price": "5.00"}, "price"),
        ({"price": "5.001", "currency": "EUR"}, "price"),
        ({"price": "5.5", "currency": "JPY"}, "price"),
        ({"price": "-5.00", "currency": "EUR"}, "price"),
        ({"price": "1e3", "currency": "EUR"}, "price"),
        ({"price": "٥", "currency": "EUR"}, "price"),
        ({"price": "05.00", "currency": "EUR"}, "price"),
        ({"price": "NaN", "currency": "EUR"}, "price"),
        ({"price": 5, "currency": "EUR"}, "price"),
        ({"price": "5.00", "currency": "EURO"}, "currency"),
        ({"price": "5.00", "currency": "XYZ"}, "currency"),
        ({"price": "5.00", "currency": "eur"}, "currency"),
        ({"ticket_types": [SEAT]}, "total_tickets"),
    ],
)
def test_what_is_no_price_is_refused(api: Api, fields: dict[str, Any], wrong: str) -> None:
    """422 naming the field, and no event."""
    assert list(refused(api.initialize(5, **fields), 422, "validation_failed")["errors"]) == [wrong]
    assert api.ledger() == []


@pytest.mark.parametrize(
    ("types", "wrong"),
    [
        ([], "ticket_types"),
        ([SEAT, SEAT], "ticket_types"),
        ([SEAT | {"code": "no code"}], "ticket_types.0.code"),
        ([SEAT, BOX | {"price": "1.5"}], "ticket_types.1.price"),
        ([SEAT | {"total_tickets": 0}], "ticket_types.0.total_tickets"),
        ([{"code": "seat"}], "ticket_types.0.total_tickets"),
        ([SEAT | {"colour": "red"}], "ticket_types.0.colour"),
        ([SEAT | {"code": f"c{number}"} for number in range(101)], "ticket_types"),
    ],
)
def test_types_that_cannot_be_are_refused(api: Api, types: list[dict[str, Any]], wrong: str) -> None:
    """422 naming the type by its place."""
    assert list(refused(api.initialize(None, ticket_types=types), 422, "validation_failed")["errors"]) == [wrong]
    assert api.ledger() == []


@on_both
def test_a_new_price_is_for_new_orders(api: Api) -> None:
    """PATCH of one type leaves the other as it is, and each order its price."""
    api.initialize(None, ticket_types=[SEAT, BOX])
    order = api.book("ada", ticket_type="box").json
    answer = api.update(ticket_types=[{"code": "box", "price": "2000", "currency": "JPY"}])
    assert answer.status_code == 200
    assert [each["price"] for each in answer.json["ticket_types"]] == ["25.00", "2000"]
    assert api.order(order["order_id"])["unit_price"] == "1500"
    assert api.book("bob", ticket_type="box").json["unit_price"] == "2000"


def test_more_tickets_of_a_type_promote_who_waits_for_it(api: Api) -> None:
    """And the answer says whom."""
    api.initialize(None, ticket_types=[SEAT, BOX])
    for user in ("ada", "bob"):
        api.book(user, ticket_type="box")
    answer = api.update(ticket_types=[{"code": "box", "total_tickets": 2}])
    assert [order["user_id"] for order in answer.json["promoted"]] == ["bob"]
    problem = refused(api.update(ticket_types=[{"code": "box", "total_tickets": 1}]), 409, "below_booked_tickets")
    assert (problem["minimum"], problem["ticket_type"]) == (2, "box")


class TestFewerTickets:
    """Fewer cannot be than are booked and held. So nobody ever waits for more tickets than there are."""

    @pytest.fixture
    def held(self, api: Api) -> str:
        """Five tickets: three are booked, and two are held for an order of five. Its id."""
        api.initialize(5)
        api.book("ada", 3)
        waiting = api.book("bob", 5)
        assert waiting.status_code == 202
        assert api.status()["held_tickets"] == 2
        return str(waiting.json["order_id"])

    def refuse_all(self, api: Api) -> None:
        for total_tickets in (1, 2, 3, 4):
            problem = refused(api.update(total_tickets=total_tickets), 409, "below_booked_tickets")
            assert problem["minimum"] == 5

    @on_both
    def test_what_is_held_is_not_taken_away(self, api: Api, held: str) -> None:
        """409 with the least that may be; and in the end who waits for all five gets them."""
        self.refuse_all(api)
        [promoted] = api.cancel("ada").json["promoted"]
        assert (promoted["order_id"], promoted["status"], promoted["quantity"]) == (held, "confirmed", 5)

    def test_nor_while_nothing_is_sold(self, api: Api, held: str) -> None:
        """What comes back then is held too, until sales open again: then the line gets it."""
        api.update(sales_close_at="2027-01-01T00:00:00Z")
        self.refuse_all(api)
        assert api.cancel("ada").json["promoted"] == []
        assert api.status()["held_tickets"] == 5
        self.refuse_all(api)
        assert [order["order_id"] for order in api.update(sales_close_at=None).json["promoted"]] == [held]

    def test_lower_limits_leave_who_waits_alone(self, api: Api, held: str) -> None:
        """They are for those who book from now on."""
        assert api.update(max_tickets_per_order=1, max_tickets_per_user=1).status_code == 200
        refused(api.book("cyd", 2), 422, "exceeds_max_tickets_per_order")
        assert [order["order_id"] for order in api.cancel("ada").json["promoted"]] == [held]

    def test_who_left_the_line_holds_nothing(self, api: Api, held: str) -> None:
        """Then the least is what is booked."""
        api.cancel_order(held)
        assert refused(api.update(total_tickets=2), 409, "below_booked_tickets")["minimum"] == 3
        assert api.update(total_tickets=3).status_code == 200

    def test_another_type_may_have_fewer(self, api: Api) -> None:
        """Each type has a floor of its own."""
        api.initialize(None, ticket_types=[SEAT, BOX | {"total_tickets": 3}])
        api.book("ada", 1, ticket_type="seat")
        api.book("bob", 2, ticket_type="seat")
        problem = refused(api.update(ticket_types=[{"code": "seat", "total_tickets": 1}]), 409, "below_booked_tickets")
        assert (problem["minimum"], problem["ticket_type"]) == (2, "seat")
        answer = api.update(ticket_types=[{"code": "box", "total_tickets": 1}])
        assert [counts(each) for each in answer.json["ticket_types"]] == [(2, 0, 1, 1, 1), (1, 1, 0, 0, 0)]


def test_a_waiting_order_keeps_its_price_when_it_gets_its_tickets(api: Api) -> None:
    """It is that of the day on which it joined the line, whatever the type costs by then."""
    api.initialize(1, price="25.00", currency="EUR")
    api.book("ada")
    waiting = api.book("bob").json
    assert (waiting["unit_price"], api.update(price="30.00", currency="EUR").status_code) == ("25.00", 200)
    [promoted] = api.cancel("ada").json["promoted"]
    assert (promoted["order_id"], promoted["status"]) == (waiting["order_id"], "confirmed")
    assert [promoted[name] for name in ("unit_price", "total_price", "currency")] == ["25.00", "25.00", "EUR"]
    assert api.order(waiting["order_id"])["unit_price"] == "25.00"
    assert api.book("cyd").json["unit_price"] == "30.00"


def test_the_price_of_the_only_type_may_be_set_without_naming_it(api: Api) -> None:
    """With its currency: the same digits of another one would be another amount."""
    api.initialize(5)
    assert api.update(price="3.50", currency="EUR").json["ticket_types"][0]["price"] == "3.50"
    assert list(refused(api.update(currency="USD"), 422, "validation_failed")["errors"]) == ["currency"]
    assert list(refused(api.update(price="3.50"), 422, "validation_failed")["errors"]) == ["price"]
    answer = api.update(ticket_types=[{"code": "general", "currency": "USD"}])
    assert list(refused(answer, 422, "validation_failed")["errors"]) == ["ticket_types.0.currency"]


def test_a_booking_names_a_type_that_there_is(api: Api) -> None:
    """422 for none of several, and for an unknown one."""
    api.initialize(None, ticket_types=[SEAT, BOX])
    assert list(refused(api.book("ada"), 422, "ticket_type_required")["errors"]) == ["ticket_type"]
    assert list(refused(api.book("ada", ticket_type="vip"), 422, "unknown_ticket_type")["errors"]) == ["ticket_type"]
    assert len(api.ledger()) == 1
