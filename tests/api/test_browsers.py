"""What browsers and caches are told with every answer, and whose pages may read them."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import ADMIN, EVENT_ID, Answer, Api, MakeApp

OURS, THEIRS = "https://tickets.example.com", "https://evil.example"


def answers(api: Api, **headers: str) -> list[Answer]:
    """One of each kind: opened, booked, read, refused, not found, and a page."""
    given: Any = {"headers": headers}
    return [
        api.post("/initialize", {"name": "Concert", "total_tickets": 1, "event_id": EVENT_ID}, **given),
        api.post("/book", {"event_id": EVENT_ID, "user_id": "ada"}, **given),
        api.get(f"/status/{EVENT_ID}", **given),
        api.get(f"/events/{EVENT_ID}/orders", staff=True, **given),
        api.get(f"/events/{EVENT_ID}/orders", **given),
        api.get("/status/nowhere", **given),
        api.get("/nowhere", **given),
        api.get("/metrics", **given),
        api.get("/docs", **given),
    ]


def test_every_answer_protects_itself(make_app: MakeApp) -> None:
    """It is what it says, stands in no frame, and tells no other site from where one came."""
    for answer in answers(Api(make_app())):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_nobody_keeps_an_answer(api: Api) -> None:
    """Orders and users are personal, and a status is old a moment later. Only the event, which has an ETag, may be kept
    and asked about again."""
    api.initialize()
    order = api.book("ada").json
    personal = [
        f"/orders/{order['order_id']}",
        f"/events/{EVENT_ID}/orders",
        f"/events/{EVENT_ID}/waiting-list",
        f"/events/{EVENT_ID}/changes",
        f"/status/{EVENT_ID}",
        "/users/me",
        "/users",
    ]
    for path in personal:
        answer = api.get(path, staff=True)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert api.get(f"/events/{EVENT_ID}").headers["Cache-Control"] == "no-cache"
    assert api.book("ada").headers["Cache-Control"] == "no-store"


def test_other_sites_read_nothing_unless_told(make_app: MakeApp) -> None:
    """Without CORS_ORIGINS no answer mentions CORS."""
    for answer in answers(Api(make_app()), Origin=THEIRS):
        assert not [name for name in answer.headers.keys() if name.startswith("Access-Control-")]


def test_the_pages_of_named_origins_may_read(make_app: MakeApp) -> None:
    """All answers, errors too, and what our headers say. Others may not, and a cache keeps the two apart."""
    app = make_app(cors_origins=f"https://other.example,{OURS}")
    for answer in answers(Api(app), Origin=OURS):
        assert answer.headers["Access-Control-Allow-Origin"] == OURS
        assert "Location" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
    api = Api(app)
    for origin in (THEIRS, "null", OURS + ".evil.example", OURS.upper(), ""):
        answer = api.get(f"/status/{EVENT_ID}", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(("path", "method"), [("/book", "POST"), ("/cancel", "POST"), (f"/events/{EVENT_ID}", "PATCH")])
def test_a_browser_asks_before_it_sends(make_app: MakeApp, path: str, method: str) -> None:
    """Which methods and headers a page may use; without credentials, which browsers leave out of this question."""
    api = Api(make_app(cors_origins=OURS, booking_requires_login=True))
    asked = {"Origin": OURS, "Access-Control-Request-Method": method}
    answer = api.client.options(path, headers=asked)
    assert answer.status_code == 200
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    taken = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key", "If-Match"} <= set(taken)
    assert "Access-Control-Allow-Methods" not in api.client.options(path, headers=asked | {"Origin": THEIRS}).headers


def test_credentials_of_the_browser_are_not_asked_for(make_app: MakeApp) -> None:
    """A page sends its token itself. There are no cookies that a forged request could ride on."""
    for answer in answers(Api(make_app(cors_origins=OURS)), Origin=OURS):
        assert "Set-Cookie" not in answer.headers
    assert Api(make_app()).client.get("/users/me", auth=ADMIN).headers.getlist("Set-Cookie") == []
