"""What the whole suite shares: one real MongoDB, a database for each test, and guards that every test passes
through.

Warnings are errors (setup.cfg, filterwarnings). A skipped test is a failure: what is promised is tried.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import bson
import mongomock
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database

from ticketing.config import Config, variable
from ticketing.embedded import EmbeddedMongod

Document = dict[str, Any]

THREADS_END_DEADLINE_S = 5.0
TAKE_LONG = (
    "tests/test_readme.py",
    "tests/api/test_damaged",
    "tests/api/test_fuzz",
    "tests/api/test_slow",
    "tests/faults/",
    "tests/service/",
)


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a real mongod, a replica set of one, that lives as long as the session."""
    with EmbeddedMongod(tmp_path_factory.mktemp("mongod")) as server:
        yield server.uri


@pytest.fixture
def database(mongod: str) -> Iterator[Database[Document]]:
    """An empty database on the real mongod, dropped afterwards. `database.name` and `mongod` lead processes
    to it."""
    with MongoClient[Document](mongod) as client:
        name = f"test_{uuid.uuid4().hex}"
        yield client[name]
        client.drop_database(name)


@pytest.fixture(scope="session", autouse=True)
def process_coverage() -> str | None:
    """What tells child processes to count what they run, taken out of the environment: it doubles their work, and most
    of them run what other tests reach."""
    return os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.fixture
def measured_processes(process_coverage: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes of this test count, for they run what nothing else does."""
    if process_coverage is not None:
        monkeypatch.setenv("COVERAGE_PROCESS_CONFIG", process_coverage)


@pytest.fixture(scope="session", autouse=True)
def mongomock_takes_bson() -> Iterator[None]:
    """A commit is inserted in the bytes that it was encoded to. A mongod takes them as they are, mongomock decoded."""
    mocked: Any = mongomock.Collection

    def decoded(asked: Any) -> Any:
        if isinstance(asked, RawBSONDocument):
            return bson.decode(asked.raw)
        return [decoded(each) for each in asked] if isinstance(asked, list) else asked

    def decoding(insert: Any) -> Any:
        return lambda self, asked, *args, **options: insert(self, decoded(asked), *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mocked, "insert_one", decoding(mocked.insert_one))
        patch.setattr(mocked, "insert_many", decoding(mocked.insert_many))
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell reaches a test."""
    for setting in fields(Config):
        monkeypatch.delenv(variable(setting), raising=False)


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Each thread that a test started has ended when the test has."""
    before = set(threading.enumerate())
    yield
    # pymongo's monitors end some time after their client was closed; the next guard sees to the clients.
    _wait_until(lambda: not _new_threads(before), THREADS_END_DEADLINE_S)
    assert not _new_threads(before), "the test left threads behind"


@pytest.fixture(autouse=True)
def no_leaked_clients(open_clients: set[int]) -> Iterator[None]:
    """Each MongoClient that a test opened is closed when the test has ended."""
    before = set(open_clients)
    yield
    assert not open_clients - before, "the test left a MongoClient open"


@pytest.fixture(scope="session")
def open_clients() -> Iterator[set[int]]:
    """The MongoClients that are open now, by a number each."""
    opened: set[int] = set()
    counter = iter(range(1_000_000_000))
    numbers: dict[int, int] = {}
    real_init, real_close = MongoClient.__init__, MongoClient.close

    def init(self: MongoClient[Document], *args: Any, **options: Any) -> None:
        real_init(self, *args, **options)
        numbers[id(self)] = next(counter)
        opened.add(numbers[id(self)])

    def close(self: MongoClient[Document]) -> None:
        real_close(self)
        opened.discard(numbers.get(id(self), -1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MongoClient, "__init__", init)
        patch.setattr(MongoClient, "close", close)
        yield opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(TAKE_LONG))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a test was skipped."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith("pymongo_")
    ]


def _wait_until(condition: Callable[[], bool], deadline_s: float) -> None:
    end_s = time.monotonic() + deadline_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.01)
