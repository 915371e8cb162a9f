"""GET /orders/<order_id>/history."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database

from tests.damage import garbled, with_new_checksums
from ticketing.api.auth import Role
from ticketing.audit import audit
from ticketing.domain.fold import LedgerContradiction
from ticketing.errors import StorageUnavailable
from ticketing.storage import orders as storage

from .conftest import ADMIN, EVENT_ID, Api, Json, add_account, refused
from .test_bookings import on_both

ADA = ("ada", "a password of ada's")
BEN = ("ben", "a password of ben's")
OLGA = ("olga", "a password of an organizer")


@pytest.fixture
def api(app: Flask) -> Api:
    """One ticket: Ada has it, Ben waits for it, and gets it when she cancels; nobody has booked for Cleo."""
    api = Api(app)
    for credentials, role in ((ADA, Role.CUSTOMER), (BEN, Role.CUSTOMER), (OLGA, Role.ORGANIZER)):
        add_account(app, credentials, role)
    api.initialize(1, auth=OLGA)
    return api


def book(api: Api, auth: tuple[str, str] | None) -> str:
    """Book, for Cleo where there are no credentials. The id of the order."""
    body = {"event_id": EVENT_ID} | ({} if auth else {"user_id": "cleo"})
    return str(api.client.post("/book", json=body, auth=auth).json["order_id"])


def history(api: Api, order_id: str, auth: tuple[str, str] | None) -> list[Json]:
    """What a caller sees of what happened to an order."""
    answer = api.client.get(f"/orders/{order_id}/history", auth=auth)
    assert (answer.status_code, answer.json["next"]) == (200, None), answer.text
    items: list[Json] = answer.json["items"]
    return items


@on_both
def test_what_happened_to_an_order(api: Api) -> None:
    """Each change with its version, time and outcome; the last is the order as it is now."""
    ada, ben, cleo = (book(api, auth) for auth in (ADA, BEN, None))
    api.client.post("/cancel", json={"order_id": ada}, auth=ADA)
    api.cancel_order(ada, key="remembered")
    api.cancel_order(ben)
    first, second, third = history(api, ben, ADMIN)
    assert {name: value for name, value in first.items() if name != "at"} == {
        "version": 3,
        "type": "waitlisted",
        "by": "ben",
        "status": "waiting",
        "quantity": 1,
        "from": None,
        "to": None,
    }
    assert (second["version"], second["type"], second["status"], second["by"]) == (5, "promoted", "confirmed", "ada")
    assert (third["version"], third["type"], third["status"], third["by"]) == (7, "cancelled", "cancelled", "admin")
    order = api.client.get(f"/orders/{ben}", auth=BEN).json
    assert (first["at"], third["at"], third["version"]) == (order["created_at"], order["updated_at"], order["version"])
    assert [entry["type"] for entry in history(api, ada, ADA)] == ["booked", "cancelled"]
    assert [entry["type"] for entry in history(api, cleo, None)] == ["waitlisted", "promoted"]


def test_who_did_it_is_told_to_whom_it_concerns(api: Api) -> None:
    """Staff see all names. The owner is not told whose cancellation moved him up; who only has the id sees none."""
    ada, ben, cleo = (book(api, auth) for auth in (ADA, BEN, None))
    api.client.post("/cancel", json={"order_id": ada}, auth=ADA)
    api.cancel_order(ben)
    assert [entry["by"] for entry in history(api, ben, OLGA)] == ["ben", "ada", "admin"]
    assert [entry["by"] for entry in history(api, ben, BEN)] == ["ben", None, "admin"]
    assert [entry["by"] for entry in history(api, cleo, None)] == [None, None]
    assert [entry["by"] for entry in history(api, cleo, ADA)] == [None, None]
    assert [entry["by"] for entry in history(api, cleo, OLGA)] == [None, "admin"]
    for caller in (None, ADA):
        refused(api.client.get(f"/orders/{ben}/history", auth=caller), 404, "order_not_found")


def test_tickets_that_change_hands(api: Api) -> None:
    """The chain can be followed both ways: each side names the other's order, and who handed the tickets on."""
    api.update(total_tickets=3)
    body = {"event_id": EVENT_ID, "quantity": 2}
    first = api.client.post("/book", json=body, auth=ADA).json["order_id"]
    path = f"/orders/{first}/transfer"
    part = api.client.post(path, json={"to_user_id": "ben", "quantity": 1}, auth=ADA).json["order"]["order_id"]
    rest = api.client.post(path, json={"to_user_id": "dan"}, auth=OLGA).json["order"]["order_id"]
    chain = {
        order_id: [
            (entry["type"], entry["status"], entry["quantity"], entry["from"], entry["to"], entry["by"])
            for entry in history(api, order_id, auth)
        ]
        for order_id, auth in ((first, ADA), (part, BEN), (rest, OLGA))
    }
    assert chain == {
        first: [
            ("booked", "confirmed", 2, None, None, "ada"),
            ("transferred", "confirmed", 1, None, part, "ada"),
            ("transferred", "cancelled", 1, None, rest, "olga"),
        ],
        part: [("transferred", "confirmed", 1, first, None, "ada")],
        rest: [("transferred", "confirmed", 1, first, None, "olga")],
    }


