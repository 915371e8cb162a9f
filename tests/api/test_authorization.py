"""Who may do what: one table, with a row for every route and method that there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from ticketing.api.auth import Role

from .conftest import ADMIN, CUSTOMER, Api, Json, MakeApp, add_account, count_no_attempts

OWNER = ("ada", "a password of ada's")
ORGANIZER = ("olga", "a password of an organizer")
CALLERS = {
    "nobody": None,
    "wrong": (ADMIN[0], "not the password"),
    "customer": CUSTOMER,
    "owner": OWNER,  # the customer whose order it is
    "staff": ORGANIZER,
    "admin": ADMIN,
}

# What each caller gets for a request that is all right.
TABLE = {
    #                                       nobody wrong customer owner staff admin
    "POST /initialize":                     "401    401   403     403   201   201",
    "POST /book":                           "201    401   201     201   201   201",
    "POST /cancel":                         "401    401   403     403   200   200",
    "GET /status/<event_id>":               "200    401   200     200   200   200",
    "GET /events/<event_id>":               "200    401   200     200   200   200",
    "PATCH /events/<event_id>":             "401    401   403     403   200   200",
    "POST /events/<event_id>/cancel":       "401    401   403     403   200   200",
    "GET /events/<event_id>/availability":  "200    401   200     200   200   200",
    "GET /events/<event_id>/waiting-list":  "200    401   200     200   200   200",
    "GET /events/<event_id>/orders":        "401    401   403     403   200   200",
    "GET /events/<event_id>/changes":       "401    401   403     403   200   200",
    "GET /orders/<order_id>":               "200    401   200     200   200   200",
    "GET /healthz":                         "200    200   200     200   200   200",
    "GET /readyz":                          "200    200   200     200   200   200",
    "GET /metrics":                         "200    200   200     200   200   200",
    "GET /openapi.json":                    "200    401   200     200   200   200",
    "GET /docs":                            "200    401   200     200   200   200",
    "GET /docs/assets/<path:filename>":     "200    401   200     200   200   200",
}  # fmt: skip

BODIES: dict[str, Callable[[str], Json]] = {
    "POST /initialize": lambda event_id: {"name": "Another", "total_tickets": 5, "event_id": f"not-{event_id}"},
    "POST /book": lambda event_id: {"event_id": event_id, "user_id": "ben"},
    "POST /cancel": lambda event_id: {"event_id": event_id, "user_id": OWNER[0]},
    "PATCH /events/<event_id>": lambda event_id: {"venue": event_id},
}
HEADERS = {"PATCH /events/<event_id>": {"If-Match": "*"}}


def served(app: Flask) -> set[str]:
    """Every method and route of an app. HEAD and OPTIONS are Flask's own, for each route."""
    return {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def met(app: Flask, row: str, method: str | None = None) -> str:
    """What each caller gets, as the table has it. Each asks about an event of his own."""
    api = Api(app)
    given = []
    for credentials in CALLERS.values():
        event_id = uuid4().hex
        api.initialize(event_id=event_id)
        order_id = api.book(OWNER[0], event_id=event_id).json["order_id"]
        row_method, path = row.split()
        for part, value in (
            ("<event_id>", event_id),
            ("<order_id>", order_id),
            ("<path:filename>", "swagger-ui.css"),
        ):
            path = path.replace(part, value)
        body = BODIES[row](event_id) if row in BODIES else None
        headers = HEADERS.get(row)
        with api.client.open(
            path, method=method or row_method, json=body, auth=credentials, headers=headers
        ) as answer:
            given.append(str(answer.status_code))
    return " ".join(given)


def expected(row: str) -> str:
    """The row of the table without its spaces."""
    return " ".join(TABLE[row].split())


@pytest.fixture
def populated(app: Flask) -> Flask:
    """The service with somebody of each role, and no limit on wrong credentials."""
    count_no_attempts(app)
    for credentials, role in (
        (CUSTOMER, Role.CUSTOMER),
        (OWNER, Role.CUSTOMER),
        (ORGANIZER, Role.ORGANIZER),
        (ADMIN, Role.ADMIN),
    ):
        add_account(app, credentials, role)
    return app


def test_every_route_has_a_row(app: Flask) -> None:
    """No route without a row, and no row without a route."""
    assert served(app) == TABLE.keys()


@pytest.mark.parametrize("mongo", ["mongod"], indirect=True)
def test_the_table(populated: Flask) -> None:
    """Each caller gets just what the table says."""
    assert {row: met(populated, row) for row in TABLE} == {row: expected(row) for row in TABLE}


def test_a_head_asks_for_what_its_get_asks_for(populated: Flask) -> None:
    """HEAD of a protected view is protected too."""
    for row in ("GET /events/<event_id>/orders", "GET /events/<event_id>"):
        assert met(populated, row, "HEAD") == expected(row)


def test_a_route_without_a_row_is_seen(make_app: MakeApp) -> None:
    """The control of the walk: a new route, and a new method of an old one."""
    app = make_app()
    app.add_url_rule("/new/<event_id>", "new", lambda event_id: {})
    app.add_url_rule("/book", "change", lambda: {}, methods=["PATCH"])
    assert served(app) - TABLE.keys() == {"GET /new/<event_id>", "PATCH /book"}


@pytest.mark.parametrize("row", ["POST /initialize", "POST /cancel", "GET /events/<event_id>/orders"])
def test_a_view_without_its_guard_is_seen(
    populated: Flask, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    """The control of the table: with its `@required` taken out, the row of a view does not hold."""
    [endpoint] = [rule.endpoint for rule in populated.url_map.iter_rules() if rule.rule == row.split()[1]]
    guarded: Any = populated.view_functions[endpoint]
    assert guarded.__code__.co_name == "guarded"
    monkeypatch.setitem(populated.view_functions, endpoint, guarded.__wrapped__)
    assert met(populated, row) != expected(row)
