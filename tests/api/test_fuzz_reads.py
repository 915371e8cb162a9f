"""Every GET, as /openapi.json draws it: see fuzzing.py."""

from __future__ import annotations

import pytest
from flask import Flask

from .conftest import openapi
from .fuzzing import checks_for, examples_for, fuzz

# Coverage would count little that other tests do not reach, and take as long as the fuzzing itself.
pytestmark = pytest.mark.no_cover

on_mongod = pytest.mark.parametrize("mongo", ["mongod"], indirect=True)

# For each path the statuses that a run must have met: else it has tried too little.
MET = {
    "/status/{event_id}": {200, 404},
    "/events": {200, 422},
    "/events/{event_id}": {200, 404},
    "/events/{event_id}/availability": {200, 404},
    "/events/{event_id}/waiting-list": {200, 404, 422},
    "/events/{event_id}/orders": {200, 401, 404, 422},
    "/events/{event_id}/orders.csv": {200, 401, 404},
    "/events/{event_id}/changes": {200, 401, 404, 422},
    "/webhooks": {200, 401, 422},
    "/webhooks/{webhook_id}": {200, 401, 404},
    "/webhooks/{webhook_id}/deliveries": {200, 401, 404, 422},
    "/orders": {200, 401, 422},
    "/orders/{order_id}": {200, 404},
    "/orders/{order_id}/history": {200, 404},
    "/users": {200, 401, 422},
    "/users/me": {200, 401},
    "/users/{user_id}": {200, 401, 404},
    "/healthz": {200},
    "/readyz": {200},
    "/metrics": {200},
}


def test_every_get_is_tried() -> None:
    """Each GET of the document has a row."""
    assert MET.keys() == {path for path, item in openapi()["paths"].items() if "get" in item}


@on_mongod
@pytest.mark.parametrize("path", MET)
def test_answers_as_documented(app: Flask, path: str) -> None:
    """No 500; status, type, headers and schema of each answer as documented; wrong requests refused, right ones
    not; other methods 405 with `Allow`; no protected operation without credentials or with wrong ones."""
    report = fuzz(app, "GET", path)
    assert not report.failures, "\n\n".join(report.failures)
    assert report.statuses.keys() >= MET[path] | {405}
    assert report.checks == checks_for("GET", path)
    assert report.requests["fuzzing"] >= examples_for("GET", path)