def test_several_changes_in_one_commit(api: Api) -> None:
    """Those of the order are picked out, in order, and nothing of the others is."""
    order_id = book(api, ADA)
    ledger = api.services.database["ledger"]
    api.client.post("/cancel", json={"order_id": order_id}, auth=ADA)
    _, *later = ledger.find(sort=[("_id", 1)])
    ledger.delete_many({"first": {"$gt": 1}})
    ledger.insert_one({**later[0], "transitions": [part for each in later for part in each["transitions"]]})
    assert [entry["version"] for entry in history(api, order_id, ADA)] == [2, 3]


@pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
def test_an_erased_user_is_a_pseudonym_in_it(api: Api, database: Database[dict[str, Any]]) -> None:
    """Also where he has acted, and the giving of his orders to the pseudonym is told."""
    order_id = book(api, ADA)
    assert api.client.delete("/users/ada", auth=ADMIN).status_code == 204
    booked, erased = history(api, order_id, OLGA)
    assert (booked["type"], erased["type"], erased["by"]) == ("booked", "pseudonymized", "admin")
    assert booked["by"] == api.client.get(f"/orders/{order_id}", auth=OLGA).json["user_id"] != "ada"
    assert [report.findings for report in audit(database)] == [[]]


def test_an_unknown_order(api: Api) -> None:
    """404, as without its history."""
    for order_id in (f"{EVENT_ID}.AAAAAAAAAAAAAAAAAAAAAA", "nowhere.AAAAAAAAAAAAAAAAAAAAAA", "$ne", "x"):
        refused(api.get(f"/orders/{order_id}/history"), 404, "order_not_found")


