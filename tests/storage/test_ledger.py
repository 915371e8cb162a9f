"""The ledger on mongomock and on a real mongod."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import mongomock
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect
from pymongo.monitoring import CommandListener, CommandStartedEvent
from pymongo.read_preferences import ReadPreference

from tests.damage import garbled
from tests.domain.rehearsal import Rehearsal, request
from ticketing.clock import SystemClock
from ticketing.domain.fold import LedgerContradiction
from ticketing.domain.rows import transitions_in
from ticketing.errors import StorageUnavailable
from ticketing.storage import pages as pages_module
from ticketing.storage.client import connect
from ticketing.storage.documents import commit_document, ledger_id
from ticketing.storage.ledger import Ledger, ledger_collection

from .fakes import FakeClock, FaultyCollection
from .ledger_suite import LedgerSuite, append_in_commits, read
from .together import until

Document = dict[str, Any]


class TestLedgerOnMongomock(LedgerSuite):
    """The behaviour, where no server is at hand."""

    @pytest.fixture
    def collection(self) -> Collection[Document]:
        client: MongoClient[Document] = mongomock.MongoClient(tz_aware=True)
        return ledger_collection(client["ticketing"])


class TestLedgerOnMongod(LedgerSuite):
    """The same on the real thing."""

    @pytest.fixture
    def collection(self, mongod: str, database: Database[Document]) -> Iterator[Collection[Document]]:
        with connect(mongod) as client:
            yield ledger_collection(client[database.name])

    def test_bson_that_cannot_be_decoded_is_a_contradiction(
        self, ledger: Ledger, deadline: float, collection: Collection[Document]
    ) -> None:
        """A ledger that is damaged, not a storage that is away, nor a mistake of the service."""
        play = Rehearsal(1)
        append_in_commits(ledger, play.event_id, play.transitions, [1], deadline)
        garbled(1)(collection, play.event_id)
        with pytest.raises(LedgerContradiction, match="no commit after concert-2027:"):
            read(ledger, play.event_id, 0, deadline)


class Commands(CommandListener):
    """The commands that went to the server."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}
        self.names: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.sent[event.command_name] = dict(event.command)
        self.names.append(event.command_name)

    def succeeded(self, event: object) -> None:
        pass

    def failed(self, event: object) -> None:
        pass


def test_the_promised_concerns_reach_the_server(mongod: str, database: Database[Document]) -> None:
    """Durable writes and majority reads, from the primary, though the URI asks for less."""
    commands, clock = Commands(), FakeClock()
    careless = "&w=1&journal=false&readConcernLevel=local&readPreference=nearest"
    with MongoClient[Document](mongod + careless, event_listeners=[commands]) as client:
        collection = ledger_collection(client[database.name])
        assert collection.read_preference == ReadPreference.PRIMARY
        ledger = Ledger(collection, clock)
        play = Rehearsal(1)
        assert ledger.append(play.state, play.transitions, clock.monotonic() + 5)
        assert read(ledger, play.event_id, 0, clock.monotonic() + 5)
        assert ledger.events_with_keys([request("key").key], clock.monotonic() + 5) == {}
    written, found = commands.sent["insert"], commands.sent["find"]
    assert (written["writeConcern"]["w"], written["writeConcern"]["j"]) == ("majority", True)
    assert found["readConcern"]["level"] == "majority"


@pytest.mark.parametrize(
    ("page_size", "commits", "pages"),
    [
        (600, [1] * 1200, [50, 600, 550]),
        (600, [5] * 240, [250, 600, 350]),
        (600, [24] * 50, [1200, 0]),
        (60, [1] * 120 + [20] * 54, [50, 60, 1010, 60, 20]),
        (60, [20] * 51 + [1] * 180, [1000, 22, 8, 60, 60, 50]),
    ],
)
def test_a_page_is_bounded_and_takes_one_round_trip(
    mongod: str,
    database: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
    page_size: int,
    commits: list[int],
    pages: list[int],
) -> None:
    """About as many transitions as a page should have, by what the commits of the page before held."""
    monkeypatch.setattr(pages_module, "PAGE_SIZE", page_size)
    log, clock = Commands(), FakeClock()
    play = Rehearsal(2_000)
    for number in range(1, 1_200):
        play.book(f"user {number}")
    with MongoClient[Document](mongod, event_listeners=[log]) as client:
        collection = ledger_collection(client[database.name])
        ends = list(accumulate(commits))
        collection.insert_many(
            commit_document(play.event_id, play.transitions[end - size : end], bytes(16))
            for size, end in zip(commits, ends, strict=True)
        )
        log.names.clear()
        read_pages = Ledger(collection, clock).read(play.event_id, 0, clock.monotonic() + 5)
        assert [len(list(transitions_in(page))) for page in read_pages] == pages
        assert log.names == ["find"] * len(pages)


