"""Documents that several threads insert at once go in one command, and each is told what became of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from bson.errors import InvalidBSON, InvalidDocument
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, NetworkTimeout, PyMongoError

from ticketing.clock import SystemClock
from ticketing.storage.inserts import SharedInserts
from ticketing.storage.sharing import Share

from .together import FirstWaits, GatheringClock, at_once

Document = dict[str, Any]
COUNT = 8


class Watched(FirstWaits):
    """A collection that counts commands, lets the first one wait, and may fail after or instead of the insert."""

    def __init__(self, collection: Collection[Document]) -> None:
        super().__init__()
        self.collection = collection
        self.failure: Callable[[], None] = lambda: None

    def insert_one(self, document: Document) -> None:
        """The first one of a test."""
        self.pass_with(1)
        self.collection.insert_one(document)

    def insert_many(self, documents: list[Document], ordered: bool) -> None:
        """The others."""
        self.pass_with(len(documents))
        self.collection.insert_many(documents, ordered=ordered)
        self.failure()


@pytest.fixture
def watched(database: Database[Document]) -> Iterator[Watched]:
    """A collection on the real mongod."""
    yield Watched(database["things"])


def insert_all(watched: Watched, documents: list[Document], wait_s: float = 10.0) -> list[Exception | None]:
    """Insert them, each by a thread of its own: the first alone, and while it is under way all others."""
    clock = GatheringClock()
    inserts = SharedInserts(watched, clock)  # type: ignore[arg-type]
    deadline = clock.monotonic() + wait_s
    calls = [partial(inserts.insert_one, each, deadline) for each in documents]
    return at_once(calls, inserts._sharing, clock, watched)


def documents() -> list[Document]:
    """One for each thread."""
    return [{"_id": number} for number in range(COUNT)]


def stored(watched: Watched) -> list[int]:
    """The ids in the collection."""
    return sorted(document["_id"] for document in watched.collection.find())


def test_all_who_come_meanwhile_share_a_command(watched: Watched) -> None:
    """The first goes alone, at once; the others go together."""
    assert insert_all(watched, documents()) == [None] * COUNT
    assert watched.sizes == [1, COUNT - 1]
    assert stored(watched) == list(range(COUNT))


@pytest.mark.parametrize("taken", [1, 4, COUNT - 1])
def test_a_place_that_is_taken_is_told_to_its_own_thread(watched: Watched, taken: int) -> None:
    """And all others are in: in order, those after it would not be."""
    watched.collection.insert_one({"_id": taken, "mine": False})
    errors = insert_all(watched, documents())
    assert [type(error) for error in errors if error is not None] == [DuplicateKeyError]
    assert isinstance(errors[taken], DuplicateKeyError)
    assert stored(watched) == list(range(COUNT))


def test_a_lost_answer_is_unknown_to_all_of_them(watched: Watched) -> None:
    """Each may be in: that is what is raised, and never that a place is taken."""

    def lose() -> None:
        raise AutoReconnect("connection closed")

    watched.failure = lose
    errors = insert_all(watched, documents())
    assert errors[0] is None
    assert [type(error) for error in errors[1:]] == [AutoReconnect] * (COUNT - 1)


def test_without_a_majority_nothing_is_known_but_what_is_taken(watched: Watched) -> None:
    """A write concern that is not met is an error of all, whoever's place was taken keeps his own."""

    def not_durable() -> None:
        taken = {"index": 2, "code": 11000, "errmsg": "duplicate key"}
        concern = {"code": 64, "errmsg": "waiting for replication timed out"}
        raise BulkWriteError({"writeErrors": [taken], "writeConcernErrors": [concern], "nInserted": 6})

    watched.failure = not_durable
    errors = insert_all(watched, documents())
    assert [type(error) for error in errors[1:]].count(BulkWriteError) == COUNT - 2
    assert isinstance(errors[3], DuplicateKeyError)
    assert all(isinstance(error, PyMongoError) for error in errors[1:])


def test_whoever_leads_and_ends_leaves_nobody_waiting(watched: Watched) -> None:
    """A worker that is stopped in the middle: the others are told that nothing is known."""

    class Stopped(BaseException):
        pass

    def stop() -> None:
        raise Stopped

    watched.failure = stop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda arguments: None)
        errors = insert_all(watched, documents())
    assert errors[1] is None  # the leader, whose thread has ended with Stopped
    assert [type(error) for error in errors[2:]] == [NetworkTimeout] * (COUNT - 2)


def test_a_document_that_cannot_be_sent_keeps_back_nobody_elses(watched: Watched) -> None:
    """Its own thread is told."""
    wrong = [*documents()[:4], {"_id": 4, "what": object()}, *documents()[5:]]
    errors = insert_all(watched, wrong)
    assert [type(error) for error in errors if error is not None] == [InvalidDocument]
    assert stored(watched) == [number for number in range(COUNT) if number != 4]


def test_an_error_that_may_come_after_the_insert_does_not_insert_again(watched: Watched) -> None:
    """A second try would meet its own document, and take it for somebody else's."""

    def garble() -> None:
        raise InvalidBSON("the answer")

    watched.failure = garble
    errors = insert_all(watched, documents())
    assert [type(error) for error in errors] == [type(None), InvalidBSON, *[NetworkTimeout] * (COUNT - 2)]
    assert watched.sizes == [1, COUNT - 1]


def test_documents_that_were_never_tried_are_unknown(watched: Watched) -> None:
    """A server that stops in the middle of a command has said nothing of the rest."""

    def stop_early() -> None:
        taken = {"index": 0, "code": 11000, "errmsg": "duplicate key"}
        raise BulkWriteError({"writeErrors": [taken], "writeConcernErrors": [], "nInserted": 3})

    watched.failure = stop_early
    errors = insert_all(watched, documents())
    assert [type(error) for error in errors[1:]].count(BulkWriteError) == COUNT - 2


def test_who_has_little_time_sends_for_himself(watched: Watched) -> None:
    """His time would be that of all."""
    watched.let_go()
    clock = SystemClock()
    inserts = SharedInserts(watched, clock)  # type: ignore[arg-type]
    inserts._sharing._waiting.append(Share({"_id": 1}, clock.signal()))
    inserts.insert_one({"_id": 2}, clock.monotonic() + 0.1)
    assert (watched.sizes, stored(watched), len(inserts._sharing._waiting)) == ([1], [2], 1)
