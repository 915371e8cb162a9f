"""POST /bookings/bulk: a result for each, or all or none."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import EVENT_ID, Api, refused

on_both = pytest.mark.parametrize("mongo", ["mongomock", "mongod"], indirect=True)


def users(*user_ids: str) -> list[dict[str, Any]]:
    """A ticket for each."""
    return [{"user_id": user_id} for user_id in user_ids]


@on_both
def test_each_gets_a_result_of_its_own(api: Api) -> None:
    """In their order: confirmed, waiting, or the problem that a single booking would have got."""
    api.initialize(2)
    answer = api.book_many(*users("ada", "bob", "ada", "cyd"), {"user_id": "dan", "quantity": 11})
    assert answer.status_code == 200
    results = answer.json["results"]
    assert [result["status"] for result in results] == [201, 201, 409, 202, 422]
    assert results[0]["order"] == api.order(results[0]["order"]["order_id"])
    assert results[3]["order"]["waiting_position"] == 1
    assert results[2]["error"]["code"] == "already_booked"
    assert results[2]["error"]["order_id"] == results[0]["order"]["order_id"]
    assert results[4]["error"]["errors"].keys() == {"quantity"}
    assert [set(result) for result in results] == [
        {"status", "error" if result["status"] >= 400 else "order"} for result in results
    ]
    assert api.status()["version"] == 2
    assert len(api.ledger()) == 2


@on_both
def test_all_or_none(api: Api) -> None:
    """409 with a result for each where one would have to wait, and nothing is booked; else all are."""
    api.initialize(2)
    problem = refused(api.book_many(*users("ada", "bob", "cyd"), mode="all_or_none"), 409, "bulk_refused")
    assert [result["status"] for result in problem["results"]] == [424, 424, 409]
    assert problem["results"][2]["error"]["code"] == "not_enough_tickets"
    assert problem["results"][0]["error"]["code"] == "failed_dependency"
    assert api.status()["version"] == 1
    answer = api.book_many(*users("ada", "bob"), mode="all_or_none")
    assert [result["status"] for result in answer.json["results"]] == [201, 201]


@on_both
@pytest.mark.parametrize("mode", ["each", "all_or_none"])
def test_a_repeat_gets_the_same_answer(api: Api, mode: str) -> None:
    """Also of what was refused, and by a worker that reads it from the ledger."""
    api.initialize(2)
    orders = users("ada", "bob", "cyd", "ada")
    first = api.book_many(*orders, mode=mode, key="bulk")
    api.cancel("ada") if mode == "each" else api.update(total_tickets=9)
    again = api.book_many(*orders, mode=mode, key="bulk")
    assert (again.status_code, again.json) == (first.status_code, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert refused(api.book_many(*users("eve"), mode=mode, key="bulk"), 422, "idempotency_key_reused")


def test_where_all_are_refused_nothing_is_written(api: Api) -> None:
    """200 with the problems."""
    api.initialize(2)
    api.book("ada")
    assert [each["status"] for each in api.book_many(*users("ada", "ada")).json["results"]] == [409, 409]
    assert api.status()["version"] == 2


def test_five_hundred_at_once(api: Api) -> None:
    """And not one more; in one commit."""
    api.initialize(400)
    many = users(*(f"user-{number}" for number in range(500)))
    assert list(refused(api.book_many(*many, *users("more")), 422, "validation_failed")["errors"]) == ["orders"]
    results = api.book_many(*many).json["results"]
    assert [result["status"] for result in results] == [201] * 400 + [202] * 100
    assert (len(api.ledger()), api.status()["waiting_list_count"]) == (2, 100)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"orders": []}, "orders"),
        ({"orders": [{}]}, "orders.0.user_id"),
        ({"orders": [{"user_id": "ada", "quantity": 0}]}, "orders.0.quantity"),
        ({"orders": [{"user_id": "ada", "order_id": "x"}]}, "orders.0.order_id"),
        ({"orders": users("ada"), "mode": "some"}, "mode"),
        ({}, "orders"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(api: Api, body: dict[str, Any], wrong: str) -> None:
    """422, and nothing is booked."""
    api.initialize(2)
    answer = api.post("/bookings/bulk", {"event_id": EVENT_ID} | body)
    assert list(refused(answer, 422, "validation_failed")["errors"]) == [wrong]
    assert api.status()["version"] == 1


def test_the_event_must_be_there_and_on_sale(api: Api) -> None:
    """Else all of it is refused, as a booking would be."""
    refused(api.book_many(*users("ada")), 404, "event_not_found")
    api.initialize(2, sales_close_at="2020-01-01T00:00:00Z")
    refused(api.book_many(*users("ada")), 409, "sales_closed")