def test_commits_of_nothing_are_damage(database: Database[Document]) -> None:
    """None is written. Passed by, the last of a ledger would be in the way of the next one for ever."""
    collection, clock = ledger_collection(database), FakeClock()
    collection.insert_many({"_id": ledger_id("concert", number), "transitions": []} for number in range(1, 121))
    with pytest.raises(LedgerContradiction, match="no transitions"):
        read(Ledger(collection, clock), "concert", 0, clock.monotonic() + 5)


def long_ledger(collection: Collection[Document]) -> str:
    """100 commits of one transition each; its event's id."""
    play, clock = Rehearsal(100), FakeClock()
    for number in range(1, 100):
        play.book(f"user {number}")
    append_in_commits(Ledger(collection, clock), play.event_id, play.transitions, [1] * 100, clock.monotonic() + 5)
    return play.event_id


def test_the_next_page_comes_while_this_one_is_folded(
    mongod: str, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second on, for most readers want one. Who has enough gives up no connection by it."""
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 10)
    commands, clock = Commands(), SystemClock()
    with MongoClient[Document](mongod, event_listeners=[commands], maxPoolSize=1) as client:
        collection = ledger_collection(client[database.name])
        event_id = long_ledger(collection)
        commands.names.clear()
        reading = Ledger(collection, clock).read(event_id, 0, clock.monotonic() + 10)
        for pages, finds in ((1, 1), (2, 3), (3, 4)):
            assert len(next(reading)) == 10
            until(lambda finds=finds: len(commands.names) == finds)  # type: ignore[misc]
            assert len(commands.names) == finds, pages
        del reading
        assert len(read(Ledger(collection, clock), event_id, 95, clock.monotonic() + 10)) == 5


def test_an_error_of_the_next_page_is_tried_again(
    database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is left out and none comes twice."""
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 10)
    faulty, clock = FaultyCollection(ledger_collection(database)), SystemClock()
    event_id = long_ledger(faulty.collection)
    faulty.finds = [None, None, None, AutoReconnect("connection closed"), AutoReconnect("connection closed")]
    found = read(Ledger(faulty, clock), event_id, 0, clock.monotonic() + 10)  # type: ignore[arg-type]
    assert [transition.version for transition in found] == list(range(1, 101))
    assert faulty.finds == []


def test_what_is_wrong_with_the_next_page_is_told_by_it(
    database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages before it are given; the message says after which commit it stands."""
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 10)
    collection, clock = ledger_collection(database), SystemClock()
    event_id = long_ledger(collection)
    garbled(47)(collection, event_id)
    reading = Ledger(collection, clock).read(event_id, 0, clock.monotonic() + 10)
    assert [len(next(reading)) for _ in range(4)] == [10] * 4
    with pytest.raises(LedgerContradiction, match=f"no commit after {event_id}:000000000040"):
        next(reading)


def test_a_next_page_that_does_not_come_is_waited_for_until_the_deadline(
    database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the pages before it were given."""
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 10)
    faulty, clock = FaultyCollection(ledger_collection(database)), SystemClock()
    event_id = long_ledger(faulty.collection)
    faulty.finds = [None, None, None, *[AutoReconnect("connection closed")] * 1_000]
    reading = Ledger(faulty, clock).read(event_id, 0, clock.monotonic() + 1)  # type: ignore[arg-type]
    assert [len(next(reading)) for _ in range(3)] == [10] * 3
    with pytest.raises(StorageUnavailable):
        next(reading)
