"""The examples of /openapi.json are what the service answers, all of them and today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from ticketing.api import examples
from ticketing.storage.client import connect

from .conftest import Json, openapi
from .story import COPY, HIDDEN, hidden, told

REGENERATE = "has changed: run make openapi"


@pytest.fixture(scope="module")
def document() -> Json:
    """The document with the examples."""
    return openapi()


def test_the_examples_are_true(mongod: str, database: Database[dict[str, Any]]) -> None:
    """Each request of the examples, asked again, is answered as the example says, to the last id and time."""
    with connect(mongod) as client:
        again = told(client, database.name)
    assert again == examples.recorded(), f"an answer {REGENERATE}"


def test_the_copy_in_the_documents_is_the_document(document: Json) -> None:
    """docs/openapi.json, for who reads it here or makes a client of it."""
    assert json.loads(COPY.read_text()) == document, f"the document {REGENERATE}"


def test_every_operation_has_examples(document: Json) -> None:
    """Of its body, if it takes one, and of each answer with a body, errors too."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                assert all(parameter["example"] and parameter["description"] for parameter in operation)
                continue
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for body in bodies:
                if "$ref" in body:
                    body = document["components"]["responses"][body["$ref"].rpartition("/")[2]]
                for media_type in body.get("content", {}).values():
                    assert media_type["examples"], (method, path)


def test_what_is_secret_is_hidden() -> None:
    """However deep it stands; everything else is shown."""
    value = [{"order": {"secret": "s", "user_id": "ada"}, "access_token": "t"}]
    shown = [{"order": {"secret": HIDDEN["secret"], "user_id": "ada"}, "access_token": HIDDEN["access_token"]}]
    assert hidden(value) == shown


def test_another_answer_is_seen(
    mongod: str, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The negative control: one word of one example altered."""
    altered = tmp_path / "examples.json"
    altered.write_text(examples.RECORDED.read_text().replace("City Hall", "Town Hall", 1))
    monkeypatch.setattr(examples, "RECORDED", altered)
    with pytest.raises(AssertionError, match="run make openapi"):
        test_the_examples_are_true(mongod, database)
