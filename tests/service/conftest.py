"""A folder for the service, and the service in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.service.running import ROOT, Service

Start = Callable[..., Service]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a fresh clone has of what the service reads from its folder."""
    shutil.copy(ROOT / ".env.example", tmp_path)
    return tmp_path


@pytest.fixture
def make_service(folder: Path) -> Iterator[Start]:
    """Make services in the folder; whatever is left of them afterwards is ended."""
    made: list[Service] = []

    def make(**options: Any) -> Service:
        made.append(Service(folder, **options))
        return made[-1]

    yield make
    for service in made:
        service.clean_up()


@pytest.fixture
def make_lean_service(
    make_service: Start, mongod: str, database: Database[dict[str, Any]]
) -> Start:
    """Make services on the suite's mongod and with one worker, for tests in which neither matters."""
    lean = {"MONGODB_URI": mongod, "MONGODB_DATABASE": database.name, "WEB_CONCURRENCY": "1"}
    return partial(make_service, **lean)


@pytest.fixture
def lean_service(make_lean_service: Start) -> Service:
    """The service on the suite's mongod, serving."""
    return make_lean_service().start().wait_until_serving()


@pytest.fixture
def service(make_service: Start) -> Service:
    """The service with a mongod of its own, serving."""
    return make_service().start().wait_until_serving()
