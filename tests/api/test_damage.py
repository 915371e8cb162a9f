"""A ledger that somebody reached into, on a real mongod: its event is refused, the audit says what is wrong with it,
and all other events are served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database

from tests.damage import Damage, changed, doubled, garbled, removed, with_new_checksums
from ticketing.audit import audit
from ticketing.manager import DAMAGE_REMEMBERED_S
from ticketing.storage.ledger import ledger_collection
from ticketing.storage.segments import Segments, segment_collection

from .conftest import EVENT_ID, Api, MakeApp, refused

# Each is done to the event of its name, and leads to a finding with this text.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "first-removed": (removed(1), "follows 0: version 1 is missing"),
    "middle-removed": (removed(4), "follows 3: version 4 is missing"),
    "renumbered": (changed(3, version=4), "follows 2: version 3 is missing"),
    "of-another-type": (changed(3, type="exploded"), "is of the unknown type 'exploded'"),
    "without-a-time": (changed(3, at="yesterday"), "has no time"),
    "more-tickets": (changed(3, orders__0__quantity=4), "oversold"),
    "of-another-status": (changed(3, orders__0__status="cancelled"), "does not hold one new order"),
    "of-another-user": (changed(3, orders__0__user_id="ada"), "gives 'ada' a second active order"),
    "without-a-key": (changed(3, request=0), "has a request without key and fingerprint"),
    "an-event-without-a-limit": (changed(1, event__max_tickets_per_order="ten"), "opens an event without"),
    "doubled-at-the-end": (doubled(3, under=8), "it is doubled or out of turn"),
    "doubled-before-the-first": (doubled(2, under=0), "it is doubled or out of turn"),
    "doubled-far-behind": (doubled(2, under=900), "it is doubled or out of turn"),
    "not-decodable": (garbled(3), "is of the unknown type"),
}

# What makes as much sense as what was written: only the checksum tells.
SENSIBLE: dict[str, Damage] = {
    "for-somebody-else": changed(3, orders__0__user_id="zoe"),
    "under-another-name": changed(1, event__name="Opera"),
    "by-nobody": changed(7, by="ben"),
}
CHANGES = DAMAGES | {name: (damage, "does not agree with its checksum") for name, damage in SENSIBLE.items()}
UNDECODABLE = "not-decodable"  # nor could who wrote it compute a checksum

pytestmark = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)


def play(api: Api, event_id: str) -> str:
    """Three tickets, five people, the first of whom cancels: seven transitions. The id of the second order."""
    api.initialize(event_id=event_id)
    orders = [api.book(user, event_id=event_id).json for user in ("ada", "ben", "cleo", "dan", "eve")]
    api.cancel("ada", event_id)
    return str(orders[1]["order_id"])


def findings(database: Database[dict[str, Any]]) -> dict[str, list[str]]:
    """What the audit says of each event."""
    return {report.event_id: report.findings for report in audit(database)}


@pytest.mark.parametrize(
    ("damages", "by_who_knows"),
    [(CHANGES, False), ({name: DAMAGES[name] for name in DAMAGES if name != UNDECODABLE}, True)],
    ids=["checksums-left", "checksums-new"],
)
def test_a_damaged_event_is_refused_and_no_other(
    app: Flask,
    make_app: MakeApp,
    database: Database[dict[str, Any]],
    damages: dict[str, tuple[Damage, str]],
    by_who_knows: bool,
) -> None:
    """Every request for it, by a worker that meets it for the first time; nothing is written to it."""
    orders = {event_id: play(Api(app), event_id) for event_id in (*damages, "sound")}
    for event_id, (damage, _) in damages.items():
        damage(ledger_collection(database), event_id)
        if by_who_knows:
            with_new_checksums(ledger_collection(database), event_id)
    count = database["ledger"].count_documents({})
    worker = Api(make_app())
    for event_id in damages:
        for answer in (
            worker.get(f"/status/{event_id}"),
            worker.get(f"/orders/{orders[event_id]}"),
            worker.book("zoe", event_id=event_id),
            worker.book("zoe", event_id=event_id, key="key"),
            worker.cancel("ben", event_id),
            worker.initialize(event_id=event_id),
        ):
            assert event_id in refused(answer, 503, "ledger_damaged")["detail"]
    assert database["ledger"].count_documents({}) == count
    assert worker.status("sound")["booked_tickets"] == 3
    assert worker.book("zoe", event_id="sound", key="key").status_code == 202
    found = findings(database)
    assert found.pop("sound") == []
    for event_id, (_, finding) in damages.items():
        assert any(finding in each for each in found[event_id]), found[event_id]


def history_meets_it(worker: Api, order_ids: list[str]) -> None:
    """Of an order in the damaged commit; other orders' histories do not read it."""
    assert worker.get(f"/orders/{order_ids[20]}/history", staff=True).status_code == 200
    refused(worker.get(f"/orders/{order_ids[23]}/history", staff=True), 503, "ledger_damaged")


def follower_meets_it(worker: Api, _: list[str]) -> None:
    """A page of the feed that is read from the commits, for a window ends close before them."""
    feed = worker.services.feed
    assert len(feed._windows) == 1 and feed._windows[0].state.version == 20
    refused(worker.get(f"/events/{EVENT_ID}/changes?after=20", staff=True), 503, "ledger_damaged")