@pytest.mark.parametrize(
    ("error", "code"),
    [(StorageUnavailable(), "storage_unavailable"), (LedgerContradiction("broken"), "ledger_damaged")],
)
def test_a_ledger_that_cannot_be_read(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    """503, though the state of the event is still in memory."""
    order_id = book(api, ADA)

    def fail(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(storage.Orders, "transitions_of", fail)
    refused(api.client.get(f"/orders/{order_id}/history", auth=ADA), 503, code)


def test_a_commit_that_was_damaged_since(api: Api) -> None:
    """The same: what cannot be read is no transition."""
    order_id = book(api, ADA)
    event_id = api.services.database["ledger"].update_one({"first": 2}, {"$set": {"transitions.0.type": "exploded"}})
    assert event_id.modified_count == 1
    with pytest.raises(LedgerContradiction):
        api.services.orders.transitions_of(EVENT_ID, order_id, 2, api.services.clock.monotonic() + 1)


@pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
def test_a_commit_that_cannot_be_decoded_any_more(api: Api) -> None:
    """503, though the state of the event is still in memory."""
    order_id = book(api, ADA)
    garbled(2)(api.services.database["ledger"], EVENT_ID)
    refused(api.client.get(f"/orders/{order_id}/history", auth=ADA), 503, "ledger_damaged")


FIELDS: list[tuple[str, Any]] = [
    ("version", "x"),
    ("version", {}),
    ("by", b"ada"),
    ("orders.0.quantity", b"1"),
    ("orders.0.quantity", 2),
    ("orders.0.status", None),
    ("orders.0.status", "waiting"),
    ("orders.1", ["a list"]),
    ("orders.1", {"user_id": "ben"}),
]


@pytest.mark.parametrize("is_told", [True, False], ids=["checksum", "no-checksum"])
@pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
def test_a_field_that_was_changed_since(api: Api, is_told: bool) -> None:
    """503, though the state of the event is still in memory: by its checksum, and else by what makes no sense."""
    order_id, ledger = book(api, ADA), api.services.database["ledger"]
    sound = ledger.find_one({"first": 2})
    assert sound is not None
    for name, value in FIELDS:
        more = {} if is_told else {"$unset": {"checksum": ""}}
        ledger.update_one({"first": 2}, {"$set": {f"transitions.0.{name}": value}, **more})
        refused(api.client.get(f"/orders/{order_id}/history", auth=ADA), 503, "ledger_damaged")
        ledger.replace_one({"first": 2}, sound)
    assert [entry["version"] for entry in history(api, order_id, ADA)] == [2]


@pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
def test_a_history_that_does_not_lead_to_the_order(api: Api) -> None:
    """503 where a commit is gone, or names another order now: what is left would be told as all that happened."""
    ada, ben = book(api, ADA), book(api, BEN)
    api.client.post("/cancel", json={"order_id": ada}, auth=ADA)
    ledger = api.services.database["ledger"]
    ledger.delete_one({"first": 4})
    for order_id, auth in ((ada, ADA), (ben, BEN)):
        refused(api.client.get(f"/orders/{order_id}/history", auth=auth), 503, "ledger_damaged")


@pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
def test_a_commit_that_is_seen_a_little_later(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a new primary: the history is asked for again, and no ledger is called damaged."""
    order_id = book(api, ADA)
    api.client.post("/cancel", json={"order_id": order_id}, auth=ADA)
    real, looks = api.services.orders.transitions_of, list[str]()

    def transitions_of(*args: Any) -> Any:
        looks.append("look")
        return real(*args)[: -1 if len(looks) < 3 else None]

    monkeypatch.setattr(api.services.orders, "transitions_of", transitions_of)
    assert [entry["type"] for entry in history(api, order_id, ADA)] == ["booked", "cancelled"]
    assert len(looks) == 3


@pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
def test_what_makes_sense_and_is_not_what_was_written(api: Api) -> None:
    """503: only the checksum tells that somebody else is named."""
    order_id, ledger = book(api, ADA), api.services.database["ledger"]
    assert ledger.update_one({"first": 2}, {"$set": {"transitions.0.by": "olga"}}).modified_count == 1
    refused(api.client.get(f"/orders/{order_id}/history", auth=ADA), 503, "ledger_damaged")
    with_new_checksums(ledger, EVENT_ID)
    assert [entry["by"] for entry in history(api, order_id, ADA)] == ["olga"]


def test_one_id_leads_to_no_other(api: Api) -> None:
    """Who has only the id of an order that nobody with an account owns does not learn those of the chain."""
    api.update(total_tickets=3)
    first = api.client.post("/book", json={"event_id": EVENT_ID, "user_id": "eve"}).json["order_id"]
    second = api.transfer(first, "fay").json["order"]["order_id"]
    third = api.transfer(second, "gus").json["order"]["order_id"]
    shown = api.get(f"/orders/{second}/history").text
    assert first not in shown and third not in shown
    assert third in api.get(f"/orders/{second}/history", staff=True).text
