"""Commits and their checksums: whatever is changed of one in a real MongoDB, its event is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bson
import pytest
from bson.errors import InvalidBSON
from pymongo.collection import Collection
from pymongo.database import Database

from tests.damage import changed, exact, with_new_checksums
from tests.domain.rehearsal import Rehearsal, observed, request
from ticketing.audit import audit
from ticketing.domain.fold import LedgerContradiction, fold
from ticketing.domain.model import EventState
from ticketing.storage.checksums import CHECKSUM, CODEC_OPTIONS, checked, sealed, with_checksum
from ticketing.storage.documents import commit_document, ledger_id
from ticketing.storage.ledger import Ledger, ledger_collection

from .fakes import FakeClock
from .ledger_suite import append_in_commits, history, read

Document = dict[str, Any]


@pytest.fixture
def collection(database: Database[Document]) -> Iterator[Collection[Document]]:
    """The collection of the ledgers."""
    yield ledger_collection(database)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(collection: Collection[Document], clock: FakeClock) -> Ledger:
    return Ledger(collection, clock)


@pytest.fixture
def play(ledger: Ledger, clock: FakeClock) -> Rehearsal:
    """Some of everything, in commits of one to four transitions."""
    play = history()
    append_in_commits(ledger, play.event_id, play.transitions, [4, 1, 2, 2], clock.monotonic() + 5)
    return play


def read_again(ledger: Ledger, clock: FakeClock, event_id: str) -> list[Any]:
    """The transitions of an event."""
    return read(ledger, event_id, 0, clock.monotonic() + 5)


def assert_read(ledger: Ledger, clock: FakeClock, play: Rehearsal) -> None:
    """Fail unless what is read leads to what was played."""
    again = fold(EventState(play.event_id), read_again(ledger, clock, play.event_id))
    assert observed(again) == observed(play.state)


def test_each_commit_has_one_and_is_read(ledger: Ledger, clock: FakeClock, play: Rehearsal) -> None:
    """Of four bytes, and it is that of what MongoDB keeps."""
    documents = list(ledger._collection.find())
    assert [len(document[CHECKSUM]) for document in documents] == [4] * 4
    assert [with_checksum(document)[CHECKSUM] for document in documents] == [each[CHECKSUM] for each in documents]
    assert_read(ledger, clock, play)


def test_it_is_written_as_the_driver_would_write_it() -> None:
    """The bytes that a commit is sealed in are those of the commit with its checksum."""
    for part in history().transitions:
        document = commit_document("concert", [part], b"n" * 16)
        assert sealed(document).raw == bson.encode(with_checksum(document))


def test_whichever_byte_is_changed(collection: Collection[Document], play: Rehearsal) -> None:
    """Of a commit: each of its fields, and the checksum. But for the name of the checksum: without
    one it is a commit of an earlier version."""
    batches: Any = collection.find_raw_batches({})
    found = b"".join(batches.sort("_id", 1))
    for document in bson.decode_all(found, CODEC_OPTIONS):
        raw = bson.encode(document)
        assert raw in found
        name = raw.index(CHECKSUM.encode())
        for place in set(range(len(raw))) - set(range(name, name + len(CHECKSUM))):
            damaged = bytearray(raw)
            damaged[place] ^= 1 << place % 8
            with pytest.raises(InvalidBSON):
                checked(bytes(damaged))
        assert checked(raw) == [document]
    assert len(checked(found)) == 4


@pytest.mark.parametrize(
    ("first", "path", "value"),
    [
        (1, "transitions.1.orders.0.user_id", "zoe"),
        (1, "transitions.1.at", history().transitions[5].at),
        (1, "transitions.0.event.name", "Opera"),
        (1, "transitions.0.event.total_tickets", 4),
        (5, "transitions.0.orders.0.quantity", 1.0),
        (8, "transitions.1.by", "ada"),
        (8, "transitions.0.request.fingerprint", b"f" * 16),
        (5, "event_id", "opera"),
        (5, "last", 90),
        (5, "nonce", b"n" * 16),
        (8, "after.booked", 2),
        (8, "seen", True),
    ],
)
def test_a_change_that_makes_sense(
    ledger: Ledger, clock: FakeClock, play: Rehearsal, first: int, path: str, value: Any
) -> None:
    """Another name, another time, another number of the same value, another event, one field more: the event is
    refused, and the audit says why."""
    assert ledger._collection.update_one({"first": first}, {"$set": {path: value}}).modified_count == 1
    with pytest.raises(LedgerContradiction, match="is not what was written"):
        read_again(ledger, clock, play.event_id)
    (report,) = audit(ledger._collection.database)
    assert any("does not agree with its checksum" in finding for finding in report.findings)


def test_the_control_the_same_change_with_a_new_checksum(
    ledger: Ledger, clock: FakeClock, play: Rehearsal
) -> None:
    """It is what makes the difference: neither the fold nor the audit has anything against another name."""
    place = {"_id": ledger_id(play.event_id, 1)}
    ledger._collection.update_one(place, {"$set": {"transitions.1.orders.0.user_id": "zoe"}})
    with_new_checksums(ledger._collection, play.event_id)
    again = read_again(ledger, clock, play.event_id)
    assert again[1].orders[0]["user_id"] == "zoe"
    (report,) = audit(ledger._collection.database)
    assert report.findings == []


@pytest.mark.parametrize("checksum", [None, 5, b"", b"12345", "text", {"a": 1}])
def test_a_checksum_that_is_none(
    ledger: Ledger, clock: FakeClock, play: Rehearsal, checksum: Any
) -> None:
    """Whatever stands there is no checksum, and the commit is refused."""
    ledger._collection.update_one({"first": 1}, {"$set": {CHECKSUM: checksum}})
    with pytest.raises(LedgerContradiction, match="is not what was written"):
        read_again(ledger, clock, play.event_id)
    (report,) = audit(ledger._collection.database)
    assert any("does not agree with its checksum" in finding for finding in report.findings)


def test_fields_in_another_order(ledger: Ledger, clock: FakeClock, play: Rehearsal) -> None:
    """Of the same values: who refuses the commit and who audits it agree."""
    collection = ledger._collection
    document = collection.find_one({"first": 1})
    assert document is not None
    collection.update_one({"first": 1}, {"$unset": {"transitions": ""}})
    collection.update_one({"first": 1}, {"$set": {"transitions": document["transitions"]}})
    with pytest.raises(LedgerContradiction, match="is not what was written"):
        read_again(ledger, clock, play.event_id)
    (report,) = audit(collection.database)
    assert any("does not agree with its checksum" in finding for finding in report.findings)


def test_a_commit_under_another_id(ledger: Ledger, clock: FakeClock, play: Rehearsal) -> None:
    """Its id belongs to it: a copy in another place is refused."""
    document = ledger._collection.find_one({"first": 5})
    assert document is not None
    ledger._collection.insert_one(document | {"_id": ledger_id(play.event_id, 90)})
    with pytest.raises(LedgerContradiction, match="0090' is not what was written"):
        read_again(ledger, clock, play.event_id)


def test_commits_without_one_are_read(
    ledger: Ledger, clock: FakeClock, collection: Collection[Document]
) -> None:
    """As earlier versions wrote them; and the audit has nothing against them."""
    play = history()
    collection.insert_many(commit_document(play.event_id, [part], b"n" * 16) for part in play.transitions)
    assert_read(ledger, clock, play)
    (report,) = audit(collection.database)
    assert report.findings == []


def test_a_long_ledger_is_checked_to_its_end(
    ledger: Ledger, clock: FakeClock, collection: Collection[Document]
) -> None:
    """Not in its first page alone."""
    play = Rehearsal(300)
    for number in range(200):
        play.book(f"user {number}", request=request(f"{number}"))
    append_in_commits(ledger, play.event_id, play.transitions, [1] * 201, clock.monotonic() + 5)
    assert_read(ledger, clock, play)
    changed(200, orders__0__user_id="zoe")(collection, play.event_id)
    with pytest.raises(LedgerContradiction, match="0200' is not what was written"):
        read_again(ledger, clock, play.event_id)


def test_what_is_put_back_is_read(ledger: Ledger, clock: FakeClock, play: Rehearsal) -> None:
    """The change is what was wrong: without it all is as before."""
    before = exact(ledger._collection)
    for user_id in ("zoe", "dan"):
        changed(5, orders__0__user_id=user_id)(ledger._collection, play.event_id)
    assert exact(ledger._collection) == before
    assert_read(ledger, clock, play)
