"""The story behind the examples in /openapi.json: each operation is asked once or more, in a service made for it.

`python -m tests.api.story` tells it and writes ticketing/api/examples.json, and then docs/openapi.json; test_story.py
tells it again and compares. Whoever adds an operation adds a line to `tell`.

The same story gives the same examples: its clock stands still within a request and goes on by a minute after it, and
what is random is drawn from seeds.
"""

from __future__ import annotations

import json
import random
import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from flask import Flask
from pymongo import MongoClient

from ticketing import create_app
from ticketing.api import examples
from ticketing.api.examples import EVENT_ID
from ticketing.embedded import EmbeddedMongod
from ticketing.storage.client import connect
from ticketing.storage.schema import create_indexes_and_views

from .conftest import ADMIN, CHEAP_HASH, CONFIG, Answer, DocumentedClient, Json, SteppingClock, openapi

COPY = Path(__file__).parents[2] / "docs" / "openapi.json"

ORGANIZER = ("olga", "a password of an organizer")
CUSTOMER = ("gil", "correct horse battery")

SHOWN_HEADERS = ("Location", "ETag", "Link")
HIDDEN = {"access_token": "eyJhbGciOi…", "refresh_token": "Zm9yIHRoZS…", "secret": "whsec_MfKQ9r8…"}
"""What nobody needs to see, and scanners for secrets would find."""
TEXT_LINES_MAX = 3


