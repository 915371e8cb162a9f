"""Admission control: so many requests at once, and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from werkzeug.test import create_environ, run_wsgi_app

from ticketing.api.admission import init_admission
from ticketing.api.problems import register_error_handlers


class Door:
    """A view that is entered, and left when the test says so."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.entered.release()
        assert self.opened.wait(20)
        return request.get_data(as_text=True)


class SlowBody:
    """A body of which nothing comes until the test says so."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.sent = threading.Event()

    def read(self, size: int = -1) -> bytes:
        """Wait for it, then all there is."""
        self.asked.set()
        assert self.sent.wait(20)
        return b"slow"[:size]


@pytest.fixture
def door() -> Door:
    """The view of this test."""
    return Door()


@pytest.fixture
def app(door: Door) -> Flask:
    """An app that takes on two requests at once."""
    app = Flask("admission", static_folder=None)
    register_error_handlers(app)
    init_admission(app, 2, free={"free"})
    app.add_url_rule("/", "door", door, methods=["GET", "POST"])
    app.add_url_rule("/free", "free", lambda: "free")
    app.add_url_rule("/fails", "fails", fail)
    return app


def fail() -> NoReturn:
    """A bug."""
    raise RuntimeError


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for clients that wait."""
    with ThreadPoolExecutor() as threads:
        yield threads


def test_one_too_many_is_refused_at_once(app: Flask, door: Door, pool: ThreadPoolExecutor) -> None:
    """503 `overloaded` with Retry-After, also at a path that does not exist; health checks pass."""
    inside = [pool.submit(app.test_client().get, "/") for _ in range(2)]
    for _ in inside:
        assert door.entered.acquire(timeout=20)
    for path in ("/", "/nowhere"):
        refused: Any = app.test_client().get(path)
        assert (refused.status_code, refused.json["code"]) == (503, "overloaded")
        assert refused.headers["Retry-After"] == "1"
    assert app.test_client().get("/free").status_code == 200
    door.opened.set()
    assert [request.result().status_code for request in inside] == [200, 200]
    assert app.test_client().get("/").status_code == 200


def test_every_end_of_a_request_makes_room(app: Flask, door: Door) -> None:
    """An answer, a refusal, a mistake of ours, a path that does not exist."""
    door.opened.set()
    client = FlaskClient(app)
    for path, status in [("/", 200), ("/fails", 500), ("/nowhere", 404), ("/", 200)] * 3:
        assert client.get(path).status_code == status


def test_a_request_counts_when_it_is_there(app: Flask, door: Door, pool: ThreadPoolExecutor) -> None:
    """Clients that send slowly keep nobody out; their bodies arrive in the views all the same."""
    door.opened.set()
    bodies = [SlowBody() for _ in range(5)]
    sending = [pool.submit(_post, app, body) for body in bodies]
    for body in bodies:
        assert body.asked.wait(20)
    assert app.test_client().get("/").status_code == 200
    for body, answer in zip(bodies, sending, strict=True):
        body.sent.set()
        assert answer.result() == b"slow"


def _post(app: Flask, body: SlowBody) -> bytes:
    environ = create_environ("/", method="POST")
    answer, *_ = run_wsgi_app(app, {**environ, "CONTENT_LENGTH": "4", "wsgi.input": body})
    return b"".join(answer)
