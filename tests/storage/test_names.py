"""A name is replaced in what was written, on a real MongoDB: commit by commit, each with a new checksum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pymongo.collection import Collection
from pymongo.database import Database

from tests.damage import changed, exact
from tests.domain.rehearsal import Rehearsal, request
from ticketing.audit import audit
from ticketing.domain.commands import Pseudonymize
from ticketing.errors import LedgerDamaged
from ticketing.storage import names as names_module
from ticketing.storage.checksums import CHECKSUM
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger, ledger_collection
from ticketing.storage.names import Names

from .fakes import FakeClock
from .ledger_suite import append_in_commits

Document = dict[str, Any]
EVENT_ID = "concert"
GONE, ALSO_GONE = "erased:1", "erased:2"


def played() -> Rehearsal:
    """Ada (version 2) and ben book, ada cancels and books again, and both are erased (7 and 8). Who has ada's name then
    books in the same commit (9)."""
    play = Rehearsal(2, EVENT_ID)
    play.book("ada")
    play.book("ben")
    play.cancel("ada")
    play.book("ada", request=request("again"))
    play.book("cyd")
    for user_id, pseudonym in (("ada", GONE), ("ben", ALSO_GONE)):
        play.play(Pseudonymize(event_id=EVENT_ID, by="admin", user_id=user_id, pseudonym=pseudonym))
    play.book("ada")
    return play


@pytest.fixture
def collection(database: Database[Document]) -> Collection[Document]:
    """The ledger, in commits of three transitions."""
    clock = FakeClock()
    collection = ledger_collection(database)
    append_in_commits(Ledger(collection, clock), EVENT_ID, played().transitions, [3, 3, 3], clock.monotonic() + 5)
    return collection


def replace(collection: Any, user_id: str, pseudonym: str, version: int) -> None:
    """Put a pseudonym in the place of a name."""
    clock = FakeClock()
    Names(collection, clock).replace(EVENT_ID, version, user_id, pseudonym, clock.monotonic() + 5)


def users(collection: Collection[Document]) -> list[str]:
    """Of all new orders, in their order."""
    parts = [part for document in collection.find().sort("_id", 1) for part in document["transitions"]]
    return [part["orders"][0]["user_id"] for part in parts if part["type"] in ("booked", "waitlisted")]


def assert_sound(collection: Collection[Document]) -> None:
    """Fail where the audit finds something, or a commit has no checksum for it to look at."""
    (report,) = audit(collection.database)
    assert report.findings == []
    assert collection.count_documents({CHECKSUM: {"$exists": True}}) == collection.count_documents({})


def test_events_naming(collection: Collection[Document]) -> None:
    """By the ids of the commits: one that says another event is damage of its own event. What is no commit is found,
    too, by an id that is of no event."""
    collection.update_one({"first": 1}, {"$set": {"event_id": "nowhere"}})
    opera = Rehearsal(2, "opera")
    opera.book("ada")
    collection.insert_one(commit_document("opera", opera.transitions, b"n" * 16))
    for stray in (7, "stray", {"no": "text"}, None):
        collection.insert_one({"_id": stray, "transitions": [{"by": "ada"}]})
    names, deadline = Names(collection, FakeClock()), FakeClock().monotonic() + 5
    assert names.events_naming("ada", deadline) == ["", "7", EVENT_ID, "opera", "stray"]
    assert names.events_naming("zoe", deadline) == []


@pytest.mark.parametrize("page_commits", [1, 2, 200])
def test_a_name_is_replaced_up_to_a_version(
    collection: Collection[Document], monkeypatch: pytest.MonkeyPatch, page_commits: int
) -> None:
    """However many commits are changed at once; what comes later in the same commit is somebody else's."""
    monkeypatch.setattr(names_module, "PAGE_COMMITS", page_commits)
    replace(collection, "ada", GONE, 7)
    assert users(collection) == [GONE, "ben", GONE, "cyd", "ada"]
    assert_sound(collection)
    again = exact(collection)
    replace(collection, "ada", GONE, 7)
    assert exact(collection) == again


def test_another_event_keeps_the_name(collection: Collection[Document]) -> None:
    """Also one whose id begins alike."""
    others = [Rehearsal(2, event_id) for event_id in ("concert-1", "Concert", "c")]
    for play in others:
        play.book("ada")
        collection.insert_one(commit_document(play.event_id, play.transitions, b"n" * 16))
    replace(collection, "ada", GONE, 7)
    found = list(collection.find({"event_id": {"$ne": EVENT_ID}}))
    assert [each["transitions"][1]["orders"][0]["user_id"] for each in found] == ["ada"] * len(others)


class Meanwhile:
    """The ledger, to which something happens between a reading and the writing after it."""

    def __init__(self, collection: Collection[Document], what: Callable[[], object]) -> None:
        self._collection = collection
        self._what: list[Callable[[], object]] = [what]

    def find_raw_batches(self, *args: Any) -> Any:
        return self._collection.find_raw_batches(*args)

    def bulk_write(self, *args: Any, **options: Any) -> Any:
        if self._what:
            self._what.pop()()
        return self._collection.bulk_write(*args, **options)


def test_two_are_erased_at_once(collection: Collection[Document]) -> None:
    """From the same commits: neither comes back with what the other one had read before."""
    replace(Meanwhile(collection, lambda: replace(collection, "ben", ALSO_GONE, 8)), "ada", GONE, 7)
    assert users(collection) == [GONE, ALSO_GONE, GONE, "cyd", "ada"]
    assert_sound(collection)


def test_commits_without_a_checksum_get_one(collection: Collection[Document]) -> None:
    """And nobody comes back to those of earlier versions either."""
    collection.update_many({}, {"$unset": {CHECKSUM: ""}})
    replace(Meanwhile(collection, lambda: replace(collection, "ben", ALSO_GONE, 8)), "ada", GONE, 7)
    assert users(collection) == [GONE, ALSO_GONE, GONE, "cyd", "ada"]
    assert_sound(collection)


@pytest.mark.parametrize("has_checksums", [True, False])
def test_a_damaged_commit_is_left_as_it_is(collection: Collection[Document], has_checksums: bool) -> None:
    """A new checksum would say that it is sound."""
    if not has_checksums:
        collection.update_many({}, {"$unset": {CHECKSUM: ""}})
    changed(4, orders=5 if not has_checksums else [{"order_id": "concert.x", "status": "cancelled"}])(
        collection, EVENT_ID
    )
    before = exact(collection)[1]
    with pytest.raises(LedgerDamaged):
        replace(collection, "ada", GONE, 7)
    assert exact(collection)[1] == before
