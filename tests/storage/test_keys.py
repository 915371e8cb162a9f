"""Who looks for Idempotency-Keys at the same time shares a command, and each is told of his own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from bson import DatetimeMS, ObjectId
from bson.errors import InvalidBSON
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from tests.domain.rehearsal import Rehearsal
from ticketing.domain.model import RequestKey
from ticketing.storage.documents import commit_document
from ticketing.storage.keys import KnownKeys
from ticketing.storage.ledger import ledger_collection

from .together import FirstWaits, GatheringClock, at_once

Document = dict[str, Any]

EVENT_IDS = ["concert", "concert-1", "opera"]
ANOTHER, UNKNOWN = b"another" * 2, b"unknown" * 2


def key_of(event_id: str) -> bytes:
    return event_id.encode().ljust(16, b".")


class Watched(FirstWaits):
    """A ledger that counts how many keys each command is about, lets the first one wait, and may fail."""

    def __init__(self, collection: Collection[Document]) -> None:
        super().__init__()
        self.collection = collection
        self.failure: Exception | None = None
        self.undecodable: bytes | None = None

    def with_options(self, **options: Any) -> Watched:
        self.collection = self.collection.with_options(**options)
        return self

    def find(self, query: Document, fields: Document) -> Any:
        keys = query["transitions.request.key"]["$in"]
        self.pass_with(len(keys))
        if self.failure and len(keys) > 1:
            raise self.failure
        if self.undecodable in keys:
            raise InvalidBSON("broken")
        return self.collection.find(query, fields)


@pytest.fixture
def watched(database: Database[Document]) -> Iterator[Watched]:
    """The ledger of three events on the real mongod, in each of which a key of its own was used."""
    collection = ledger_collection(database)
    for event_id in EVENT_IDS:
        play = Rehearsal(100, event_id=event_id)
        play.book("ada", request=RequestKey(key_of(event_id), b"f" * 16))
        collection.insert_many(commit_document(event_id, [part], b"n" * 16) for part in play.transitions)
    yield Watched(collection)


def look_for(watched: Watched, *wanted: set[bytes]) -> list[Any]:
    """What each is told who looks for these keys: all at once, after one who looks for another one."""
    clock = GatheringClock()
    known = KnownKeys(watched, clock)  # type: ignore[arg-type]
    deadline = clock.monotonic() + 10
    calls = [partial(known.events_with, frozenset(keys), deadline) for keys in ({ANOTHER}, *wanted)]
    first, *others = at_once(calls, known._sharing, clock, watched)
    assert first == {}
    return others


def test_all_who_come_meanwhile_share_a_command(watched: Watched) -> None:
    """Each is told where his own keys were used, and nothing of those of others."""
    concert, opera = key_of("concert"), key_of("opera")
    told = look_for(watched, {concert, UNKNOWN}, {opera}, {concert, opera}, {UNKNOWN})
    assert told == [{concert: {"concert"}}, {opera: {"opera"}}, {concert: {"concert"}, opera: {"opera"}}, {}]
    assert watched.sizes == [1, 3]


def test_a_commit_that_cannot_be_decoded_is_the_error_of_who_asked_for_it(watched: Watched) -> None:
    """The others are told."""
    watched.undecodable = key_of("concert-1")
    broken, told = look_for(watched, {key_of("concert-1")}, {key_of("opera")})
    assert isinstance(broken, InvalidBSON)
    assert told == {key_of("opera"): {"opera"}}


@pytest.mark.parametrize("stray", [ObjectId(), 5, b"bytes", DatetimeMS(10**16), {"event": "concert"}])
def test_a_key_in_what_is_no_commit_was_used_elsewhere(watched: Watched, stray: Any) -> None:
    """In no event that somebody asks for."""
    watched.collection.insert_one({"_id": stray, "transitions": {"request": {"key": key_of("stray")}}})
    [told] = look_for(watched, {key_of("opera"), key_of("stray")})
    assert told.pop(key_of("opera")) == {"opera"}
    assert not told[key_of("stray")] & set(EVENT_IDS)


def test_a_lost_answer_is_the_error_of_all_who_shared_it(watched: Watched) -> None:
    """Each tries again for himself."""
    watched.failure = AutoReconnect("connection closed")
    told = look_for(watched, {key_of("concert")}, {key_of("opera")})
    assert [type(each) for each in told] == [AutoReconnect, AutoReconnect]
