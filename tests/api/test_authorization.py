"""Who may do what: one table, with a row for every route and method that there is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from ticketing.api import permissions
from ticketing.api.auth import Role
from ticketing.ids import event_id_of
from ticketing.services import EXTENSION

from .conftest import ADMIN, CUSTOMER, Api, Json, MakeApp, add_account, count_no_attempts

Credentials = tuple[str, str]

OWNER = ("ada", "a password of ada's")
ORGANIZER = ("olga", "a password of an organizer")
OTHER_ORGANIZER = ("otto", "a password of another organizer")
USERS = {CUSTOMER: Role.CUSTOMER, OWNER: Role.CUSTOMER, ORGANIZER: Role.ORGANIZER, OTHER_ORGANIZER: Role.ORGANIZER}
CALLERS = {
    "nobody": None,
    "wrong": (ADMIN[0], "not the password"),
    "customer": CUSTOMER,
    "owner": OWNER,  # the customer whose order it is
    "other": OTHER_ORGANIZER,
    "staff": ORGANIZER,  # who opened the event
    "bearer": ORGANIZER,  # the same with a token
    "admin": ADMIN,
}

# What each caller gets for a request that is all right. It books for somebody who has no account, and cancels and reads
# what the owner has booked.
TABLE = {
    #                                       nobody wrong customer owner other staff bearer admin
    "POST /initialize":                     "401    401   403     403   201   201   201    201",
    "POST /book":                           "201    401   403     403   201   201   201    201",
    "POST /bookings/bulk":                  "401    401   403     403   403   200   200    200",
    "POST /cancel":                         "401    401   403     200   403   200   200    200",
    "GET /status/<event_id>":               "200    401   200     200   200   200   200    200",
    "GET /events":                          "200    401   200     200   200   200   200    200",
    "GET /events/<event_id>":               "200    401   200     200   200   200   200    200",
    "PATCH /events/<event_id>":             "401    401   403     403   403   200   200    200",
    "POST /events/<event_id>/cancel":       "401    401   403     403   403   200   200    200",
    "GET /events/<event_id>/availability":  "200    401   200     200   200   200   200    200",
    "GET /events/<event_id>/waiting-list":  "200    401   200     200   200   200   200    200",
    "GET /events/<event_id>/orders":        "401    401   403     403   403   200   200    200",
    "GET /events/<event_id>/orders.csv":    "401    401   403     403   403   200   200    200",
    "GET /events/<event_id>/changes":       "401    401   403     403   403   200   200    200",
    "GET /orders/<order_id>":               "404    401   404     200   404   200   200    200",
    "POST /orders/<order_id>/transfer":      "401    401   403     201   403   201   201    201",
    "GET /orders/<order_id>/history":       "404    401   404     200   404   200   200    200",
    "GET /orders":                          "401    401   403     200   200   200   200    200",
    "POST /users":                          "201    401   201     201   201   201   201    201",
    "GET /users":                           "401    401   403     403   403   403   403    200",
    "GET /users/me":                        "401    401   200     200   200   200   200    200",
    "PATCH /users/me":                      "401    401   200     200   200   200   200    409",
    "DELETE /users/me":                     "401    401   204     204   204   204   204    409",
    "GET /users/<user_id>":                 "401    401   403     403   403   403   403    200",
    "PATCH /users/<user_id>":               "401    401   403     403   403   403   403    200",
    "DELETE /users/<user_id>":              "401    401   403     403   403   403   403    204",
    "POST /auth/token":                     "401    401   200     200   200   200   401    200",
    "POST /auth/refresh":                   "200    401   200     200   200   200   200    200",
    "POST /auth/revoke":                    "204    401   204     204   204   204   204    204",
    "POST /webhooks":                       "401    401   403     403   403   201   201    201",
    "GET /webhooks":                        "401    401   403     403   200   200   200    200",
    "GET /webhooks/<webhook_id>":           "401    401   403     403   404   200   200    200",
    "DELETE /webhooks/<webhook_id>":        "401    401   403     403   404   204   204    204",
    "GET /webhooks/<webhook_id>/deliveries": "401   401   403     403   404   200   200    200",
    "POST /webhooks/<webhook_id>/replay":   "401    401   403     403   404   202   202    202",
    "GET /healthz":                         "200    200   200     200   200   200   200    200",
    "GET /readyz":                          "200    200   200     200   200   200   200    200",
    "GET /metrics":                         "200    200   200     200   200   200   200    200",
    "GET /openapi.json":                    "200    401   200     200   200   200   200    200",
    "GET /docs":                            "200    401   200     200   200   200   200    200",
    "GET /docs/assets/<path:filename>":     "200    401   200     200   200   200   200    200",
}  # fmt: skip

NEW_PASSWORD = "another good passphrase"


class Props:
    """What the requests are about, made when it is asked for: an event of the organizer and the owner's order in it, a
    user, a refresh token. `password` is that of the caller."""

    def __init__(
        self, api: Api, organizer: Credentials = ORGANIZER, owner: Credentials = OWNER, password: str = ""
    ) -> None:
        self.owner_id = owner[0]
        self.password = password
        self._api = api
        self._organizer = organizer
        self._owner = owner

    @cached_property
    def event_id(self) -> str:
        """An event in which the owner has an order."""
        event_id = uuid4().hex
        assert self._api.initialize(event_id=event_id, auth=self._organizer).status_code == 201
        self.order = self._api.post("/book", {"event_id": event_id}, auth=self._owner).json
        return event_id

    @property
    def order_id(self) -> str:
        """That order."""
        assert self.event_id
        return str(self.order["order_id"])

    @cached_property
    def user_id(self) -> str:
        """Somebody with an account."""
        user_id = f"user-{uuid4().hex}"
        add_account(self._api.app, (user_id, NEW_PASSWORD), Role.CUSTOMER)
        return user_id

    @cached_property
    def webhook_id(self) -> str:
        """One of the organizer's."""
        webhook = {"event_id": self.event_id, "url": "https://example.com/"}
        return str(self._api.post("/webhooks", webhook, auth=self._organizer).json["webhook_id"])

    @cached_property
    def refresh_token(self) -> str:
        """One of the owner's."""
        return str(self._api.client.post("/auth/token", auth=self._owner).json["refresh_token"])

    def fill_in(self, path: str) -> str:
        """A path with these in the place of its parameters."""
        for name in ("event_id", "order_id", "user_id", "webhook_id"):
            if f"<{name}>" in path:
                path = path.replace(f"<{name}>", getattr(self, name))
        return path.replace("<path:filename>", "swagger-ui.css")


