"""What `loadtest` finds wrong, and how its crowd asks. Against the service: tests/service/test_loadtest.py."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mongomock
import pytest
from flask import Flask

from ticketing.cli import crowd
from ticketing.cli.crowd import Booking, broken_promises, send_crowd
from ticketing.config import Config

from .test_cli import app_on, run

EVENT = {"event_id": "e", "booked_tickets": 1, "total_tickets": 1}


def booking(user_id: str, status: int, began_s: float) -> Booking:
    """A booking that took a second; its order is called after its user."""
    order = {"order_id": user_id, "status": {201: "confirmed", 202: "waiting"}[status]}
    return Booking(user_id, began_s, began_s + 1.0, 1.0, status, order)


def order(user_id: str, status: str, order_id: str | None = None) -> dict[str, Any]:
    """The order as it is found afterwards."""
    return {"order_id": order_id or user_id, "user_id": user_id, "status": status, "quantity": 1}


KEPT = [booking("ada", 201, 0.0), booking("bob", 202, 0.5)]
FOUND = [order("ada", "confirmed"), order("bob", "waiting")]


def test_kept_promises_are_no_findings() -> None:
    """What was not answered may be there or not."""
    assert broken_promises(KEPT, FOUND, EVENT, True) == []
    assert broken_promises([*KEPT, Booking("cyd", 2.0)], [*FOUND, order("cyd", "waiting")], EVENT, True) == []


@pytest.mark.parametrize(
    ("orders", "sentence"),
    [
        (FOUND[:1], "bob was answered, and is not there."),
        ([order("ada", "waiting"), FOUND[1]], "ada was confirmed, and is waiting."),
        ([order("ada", "cancelled"), FOUND[1]], "ada was confirmed, and is cancelled."),
        ([*FOUND, order("bob", "waiting", "another")], "bob has 2 orders."),
        ([FOUND[0], order("bob", "confirmed")], "2 of 1 tickets are booked."),
    ],
)
def test_each_broken_promise_is_named(orders: list[dict[str, Any]], sentence: str) -> None:
    """By what was answered and what is found."""
    assert broken_promises(KEPT, orders, EVENT, True) == [sentence]


def test_who_overtakes_is_named() -> None:
    """A ticket for somebody who came after another had been told to wait. In an event of others it may be right."""
    late = [booking("bob", 202, 0.0), booking("ada", 201, 1.5)]
    assert broken_promises(late, FOUND, EVENT, True) == ["ada came when others waited, and got a ticket."]
    assert broken_promises(late, FOUND, EVENT, False) == []


class Fickle(BaseHTTPRequestHandler):
    """Hangs up, then has no time, then gives no JSON or books."""

    asked: list[tuple[str, Any]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.headers["Idempotency-Key"], body))
        if len(self.asked) == 1:
            self.close_connection = True
            return
        self.send_response(503 if len(self.asked) == 2 else 201)
        answer = b"<html>" if len(self.asked) == 2 else b'{"order_id": "o", "status": "confirmed"}'
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def fickle() -> Iterator[str]:
    """The URL of a service that is not at its best."""
    Fickle.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Fickle) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_booking_without_an_answer_is_repeated(fickle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same Idempotency-Key, until there is one; each request is counted."""
    monkeypatch.setattr(crowd, "BACK_OFF_S", 0.0)
    ticket = {"event_id": "e", "ticket_type": "general"}
    (seen,) = send_crowd(fickle, {}, ticket, 60.0, users=1, connections=2)
    assert seen.outcomes == ["no answer", "503 no_json", "201 confirmed"]
    assert seen.status == 201 and seen.latency_s > 0
    assert Fickle.asked == [(seen.user_id, ticket | {"user_id": seen.user_id})] * 3


def test_an_interrupted_crowd_goes_home(fickle: str) -> None:
    """Ctrl-C does not wait until all have booked, or the time is over."""
    seen = send_crowd(fickle, {}, {}, 600.0, users=3_000, connections=2)
    next(seen)
    seen.close()
    assert len(Fickle.asked) < 1_000


ADMIN = Config(basic_auth_username="admin", basic_auth_password="a password for the tests")


@pytest.mark.parametrize(
    ("config", "options", "sentence"),
    [
        (Config(), [], "Set BASIC_AUTH_USERNAME and BASIC_AUTH_PASSWORD"),
        (ADMIN, ["--url", "http://127.0.0.1:1"], "The service at http://127.0.0.1:1 does not answer (Connection"),
        (ADMIN, ["--url", "ftp://127.0.0.1"], "'ftp://127.0.0.1' is no http:// or https:// URL."),
        (ADMIN, ["--url", "http://127.0.0.1:port"], "'http://127.0.0.1:port' is no http:// or https:// URL."),
    ],
)
def test_what_cannot_be_tried(config: Config, options: list[str], sentence: str) -> None:
    """One sentence, exit status 2."""
    client: Any = mongomock.MongoClient()
    with client:
        app: Flask = app_on(client["ticketing"], config)
        result = run(app, "loadtest", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
