"""Every POST, as /openapi.json draws it, and chains of requests: see fuzzing.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response

from ticketing.audit import audit

from .conftest import EVENT_ID, Api, openapi
from .fuzzing import EXAMPLES, STATEFUL_EXAMPLES, fuzz, has_parameters
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
    ("POST", "/auth/refresh"): {400, 401, 415, 422},
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
    # Without parameters and body there is one right request, and a few wrong ones.
    assert report.requests["fuzzing"] >= (EXAMPLES if has_parameters(*operation) else 1)
    in_order(app)


@on_mongod
def test_chains(app: Flask) -> None:
    """What one request made, the next one finds: events and orders by the ids in answers and `Location`."""
    report = fuzz(app, stateful=True)
    assert not report.failures, "\n\n".join(report.failures)
    assert report.statuses.keys() >= {200, 201}
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


@pytest.mark.parametrize(
    ("view", "answer", "finding"),
    [
        ("orders", lambda: PAGE, "ignored_auth"),
        ("waiting_list", lambda: PAGE, "negative_data_rejection"),
        ("waiting_list", lambda: (PAGE, 418), "status_code_conformance"),
        ("waiting_list", lambda: Response("[]"), "content_type_conformance"),
        ("waiting_list", lambda: {"items": 1}, "response_schema_conformance"),
        ("waiting_list", lambda: (PAGE, 422), "positive_data_acceptance"),
        ("waiting_list", fail, "not_a_server_error"),
    ],
)
def test_a_service_that_deviates_is_seen(
    app: Flask, monkeypatch: pytest.MonkeyPatch, view: str, answer: Callable[[], Any], finding: str
) -> None:
    """The negative control: views that answer otherwise than documented, each by the check that is for it."""
    monkeypatch.setitem(app.view_functions, f"events.{view}", lambda event_id: answer())
    path = "/events/{event_id}/" + view.replace("_", "-")
    report = fuzz(app, "GET", path, examples=10)
    assert any(failure.startswith(f"{finding}: ") for failure in report.failures), report.failures
