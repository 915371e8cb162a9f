"""GET /events, on a real mongod: which events, in which order, and that no ledger is read for it."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from flask import Flask
from pymongo.collection import Collection
from pymongo.database import Database

from tests.damage import Damage, changed, garbled, removed, with_new_checksums
from ticketing.domain.model import EventStatus
from ticketing.errors import StorageUnavailable
from ticketing.storage import catalog
from ticketing.storage.catalog import _pipeline
from ticketing.storage.documents import ledger_id
from ticketing.storage.ledger import ledger_collection

from .conftest import EVENT_ID, Api, Json, MakeApp, refused
from .test_bookings import EVENT_MEMBERS

pytestmark = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)

NOW = datetime(2027, 1, 1, 20, 0, tzinfo=UTC)  # where the clock of the tests begins


def hours(count: float) -> str:
    """A time so many hours from now."""
    return (NOW + timedelta(hours=count)).isoformat()


def listed(api: Api, **query: Any) -> list[str]:
    """The events of all pages, by their ids."""
    return [event["event_id"] for event in pages(api, **query)]


def pages(api: Api, **query: Any) -> list[Json]:
    """The events of all pages. Follows `Link`, which must agree with `next`."""
    answer = api.get("/events", query_string=query)
    items = []
    while True:
        assert answer.status_code == 200, answer.text
        items += answer.json["items"]
        assert ("Link" in answer.headers) == (answer.json["next"] is not None)
        if answer.json["next"] is None:
            return items
        assert answer.json["next"] in answer.headers["Link"]
        answer = api.get(answer.headers["Link"].partition(">")[0].removeprefix("<"))


def test_an_event_is_listed_as_it_is_shown(api: Api) -> None:
    """Every member as `GET /events/<event_id>` has it: after bookings, changes, refusals that are remembered. But of
    ticket types the list has what they are, and not what is left of each."""
    assert listed(api) == []
    details: Json = {"venue": "City Hall", "description": "Loud.", "starts_at": hours(9), "timezone": "Europe/Berlin"}
    api.initialize(3, **details)
    for user in ("ada", "ben", "cleo", "dan"):
        api.book(user)
    api.initialize(5, "large", max_tickets_per_order=4)
    api.book("eve", 4, event_id="large")
    api.book("fay", 3, event_id="large")
    api.book("ada", key="a refusal that is remembered")
    api.update(total_tickets=4, venue=None, name="A larger concert")
    api.initialize(7, "empty", starts_at=hours(5))
    api.cancel_event("empty")
    events = pages(api)
    assert [event["event_id"] for event in events] == ["empty", EVENT_ID, "large"]
    assert list(events[0]) == EVENT_MEMBERS
    for event in events:
        shown = api.get(f"/events/{event['event_id']}").json
        names = ("code", "name", "price", "currency", "total_tickets")
        assert event == shown | {
            "ticket_types": [{name: each[name] for name in names} for each in shown["ticket_types"]]
        }
    assert (events[2]["held_tickets"], events[2]["waiting_list_count"]) == (1, 1)


def test_those_that_begin_first_come_first(api: Api) -> None:
    """Then by id; those without a time last. Pages of any size have all of them, once, in the same order."""
    starts = {"d": hours(1), "b": hours(2), "c": hours(2), "before-1970": "1925-01-01T00:00:00Z"}
    starts["far"] = "9999-12-31T23:59:59.999Z"
    for event_id in ("d", "c", "far", "a", "Z", "b", "before-1970"):
        api.initialize(1, event_id, starts_at=starts.get(event_id))
    expected = ["before-1970", "d", "b", "c", "far", "Z", "a"]
    for limit in (1, 2, 3, 6, 7, 50):
        assert listed(api, limit=limit) == expected
    api.update(event_id="a", starts_at=hours(1.5))
    api.update(event_id="d", starts_at=None)
    assert listed(api, limit=2) == ["before-1970", "a", "b", "c", "far", "Z", "d"]


def test_a_text_is_found_in_any_case_and_as_it_is(api: Api) -> None:
    """In name, venue and description as they are now. Characters that mean something to a regular expression do not."""
    api.initialize(1, "one", name="Ünïcode (live) [50% off] C++ $5 ^.*", venue="Große Halle")
    api.initialize(1, "two", name="Concert", description="With the ünïcode band", venue="Small Hall")
    for text, expected in {
        "ÜNÏCODE": ["one", "two"],
        "hall": ["one", "two"],
        "große h": ["one"],
        "(live)": ["one"],
        "50% OFF": ["one"],
        "c++": ["one"],
        "$5 ^.*": ["one"],
        "n.*e": [],
        "con|uni": [],
        "^Con": [],
        "concert-2027": [],
        "\\d": [],
    }.items():
        assert listed(api, q=text) == expected, text
    api.update(event_id="one", name="Another", venue=None)
    assert listed(api, q="hall") == ["two"]


@pytest.mark.parametrize("seed", range(2))
def test_a_status_is_that_of_the_moment(api: Api, seed: int) -> None:
    """For each status just those events that show it, whatever their times and however many tickets are left."""
    chance = random.Random(seed)
    for number in range(40):
        times: Json = {
            name: hours(chance.choice([-3, -2, -1, 1, 2, 3]))
            for name in ("sales_open_at", "sales_close_at", "ends_at")
            if chance.random() < 0.4
        }
        event_id = f"event-{number}"
        if api.initialize(chance.choice([1, 2]), event_id, **times).status_code == 422:
            continue
        if chance.random() < 0.5:
            api.book("ada", event_id=event_id)
        if chance.random() < 0.2:
            api.cancel_event(event_id)
    shown = {event_id: api.status(event_id)["status"] for event_id in listed(api)}
    assert len(set(shown.values())) == len(EventStatus), "not every status was tried"
    for status in EventStatus:
        expected = {event_id for event_id, each in shown.items() if each == status}
        assert set(listed(api, status=status, limit=3)) == expected
        assert all(event["status"] == status for event in pages(api, status=status))


def test_a_page_looks_at_a_bounded_number_of_events(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few of them have the status: the page is short, and the next one goes on."""
    monkeypatch.setattr(catalog, "LOOKS_MAX", 3)
    for number in range(8):
        api.initialize(1, f"event-{number}")
    api.book("ada", event_id="event-7")
    first = api.get("/events?status=sold_out").json
    assert (first["items"], first["next"] is None) == ([], False)
    assert listed(api, status="sold_out") == ["event-7"]
    assert listed(api, status="on_sale", limit=2) == [f"event-{number}" for number in range(7)]


