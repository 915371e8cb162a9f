"""Every POST, as /openapi.json draws it, and chains of requests: see fuzzing.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, request

from ticketing.api.auth import Role, required
from ticketing.api.problems import ApiProblem
from ticketing.audit import audit
from ticketing.errors import EventCancelled

from .conftest import EVENT_ID, Api, openapi
from .fuzzing import EXAMPLES, STATEFUL_EXAMPLES, checks_for, examples_for, fuzz
from .test_fuzz_reads import on_mongod

# As in test_fuzz_reads.py.
pytestmark = pytest.mark.no_cover

# For each path the statuses that a run must have met: else it has tried too little.
MET = {
    ("POST", "/initialize"): {201, 400, 401, 415, 422},
    ("POST", "/book"): {201, 202, 400, 404, 409, 415, 422},
    ("POST", "/bookings/bulk"): {200, 400, 401, 404, 415, 422},
    ("POST", "/orders/{order_id}/transfer"): {201, 400, 401, 404, 409, 415, 422},
    ("POST", "/cancel"): {200, 400, 401, 404, 415, 422},
    ("PATCH", "/events/{event_id}"): {200, 400, 401, 404, 412, 415, 422, 428},
    ("POST", "/events/{event_id}/cancel"): {200, 400, 401, 404},
    ("POST", "/users"): {201, 400, 409, 415, 422},
    ("PATCH", "/users/me"): {400, 409, 415, 422},
    ("DELETE", "/users/me"): {409},
    ("PATCH", "/users/{user_id}"): {200, 400, 404, 415, 422},
    ("DELETE", "/users/{user_id}"): {204, 401, 404},
    ("POST", "/auth/token"): {200, 401},
    ("POST", "/auth/refresh"): {200, 400, 401, 415, 422},
    ("POST", "/auth/revoke"): {204, 400, 415, 422},
    ("POST", "/webhooks"): {201, 400, 401, 415, 422},
    ("DELETE", "/webhooks/{webhook_id}"): {204, 401, 404},
    ("POST", "/webhooks/{webhook_id}/replay"): {202, 401, 404, 422},
}


def test_every_other_method_is_tried() -> None:
    """Each operation of the document that is no GET has a row."""
    others = {(path, method) for path, item in openapi()["paths"].items() for method in item if method != "get"}
    assert {(path, method.lower()) for method, path in MET} == {
        each for each in others if each[1] != "parameters"
    }


@on_mongod
@pytest.mark.parametrize("operation", MET, ids=" ".join)
def test_answers_as_documented(app: Flask, operation: tuple[str, str]) -> None:
    """As for GET; and bodies of wrong types, forms and media types are refused."""
    report = fuzz(app, *operation)
    assert not report.failures, "\n\n".join(report.failures)
    assert report.statuses.keys() >= MET[operation] | {405}
    assert report.checks == checks_for(*operation)
    assert report.requests["fuzzing"] >= examples_for(*operation)
    in_order(app)


# What the admin of the settings, who stands in no database, is refused.
MET_AS_CUSTOMER = {
    ("PATCH", "/users/me"): {200, 400, 401, 403, 415, 422},
    ("DELETE", "/users/me"): {204, 401},
}


@on_mongod
@pytest.mark.parametrize("operation", MET_AS_CUSTOMER, ids=" ".join)
def test_a_customer_is_answered_as_documented(app: Flask, operation: tuple[str, str]) -> None:
    """Another password and an erasure, by somebody with an account and with orders, who is there again each time."""
    report = fuzz(app, *operation, as_fay=True, examples=EXAMPLES)
    assert not report.failures, "\n\n".join(report.failures)
    assert report.statuses.keys() >= MET_AS_CUSTOMER[operation] | {405}
    assert report.checks == checks_for(*operation)
    in_order(app)


@on_mongod
def test_chains(app: Flask) -> None:
    """What one request made, the next one finds: events and orders by the ids in answers and `Location`."""
    report = fuzz(app, stateful=True)
    assert not report.failures, "\n\n".join(report.failures)
    assert report.statuses.keys() >= {200, 201}
    assert report.checks == checks_for()
    assert report.requests["stateful"] >= STATEFUL_EXAMPLES
    in_order(app)


def in_order(app: Flask) -> None:
    """Fail where a ledger is not in order."""
    reports = list(audit(Api(app).services.database))
    assert {EVENT_ID} < {report.event_id for report in reports}
    assert not [finding for report in reports for finding in report.findings]


PAGE: dict[str, Any] = {"items": [], "next": None}


def fail() -> None:
    """A bug."""
    raise RuntimeError


Deviation = Callable[[Flask, pytest.MonkeyPatch], None]
ORDERS, WAITING_LIST = ("GET", "/events/{event_id}/orders"), ("GET", "/events/{event_id}/waiting-list")
USERS_AND_ONE = "^/users(/{user_id})?$"


def answering(endpoint: str, answer: Callable[[], Any], guard: Callable[[Any], Any] = lambda view: view) -> Deviation:
    """A view with another answer, and with no guard unless told."""
    return lambda app, patch: patch.setitem(app.view_functions, endpoint, guard(lambda **given: answer()))


def allowing(method: str, allow: str | None) -> Deviation:
    """Another `Allow`, or none, in the answers to a method."""

    def change(response: Response) -> Response:
        if request.method == method:
            del response.headers["Allow"]
            response.headers.update({} if allow is None else {"Allow": allow})
        return response

    return lambda app, patch: patch.setitem(app.after_request_funcs, None, [change, *app.after_request_funcs[None]])


def no_if_match_is_a_conflict(app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Without `If-Match` 409. (Were the change done, another check would notice it first.)"""

    def update(**given: Any) -> Any:
        if "If-Match" not in request.headers:
            raise EventCancelled
        return real(**given)

    real = app.view_functions["events.update"]
    patch.setitem(app.view_functions, "events.update", update)


