"""`flask --app wsgi loadtest` against a running service."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pymongo.database import Database

from tests.service.conftest import Start
from tests.test_cli import app_on, run
from ticketing.cli import loadtest
from ticketing.cli.crowd import orders_of
from ticketing.config import Config

USERNAME, PASSWORD = "admin", "a password for the tests"


def test_a_crowd_books_and_is_served_as_promised(
    make_lean_service: Start, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an event of its own, in one that is there, and one that does not exist; a lost order is seen."""
    settings = {"BASIC_AUTH_USERNAME": USERNAME, "BASIC_AUTH_PASSWORD": PASSWORD, "RATELIMIT_BOOK": "201/day"}
    service = make_lean_service(**settings).start().wait_until_serving()
    config = Config(mongodb_database=database.name, basic_auth_username=USERNAME, basic_auth_password=PASSWORD)
    app = app_on(database, config)

    def play(*options: str) -> Any:
        crowd = ("--url", service.url, "--connections", "4", "--seconds", "60")
        return run(app, "loadtest", *crowd, *options)

    result = play("--users", "100", "--tickets", "40", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["broken"], report["bookings"]) == (0, [], 100)
    assert report["outcomes"] == {"201 confirmed": 40, "202 waiting": 60}
    assert (report["orders"], report["booked_tickets"], report["total_tickets"]) == (100, 40, 40)
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"] <= report["latency_ms"]["p99"]

    result = play("--users", "100", "--event", report["event_id"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{report['event_id']}: 100 bookings in ")
    assert lines[2:] == [
        "answers: 202 waiting: 100",
        "afterwards: 200 orders, 40 of 40 tickets booked",
        "every promise was kept",
    ]

    monkeypatch.setattr(loadtest, "orders_of", lambda admin, path: list(orders_of(admin, path))[1:])
    result = play("--users", "100", "--tickets", "40", "--seconds", "1")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].endswith(" was answered, and is not there.")
    assert result.stderr.startswith("The service limits its clients (429)")  # of bookings, of which it takes 201

    result = play("--event", "nowhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "GET /events/nowhere: 404 event_not_found\n"