class StoryClock(SteppingClock):
    """Stands still until the story goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.time = datetime(2027, 1, 1, 10, 0, tzinfo=UTC)

    def now(self) -> datetime:
        """The time of the story."""
        return self.time

    def go_on(self) -> None:
        """A minute later."""
        self.time += timedelta(minutes=1)


class Recorder:
    """Asks, checks each answer against the document, and keeps both as examples."""

    def __init__(self, app: Flask, clock: StoryClock) -> None:
        app.test_client_class = DocumentedClient
        self._client = app.test_client()
        self._clock = clock
        self._operations = {
            operation["operationId"]: (method, path)
            for path, item in openapi()["paths"].items()
            for method, operation in item.items()
            if method != "parameters"
        }
        self.examples: Json = {name: {"requests": {}, "responses": {}} for name in self._operations}

    def ask(
        self,
        operation_id: str,
        title: str,
        body: Json = None,
        *,
        auth: tuple[str, str] | None = ADMIN,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        **names: str,
    ) -> Answer:
        """Ask the operation, whose path has these `names`. The example is kept under its `title`."""
        method, path = self._operations[operation_id]
        name = re.sub(r"\W+", "_", title.lower()).strip("_")
        draws = random.Random(f"{operation_id} {name}")
        with patch.object(secrets, "token_bytes", lambda count=32: draws.randbytes(count)):
            answer: Answer = self._client.open(
                path.format(**names), method=method, json=body, auth=auth, query_string=query, headers=headers
            )
        assert answer.status_code < 400, (operation_id, title, answer.text)
        self._clock.go_on()
        example = self.examples[operation_id]
        if body is not None:
            example["requests"][name] = {"summary": title, "value": hidden(body)}
        shown = example["responses"].setdefault(str(answer.status_code), {"examples": {}, "headers": {}})
        for header in SHOWN_HEADERS:
            if header in answer.headers:
                shown["headers"].setdefault(header, answer.headers[header])
        if answer.data:
            first_lines = "".join(answer.text.splitlines(keepends=True)[:TEXT_LINES_MAX])
            value = hidden(answer.json) if answer.is_json else first_lines
            shown["examples"][name] = {"summary": title, "value": value}
        return answer


def tell(recorder: Recorder) -> None:
    """A concert, from its opening to its end."""
    ask = recorder.ask
    event: Json = {"event_id": EVENT_ID}

    organizer = {"user_id": ORGANIZER[0], "password": ORGANIZER[1], "role": "organizer"}
    ask("register", "By an admin, an organizer", organizer)
    ask("register", "A customer", {"user_id": CUSTOMER[0], "password": CUSTOMER[1]}, auth=None)

    details = {
        "venue": "City Hall",
        "timezone": "Europe/Berlin",
        "starts_at": "2027-06-01T20:00:00+02:00",
        "max_tickets_per_order": 4,
    }
    concert = event | {"name": "Concert", "total_tickets": 3}
    ask("open_event", "Three tickets", concert, auth=ORGANIZER)
    ask("open_event", "With place and time", {"name": "Recital", "total_tickets": 80} | details, auth=ORGANIZER)
    webhook = event | {"url": "https://example.com/tickets", "types": ["order.promoted"]}
    webhook_id = ask("create_webhook", "Of one event", webhook, auth=ORGANIZER).json["webhook_id"]

    key = {"Idempotency-Key": "0b5f6d4e-ada"}
    ada = ask("book", "One ticket", event | {"user_id": "ada"}, auth=None, headers=key).json["order_id"]
    ask("book", "Two tickets", event | {"user_id": "ben", "quantity": 2}, auth=None)
    ask("book", "For oneself", event, auth=CUSTOMER)
    ask("book", "Another who waits", event | {"user_id": "dan"}, auth=None)
    ask("get_order", "An order", auth=None, order_id=ada)
    ask("get_status", "Sold out", auth=None, **event)
    ask("get_availability", "Nothing left", auth=None, **event)
    ask("list_waiting", "Seen by staff", query={"limit": 1}, auth=ORGANIZER, **event)
    ask("list_orders_of_event", "The first two", query={"limit": 2}, auth=ORGANIZER, **event)
    version = ask("get_event", "An event", auth=None, **event).headers["ETag"]
    ask("get_event", "Unchanged", auth=None, headers={"If-None-Match": version}, **event)

    ask("list_events", "All of them", auth=None)
    ask("list_orders", "One's own", auth=CUSTOMER)
    ask("export_orders", "The first lines", auth=ORGANIZER, **event)

    ask("cancel", "By its id", {"order_id": ada}, auth=ORGANIZER)
    ask("get_order_history", "Booked and given back", auth=ORGANIZER, order_id=ada)
    ask("cancel", "By event and user", event | {"user_id": "ben"}, auth=ORGANIZER)
    match = {"If-Match": "*"}
    ask("update_event", "More tickets", {"total_tickets": 5}, headers=match, auth=ORGANIZER, **event)
    ask("list_changes", "Two of them", query={"after": 5, "limit": 2}, auth=ORGANIZER, **event)

    types = [
        {"code": "floor", "name": "Floor", "total_tickets": 40, "price": "25.00", "currency": "EUR"},
        {"code": "balcony", "total_tickets": 10, "price": "40.00", "currency": "EUR"},
    ]
    ball: Json = {"event_id": "ball-2027"}
    ask("open_event", "Two ticket types", ball | {"name": "Ball", "ticket_types": types}, auth=ORGANIZER)
    floor = ball | {"user_id": "eve", "ticket_type": "floor", "quantity": 3}
    eve = ask("book", "Of a ticket type", floor, auth=None).json["order_id"]
    ask("cancel", "One ticket of three", {"order_id": eve, "quantity": 1}, auth=ORGANIZER)
    ask("transfer", "One ticket of two", {"to_user_id": "fay", "quantity": 1}, auth=ORGANIZER, order_id=eve)
    guests = [{"user_id": "hal", "ticket_type": "floor"}, {"user_id": "fay", "ticket_type": "balcony"}]
    ask("book_many", "One has an order already", ball | {"mode": "each", "orders": guests}, auth=ORGANIZER)
    price = {"ticket_types": [{"code": "balcony", "price": "45.00", "currency": "EUR"}]}
    ask("update_event", "Another price", price, headers=match, auth=ORGANIZER, **ball)

    ask("list_webhooks", "All of them", auth=ORGANIZER)
    ask("get_webhook", "A webhook", auth=ORGANIZER, webhook_id=webhook_id)
    ask("list_deliveries", "Nothing yet", auth=ORGANIZER, webhook_id=webhook_id)
    ask("replay_webhook", "From the beginning", query={"after": 0}, auth=ORGANIZER, webhook_id=webhook_id)

    tokens = ask("log_in", "Tokens", auth=CUSTOMER).json
    tokens = ask("refresh_tokens", "New tokens", {"refresh_token": tokens["refresh_token"]}, auth=None).json
    ask("log_out", "Logged out", {"refresh_token": tokens["refresh_token"]}, auth=None)
    ask("get_me", "A customer", auth=CUSTOMER)
    password = {"current_password": CUSTOMER[1], "password": "the battery of another horse"}
    ask("change_my_password", "Another password", password, auth=CUSTOMER)
    ask("list_users", "The first one", query={"limit": 1})
    ask("get_user", "A user", user_id=CUSTOMER[0])
    ask("change_user", "Another role", {"role": "organizer"}, user_id=CUSTOMER[0])
    ask("delete_webhook", "Ended", auth=ORGANIZER, webhook_id=webhook_id)
    ask("erase_user", "Erased", user_id=CUSTOMER[0])
    ask("erase_me", "Erased", auth=ORGANIZER)
    ask("cancel_event", "No concert", **event)

    for probe in ("healthz", "readyz"):
        ask(probe, "All is well", auth=None)
    ask("metrics", "The first lines", auth=None)


def told(client: MongoClient[dict[str, Any]], database_name: str) -> Json:
    """The examples that the story gives, told in an empty database of a real MongoDB."""
    clock = StoryClock()
    create_indexes_and_views(client[database_name])
    with patch("ticketing.api.auth.HASH_METHOD", CHEAP_HASH):
        app = create_app(replace(CONFIG, mongodb_database=database_name), client=client, clock=clock)
        recorder = Recorder(app, clock)
        tell(recorder)
    return recorder.examples


def hidden(value: Json) -> Json:
    """A value without what is not to be seen."""
    if isinstance(value, dict):
        return {name: HIDDEN.get(name) or hidden(below) for name, below in value.items()}
    return [hidden(each) for each in value] if isinstance(value, list) else value


def written(value: Json) -> str:
    """A value as it stands in the files."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the examples, and the document that they are in."""
    with TemporaryDirectory() as folder, EmbeddedMongod(Path(folder)) as server, connect(server.uri) as client:
        # Those of before may belong to operations that have changed.
        with patch.object(examples, "recorded", dict):
            recorded = told(client, "story")
    examples.RECORDED.write_text(written(recorded))
    openapi.cache_clear()
    COPY.write_text(written(openapi()))


if __name__ == "__main__":
    main()
