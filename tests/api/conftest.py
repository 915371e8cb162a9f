"""Test support for the HTTP API: an app on mongomock or on the real mongod, its requests in one line each, and a
client that holds every answer against what /openapi.json announces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import mongomock
import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator
from pymongo import MongoClient
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.security import generate_password_hash
from werkzeug.test import TestResponse

from ticketing import create_app
from ticketing.accounts import Accounts
from ticketing.api.auth import EXTENSION as AUTH
from ticketing.api.auth import Authenticator, Role
from ticketing.api.bearer import AccessTokens
from ticketing.api.limits import make_counter
from ticketing.app import build_services
from ticketing.clock import SystemClock
from ticketing.config import Config
from ticketing.services import EXTENSION, Services
from ticketing.storage.client import connect
from ticketing.storage.schema import create_indexes_and_views

Json = Any
# A DocumentedClient and werkzeug's TestResponse. Any, for theirs is a `json` that may be None: each line would deny it.
Client = Any
Answer = Any
MakeApp = Callable[..., Flask]
Mongo = tuple[MongoClient[dict[str, Any]], str]

EVENT_ID = "concert-2027"
ADMIN = ("admin", "correct horse battery staple")
CUSTOMER = ("carl", "a password of a customer")
PROBLEM = "application/problem+json"
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code"}
CHEAP_HASH = "pbkdf2:sha256:1"
CONFIG = Config(
    mongodb_uri="mongodb://not-asked.invalid",
    basic_auth_username=ADMIN[0],
    basic_auth_password=ADMIN[1],
    jwt_secret_key="a key of the tests, 32 bytes or more",
    ratelimit_enabled=False,
)

# Headers that say something to a program: where they are sent, /openapi.json says so.
TELLING_HEADERS = ("Location", "ETag", "Link", "Retry-After", "Idempotent-Replayed", "WWW-Authenticate")

# Routes that serve the documentation itself, and are not part of it.
UNDOCUMENTED = {"/openapi.json", "/docs", "/docs/assets/<path:filename>"}


class SteppingClock(SystemClock):
    """A clock that nobody waits for: a second a look at the time, and as much as somebody would have slept."""

    def __init__(self) -> None:
        self._now = datetime(2027, 1, 1, 20, 0, tzinfo=UTC)
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        """Each reading is a second after the one before it."""
        self._now += timedelta(seconds=1)
        return self._now

    def monotonic(self) -> float:
        """Stands still but for sleeping."""
        return self._monotonic_s

    def sleep(self, seconds: float) -> None:
        """Takes no time."""
        self._monotonic_s += seconds


class DocumentedClient(FlaskClient):
    """A client that fails the test where an answer is not as /openapi.json announces it."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Send a request and check the form of its answer."""
        response = super().open(*args, **kwargs)
        check_documented(self.application, response)
        return response


def check_documented(app: Flask, response: Answer) -> None:
    """Fail where status, headers, content type or body are not documented for the operation that gave this answer."""
    assert response.headers["X-Request-ID"]
    if response.status_code >= 400:
        check_problem(response)
    method, path = response.request.method, response.request.path
    try:
        rule, _ = app.url_map.bind("localhost").match(path, method, return_rule=True)
    except (NotFound, MethodNotAllowed) as error:
        assert response.status_code == error.code
        return
    if rule.rule in UNDOCUMENTED or method == "OPTIONS":
        return
    template = rule.rule.replace("<", "{").replace(">", "}")
    operation = openapi()["paths"][template]["get" if method == "HEAD" else method.lower()]
    told = f"{method} {path} answered {response.status_code}"
    assert str(response.status_code) in operation["responses"], f"{told}, which is not documented"
    answer = resolved(operation["responses"][str(response.status_code)])
    for name, header in answer["headers"].items():
        header = resolved(header)
        assert name in response.headers or not header["required"], f"{told} without {name}"
    for name in TELLING_HEADERS:
        assert name not in response.headers or name in answer["headers"], f"{told} with {name}, which is not documented"
    content = answer.get("content")
    if content is None:
        assert response.data == b"", f"{told} with a body that is not documented"
        return
    assert response.mimetype in content, f"{told} as {response.mimetype}, which is not documented"
    if method != "HEAD" and response.is_json:
        _validator(json.dumps(content[response.mimetype]["schema"])).validate(response.json)


