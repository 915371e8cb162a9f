"""One deadline for all that a request waits for, or an answer would take as long as its steps together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from ticketing.api.auth import Role
from ticketing.services import LEFT_S_MIN

from .conftest import CONFIG, CUSTOMER, EVENT_ID, Api, add_account

DEADLINE_S = CONFIG.request_deadline_s


@pytest.fixture
def allowed_s(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How many seconds each step that waits for the ledger was given."""
    given: list[float] = []
    ledger: Any = app.extensions["ticketing"].manager._ledger
    clock = app.extensions["ticketing"].clock

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(ledger, name)

        def call(event_id: str, what: Any, deadline: float) -> Any:
            given.append(deadline - clock.monotonic())
            return real(event_id, what, deadline)

        return call

    for name in ("append", "read"):
        monkeypatch.setattr(ledger, name, noting(name))
    return given


@pytest.mark.parametrize(
    ("look_s", "left_s"), [(0.0, DEADLINE_S), (4.0, DEADLINE_S - 4.0), (8.0, LEFT_S_MIN)]
)
def test_a_booking_after_a_look_at_its_name(
    app: Flask, allowed_s: list[float], monkeypatch: pytest.MonkeyPatch, look_s: float, left_s: float
) -> None:
    """What the look took is not there for the booking; but a moment it has at least."""
    api = Api(app)
    api.initialize()
    parts = app.extensions["ticketing"]
    monkeypatch.setattr(parts.accounts, "recent", lambda user_id, deadline: parts.clock.sleep(look_s))
    allowed_s.clear()
    assert api.book("ben").status_code == 201
    assert allowed_s == [pytest.approx(left_s)]


def test_the_time_begins_when_the_request_is_there(
    app: Flask, allowed_s: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its client took to send it."""
    api = Api(app)
    api.initialize()
    clock = app.extensions["ticketing"].clock
    monkeypatch.setattr("ticketing.api.admission.read_body", lambda request: clock.sleep(8.0))
    allowed_s.clear()
    assert api.book("ben").status_code == 201
    assert allowed_s == [pytest.approx(DEADLINE_S)]


def test_a_cancellation_after_a_look_at_its_event(app: Flask, allowed_s: list[float]) -> None:
    """A customer's reads the event first, and both share the time of the request."""
    api = Api(app)
    api.initialize()
    add_account(app, CUSTOMER, Role.CUSTOMER)
    assert api.post("/book", {"event_id": EVENT_ID}, auth=CUSTOMER).status_code == 201
    clock, manager = app.extensions["ticketing"].clock, app.extensions["ticketing"].manager
    real_read = manager._ledger.read

    def slow_read(*args: Any) -> Any:
        pages = real_read(*args)
        clock.sleep(2.0)
        return pages

    manager._ledger.read = slow_read
    allowed_s.clear()
    assert api.post("/cancel", {"event_id": EVENT_ID, "user_id": CUSTOMER[0]}, auth=CUSTOMER).status_code == 200
    assert allowed_s[0] == pytest.approx(DEADLINE_S)
    assert all(given <= DEADLINE_S - 2.0 for given in allowed_s[1:]) and len(allowed_s) > 1
