"""Fuzzing by schema: schemathesis draws requests from /openapi.json, right ones and wrong ones, and holds every
answer against it.

All of its checks are on, and each run looks that all were asked; what it cannot know is said to it here: which events,
orders, users and cursors there are, and which refusals depend on the state of an event and not on the form of a
request.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from flask import Flask
from schemathesis import HookContext, Response, engine, openapi
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import events
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.generation.case import Case
from schemathesis.transport.wsgi import WSGITransport

from ticketing.accounts import Accounts
from ticketing.api.auth import Role
from ticketing.domain.accounts import Account
from ticketing.services import EXTENSION

from .conftest import ADMIN, EVENT_ID, Api, add_account, count_no_attempts
from .conftest import openapi as service_document

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
"""Requests drawn for an operation with anything to draw; some fifty more are made of its schema's edges."""

SEED = int(os.environ.get("FUZZ_SEED", "0")) or (secrets.randbits(32) if "FUZZ_EXAMPLES" in os.environ else 1)
"""The same in every run of the suite, another in every `make fuzz`."""

STATEFUL_EXAMPLES = max(20, EXAMPLES // 8)

# Refusals of requests that are all right by themselves: the next event, order or key might take them.
BY_STATE = {
    "exceeds_max_tickets_per_order",
    "exceeds_max_tickets_per_user",
    "exceeds_total_tickets",
    "idempotency_key_reused",
    "precondition_failed",
    "invalid_schedule",  # two times that are right each by itself
    "unknown_ticket_type",
    "invalid_ticket_types",
    "exceeds_order_quantity",
    "weak_password",
}

# Fields of which the document cannot say what is right: cursors and versions that there are, what is a URL, time zones
# and currencies, which come and go, how many digits a currency has, and that no code is there twice.
BEYOND_SCHEMA = {"after", "url", "event_id", "timezone", "price", "currency", "ticket_types"}

EVENTS = {EVENT_ID: 40, "sold-out": 2, "large": 10_000_000}
FAY = ("fay", "a password of fay's")  # who has an account
USERS = ["ada", "ben", "cleo", "dan", "Zoë", "gil", "hal", "ida", "joe", FAY[0]]
CURSORS = ["MA", "MQ", "Mg"]
VERSIONS = ["0", "1", "2"]
URLS = ["https://example.com/", "https://example.com/tickets", "https://127.0.0.1/"]
KEYS = [str(number) for number in range(1_000)]  # most of them are used once
WEBHOOKS = 20  # some of which are ended meanwhile
REFRESH_TOKENS = 20  # each is good once


INVALID_DRAWS_MAX = 50
"""How many draws may go wrong before the first right one. By itself Hypothesis takes nine times as many to see that no
text has a pattern, and a length that the pattern cannot have: a fifth of the time of a run."""


@dataclass
class Report:
    """What came of a run."""

    failures: list[str] = field(default_factory=list)
    # Requests by phase, and answers by status.
    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    # The names of the checks that were asked about an answer.
    checks: set[str] = field(default_factory=set)

    def add(self, event: events.EngineEvent) -> None:
        """Take over what one event of a run tells."""
        if isinstance(event, events.ScenarioFinished):
            self.requests[event.phase.value] += len(event.recorder.interactions)
            answers = [each.response for each in event.recorder.interactions.values() if each.response]
            self.statuses.update(answer.status_code for answer in answers)
            self.checks |= {check.name for checks in event.recorder.checks.values() for check in checks}
            self.failures += failures_of(event.recorder)
        elif isinstance(event, events.NonFatalError):
            self.failures.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception


def failures_of(recorder: ScenarioRecorder) -> Iterator[str]:
    """A line for each check that failed: what was expected, what was sent and what was answered."""
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if (info := check.failure_info) is not None:
                response = recorder.interactions[info.failure.case_id or case_id].response
                answer = f"{response.status_code} {response.content[:500]!r}" if response else "no answer"
                yield f"{check.name}: {info.failure.title}: {info.failure.message}\n{info.code_sample}\n{answer}"


def fuzz(
    app: Flask,
    *operation: str,
    stateful: bool = False,
    among: dict[str, Any] | None = None,
    examples: int | None = None,
    as_fay: bool = False,
) -> Report:
    """Try one operation (method, path), or with `stateful` chains of all: bookings of events just made, and so on;
    `among` tells which, as schemathesis's `include` takes it.

    Staff's operations are tried as the admin, all others as nobody; chains as the admin. With `as_fay` all are tried as
    a customer, whose account is before each request as it was at first.
    """
    report = Report()
    method, path = operation or (None, None)
    if examples is None:
        examples = STATEFUL_EXAMPLES if method is None or path is None else examples_for(method, path)
    told = settings(app, method, path, stateful=stateful, examples=examples)
    if as_fay:
        told["auth"] = basic(FAY)
    config = SchemathesisConfig.from_dict(told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(app.view_functions, "api-docs.openapi_json", plain_document)
        document = openapi.from_wsgi("/openapi.json", app, config=config)
    document.hook(filter_failure)
    if operation:
        among = {"method": method, "path": path}
    schema = document.include(**among) if among else document
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WSGITransport, "send", _sender(Fay(app).come_back if as_fay else lambda: None))
        patch.setattr("hypothesis.internal.conjecture.engine.INVALID_THRESHOLD_BASE", INVALID_DRAWS_MAX)
        for event in engine.from_schema(schema).execute():
            report.add(event)
    return report


def settings(app: Flask, method: str | None, path: str | None, *, stateful: bool, examples: int) -> dict[str, Any]:
    """What schemathesis is told, as it stands in its configuration files."""
    orders, webhooks = prepare(app, webhooks=WEBHOOKS if path is None or "webhook" in path else 1)
    often_sold_out = [*EVENTS, "sold-out", "sold-out", "large"]
    known = {
        "events": [*often_sold_out, "nowhere", "nowhere"],
        "users": USERS,
        "orders": orders,
        "webhooks": webhooks,
        "cursors": CURSORS,
        "versions": VERSIONS,
        "urls": URLS,
        "types": ["general"],
        "quantities": [1, 2, 3],
        "keys": KEYS,
        "passwords": [FAY[1]],
        "tokens": refresh_tokens(app, REFRESH_TOKENS if path and path.startswith("/auth/") else 1),
    }
    parameters: dict[str, tuple[str, float]] = {
        "path.event_id": ("events", 0.6),
        "path.order_id": ("orders", 0.6),
        "path.user_id": ("users", 0.6),
        "path.webhook_id": ("webhooks", 0.6),
        "query.after": ("versions" if path and path.endswith(("/changes", "/replay")) else "cursors", 0.5),
        "query.user_id": ("users", 0.5),
        "body.order_id": ("orders", 0.5),
        "body.url": ("urls", 0.7),
        "body.user_id": ("users", 0.6 if path == "/book" else 0.3),
        "body.ticket_type": ("types", 0.8),
        "body.quantity": ("quantities", 0.8),
        "body.current_password": ("passwords", 0.7),
        "body.refresh_token": ("tokens", 0.5),
        "header.Idempotency-Key": ("keys", 0.7),
    }
    if path != "/initialize":
        # An event that is there already can only be refused.
        parameters["body.event_id"] = ("events", 0.8)
    as_admin = stateful or method is None or path is None or is_protected(method, path)
    return {
        "seed": SEED,
        "auth": basic(ADMIN) if as_admin else {},
        "generation": {
            "max-examples": examples,
            "deterministic": "FUZZ_EXAMPLES" not in os.environ,
            "database": "none",
            # What is found is told as it was found: to make it smaller may take longer than all the rest.
            "no-shrink": True,
        },
        # What a run has learned must not decide what the next one asks.
        "cache": {"enabled": False},
        # RFC 6585, 3.
        "checks": {"missing_required_header": {"expected-statuses": [400, 401, 403, 406, 415, 422, 428]}},
        "phases": {
            "examples": {"enabled": not stateful},
            "coverage": {"enabled": not stateful, "generate-duplicate-query-parameters": True},
            "fuzzing": {"enabled": not stateful},
            "stateful": {"enabled": stateful},
        },
        "dictionaries": {name: {"values": values} for name, values in known.items()},
        "parameters": {
            name: {"dictionary": dictionary, "probability": probability}
            for name, (dictionary, probability) in parameters.items()
        },
    }


def basic(credentials: tuple[str, str]) -> dict[str, Any]:
    """Credentials, as schemathesis is told them."""
    return {"basic": dict(zip(("username", "password"), credentials, strict=True))}


def prepare(app: Flask, webhooks: int) -> tuple[list[str], list[str]]:
    """Open events, with tickets and without, book in them, and subscribe. Returns the ids of orders and webhooks."""
    count_no_attempts(app)  # wrong credentials are drawn too, and must not lock the right ones out
    api = Api(app)
    api.services.feed.stop()  # `wait` is drawn too, and must not be waited for
    add_account(app, FAY, Role.CUSTOMER)
    for event_id, total_tickets in EVENTS.items():
        assert api.initialize(total_tickets, event_id).status_code == 201
    orders = [api.book(user, event_id=event_id).json["order_id"] for event_id in EVENTS for user in USERS[:3]]
    webhook = {"url": "https://example.com/", "event_id": EVENT_ID}
    return orders, [api.post("/webhooks", webhook).json["webhook_id"] for _ in range(webhooks)]


def refresh_tokens(app: Flask, count: int) -> list[str]:
    """Some of the admin's."""
    return [Api(app).client.post("/auth/token", auth=ADMIN).json["refresh_token"] for _ in range(count)]


def examples_for(method: str, path: str) -> int:
    """As many requests as make sense for an operation: without parameters and body all are the same."""
    item = service_document()["paths"][path]
    operation = item[method.lower()]
    is_drawn = item.get("parameters") or operation.get("parameters") or operation.get("requestBody")
    return EXAMPLES if is_drawn else 1


@cache
def plain_document() -> Any:
    """The document without its examples, of which schemathesis would ask for little else.

    That they are true is shown in test_story.py.
    """
    return without_examples(service_document())


def without_examples(value: Any) -> Any:
    """A part of the document without its examples."""
    if isinstance(value, list):
        return [without_examples(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: without_examples(below) for name, below in value.items() if name not in ("example", "examples")}


def checks_for(method: str | None = None, path: str | None = None) -> set[str]:
    """The names of all checks that there are and that have a say in answers of this operation, or of all."""
    load_all_checks()
    asks_for_nothing = method is not None and path is not None and not is_protected(method, path)
    return set(CHECKS.get_all_names()) - ({"ignored_auth"} if asks_for_nothing else set())


def is_protected(method: str, path: str) -> bool:
    """Whether this operation wants credentials, by the document."""
    operations = service_document()["paths"][path]
    return {} not in operations[method.lower()]["security"]


def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """False for what is no failure: a request of the right form that the state of the service refuses, and one that
    was only meant to be wrong."""
    if isinstance(failure, AcceptedNegativeData) and has_become_right(case):
        return False
    if response.status_code not in (412, 422) or case.meta is None or not case.meta.generation.mode.is_positive:
        return True
    problem = response.json()
    fields = list(problem.get("errors", ()))
    body = case.body if isinstance(case.body, dict) else {}
    if fields == ["user_id"] and body and "user_id" not in body:
        return False  # whoever sends credentials need not say for whom he books
    # 2.0 is an integer to JSON Schema, which has no word for those that are written as such.
    floats = set(names_of_floats(body))
    last_names = {field.split(".")[-1] for field in fields}  # "ticket_types.0.price" is about the price
    beyond_schema = fields and last_names <= BEYOND_SCHEMA | floats
    return problem.get("code") not in BY_STATE and not beyond_schema


def has_become_right(case: Case) -> bool:
    """Whether nothing is left of what was made wrong: the run's credentials took the place of those that were drawn,
    and of unknown members in a query schemathesis itself knows that they may vanish, but not of both at once."""
    mutations = getattr(case.meta.phase.data if case.meta else None, "mutations", ())
    has_credentials = is_protected(case.method, case.operation.path)
    return bool(mutations) and all(
        (each.schema_pointer == "/properties/Authorization" and has_credentials)
        or (each.parameter_location == ParameterLocation.QUERY and each.keywords == ("additionalProperties",))
        for each in mutations
    )


def names_of_floats(value: Any, name: str = "") -> Iterator[str]:
    """The names of all members, however deep, that are floats."""
    if isinstance(value, float):
        yield name
    for below in value if isinstance(value, list) else ():
        yield from names_of_floats(below, name)
    for name_below, below in value.items() if isinstance(value, dict) else ():
        yield from names_of_floats(below, name_below)


class Fay:
    """Her account, which the requests of a run change and erase."""

    def __init__(self, app: Flask) -> None:
        self._accounts: Accounts = app.extensions[EXTENSION].accounts
        self._password_hash = self._account().password_hash

    def come_back(self) -> None:
        """Give her the account again that she had, where it is another or none."""
        account = self._accounts.fresh(FAY[0])
        if account is None:
            assert self._accounts.register(FAY[0], Role.CUSTOMER, self._password_hash)
        elif account.password_hash != self._password_hash:
            assert self._accounts.change(account, password_hash=self._password_hash)

    def _account(self) -> Account:
        account = self._accounts.fresh(FAY[0])
        assert account is not None
        return account


_real_send = WSGITransport.send


def _sender(before_each: Callable[[], None]) -> Callable[..., Response]:
    """What sends a request, and does something before it."""

    def send(self: WSGITransport, case: Case, **options: Any) -> Response:
        before_each()
        # schemathesis 4.32 hands what is meant for sockets on to Werkzeug's client, which does not know it.
        for name in ("max_redirects", "verify", "cert"):
            options.pop(name, None)
        return _real_send(self, case, **options)

    return send
