"""The whole service under load: gunicorn with two workers, a real MongoDB, real connections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.running import Service

from .load import Load

CREDENTIALS = ("admin", "a password for the tests")
SETTINGS = {
    "BASIC_AUTH_USERNAME": CREDENTIALS[0],
    "BASIC_AUTH_PASSWORD": CREDENTIALS[1],
    "RATELIMIT_ENABLED": "false",
    "WEB_CONCURRENCY": "2",
    "LOG_LEVEL": "warning",
}

Start = Callable[..., Service]


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No coverage of child processes here: it doubles their work, and other tests reach all that these do."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[Start]:
    """Start `python -m ticketing` in a folder of its own; the settings may be changed."""
    started: list[Service] = []

    def start(**settings: Any) -> Service:
        folder = tmp_path / f"service-{len(started)}"
        folder.mkdir()
        service = Service(folder, **{**SETTINGS, **settings})
        started.append(service)
        return service.start().wait_until_serving()

    yield start
    for service in started:
        service.clean_up()


def embedded_uri(service: Service) -> str:
    """Where the embedded mongod of a service answers."""
    note = json.loads((service.folder / "var" / "embedded.json").read_text())
    return str(note["uri"])


def new_load(service: Service, event_id: str = "hot", **options: Any) -> Load:
    """Clients for an event of the service."""
    return Load(service.url, CREDENTIALS, event_id, **options)
