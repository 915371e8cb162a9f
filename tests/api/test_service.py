"""/healthz, /readyz, /metrics, the request's id, and the methods that nobody asked for."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from mongomock.database import Database
from prometheus_client.parser import text_string_to_metric_families
from pymongo.errors import ServerSelectionTimeoutError

from .conftest import EVENT_ID, Api, Client, MakeApp, refused

with_mongod = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)


@with_mongod
def test_ready_with_a_mongodb_that_may_be_written(client: Client) -> None:
    """200: requests may be sent here."""
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_not_ready_without_mongodb(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 `storage_unavailable` with Retry-After, and not a word of what the driver said."""

    def unreachable(*args: Any, **options: Any) -> None:
        raise ServerSelectionTimeoutError("mongodb://ada:secret@db.example:27017: timed out")

    monkeypatch.setattr(Database, "command", unreachable)
    answer = client.get("/readyz")
    refused(answer, 503, "storage_unavailable")
    assert "secret" not in answer.text and "db.example" not in answer.text


def test_not_ready_without_a_primary(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 where MongoDB answers but may not be written."""
    monkeypatch.setattr(Database, "command", lambda *args: {"isWritablePrimary": False})
    refused(client.get("/readyz"), 503, "storage_unavailable")


def test_alive_without_mongodb(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 whatever MongoDB does: to start this process again would not mend it."""
    monkeypatch.setattr(Database, "command", None)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/healthz", f"/status/{EVENT_ID}", "/nowhere", "/book"])
def test_the_request_id_comes_back(api: Api, path: str) -> None:
    """The client's own with every answer, success or error; one is made where none was sent."""
    for _ in range(2):
        answer = api.get(path, headers={"X-Request-ID": "trace-7"})
        assert answer.headers["X-Request-ID"] == "trace-7"
    made = {api.get(path).headers["X-Request-ID"] for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "caf\u00e9"])
def test_a_request_id_that_cannot_stand_in_a_log_is_replaced(api: Api, given: str) -> None:
    """Visible ASCII, 128 characters at most."""
    assert api.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] != given


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/book", {"POST", "OPTIONS"}),
        ("/initialize", {"POST", "OPTIONS"}),
        ("/cancel", {"POST", "OPTIONS"}),
        (f"/status/{EVENT_ID}", {"GET", "HEAD", "OPTIONS"}),
        (f"/events/{EVENT_ID}/orders", {"GET", "HEAD", "OPTIONS"}),
        ("/orders/x", {"GET", "HEAD", "OPTIONS"}),
        ("/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_another_method(client: Client, path: str, allowed: set[str]) -> None:
    """405 with all that the path does answer to; OPTIONS tells the same."""
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
        answer = client.open(path, method=method)
        refused(answer, 405, "method_not_allowed")
        assert set(answer.allow) == allowed
    options = client.options(path)
    assert (options.status_code, set(options.allow)) == (200, allowed)


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/book/", "/status", "/status/", "/event", f"/status/{EVENT_ID}/x", "/docs/x", "/%00"]
)
def test_another_path(client: Client, path: str) -> None:
    """404, to every method."""
    for method in ("GET", "HEAD", "POST", "DELETE"):
        answer = client.open(path, method=method)
        assert answer.status_code == 404
    refused(client.get(path), 404, "not_found")


def counted(client: Client) -> dict[tuple[str, ...], float]:
    """(method, route, status) -> requests, and (route,) -> how many durations were taken."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        tuple(each.labels[name] for name in ("method", "route", "status") if name in each.labels): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
        if each.name in ("ticketing_http_requests_total", "ticketing_http_request_duration_seconds_count")
    }


def test_every_answer_is_counted_under_its_rule(make_app: MakeApp) -> None:
    """What the view answered, what it refused, and what no view was asked for. A path is never a label."""
    client = make_app().test_client()
    client.get("/healthz")
    client.head("/healthz")
    client.get("/status/one")
    client.get("/status/two")
    client.post("/initialize", json={})
    client.get("/status/one", auth=("nobody", "wrong"))
    client.get("/nowhere")
    client.get("/elsewhere")
    client.get("/book")
    assert counted(client) == {
        ("GET", "/healthz", "200"): 1,
        ("HEAD", "/healthz", "200"): 1,
        ("GET", "/status/<event_id>", "401"): 1,
        ("GET", "/status/<event_id>", "404"): 2,
        ("POST", "/initialize", "401"): 1,
        ("GET", "none", "404"): 2,
        ("GET", "none", "405"): 1,
        ("/healthz",): 2,
        ("/status/<event_id>",): 3,
        ("/initialize",): 1,
        ("none",): 3,
    }
    assert counted(client)[("GET", "/metrics", "200")] == 1


def test_a_method_that_nobody_knows_makes_no_series_of_its_own(make_app: MakeApp) -> None:
    """Or anybody could fill the memory of the service and of Prometheus."""
    client = make_app().test_client()
    for method in ("BREW", "WHEN"):
        client.open("/healthz", method=method)
    assert counted(client) == {("other", "none", "405"): 2, ("none",): 2}


def test_an_answer_that_nobody_expected_is_counted(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """500, under the rule of its view."""
    app = make_app()
    monkeypatch.setitem(app.view_functions, "service.healthz", lambda: 1 // 0)
    client = app.test_client()
    refused(client.get("/healthz"), 500, "internal_error")
    assert counted(client)[("GET", "/healthz", "500")] == 1


@with_mongod
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_who_watches_the_service_asks_freely_and_quietly(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """No limit counts it, and it fills no log; others are limited all the same."""
    client = make_app(ratelimit_enabled=True, ratelimit_default="1 per minute").test_client()
    with caplog.at_level(logging.INFO):
        answers = [client.get(path) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert not any(name.startswith("X-RateLimit") for answer in answers for name in answer.headers.keys())
    assert caplog.records == []
    assert [client.get(f"/status/{EVENT_ID}").status_code for _ in range(2)] == [404, 429]


def test_what_a_limit_refuses_is_counted(make_app: MakeApp) -> None:
    """Under the rule of its view."""
    client = make_app(ratelimit_enabled=True, ratelimit_default="1 per minute").test_client()
    assert [client.get(f"/status/{EVENT_ID}").status_code for _ in range(3)] == [404, 429, 429]
    assert counted(client)[("GET", "/status/<event_id>", "429")] == 2
