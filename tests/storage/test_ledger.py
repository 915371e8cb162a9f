"""The ledger on mongomock and on a real mongod."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import mongomock
import pytest
from pymongo import CursorType, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect
from pymongo.monitoring import CommandListener, CommandStartedEvent
from pymongo.read_preferences import ReadPreference

from tests.damage import garbled
from tests.domain.rehearsal import Rehearsal, request
from ticketing.domain.fold import LedgerContradiction
from ticketing.storage import pages as pages_module
from ticketing.storage.client import connect
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger, ledger_collection

from .fakes import FakeClock
from .ledger_suite import LedgerSuite, append_in_commits, read

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
        with pytest.raises(LedgerContradiction, match="no commit after concert-2027:000000000000"):
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


@pytest.mark.parametrize(("commit", "pages"), [(1, [50, 600, 550]), (5, [250, 600, 350]), (24, [1200, 0])])
def test_a_page_is_bounded_and_takes_one_round_trip(
    mongod: str,
    database: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
    commit: int,
    pages: list[int],
) -> None:
    """After the first page about as many transitions as a page should have, however many a commit holds."""
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 600)
    commands, clock = Commands(), FakeClock()
    play = Rehearsal(2_000)
    for number in range(1, 1_200):
        play.book(f"user {number}")
    with MongoClient[Document](mongod, event_listeners=[commands]) as client:
        collection = ledger_collection(client[database.name])
        collection.insert_many(
            commit_document(play.event_id, play.transitions[first : first + commit], bytes(16))
            for first in range(0, 1_200, commit)
        )
        commands.names.clear()
        read_pages = Ledger(collection, clock).read(play.event_id, 0, clock.monotonic() + 5)
        assert [len(page) for page in read_pages] == pages
        assert commands.names == ["find"] * len(pages)


def cut(stream: Any) -> None:
    """What a cut of the network does to a stream."""
    stream.close()
    raise AutoReconnect("connection closed")


def test_a_stream_that_breaks_off_goes_on_where_it_was(
    mongod: str, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long ledger is asked for in two pages and comes by itself from the third on; after an error in another stream.
    None is left out and none comes twice. A reader that has enough lets the stream go."""
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 10)
    commands, clock, streams = Commands(), FakeClock(), []
    play = Rehearsal(100)
    for number in range(1, 100):
        play.book(f"user {number}")
    with MongoClient[Document](mongod, event_listeners=[commands], maxPoolSize=1) as client:
        collection = ledger_collection(client[database.name])
        append_in_commits(Ledger(collection, clock), play.event_id, play.transitions, [1] * 100, clock.monotonic() + 5)
        real_find = collection.find

        def find(*args: Any, **options: Any) -> Any:
            cursor = real_find(*args, **options)
            if options.get("cursor_type") == CursorType.EXHAUST:
                streams.append(cursor)
            return cursor

        monkeypatch.setattr(collection, "find", find)
        commands.names.clear()
        pages = []
        for page in Ledger(collection, clock).read(play.event_id, 0, clock.monotonic() + 5):
            pages.append([part.version for part in page])
            if len(pages) == 5:
                monkeypatch.setattr(streams[0], "_refresh", partial(cut, streams[0]))
        assert sum(pages, []) == list(range(1, 101))
        assert commands.names[:7] == ["find", "find", "find", "getMore", "getMore", "find", "getMore"]
        reading = Ledger(collection, clock).read(play.event_id, 0, clock.monotonic() + 5)
        assert len([next(reading) for _ in range(4)]) == 4
        del reading
        # The one connection that there may be is free again.
        assert len(read(Ledger(collection, clock), play.event_id, 90, clock.monotonic() + 5)) == 10
    assert len(streams) == 3
