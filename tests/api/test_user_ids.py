"""A user's id in any composition is one user's, wherever it comes in; and what earlier versions have written of it is
found, on a real mongod.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest
from flask import Flask

from tests.concurrency.stage import booking
from tests.damage import changed
from ticketing.api.auth import Role
from ticketing.storage.ledger import ledger_collection

from .conftest import ADMIN, EVENT_ID, Answer, Api, Json, MakeApp, add_account, refused
from .test_erasure import places

TYPED = ["e\u0301ve of the test", "K\u212a of the test", "\u1112\u1161\u11ab of the test"]

pytestmark = [
    pytest.mark.parametrize("mongo", ["mongod"], indirect=True),
    pytest.mark.parametrize("typed", TYPED),
]


@pytest.fixture
def normal(typed: str) -> str:
    """The name as it is compared and kept."""
    normal = unicodedata.normalize("NFC", typed)
    assert normal != typed
    return normal


@pytest.fixture
def opened(api: Api) -> Api:
    """An event of five tickets."""
    api.initialize(5)
    return api


def book_as_earlier(api: Api, user_id: str, event_id: str = EVENT_ID) -> None:
    """As versions did that kept the name as it was sent."""
    api.services.manager.execute(booking(user_id, event_id))


def erase(api: Api, user_id: str) -> Answer:
    """DELETE, by an admin."""
    return api.client.delete(f"/users/{quote(user_id)}", auth=ADMIN)


def test_he_has_one_order(opened: Api, typed: str, normal: str) -> None:
    """However it is written: his second booking is refused, alone and among many, and a transfer to him."""
    first = opened.book(typed)
    assert (first.status_code, first.json["user_id"]) == (201, normal)
    other = opened.book("ada").json["order_id"]
    for name in (normal, typed):
        refused(opened.book(name), 409, "already_booked")
        [result] = opened.book_many({"user_id": name}).json["results"]
        assert result["error"]["code"] == "already_booked"
        refused(opened.transfer(other, name), 409, "already_booked")
    assert opened.cancel(typed).json["order"]["order_id"] == first.json["order_id"]
    [result] = opened.book_many({"user_id": typed}).json["results"]
    assert result["order"]["user_id"] == normal
    assert opened.cancel(normal).status_code == 200
    assert opened.transfer(other, typed).json["order"]["user_id"] == normal


def test_nobody_books_in_the_name_of_an_account(opened: Api, app: Flask, typed: str, normal: str) -> None:
    """Without its credentials."""
    add_account(app, (normal, "a password of the test"), Role.CUSTOMER)
    for name in (typed, normal):
        refused(opened.book(name), 401, "unauthorized")


def test_his_orders_are_found(opened: Api, typed: str, normal: str) -> None:
    """Among those of an event, and over all events."""
    opened.book("ada")
    booked = opened.book_many({"user_id": typed}).json["results"][0]["order"]
    for name in (typed, normal):
        for path in (f"/events/{EVENT_ID}/orders", "/orders"):
            items = opened.get(f"{path}?user_id={quote(name)}", staff=True).json["items"]
            assert [item["order_id"] for item in items] == [booked["order_id"]]


def test_a_repeat_stays_one(opened: Api, typed: str, normal: str) -> None:
    """Of the same bytes, and of the same name in another form."""
    other = opened.book("ada").json["order_id"]

    def requests(name: str) -> list[tuple[str, Json]]:
        return [
            ("/book", {"event_id": EVENT_ID, "user_id": name}),
            ("/cancel", {"event_id": EVENT_ID, "user_id": name}),
            ("/bookings/bulk", {"event_id": EVENT_ID, "orders": [{"user_id": name}]}),
            ("/cancel", {"event_id": EVENT_ID, "user_id": name, "quantity": 1}),
            (f"/orders/{other}/transfer", {"to_user_id": name}),
        ]

    for number, ((path, body), (_, other_body)) in enumerate(zip(requests(typed), requests(normal), strict=True)):
        first = opened.post(path, body, key=f"key-{number}")
        assert first.status_code in (200, 201)
        for repeated in (body, other_body):
            again = opened.post(path, repeated, key=f"key-{number}")
            assert (again.json, again.headers["Idempotent-Replayed"]) == (first.json, "true")


@pytest.mark.parametrize("asks_with", ["typed", "normal"])
def test_he_is_erased(opened: Api, typed: str, normal: str, asks_with: str) -> None:
    """What was booked without credentials too, under each form."""
    opened.book(typed)
    assert erase(opened, {"typed": typed, "normal": normal}[asks_with]).status_code == 204
    assert places(opened, normal) == places(opened, typed) == []
    refused(erase(opened, typed), 404, "user_not_found")


def test_what_earlier_versions_wrote_is_erased(opened: Api, make_app: MakeApp, typed: str, normal: str) -> None:
    """By the name as it was sent then, and with it what stands under the normal form; each of both alone, too."""
    for names in ([typed], [normal], [typed, normal]):
        for name in names:
            book_as_earlier(opened, name)
        assert erase(Api(make_app()), typed).status_code == 204
        assert places(opened, normal) == places(opened, typed) == []
    refused(erase(opened, typed), 404, "user_not_found")


def test_damage_under_one_form_leaves_the_other_to_be_erased(
    opened: Api, make_app: MakeApp, typed: str, normal: str
) -> None:
    """It is told when both have been looked for."""
    opened.initialize(5, "other")
    book_as_earlier(opened, typed)
    book_as_earlier(opened, normal, "other")
    changed(2, by="ben")(ledger_collection(opened.services.database), EVENT_ID)
    refused(erase(Api(make_app()), typed), 503, "ledger_damaged")
    assert places(opened, normal) == []
    assert "ledger" in places(opened, typed)


def test_the_admin_of_the_settings_is_not_erased(make_app: MakeApp, typed: str, normal: str) -> None:
    """However his name is written."""
    api = Api(make_app(basic_auth_username=normal))
    for name in (typed, normal):
        answer = api.client.delete(f"/users/{quote(name)}", auth=(normal, ADMIN[1]))
        refused(answer, 409, "account_in_settings")
