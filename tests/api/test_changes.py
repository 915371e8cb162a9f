"""GET /events/<event_id>/changes."""

from __future__ import annotations

import pytest
from flask import Flask, g

from ticketing.api import admission

from .conftest import ADMIN, EVENT_ID, Api, refused

PATH = f"/events/{EVENT_ID}/changes"


def test_what_happened(api: Api) -> None:
    """Each change with its orders as they are after it, not as they are now."""
    api.initialize(1)
    ada, ben = api.book("ada").json, api.book("ben").json
    cancelled = api.cancel("ada").json
    page = api.get(PATH, staff=True).json
    assert [(item["version"], item["type"], item["by"]) for item in page["items"]] == [
        (1, "initialized", "admin"),
        (2, "booked", None),
        (3, "waitlisted", None),
        (4, "cancelled", "admin"),
    ]
    assert [item["orders"] for item in page["items"]] == [
        [],
        [ada],
        [ben],
        [cancelled["order"], *cancelled["promoted"]],
    ]
    assert page["next"] == 4


def test_a_client_can_go_on_for_ever(api: Api) -> None:
    """`next` and the `Link` lead on, also from the last page, and keep what else was asked for."""
    api.initialize(5)
    for user in ("ada", "ben", "cleo"):
        api.book(user)
    path, versions = f"{PATH}?limit=2", []
    for _ in range(4):
        answer = api.get(path, staff=True)
        versions.append([item["version"] for item in answer.json["items"]])
        path = answer.headers["Link"].partition(">")[0].removeprefix("<")
        assert path == f"{PATH}?limit=2&after={answer.json['next']}"
    assert versions == [[1, 2], [3, 4], [], []]
    api.book("dan")
    assert [item["version"] for item in api.get(path, staff=True).json["items"]] == [5]


def test_refusals(api: Api) -> None:
    """Events that are not there, versions that are not, and queries that are none."""
    refused(api.get(PATH, staff=True), 404, "event_not_found")
    refused(api.get("/events/no event/changes", staff=True), 404, "event_not_found")
    api.initialize()
    refused(api.get(PATH), 401, "unauthorized")
    for query in ("after=2", "after=-1", "wait=21", "limit=0", "x=1"):
        problem = refused(api.get(f"{PATH}?{query}", staff=True), 422, "validation_failed")
        assert list(problem["errors"]) == [query.partition("=")[0]]


def test_the_wait_takes_nobodys_place(app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it waits it leaves the count of requests, and the wait does not count in its duration."""
    api.initialize()
    feed, seen, slots = api.services.feed, {}, app.extensions[admission.EXTENSION]
    free = slots.free

    def wait(*args: object) -> bool:
        seen["free"] = slots.free - free
        api.services.feed._clock.sleep(7.0)
        return False

    monkeypatch.setattr(feed, "_wait", wait)
    with app.test_client() as client:
        answer = client.get(f"{PATH}?after=1&wait=9", auth=ADMIN)
        assert answer.json == {"items": [], "next": 1}
        begun_s = g.request_begun_s
    assert (seen["free"], begun_s) == (0, 7.0)
    monkeypatch.setattr(feed, "_waiters", NoPlace())
    problem = refused(api.get(f"{PATH}?after=1&wait=9", staff=True), 503, "overloaded")
    assert problem["status"] == 503


class NoPlace:
    """As many as may wait do wait."""

    def acquire(self, blocking: bool) -> bool:
        """Refuse."""
        return blocking