@pytest.mark.parametrize("meets_it", [history_meets_it, follower_meets_it])
def test_damage_behind_a_segment(
    app: Flask,
    make_app: MakeApp,
    database: Database[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    meets_it: Callable[[Api, list[str]], None],
) -> None:
    """New workers go on from the segment, which has what was written. An order's history meets the damage, or a page of
    the change feed; from then on all workers refuse the event but those that have it in memory."""
    monkeypatch.setattr("ticketing.storage.segments.SEGMENT_SIZE", 20)  # ten bookings
    monkeypatch.setattr("ticketing.storage.segments.EVENT_SIZE", 1)
    api, worker = Api(app), Api(make_app())
    api.initialize(total_tickets=100)
    order_ids = [str(api.book(f"user-{number}").json["order_id"]) for number in range(19)]
    assert worker.get(f"/events/{EVENT_ID}/changes?after=20", staff=True).json["next"] == 20
    order_ids += [str(api.book(f"user-{number}").json["order_id"]) for number in range(19, 40)]
    segments = Segments(segment_collection(database), ledger_collection(database), api.services.clock)
    while segments.extend(EVENT_ID, api.services.clock.monotonic() + 5):
        pass
    assert worker.status()["booked_tickets"] == 40
    changed(25, orders__0__quantity=2)(ledger_collection(database), EVENT_ID)
    with monkeypatch.context() as patch:
        patch.setattr("ticketing.storage.pages.FIRST_PAGE_COMMITS", 2)
        assert Api(make_app()).status()["booked_tickets"] == 40
    meets_it(worker, order_ids)
    assert worker.status()["booked_tickets"] == 40
    monkeypatch.setattr("ticketing.storage.pages.FIRST_PAGE_COMMITS", 2)
    newcomer = Api(make_app())
    refused(newcomer.get(f"/status/{EVENT_ID}"), 503, "ledger_damaged")
    refused(newcomer.book("zoe"), 503, "ledger_damaged")
    changed(25, orders__0__quantity=1)(ledger_collection(database), EVENT_ID)
    newcomer.services.clock.sleep(DAMAGE_REMEMBERED_S)
    assert newcomer.book("zoe").status_code == 201


@pytest.mark.parametrize("at", [2, -1], ids=["event", "version"])
def test_a_key_of_a_commit_under_an_undecodable_id(
    app: Flask, make_app: MakeApp, database: Database[dict[str, Any]], at: int
) -> None:
    """It was used, in another event: refused there as always, and other keys are good."""
    for event_id in ("opera", "sound"):
        play(Api(app), event_id)
    Api(app).book("zoe", event_id="opera", key="key")
    garbled(8, "_id", at)(ledger_collection(database), "opera")
    for worker in (Api(app), Api(make_app())):
        refused(worker.book("zoe", event_id="sound", key="key"), 422, "idempotency_key_reused")
    assert worker.book("zoe", event_id="sound", key="another").status_code == 202
    assert worker.book("zoe", event_id="sound", key="another").headers["Idempotent-Replayed"] == "true"


def test_the_control_who_writes_a_new_checksum_is_believed(
    app: Flask, make_app: MakeApp, database: Database[dict[str, Any]]
) -> None:
    """What makes sense and agrees with its checksum is served, and the audit does not find it."""
    for event_id, damage in SENSIBLE.items():
        play(Api(app), event_id)
        damage(ledger_collection(database), event_id)
        with_new_checksums(ledger_collection(database), event_id)
    worker = Api(make_app())
    assert [worker.status(event_id)["booked_tickets"] for event_id in SENSIBLE] == [3] * len(SENSIBLE)
    assert findings(database) == {event_id: [] for event_id in SENSIBLE}


def test_the_last_commit_may_be_lost_and_nobody_knows(
    app: Flask, make_app: MakeApp, database: Database[dict[str, Any]]
) -> None:
    """What is left is a sound ledger: only who knows its version can tell. The audit prints it for this."""
    play(Api(app), EVENT_ID)
    before = list(audit(database))[0].transitions
    removed(7)(ledger_collection(database), EVENT_ID)
    (report,) = audit(database)
    assert (report.findings, report.transitions) == ([], before - 1)
    assert Api(make_app()).status()["version"] == before - 1


def test_a_repaired_event_is_served_by_who_refused_it(
    app: Flask, make_app: MakeApp, database: Database[dict[str, Any]]
) -> None:
    """The missing commit is brought back from a backup, and some seconds later the worker serves the event."""
    play(Api(app), EVENT_ID)
    commit = database["ledger"].find_one({"first": 4})
    assert commit is not None
    removed(4)(ledger_collection(database), EVENT_ID)
    worker = Api(make_app())
    refused(worker.book("zoe"), 503, "ledger_damaged")
    database["ledger"].insert_one(commit)
    refused(worker.book("zoe"), 503, "ledger_damaged")
    worker.services.manager._clock.sleep(DAMAGE_REMEMBERED_S)
    assert worker.book("zoe").json["waiting_position"] == 2
    assert findings(database) == {EVENT_ID: []}
