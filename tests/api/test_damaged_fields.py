"""Each field of each kind of commit as something else, on a real mongod: its event is served or said to be damaged, and
no other event is affected.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask
from pymongo.database import Database

from ticketing.api.auth import Role
from ticketing.audit import audit
from ticketing.storage.checksums import CHECKSUM
from ticketing.storage.documents import ledger_id
from ticketing.storage.ledger import ledger_collection

from .conftest import ADMIN, Answer, Api, Json, MakeApp, add_account

pytestmark = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)

Path = tuple[str | int, ...]

ADA = ("ada", "a password of ada's")
BASE = "base"
REMOVED = object()
VALUES = {
    "int": 7,
    "float": 1.5,
    "text": "x",
    "null": None,
    "list": [1, ["x"]],
    "document": {"x": 1},
    "binary": b"\xff\x00",
    "objectid": ObjectId(),
    "date": datetime(2027, 1, 1, tzinfo=UTC),
    "boolean": True,
    "removed": REMOVED,
}
RUNS = 3
"""Each place has so many of the values, a few kinds apart; all of them at each place would take four times as long."""


def play(api: Api) -> None:
    """A commit of each kind, and one transition in each."""
    for user in ("dora", "olaf"):
        add_account(api.app, (user, f"a password of {user}"), Role.ORGANIZER)
    add_account(api.app, ADA, Role.CUSTOMER)
    kinds: Json = [
        {"code": "meadow", "name": "The meadow", "total_tickets": 4, "price": "45.00", "currency": "EUR"},
        {"code": "general", "name": "A tree", "total_tickets": 1},
    ]
    about: Json = {"starts_at": "2099-07-01T16:00:00Z", "timezone": "Europe/Berlin", "venue": "A wood"}
    about |= {"description": "Loud.", "max_tickets_per_user": 9}
    api.initialize(None, BASE, ticket_types=kinds, auth=("olaf", "a password of olaf"), **about)
    body = {"event_id": BASE, "ticket_type": "meadow", "quantity": 3}
    order_id = api.post("/book", body, auth=ADA, key="key").json["order_id"]
    bulk: Json = [{"user_id": user, "ticket_type": "general"} for user in ("eve", "fay", "eve")]
    assert api.book_many(*bulk, event_id=BASE, key="bulk").status_code == 200
    api.book("ben", 4, BASE, ticket_type="meadow")
    assert api.transfer(order_id, "lou", quantity=1).status_code == 201
    api.cancel("ada", BASE, quantity=1)
    dora = ("dora", "a password of dora")
    dora_id = api.post("/book", {"event_id": BASE, "ticket_type": "meadow"}, auth=dora).json["order_id"]
    api.cancel_order(dora_id)
    assert api.cancel_order(dora_id, key="again").status_code == 200
    assert api.book("lou", event_id=BASE, ticket_type="meadow", key="refused").status_code == 409
    for user in ("dora", "olaf"):
        assert api.client.delete(f"/users/{user}", auth=ADMIN).status_code == 204
    update: Json = {"ticket_types": [{"code": "meadow", "total_tickets": 9}]}
    assert api.update(event_id=BASE, name="A concert", **update).status_code == 200
    api.cancel("eve", BASE)
    api.cancel_event(BASE)


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where something stands in a commit, but for its `_id`, which MongoDB does not let anybody change."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        if name not in ("_id", CHECKSUM):
            yield (*path, name)
            yield from paths(each, (*path, name))


def targets(commits: list[Json]) -> list[tuple[int, Path]]:
    """Each place in each kind of commit once: the number of the commit and the path in it."""
    found: dict[Any, tuple[int, Path]] = {}
    for number, commit in enumerate(commits):
        kind = commit["transitions"][0]["type"]
        for path in paths(commit):
            found.setdefault((kind if "transitions" in path else number in (0, len(commits) - 1), path), (number, path))
        for path in paths(commit["after"], ("after",)):
            found[True, path] = number, path  # those of the last one count
    return list(found.values())


def renamed(value: Any, event_id: str) -> Any:
    """The same for another event."""
    if isinstance(value, dict):
        return {name: renamed(each, event_id) for name, each in value.items()}
    if isinstance(value, list):
        return [renamed(each, event_id) for each in value]
    if isinstance(value, str) and (value == BASE or value.startswith((f"{BASE}:", f"{BASE}."))):
        return event_id + value[len(BASE) :]
    return value


def put(commit: Json, path: Path, value: Any) -> Json:
    """The commit with another value at a place, and without a checksum that would tell."""
    damaged = copy.deepcopy(commit)
    *outer, name = path
    place = functools.reduce(lambda inner, step: inner[step], outer, damaged)
    if value is REMOVED:
        del place[name]
    else:
        place[name] = value
    return damaged


def served_or_damaged(answer: Answer, where: Any) -> None:
    """Fail for what is neither: a 500, or a storage that is said to be away."""
    if answer.status_code >= 500:
        assert (answer.status_code, answer.json["code"]) == (503, "ledger_damaged"), (where, answer.text)


def orders_in(commit: Json) -> set[str]:
    """The ids of the orders that a commit names."""
    return {change["order_id"] for part in commit["transitions"] for change in part.get("orders", ())}


def of_event(event_id: str, items: list[Json]) -> list[Json]:
    """Those of one event."""
    return [each for each in items if each["event_id"] == event_id]


def follow(api: Api, path: str, **query: Any) -> list[Json]:
    """The items of all pages."""
    items: list[Json] = []
    while True:
        answer = api.get(path, query_string=query, staff=True)
        assert answer.status_code == 200, answer.text
        items += answer.json["items"]
        if answer.json["next"] is None:
            return items
        query["after"] = answer.json["next"]


@pytest.mark.parametrize("run", range(RUNS))
def test_each_field_as_something_else(
    app: Flask, make_app: MakeApp, database: Database[dict[str, Any]], run: int
) -> None:
    """By workers that meet the event for the first time, and by one that has it in memory; in lists, too. The audit
    names each event that is not served."""
    api = Api(app)
    play(api)
    ledger = ledger_collection(database)
    commits = [{field: value for field, value in each.items() if field != CHECKSUM} for each in ledger.find()]
    places = targets(commits)
    events = {f"event-{number:03}": place for number, place in enumerate(places)}
    for event_id in (*events, "sound"):
        ledger.insert_many([renamed(commit, event_id) for commit in commits])
    first = follow(api, f"/events/{BASE}/orders")[0]["order_id"].partition(".")[2]
    for event_id in events:
        assert api.get(f"/status/{event_id}").status_code == 200
    lists: list[tuple[str, Json]] = [
        ("/events", {"limit": 20}),
        ("/events", {"limit": 500, "status": "cancelled"}),
        ("/events", {"limit": 500, "q": "concert"}),
        ("/orders", {"limit": 20, "user_id": "ada"}),
    ]
    sound = [of_event("sound", follow(api, path, **query)) for path, query in lists]
    assert all(sound)
    for place, (event_id, (number, path)) in enumerate(events.items()):
        commit = renamed(commits[number], event_id)
        value = list(VALUES.values())[(place + run * len(VALUES) // RUNS) % len(VALUES)]
        ledger.replace_one({"_id": commit["_id"]}, put(commit, path, value))
    fresh, unserved = Api(make_app()), set[str]()
    for event_id, (number, path) in events.items():
        orders = sorted(orders_in(renamed(commits[number], event_id))) or [f"{event_id}.{first}"]
        for order_id in orders:
            served_or_damaged(api.get(f"/orders/{order_id}/history", staff=True), path)
        asked = f"/events/{event_id}", f"/status/{event_id}", f"/orders/{orders[0]}", f"/orders/{orders[0]}/history"
        for each in (*asked, f"/events/{event_id}/changes?limit=500"):
            answer = fresh.get(each, staff=True)
            served_or_damaged(answer, (each, path))
            if answer.status_code == 503:
                unserved.add(event_id)
    for worker in (api, fresh):
        assert [of_event("sound", follow(worker, path, **query)) for path, query in lists] == sound
    for event_id, (_, path) in events.items():
        served_or_damaged(fresh.cancel("lou", event_id), path)
    named = {report.event_id for report in audit(database) if report.findings}
    assert [events[event_id] for event_id in sorted(unserved - named)] == []


REFUSED: list[Callable[[Api, str], Answer]] = [
    lambda api, event_id: api.book("ben", event_id=event_id, key=f"one-of-{event_id}"),
    lambda api, event_id: api.book("zoe", 9, event_id, key=f"large-of-{event_id}"),
    lambda api, event_id: api.book_many(*FEW, event_id=event_id, mode="all_or_none", key=f"none-of-{event_id}"),
    lambda api, event_id: api.book_many(*FEW[:2], event_id=event_id, key=f"few-of-{event_id}"),
    lambda api, event_id: api.book_many(*FEW, event_id=event_id, key=f"many-of-{event_id}"),
]
"""What is refused, or in part, and remembered."""

FEW: list[Json] = [{"user_id": "ann", "quantity": 9}, {"user_id": "ben"}, {"user_id": "cleo"}]


def play_refused(api: Api, event_id: str) -> list[Answer]:
    """An event in which a commit each, from the third on, is of one of these."""
    api.initialize(9, event_id, max_tickets_per_order=8)
    api.book("ben", event_id=event_id)
    return [ask(api, event_id) for ask in REFUSED]


def test_each_field_of_a_remembered_refusal_as_something_else(
    api: Api, make_app: MakeApp, database: Database[dict[str, Any]]
) -> None:
    """Who repeats the request gets an answer, or is told of the damage; the audit names what is not served."""
    ledger = ledger_collection(database)
    assert [answer.status_code for answer in play_refused(api, BASE)] == [409, 422, 409, 200, 200]
    places = [
        (number, path)
        for number, commit in enumerate(ledger.find().sort("_id", 1))
        for path in paths(commit)
        if {"refusal", "refused"} & set(path)
    ]
    values = [*VALUES.values(), 2**40, -1]
    damages = {
        f"event-{place}-{run}": (*each, values[(place + run * len(values) // RUNS) % len(values)])
        for place, each in enumerate(places)
        for run in range(RUNS)
    }
    for event_id, (number, path, value) in damages.items():
        play_refused(api, event_id)
        commit_id = ledger_id(event_id, number + 1)
        (commit,) = ledger.find({"_id": commit_id}, {CHECKSUM: 0})
        ledger.replace_one({"_id": commit_id}, put(commit, path, value))
    fresh, unserved = Api(make_app()), set[str]()
    for event_id, (number, path, value) in damages.items():
        answer = REFUSED[number - 2](fresh, event_id)
        served_or_damaged(answer, (path, value))
        if answer.status_code == 503:
            unserved.add(event_id)
    assert len(unserved) > len(damages) / 2
    named = {report.event_id for report in audit(database) if report.findings}
    assert [damages[event_id] for event_id in sorted(unserved - named)] == []
