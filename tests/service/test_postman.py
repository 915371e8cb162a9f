"""The Postman collection is the one that the story makes. `make postman` plays it."""

from __future__ import annotations

import json

from tests.api.conftest import openapi
from tests.service.postman import COLLECTION, ENVIRONMENT, STORY, collection, environment
from tests.service.running import ROOT


def test_the_files_are_up_to_date() -> None:
    """What is in docs/postman is what the story says now."""
    for path, made in ((COLLECTION, collection()), (ENVIRONMENT, environment())):
        assert json.loads(path.read_text()) == made, f"{path.name} has changed: run make openapi"


def test_the_story_has_tests_and_no_password() -> None:
    """Each request has a test of its status and of a value of its body, unless it has none (204); a repeat also of the
    header that says so. The environment leaves the password to its user."""
    for requests in STORY.values():
        for each in requests:
            tests = "\n".join(each["event"][-1]["script"]["exec"])
            assert "pm.response.to.have.status" in tests
            assert "expect(get(body" in tests or "have.status(204)" in tests, each["name"]
    repeat = next(each for requests in STORY.values() for each in requests if "repeats" in each["name"])
    assert "Idempotent-Replayed" in str(repeat["event"])
    assert {value["key"]: value["value"] for value in environment()["values"]}["password"] == ""


def test_every_resource_is_in_the_story() -> None:
    """But for what is for supervisors: the story asks under each first step of a path."""
    asked = {each["request"]["url"]["path"][0] for requests in STORY.values() for each in requests}
    served = {path.split("/")[1] for path in openapi()["paths"]}
    assert served - {"healthz", "metrics"} <= asked


def test_the_page_says_how_long_the_story_is() -> None:
    """docs/clients.md, to who wonders whether to play it."""
    count = sum(len(requests) for requests in STORY.values())
    assert f"\nstory in {count} requests" in (ROOT / "docs" / "clients.md").read_text()
