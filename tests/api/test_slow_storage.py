"""Whatever MongoDB does, each route answers within 10 s: as documented, or 503.

Every request meets a worker that knows nothing yet, behind a network in which each command takes so long: so it has to
wait for all that it could ever have to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from flask import Flask
from pymongo import MongoClient

from tests.faults.load import LONGEST_S
from tests.faults.proxy import Proxy
from tests.service.running import eventually
from ticketing.api.auth import EXTENSION as AUTH
from ticketing.api.auth import Authenticator, Role
from ticketing.api.bearer import AccessTokens
from ticketing.api.limits import make_counter
from ticketing.app import build_services
from ticketing.clock import SystemClock
from ticketing.services import EXTENSION
from ticketing.storage.client import connect

from .conftest import CONFIG, Api, Json, Mongo, add_account, openapi
from .test_authorization import BODIES, HEADERS, QUERIES, TABLE, Credentials, Props, served

pytestmark = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)

PASSWORD = "correct horse battery staple"
NEVER_S = 3_600.0

# Of TABLE's callers; here all of them have accounts in the database.
ROLES = {"owner": Role.CUSTOMER, "staff": Role.ORGANIZER, "admin": Role.ADMIN}

# What TABLE asks for, but so that it takes longer.
LONGER: dict[str, Callable[[Props], Json]] = {
    "PATCH /users/me": lambda props: {"current_password": PASSWORD, "password": "another good passphrase"},
}


CROWD = 16

# What needs no database, and what has a chance where a command takes a second and a half: else nothing was shown.
SWIFT = {"GET /healthz", "GET /metrics", "GET /docs", "GET /openapi.json"}
SLOW = {"GET /status/<event_id>", "GET /events/<event_id>/orders.csv", "POST /users", "POST /auth/token"}


class PropsOfOne(Props):
    """What one request is about, and no other. Its user has an order."""

    @property
    def user_id(self) -> str:
        """The owner."""
        assert self.event_id
        return self.owner_id


class Request(NamedTuple):
    """A request that is ready to be sent."""

    row: str
    caller: str
    path: str
    options: dict[str, Any]


class Outcome(NamedTuple):
    """What came of it."""

    row: str
    caller: str
    status: int
    took_s: float


@pytest.fixture
def requests(app: Flask) -> list[Request]:
    """Each route for each caller for whom it does something."""
    api = Api(app)
    return [request_of(api, row, caller) for row in TABLE for caller in callers_of(row)]


def callers_of(row: str) -> list[str]:
    """Who may send a request: nobody, a customer, staff; admins, for whom less is looked up, where no others may."""
    nobody, _, _, owner, _, staff, _, admin = TABLE[row].split()
    statuses = {"nobody": nobody, "owner": owner, "staff": staff}
    may = [caller for caller, status in statuses.items() if status.startswith("2")]
    return may or (["admin"] if admin.startswith("2") else ["owner"])


def request_of(api: Api, row: str, caller: str) -> Request:
    """A request with an event and accounts of its own."""
    credentials: dict[str, Credentials] = {name: (f"{name}-{uuid4().hex}", PASSWORD) for name in ROLES}
    for name, role in ROLES.items():
        add_account(api.app, credentials[name], role)
    props = PropsOfOne(api, credentials["staff"], credentials["owner"])
    path = props.fill_in(row.split()[1]) + (QUERIES[row](props) if row in QUERIES else "")
    body = {**BODIES, **LONGER}.get(row)
    options = {"json": body and body(props), "auth": credentials.get(caller), "headers": HEADERS.get(row, {})}
    return Request(row, caller, path, options)


@pytest.fixture
def proxy(mongod: str) -> Iterator[Proxy]:
    """The network before the suite's mongod."""
    with Proxy(mongod) as proxy:
        yield proxy


class Workers:
    """Workers that share the routes of an app, and connections through the network, and know nothing yet."""

    def __init__(self, routes: Flask, client: MongoClient[dict[str, Any]], database_name: str) -> None:
        self._routes = routes
        self._client = client
        self._config = replace(CONFIG, mongodb_database=database_name)

    def new(self) -> Flask:
        """Another one."""
        clock = SystemClock()
        services = build_services(self._config, self._client, clock)
        tokens = AccessTokens(self._config.jwt_secret_key, clock)
        authenticator = Authenticator(services.accounts, tokens, make_counter(self._config, clock), clock)
        worker = copy(self._routes)
        worker.extensions = {**worker.extensions, EXTENSION: services, AUTH: authenticator}
        return worker


@pytest.fixture
def workers(app: Flask, mongo: Mongo, proxy: Proxy, requests: list[Request]) -> Iterator[Workers]:
    """Workers with a connection for each request: to make one would take longer than a command may."""
    count = len(requests)
    with connect(f"{proxy.uri}&minPoolSize={count}&maxPoolSize=0") as client:
        client.admin.command("ping")
        eventually(lambda: proxy.connections > count)
        yield Workers(app, client, mongo[1])


@pytest.mark.parametrize(("command_s", "ends_after_s"), [(1.5, NEVER_S), (1.0, 4.5), (NEVER_S, NEVER_S)])
def test_each_route_answers_in_time(
    app: Flask, requests: list[Request], workers: Workers, proxy: Proxy, command_s: float, ends_after_s: float
) -> None:
    """With each command taking so long, and nothing answered any more after that time. No route is left out."""
    assert served(app) == {request.row for request in requests}
    outcomes = sent_at_once(proxy, [(workers.new(), each) for each in requests], command_s, ends_after_s)
    assert wrong(outcomes) == []
    assert {each.row for each in outcomes if each.status < 300} >= (SWIFT if command_s == NEVER_S else SWIFT | SLOW)


def test_crowds_are_answered_in_time(requests: list[Request], workers: Workers, proxy: Proxy) -> None:
    """Many in one worker, with the same credentials or with none, and about the same event: nobody waits for all the
    others."""
    ready = []
    for row in ("GET /users/me", "POST /book", "GET /events/<event_id>/changes"):
        request = next(each for each in requests if each.row == row)
        ready += [(workers.new(), request)] * CROWD
    outcomes = sent_at_once(proxy, ready, NEVER_S, NEVER_S)
    assert wrong(outcomes) == []
    assert {each.status for each in outcomes} == {503}


def wrong(outcomes: list[Outcome]) -> list[Outcome]:
    """Those that took too long, or are neither what was asked for nor 503."""
    return [each for each in outcomes if each.took_s >= LONGEST_S or (each.status >= 300 and each.status != 503)]


def sent_at_once(
    proxy: Proxy, ready: list[tuple[Flask, Request]], command_s: float, ends_after_s: float
) -> list[Outcome]:
    """What comes of these requests, while each command takes so long, and after a time for ever."""
    openapi()  # to make it takes a second
    with ThreadPoolExecutor(len(ready)) as threads:
        with proxy.delaying(command_s / 2):
            outcomes = [threads.submit(sent, *each) for each in ready]
            wait(outcomes, ends_after_s)
        with proxy.delaying(NEVER_S):
            return [outcome.result() for outcome in outcomes]


def sent(worker: Flask, request: Request) -> Outcome:
    """Send a request to a worker. Fails where the answer is not as documented."""
    began_s = time.monotonic()
    method = request.row.split()[0]
    with worker.test_client().open(request.path, method=method, **request.options) as answer:
        assert answer.data is not None  # an export is read to its end
        return Outcome(request.row, request.caller, answer.status_code, time.monotonic() - began_s)
