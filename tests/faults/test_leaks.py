"""The watch for leaks notices each kind of them. One that notices nothing proves nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.database import Database

from tests.service.running import Service, children_of, eventually
from ticketing.storage.client import connect

from .leaks import Watch

GUNICORN = [sys.executable, "-m", "gunicorn", "-c", "python:ticketing.gunicorn_conf", "tests.faults.leaky:app"]


@pytest.fixture
def service(tmp_path: Path, mongod: str, database: Database[dict[str, Any]]) -> Iterator[Service]:
    """One worker with leaks, and a single thread for requests where its class has threads."""
    settings = {"MONGODB_URI": mongod, "MONGODB_DATABASE": database.name, "RATELIMIT_ENABLED": "false"}
    service = Service(tmp_path, command=GUNICORN, WEB_CONCURRENCY="1", WEB_THREADS="1", **settings)
    service.start()
    eventually(service.is_healthy)
    yield service
    service.clean_up()


def test_each_kind_of_leak_is_noticed(service: Service, mongod: str) -> None:
    """A thread, a green one, a socket, a connection to MongoDB, of a client, and one that only MongoDB still knows."""
    assert service.get("/status/nothing").status_code == 404
    watch = Watch(lambda: children_of(service.pid), service.port, [mongod])
    assert watch.leaks() == []

    with httpx.Client(base_url=service.url) as client:
        client.get("/healthz")
        _wait_until_noticed(watch, "connections of clients")
    assert watch.leaks() == []

    with connect(mongod) as forgotten:
        forgotten.admin.command("ping")
        _wait_until_noticed(watch, "MongoDB keeps")
    assert watch.leaks() == []

    for kind, noticed_as in (
        ("green-thread", "green threads"),
        ("socket", "other sockets"),
        ("thread", "threads of the system"),
        ("connection", "to MongoDB at"),
    ):
        assert not any(noticed_as in leak for leak in watch.leaks(deadline_s=0))
        assert service.get(f"/leak/{kind}").text == kind
        _wait_until_noticed(watch, noticed_as)


def _wait_until_noticed(watch: Watch, what: str) -> None:
    eventually(lambda: any(what in leak for leak in watch.leaks(deadline_s=0)))