def test_no_ledger_is_read(api: Api, database: Database[dict[str, Any]]) -> None:
    """Of an event's commits, those that set its details are looked at, by their index, and one more."""
    for event_id in ("a", "b"):
        api.initialize(100, event_id)
        for number in range(20):
            api.book(f"user {number}", event_id=event_id)
    command = {"aggregate": "ledger", "pipeline": _pipeline(NOW, None, None, None), "cursor": {}}
    plan = database.command("explain", command, verbosity="executionStats")
    first, *_, last_look = plan["stages"]
    assert first["$cursor"]["executionStats"]["totalDocsExamined"] == 2
    assert "event_details" in str(first["$cursor"]["queryPlanner"]["winningPlan"])
    assert (last_look["totalDocsExamined"], last_look["totalKeysExamined"]) == (2, 2)


def test_an_event_of_an_earlier_version_is_listed(api: Api, make_app: MakeApp) -> None:
    """Its commits have neither summary nor checksum: its ledger is folded, and its status is right all the same."""
    for event_id in ("left", "sold-out"):
        api.initialize(1, event_id)
    api.book("ada", event_id="sold-out")
    api.services.database["ledger"].update_many({}, {"$unset": {"after": "", "checksum": ""}})
    worker = Api(make_app())
    assert pages(worker) == [api.get(f"/events/{event_id}").json for event_id in ("left", "sold-out")]
    assert (listed(worker, status="on_sale"), listed(worker, status="sold_out")) == (["left"], ["sold-out"])