def check_problem(response: Answer) -> None:
    """Fail where an error is not a problem of RFC 9457 with the members that clients rely on."""
    assert response.mimetype == PROBLEM
    if response.request.method == "HEAD":
        return
    problem = response.json
    assert problem.keys() >= PROBLEM_MEMBERS
    assert problem["status"] == response.status_code
    assert problem["type"].endswith(problem["code"])
    assert all(isinstance(problem[name], str) and problem[name] for name in PROBLEM_MEMBERS - {"status"})
    comes_later = response.status_code in (429, 503) or problem["code"] == "sales_not_open"
    assert ("Retry-After" in response.headers) == comes_later
    assert ("WWW-Authenticate" in response.headers) == (response.status_code == 401)
    assert not any(trace in response.text for trace in ("Traceback", "pymongo", "mongodb://", 'File "'))


@cache
def openapi() -> Json:
    """The document at /openapi.json: every app serves the same."""
    nowhere: MongoClient[dict[str, Any]] = mongomock.MongoClient()
    return FlaskClient(create_app(Config(), client=nowhere)).get("/openapi.json").json


def resolved(value: Json) -> Json:
    """A part of the document; where it only refers to a component, that."""
    if "$ref" not in value:
        return value
    _, _, kind, name = value["$ref"].split("/")
    return openapi()["components"][kind][name]


@cache
def _validator(schema: str) -> Any:
    return OAS31Validator({"components": openapi()["components"], "allOf": [json.loads(schema)]})


def refused(response: Answer, status: int, code: str) -> Json:
    """The problem that an answer is. Fails where it is another one, or none."""
    assert (response.status_code, response.mimetype) == (status, PROBLEM), response.text
    assert response.json["code"] == code
    return response.json


class Api:
    """The requests of the tests, one line each. What staff do is done with the admin's credentials."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: Client = app.test_client()

    def get(self, path: str, *, staff: bool = False, **options: Any) -> Answer:
        """GET, as nobody in particular unless told."""
        return self.client.get(path, **({"auth": ADMIN if staff else None} | options))

    def post(
        self, path: str, body: Json, *, key: str | None = None, staff: bool = True, **options: Any
    ) -> Answer:
        """POST a JSON value, as the admin unless told; a booking as nobody in particular."""
        auth = ADMIN if staff and path != "/book" else None
        headers = {**options.pop("headers", {}), **({} if key is None else {"Idempotency-Key": key})}
        return self.client.post(path, json=body, headers=headers, **({"auth": auth} | options))

    def initialize(
        self,
        total_tickets: int | None = 3,
        event_id: str | None = EVENT_ID,
        *,
        key: str | None = None,
        auth: tuple[str, str] = ADMIN,
        **fields: Any,
    ) -> Answer:
        """Open an event, as the admin unless told. What is None is not sent."""
        about = {"total_tickets": total_tickets, "event_id": event_id}
        body = {"name": "Concert", **{name: value for name, value in about.items() if value is not None}, **fields}
        return self.post("/initialize", body, key=key, auth=auth)

    def book(
        self,
        user_id: str,
        quantity: int | None = None,
        event_id: str = EVENT_ID,
        *,
        key: str | None = None,
        **fields: Any,
    ) -> Answer:
        """Book for a user. `quantity` None sends none."""
        body: Json = {"event_id": event_id, "user_id": user_id, **fields}
        return self.post("/book", body | ({} if quantity is None else {"quantity": quantity}), key=key)

    def book_many(
        self, *orders: Json, mode: str = "each", event_id: str = EVENT_ID, key: str | None = None
    ) -> Answer:
        """Book for many, as the admin."""
        return self.post("/bookings/bulk", {"event_id": event_id, "mode": mode, "orders": list(orders)}, key=key)

    def transfer(
        self,
        order_id: str,
        to_user_id: str,
        *,
        key: str | None = None,
        auth: tuple[str, str] = ADMIN,
        **fields: Any,
    ) -> Answer:
        """Give an order's tickets to another user, as the admin unless told."""
        body = {"to_user_id": to_user_id, **fields}
        return self.post(f"/orders/{order_id}/transfer", body, key=key, auth=auth)

    def update(self, version: int | str = "*", event_id: str = EVENT_ID, **fields: Any) -> Answer:
        """Change an event, at a version or whatever it is."""
        headers = {"If-Match": version if version == "*" else f'"{version}"'}
        return self.client.patch(f"/events/{event_id}", json=fields, headers=headers, auth=ADMIN)

    def cancel_event(self, event_id: str = EVENT_ID, *, key: str | None = None) -> Answer:
        """Sell no more tickets of an event."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client.post(f"/events/{event_id}/cancel", headers=headers, auth=ADMIN)

    def cancel(self, user_id: str, event_id: str = EVENT_ID, *, key: str | None = None, **fields: Any) -> Answer:
        """Cancel a user's active order."""
        return self.post("/cancel", {"event_id": event_id, "user_id": user_id, **fields}, key=key)

    def cancel_order(self, order_id: str, *, key: str | None = None, **fields: Any) -> Answer:
        """Cancel an order by its id."""
        return self.post("/cancel", {"order_id": order_id, **fields}, key=key)

    def status(self, event_id: str = EVENT_ID) -> Json:
        """The status of an event that is there."""
        answer = self.get(f"/status/{event_id}")
        assert answer.status_code == 200
        return answer.json

    def order(self, order_id: str) -> Json:
        """An order as it is now."""
        return self.get(f"/orders/{order_id}").json

    def line(self, event_id: str = EVENT_ID) -> list[tuple[int, str]]:
        """Who waits: (position, user), first come first."""
        page = self.get(f"/events/{event_id}/waiting-list?limit=500", staff=True).json
        return [(item["position"], item["user_id"]) for item in page["items"]]

    def ledger(self) -> list[Json]:
        """All that is stored, to compare."""
        return list(self.services.database["ledger"].find(sort=[("_id", 1)]))

    @property
    def services(self) -> Services:
        """The parts below HTTP."""
        services: Services = self.app.extensions[EXTENSION]
        return services