BODIES: dict[str, Callable[[Props], Json]] = {
    "POST /initialize": lambda props: {"name": "Another", "total_tickets": 5, "event_id": uuid4().hex},
    "POST /book": lambda props: {"event_id": props.event_id, "user_id": "ben"},
    "POST /bookings/bulk": lambda props: {"event_id": props.event_id, "orders": [{"user_id": "ben"}]},
    "POST /orders/<order_id>/transfer": lambda props: {"to_user_id": "ben"},
    "POST /cancel": lambda props: {"event_id": props.event_id, "user_id": props.owner_id},
    "POST /users": lambda props: {"user_id": uuid4().hex, "password": NEW_PASSWORD},
    "PATCH /users/me": lambda props: {"current_password": props.password, "password": props.password},
    "PATCH /users/<user_id>": lambda props: {"role": "organizer"},
    "POST /auth/refresh": lambda props: {"refresh_token": props.refresh_token},
    "POST /auth/revoke": lambda props: {"refresh_token": props.refresh_token},
    "PATCH /events/<event_id>": lambda props: {"venue": props.event_id},
    "POST /webhooks": lambda props: {"event_id": props.event_id, "url": "https://example.com/"},
}
QUERIES: dict[str, Callable[[Props], str]] = {
    "POST /webhooks/<webhook_id>/replay": lambda props: "?after=0",
    "GET /orders": lambda props: f"?user_id={props.owner_id}",
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
    """What each caller gets, as the table has it. Each asks about props of his own, and is there again for the next."""
    api = Api(app)
    given = []
    for caller, credentials in CALLERS.items():
        populate(app)
        props = Props(api, password=credentials[1] if credentials else "none at all")
        row_method, path = row.split()
        path = props.fill_in(path) + (QUERIES[row](props) if row in QUERIES else "")
        body = BODIES[row](props) if row in BODIES else None
        headers = dict(HEADERS.get(row, {}))
        options: Json = {"auth": credentials}
        if caller == "bearer":
            token = api.client.post("/auth/token", auth=credentials).json["access_token"]
            options = {}
            headers["Authorization"] = f"Bearer {token}"
        with api.client.open(
            path, method=method or row_method, json=body, headers=headers, **options
        ) as answer:
            given.append(str(answer.status_code))
    return " ".join(given)


def populate(app: Flask) -> None:
    """Let the users of the table in, those who have not been there yet."""
    for credentials, role in USERS.items():
        if app.extensions[EXTENSION].accounts.fresh(credentials[0]) is None:
            add_account(app, credentials, role)


def expected(row: str) -> str:
    """The row of the table without its spaces."""
    return " ".join(TABLE[row].split())


@pytest.fixture
def populated(app: Flask) -> Flask:
    """The service with somebody of each role, and no limit on wrong credentials."""
    count_no_attempts(app)
    populate(app)
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
    for row in ("GET /events/<event_id>/orders", "GET /events/<event_id>", "GET /users"):
        assert met(populated, row, "HEAD") == expected(row)


def test_a_route_without_a_row_is_seen(make_app: MakeApp) -> None:
    """The control of the walk: a new route, and a new method of an old one."""
    app = make_app()
    app.add_url_rule("/new/<event_id>", "new", lambda event_id: {})
    app.add_url_rule("/book", "change", lambda: {}, methods=["PATCH"])
    assert served(app) - TABLE.keys() == {"GET /new/<event_id>", "PATCH /book"}


@pytest.mark.parametrize("row", ["POST /initialize", "GET /users", "GET /events/<event_id>/orders"])
def test_a_view_without_its_guard_is_seen(
    populated: Flask, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    """The control of the table: with its `@required` taken out, the row of a view does not hold."""
    method, path = row.split()
    adapter = populated.url_map.bind("localhost")
    endpoint, _ = adapter.match(path.replace("<event_id>", "concert"), method)
    guarded: Any = populated.view_functions[endpoint]
    assert guarded.__code__.co_name == "guarded"
    monkeypatch.setitem(populated.view_functions, endpoint, guarded.__wrapped__)
    assert met(populated, row) != expected(row)


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("user_to_book_for", "POST /book"),
        ("event_of_order_to_change", "POST /cancel"),
        ("event_of_order_to_change", "POST /orders/<order_id>/transfer"),
        ("require_staff_of_event", "POST /bookings/bulk"),
        ("require_staff_of", "GET /events/<event_id>/orders"),
        ("may_read", "GET /orders/<order_id>"),
        ("may_read", "GET /orders/<order_id>/history"),
        ("user_to_list", "GET /orders"),
    ],
)
def test_a_rule_of_ownership_that_is_missing_is_seen(
    populated: Flask, monkeypatch: pytest.MonkeyPatch, rule: str, row: str
) -> None:
    """The control of permissions.py: with one of its rules taken out, a row does not hold."""
    lenient: dict[str, Callable[..., Any]] = {
        "user_to_book_for": lambda user_id: user_id or "ada",
        "event_of_order_to_change": lambda order_id, event_id=None, *_, **__: event_id or event_id_of(order_id),
        "require_staff_of_event": lambda event_id: None,
        "require_staff_of": lambda state: None,
        "user_to_list": lambda user_id: user_id,
        "may_read": lambda state, order: True,
    }
    monkeypatch.setattr(permissions, rule, lenient[rule])
    assert met(populated, row) != expected(row)
