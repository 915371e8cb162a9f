"""GET /orders/<order_id>."""

from __future__ import annotations

import pytest

from .conftest import ADMIN, EVENT_ID, Api, refused
from .test_bookings import ORDER_MEMBERS, on_both


@on_both
def test_an_order_as_it_is_now(api: Api) -> None:
    """Its status and its place change with what others do; its id, user, quantity and beginning do not."""
    api.initialize(1)
    booked = {user: api.book(user).json for user in ("ada", "bob", "cyd")}
    first, second, third = (order["order_id"] for order in booked.values())
    assert [api.order(order_id)["waiting_position"] for order_id in (first, second, third)] == [None, 1, 2]
    api.cancel("ada")
    shown = [api.order(order_id) for order_id in (first, second, third)]
    assert [order["status"] for order in shown] == ["cancelled", "confirmed", "waiting"]
    assert [order["waiting_position"] for order in shown] == [None, None, 1]
    for order, before in zip(shown, booked.values(), strict=True):
        assert list(order) == ORDER_MEMBERS
        for name in ("order_id", "event_id", "user_id", "quantity", "created_at"):
            assert order[name] == before[name]
    assert [order["version"] for order in shown] == [5, 5, 4]
    assert shown[1]["updated_at"] > shown[1]["created_at"] == booked["bob"]["created_at"]
    assert shown[2]["updated_at"] == shown[2]["created_at"]


def test_who_has_the_id_may_read_it(api: Api) -> None:
    """No credentials are needed; wrong ones are refused."""
    api.initialize()
    path = api.book("ada").headers["Location"]
    assert api.get(path).json == api.get(path, staff=True).json
    refused(api.client.get(path, auth=(ADMIN[0], "wrong")), 401, "unauthorized")


def test_an_id_cannot_be_guessed(api: Api) -> None:
    """22 characters of base64 behind the event's id, 128 bits, and no two of them alike."""
    api.initialize(50)
    secrets = [api.book(f"user-{number}").json["order_id"].removeprefix(f"{EVENT_ID}.") for number in range(50)]
    assert {len(secret) for secret in secrets} == {22}
    assert len(set(secrets)) == len({secret[:8] for secret in secrets}) == 50


@pytest.mark.parametrize(
    "order_id",
    [
        f"{EVENT_ID}.AAAAAAAAAAAAAAAAAAAAAA",
        "nowhere.AAAAAAAAAAAAAAAAAAAAAA",
        f"{EVENT_ID}.AAAAAAAAAAAAAAAAAAAAA",
        f"{EVENT_ID}.",
        EVENT_ID,
        ".AAAAAAAAAAAAAAAAAAAAAA",
        "$ne",
        "%00",
        "%FF",
        "%E6%97%A5",
        "x" * 4000,
        "..%3F",
    ],
)
def test_an_unknown_order(api: Api, order_id: str) -> None:
    """404, whether the event is there or not, and whether the id looks like one or not."""
    api.initialize()
    api.book("ada")
    refused(api.get(f"/orders/{order_id}"), 404, "order_not_found")


def test_an_order_is_found_only_under_its_whole_id(api: Api) -> None:
    """Neither its end, nor another case, nor the id of another event in front will do."""
    api.initialize()
    api.initialize(event_id="other")
    order_id = api.book("ada").json["order_id"]
    secret = order_id.removeprefix(f"{EVENT_ID}.")
    for other in (secret, f"other.{secret}", order_id.upper(), order_id[:-1], f"{order_id}A", f"{order_id}%0A"):
        refused(api.get(f"/orders/{other}"), 404, "order_not_found")
