"""The Postman collection is the one that the story makes. `make postman` plays it."""

from __future__ import annotations

import json

from tests.api.conftest import openapi
from tests.service.postman import COLLECTION, ENVIRONMENT, STORY, collection, environment


def test_the_files_are_up_to_date() -> None:
    """What is in docs/postman is what the story says now."""
    for path, made in ((COLLECTION, collection()), (ENVIRONMENT, environment())):
        assert json.loads(path.read_text()) == made, f"{path.name} has changed: run make openapi"


def test_the_story_has_tests_and_no_password() -> None:
    """Each request has a test of its status, and the environment leaves the password to its user."""
    for requests in STORY.values():
        for each in requests:
            assert "pm.response.to.have.status" in str(each["event"])
    assert {value["key"]: value["value"] for value in environment()["values"]}["password"] == ""


def test_every_resource_is_in_the_story() -> None:
    """But for what is for supervisors: the story asks under each first step of a path."""
    asked = {each["request"]["url"]["path"][0] for requests in STORY.values() for each in requests}
    served = {path.split("/")[1] for path in openapi()["paths"]}
    assert served - {"healthz", "metrics"} <= asked