def not_there() -> None:
    """404."""
    raise ApiProblem.named("user_not_found")


# For each check a service that deviates, and where that shows: in an operation, or in chains among some.
CONTROLS: dict[str, tuple[Deviation, tuple[str, str] | dict[str, Any]]] = {
    "ignored_auth": (answering("events.orders", lambda: PAGE), ORDERS),
    "negative_data_rejection": (answering("events.waiting_list", lambda: PAGE), WAITING_LIST),
    "status_code_conformance": (answering("events.waiting_list", lambda: (PAGE, 418)), WAITING_LIST),
    "content_type_conformance": (answering("events.waiting_list", lambda: Response("[]")), WAITING_LIST),
    "response_schema_conformance": (answering("events.waiting_list", lambda: {"items": 1}), WAITING_LIST),
    "response_headers_conformance": (
        answering("events.waiting_list", lambda: (PAGE, 200, {"X-RateLimit-Limit": "many"})),
        WAITING_LIST,
    ),
    "positive_data_acceptance": (answering("events.waiting_list", lambda: (PAGE, 422)), WAITING_LIST),
    "not_a_server_error": (answering("events.waiting_list", fail), WAITING_LIST),
    "missing_required_header": (no_if_match_is_a_conflict, ("PATCH", "/events/{event_id}")),
    "unsupported_method": (allowing("PUT", None), WAITING_LIST),
    "allow_header_conformance": (allowing("OPTIONS", "GET, DELETE"), WAITING_LIST),
    "use_after_free": (
        answering("users.remove", lambda: Response(status=204), required(Role.ADMIN)),
        {"path_regex": USERS_AND_ONE},
    ),
    "ensure_resource_availability": (
        answering("users.user", not_there, required(Role.ADMIN)),
        {"path_regex": USERS_AND_ONE, "method": ["GET", "POST"]},
    ),
}

# Asked of each answer, but without a say: it wants users of equal rank out of a file of credentials. Who may read what
# of others stands in test_authorization.py.
WITHOUT_A_SAY = {"object_level_authorization"}


def test_each_check_has_a_control() -> None:
    """All that schemathesis has, but for those that are named here."""
    assert CONTROLS.keys() | WITHOUT_A_SAY == checks_for()


@pytest.mark.parametrize("finding", CONTROLS)
def test_a_service_that_deviates_is_seen(app: Flask, monkeypatch: pytest.MonkeyPatch, finding: str) -> None:
    """The negative control: answers otherwise than documented, each noticed by the check that is for it."""
    deviate, where = CONTROLS[finding]
    deviate(app, monkeypatch)
    report = fuzz(app, stateful=True, among=where) if isinstance(where, dict) else fuzz(app, *where, examples=10)
    assert any(failure.startswith(f"{finding}: ") for failure in report.failures), report.failures