@pytest.fixture
def mongo(request: pytest.FixtureRequest) -> Iterator[Mongo]:
    """A client and the name of an empty database: mongomock's, or with the parameter "mongod" the real one."""
    if getattr(request, "param", "mongomock") == "mongomock":
        yield mongomock.MongoClient(tz_aware=True), "ticketing"
        return
    database = request.getfixturevalue("database")
    create_indexes_and_views(database)
    with connect(request.getfixturevalue("mongod")) as client:
        yield client, database.name


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """To hash a password takes no time in these tests."""
    monkeypatch.setattr("ticketing.api.auth.HASH_METHOD", CHEAP_HASH)


@pytest.fixture
def make_app(mongo: Mongo) -> MakeApp:
    """Makes an app over the one database of the test: each is a worker of its own. Takes settings by name."""
    client, database_name = mongo

    def make(**settings: Any) -> Flask:
        config = replace(CONFIG, mongodb_database=database_name, **settings)
        app = create_app(config, client=client, clock=SteppingClock())
        app.test_client_class = DocumentedClient
        return app

    return make


@pytest.fixture(scope="session")
def routes() -> Flask:
    """An app without a database. Making one takes 50 ms, nearly all of them for its documentation."""
    nowhere: MongoClient[dict[str, Any]] = mongomock.MongoClient()
    app = create_app(CONFIG, client=nowhere, clock=SteppingClock())
    app.test_client_class = DocumentedClient
    return app


@pytest.fixture
def app(routes: Flask, mongo: Mongo) -> Flask:
    """The service, with an admin and without rate limits: the routes of all tests, all else as after a start."""
    client, database_name = mongo
    config, clock = replace(CONFIG, mongodb_database=database_name), SteppingClock()
    services = routes.extensions[EXTENSION] = build_services(config, client, clock)
    tokens = AccessTokens(config.jwt_secret_key, clock)
    routes.extensions[AUTH] = Authenticator(services.accounts, tokens, make_counter(config, clock), clock)
    return routes


def add_account(app: Flask, credentials: tuple[str, str], role: Role) -> None:
    """Let a user in."""
    user_id, password = credentials
    accounts: Accounts = app.extensions[EXTENSION].accounts
    assert accounts.register(user_id, role, generate_password_hash(password, CHEAP_HASH))


class NoAttemptsCounted:
    """A counter of attempts that stays at 0."""

    def hit_strictly(self, key: str, window_s: int, amount: int = 1) -> tuple[int, float]:
        """Count nothing."""
        return 0, 0.0


def count_no_attempts(app: Flask) -> None:
    """Let wrong credentials be tried as often as a test likes."""
    before: Authenticator = app.extensions[AUTH]
    app.extensions[AUTH] = Authenticator(before.accounts, before.tokens, NoAttemptsCounted(), SteppingClock())


@pytest.fixture
def client(app: Flask) -> Client:
    """A client of `app` that sends just what it is told."""
    return app.test_client()


@pytest.fixture
def api(app: Flask) -> Api:
    """The requests to `app` in one line each. No event is open yet."""
    return Api(app)


@pytest.fixture
def customer(app: Flask) -> tuple[str, str]:
    """The credentials of a user of `app` who is no staff."""
    add_account(app, CUSTOMER, Role.CUSTOMER)
    return CUSTOMER
