"""Readers of several events share a command, and each gets the commits of its own event."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from bson.errors import InvalidBSON
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from tests.damage import Damage, changed, garbled
from tests.domain.rehearsal import Rehearsal, observed
from ticketing.domain.fold import fold
from ticketing.domain.model import EventState
from ticketing.domain.tickets import TicketType
from ticketing.storage import pages as pages_module
from ticketing.storage.checksums import with_checksum
from ticketing.storage.documents import commit_document, ledger_id, transitions_of
from ticketing.storage.ledger import ledger_collection
from ticketing.storage.pages import FirstPages, Range

from .together import FirstWaits, GatheringClock, at_once

Document = dict[str, Any]

# Ids that begin alike: each is an event of its own.
EVENT_IDS = ["concert", "concert-1", "concert-10", "concert_1", "Concert", "c"]


class Watched(FirstWaits):
    """A ledger that counts how many share each command, lets the first one wait, and may fail where several do."""

    def __init__(self, collection: Collection[Document]) -> None:
        super().__init__()
        self.collection = collection
        self.failure: Exception | None = None

    def find_raw_batches(self, query: Document) -> Any:
        """The commits that match."""
        self.pass_with(len(query.get("$or", ["one"])))
        if "$or" in query and self.failure:
            raise self.failure
        return self.collection.find_raw_batches(query)


@pytest.fixture
def watched(database: Database[Document]) -> Iterator[Watched]:
    """The ledger of six events on the real mongod; event n has n + 3 commits."""
    collection = ledger_collection(database)
    for number, event_id in enumerate(EVENT_IDS):
        play = Rehearsal(100, event_id=event_id)
        for user in range(number + 2):
            play.book(f"user {user}")
        collection.insert_many(
            with_checksum(commit_document(event_id, [part], b"n" * 16)) for part in play.transitions
        )
    yield Watched(collection)


def read_all(watched: Watched, after: int = 2) -> list[Any]:
    """What is new after a version, or the error, for each of the events, and before them for one that is not there."""
    clock = GatheringClock()
    pages = FirstPages(watched, clock)  # type: ignore[arg-type]
    ranges = [Range.of("nothing", 0), *(Range.of(event_id, after) for event_id in EVENT_IDS)]
    deadline = clock.monotonic() + 10
    calls = [partial(pages.read, each, deadline) for each in ranges]
    first, *others = at_once(calls, pages._sharing, clock, watched)
    assert first == []
    return [_ids(each) if isinstance(each, list) else each for each in others]


def _ids(page: list[Document]) -> list[str]:
    return [document["_id"] for document in page]


def news(after: int = 2) -> list[list[str]]:
    """The ids that `read_all` should find."""
    last = [number + 3 for number in range(len(EVENT_IDS))]
    return [
        [ledger_id(event_id, version) for version in range(after + 1, last[number] + 1)]
        for number, event_id in enumerate(EVENT_IDS)
    ]


def test_all_who_come_meanwhile_share_a_command(watched: Watched) -> None:
    """Each is given its own commits, in order."""
    assert read_all(watched) == news()
    assert watched.sizes == [1, len(EVENT_IDS)]


def test_nothing_new_is_an_answer_too(watched: Watched) -> None:
    """And needs no other command."""
    assert read_all(watched, after=8) == [[]] * len(EVENT_IDS)
    assert watched.sizes == [1, len(EVENT_IDS)]


@pytest.mark.parametrize(("size", "commands"), [(22, 2), (21, 8)])
def test_what_one_page_does_not_hold_is_read_one_by_one(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, size: int, commands: int
) -> None:
    """A full page may have left out somebody's commits: 21 are new."""
    monkeypatch.setattr(pages_module, "FIRST_PAGE_COMMITS", size)
    assert read_all(watched) == news()
    assert len(watched.sizes) == commands


def test_two_readers_of_one_event_have_documents_of_their_own(database: Database[Document]) -> None:
    """To decode one changes it: the second would find prices that are no texts."""
    collection = ledger_collection(database)
    play = Rehearsal(ticket_types=(TicketType("seat", "A seat", 100, Decimal("25.00"), "EUR"),))
    for user in range(5):
        play.book(f"user {user}")
    collection.insert_many(commit_document(play.event_id, [part], b"n" * 16) for part in play.transitions)
    watched, clock = Watched(collection), GatheringClock()
    pages = FirstPages(watched, clock)  # type: ignore[arg-type]
    deadline = clock.monotonic() + 10
    calls = [partial(pages.read, Range.of(play.event_id, after), deadline) for after in (0, 1, 2, 1)]
    for after, found in zip((0, 1, 2, 1), at_once(calls, pages._sharing, clock, watched), strict=True):
        transitions = [part for document in found for part in transitions_of(document["transitions"])]
        before = fold(EventState(play.event_id), play.transitions[:after])
        assert observed(fold(before, transitions)) == observed(play.state)
    assert watched.sizes == [1, 3, 1, 1]


@pytest.mark.parametrize("damage", [garbled(4), changed(4, orders__0__user_id="zoe")])
def test_a_commit_that_is_not_what_was_written_is_the_error_of_its_own_reader(
    watched: Watched, damage: Damage
) -> None:
    """All others are served."""
    damage(watched.collection, EVENT_IDS[3])
    pages = read_all(watched)
    assert isinstance(pages[3], InvalidBSON)
    assert pages[:3] + pages[4:] == news()[:3] + news()[4:]


def test_a_lost_answer_is_the_error_of_all_who_shared_it(watched: Watched) -> None:
    """Each reader tries again for itself."""
    watched.failure = AutoReconnect("connection closed")
    assert [type(page) for page in read_all(watched)] == [AutoReconnect] * len(EVENT_IDS)
    assert watched.sizes == [1, len(EVENT_IDS)]