def test_too_many_of_them_are_an_error_that_passes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 when the time is over; a repeat would find in memory what was folded by then."""
    api.initialize(1)
    api.services.database["ledger"].update_many({}, {"$unset": {"after": ""}})
    monkeypatch.setattr("ticketing.api.events.is_late", lambda: True)
    refused(api.get("/events"), 503, "storage_unavailable")


def without_summaries(ledger: Collection[dict[str, Any]], event_id: str) -> None:
    """Something else stands in their place."""
    ledger.update_many({"event_id": event_id}, {"$set": {"after": 3}})


def without_summaries_and_checksums(ledger: Collection[dict[str, Any]], event_id: str) -> None:
    """Nothing says that they are not what was written."""
    without_summaries(ledger, event_id)
    with_new_checksums(ledger, event_id)


def test_a_damaged_event_keeps_no_other_from_being_listed(
    app: Flask, make_app: MakeApp, database: Database[dict[str, Any]]
) -> None:
    """What cannot be served is left out; what its details and its last commit show is listed."""
    api = Api(app)
    damages: dict[str, Damage] = {
        "not-decodable": garbled(1),
        "without-a-beginning": removed(1),
        "of-another-name": changed(1, event__name=7),
        "without-details": changed(1, event="none"),
        "with-a-word-for-a-time": changed(1, event__starts_at="soon"),
        "with-a-wrong-summary": without_summaries,
        "without-a-summary": without_summaries_and_checksums,
    }
    for event_id in (*damages, "sound"):
        api.initialize(3, event_id)
        api.book("ada", event_id=event_id)
    for event_id, damage in damages.items():
        damage(ledger_collection(database), event_id)
    worker = Api(make_app())
    assert listed(worker) == ["sound", "without-a-summary"]
    assert listed(worker, status="on_sale") == ["sound", "without-a-summary"]
    assert listed(worker, q="concert", limit=1) == ["sound", "without-a-summary"]


def test_what_a_commit_says_of_an_event_does_no_harm_to_others(
    app: Flask, make_app: MakeApp, database: Database[dict[str, Any]]
) -> None:
    """A summary, a number or an event that is none: what cannot be shown is left out, all else is shown as it is."""
    api, ledger = Api(app), ledger_collection(database)
    nothing = (None, "x", 1.5, -1, True, False, [1], {"x": 1}, ObjectId(), b"x", Decimal128("1"), NOW)
    damages = {
        f"{name}-{number}": (first, {"$set": {field: value}})
        for first, name, field in (
            (3, "available", "after.available"),
            (3, "booked", "after.booked"),
            (3, "waiting", "after.waiting"),
            (3, "last", "last"),
            (1, "event", "event_id"),
            (2, "updated-event", "event_id"),
            (3, "last-event", "event_id"),
        )
        for number, value in enumerate((*nothing, "sound", "a b", ["sound"], ["a", "b"]))
    }
    damages["too-many-booked"] = 3, {"$set": {"after.booked": 4}}
    damages["without-an-event"] = 1, {"$unset": {"event_id": ""}}
    damages["without-counts"] = 3, {"$unset": {"after.available": ""}}
    for event_id in (*damages, "sound"):
        api.initialize(3, event_id, starts_at=hours(5))
        api.update(event_id=event_id, name="A concert", venue=f"Hall of {event_id}")
        api.book("ada", event_id=event_id)
    shown = pages(api)
    for event_id, (first, change) in damages.items():
        assert ledger.update_one({"_id": ledger_id(event_id, first)}, change).modified_count == 1
    worker = Api(make_app())
    for query in ({}, {"limit": 7}, {"status": "on_sale"}, {"q": "CONCERT"}, {"q": "hall of", "limit": 7}):
        items = pages(worker, **query)
        assert [each for each in shown if each["event_id"] == "sound"] == [
            each for each in items if each["event_id"] == "sound"
        ]
        assert all(each in shown for each in items if not each["event_id"].startswith("updated"))
    assert listed(worker, q="hall of sound") == ["sound"]
    assert listed(worker, status="sold_out") == listed(worker, status="cancelled") == []


def test_a_query_that_is_wrong(api: Api) -> None:
    """422; also for a cursor of another list, or one that nobody was given."""
    api.initialize()
    for wrong in ("status=open", "q=", "q=%20x", "q=%00", f"q={'x' * 201}", "limit=0", "limit=501", "sort=name"):
        refused(api.get(f"/events?{wrong}"), 422, "validation_failed")
    for text in ("", "0", "-0:a", "007:a", "x:a", "1:", ":a", "1:a b", "1:a:b", f"{10**16}:a", "1a"):
        cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        refused(api.get(f"/events?after={cursor}"), 422, "validation_failed")


def test_mongodb_away(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, as everywhere."""

    def fail(*args: Any, **options: Any) -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(catalog, "retried", fail)
    refused(api.get("/events"), 503, "storage_unavailable")
