"""Segments on a real MongoDB: they say what the ledger says, or do not count."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any

import bson
import pytest
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from tests.damage import changed, exact, removed, with_new_checksums
from tests.domain.rehearsal import Rehearsal, observed, request
from ticketing.audit import audit
from ticketing.domain.commands import Pseudonymize
from ticketing.domain.fold import LedgerContradiction, fold
from ticketing.domain.model import EventState, OrderChange, OrderStatus, Transition
from ticketing.domain.rows import Row, transitions_in, versions_of
from ticketing.domain.tickets import TicketType
from ticketing.errors import LedgerDamaged, StorageUnavailable
from ticketing.manager import DAMAGE_REMEMBERED_S, TicketManager
from ticketing.storage.checksums import CHECKSUM, CODEC_OPTIONS, with_checksum
from ticketing.storage.columns import part_documents, parts_of
from ticketing.storage.documents import commit_document, ledger_id, transition_document
from ticketing.storage.ledger import Ledger, ledger_collection
from ticketing.storage.names import Names
from ticketing.storage.pages import read_page
from ticketing.storage.rows import rows_of
from ticketing.storage.segments import FORMAT, Segments, segment_collection

from .fakes import FakeClock
from .ledger_suite import append_in_commits

Document = dict[str, Any]
EVENT_ID = "concert"
GONE = "erased:1"
TYPES = (TicketType("seat", "Seat", 40, Decimal("12.50"), "EUR"), TicketType("box", "Box", 5, Decimal("99.90"), "EUR"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def collection(database: Database[Document]) -> Collection[Document]:
    """The ledger."""
    return ledger_collection(database)


@pytest.fixture
def segments(database: Database[Document], collection: Collection[Document], clock: FakeClock) -> Segments:
    return Segments(segment_collection(database), collection, clock)


@pytest.fixture
def ledger(collection: Collection[Document], clock: FakeClock, segments: Segments) -> Ledger:
    """One that reads from segments."""
    return Ledger(collection, clock, segments=segments)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few transitions are a long ledger."""
    monkeypatch.setattr("ticketing.storage.segments.SEGMENT_SIZE", 20)  # ten bookings
    monkeypatch.setattr("ticketing.storage.segments.EVENT_SIZE", 1)
    monkeypatch.setattr("ticketing.storage.segments.PAGE_SIZE", 6)
    monkeypatch.setattr("ticketing.storage.pages.FIRST_PAGE_COMMITS", 2)
    monkeypatch.setattr("ticketing.storage.rows.ROW_MIN", 3)


@pytest.fixture
def play(ledger: Ledger, clock: FakeClock) -> Rehearsal:
    """100 bookings, each a commit, of which 30 wait."""
    play = Rehearsal(70, EVENT_ID)
    for number in range(100):
        play.book(f"user {number}")
    append_in_commits(ledger, EVENT_ID, play.transitions, [1] * 101, clock.monotonic() + 5)
    return play


def long_history(chance: random.Random) -> Rehearsal:
    """Bookings in rows, some with keys, prices or credentials, and between them some of everything else."""
    play = Rehearsal(45, EVENT_ID, ticket_types=TYPES) if chance.random() < 0.5 else Rehearsal(45, EVENT_ID)
    code = TYPES[0].code if play.state.event and len(play.state.event.ticket_types) == 2 else None
    for stretch in range(8):
        is_keyed, by = chance.random() < 0.5, chance.choice([None, "staff"])
        for number in range(chance.randint(1, 12)):
            key = request(f"{stretch} {number}") if is_keyed else None
            command = play.booking(f"user {stretch} {number}", chance.choice([1, 1, 2]), code, request=key)
            play.play(replace(command, by=by))
        order = chance.choice([each for each in play.state.orders_by_arrival() if each.is_active])
        what = chance.randrange(5)
        if what == 0:
            play.cancel(order_id=order.order_id, request=request(f"cancel {stretch}"))
        elif what == 1:
            play.book_many((f"one {stretch}", 1, code), (order.user_id, 1, code), request=request(f"many {stretch}"))
        elif what == 2:
            play.book(order.user_id, 1, code, request=request(f"refused {stretch}"))
        elif what == 3:
            play.play(Pseudonymize(event_id=EVENT_ID, by="admin", user_id=order.user_id, pseudonym=f"erased:{stretch}"))
        elif order.status is OrderStatus.CONFIRMED:
            play.transfer(order.order_id, f"friend {stretch}", request=request(f"transfer {stretch}"))
    return play


def in_pages(ledger: Ledger, clock: FakeClock, after: int = 0) -> list[list[Transition | Row]]:
    """What a ledger gives to a reader."""
    return [list(page) for page in ledger.read(EVENT_ID, after, clock.monotonic() + 5)]


def read(ledger: Ledger, clock: FakeClock, after: int = 0) -> list[Transition]:
    """The same, one by one."""
    return [each for page in in_pages(ledger, clock, after) for each in transitions_in(page)]


def said(transitions: Iterable[Transition]) -> list[Document]:
    """What a ledger says of them: two refusals alike are not equal."""
    return [transition_document(each) for each in transitions]


def extend(segments: Segments, clock: FakeClock, event_id: str = EVENT_ID) -> int:
    """Write all that there are to be. How many there are then."""
    while segments.extend(event_id, clock.monotonic() + 5):
        pass
    return segments._collection.count_documents({"event_id": event_id})


class TestTheyAreRead:
    @pytest.mark.parametrize("seed", range(8))
    def test_they_say_what_the_ledger_says(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document], seed: int
    ) -> None:
        """Whatever happened, from the end of each commit on."""
        chance = random.Random(seed)
        play = long_history(chance)
        sizes: list[int] = []
        while sum(sizes) < len(play.transitions):
            sizes.append(min(chance.choice([1, 2, 12]), len(play.transitions) - sum(sizes)))
        append_in_commits(ledger, EVENT_ID, play.transitions, sizes, clock.monotonic() + 5)
        assert extend(segments, clock) >= 2
        plain = Ledger(collection, clock)
        for after in accumulate(sizes, initial=0):
            found = said(read(ledger, clock, after))
            assert found == said(play.transitions[after:]) == said(read(plain, clock, after))
        again = fold(EventState(EVENT_ID), [part for page in in_pages(ledger, clock) for part in page])
        assert observed(again) == observed(play.state)
        assert segments._collection.count_documents({}) >= 2  # none was found wrong

    @pytest.mark.usefixtures("play")
    def test_they_take_the_place_of_the_commits(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """Bookings in a row come as such; what is in no segment comes from the ledger."""
        before = in_pages(ledger, clock)
        assert [len(list(transitions_in(page))) for page in before] == [2, 99]
        assert extend(segments, clock) == 10
        pages = in_pages(ledger, clock)
        assert [len(list(transitions_in(page))) for page in pages] == [2, 8, *[10] * 9, 1]
        assert {len(part) for page in pages[2:6] for part in page if isinstance(part, Row)} == {10}
        # A commit whose name for itself is right is not looked into.
        changed(50, type="cancelled")(collection, EVENT_ID)
        assert in_pages(ledger, clock) == pages
        with pytest.raises(LedgerContradiction):
            read(Ledger(collection, clock), clock)

    @pytest.mark.usefixtures("play")
    def test_who_has_little_to_read_does_not_ask(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Most readers want one page."""
        extend(segments, clock)
        monkeypatch.setattr(Segments, "after", None)
        assert [each.version for each in read(ledger, clock, 100)] == [101]

    def test_other_events_are_others(self, segments: Segments, ledger: Ledger, clock: FakeClock) -> None:
        """Also those whose ids begin alike."""
        plays = [Rehearsal(1, event_id) for event_id in ("concert", "concert-1", "Concert", "c")]
        for play in plays:
            for number in range(20):
                play.book(f"{play.event_id} {number}")
            append_in_commits(ledger, play.event_id, play.transitions, [1] * 21, clock.monotonic() + 5)
        assert [extend(segments, clock, play.event_id) for play in plays] == [2] * 4
        for play in plays:
            found = [each for page in ledger.read(play.event_id, 0, 2000.0) for each in transitions_in(page)]
            assert found == play.transitions
        segments.remove("concert", 2000.0)
        assert segments._collection.distinct("event_id") == ["Concert", "c", "concert-1"]

    @pytest.mark.usefixtures("play")
    def test_a_ledger_that_goes_on_gets_more_of_them(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, play: Rehearsal
    ) -> None:
        """From where they end."""
        assert (extend(segments, clock), extend(segments, clock)) == (10, 10)
        state = play.state
        for number in range(9):
            play.book(f"late {number}")
            assert ledger.append(play.state, play.transitions[-1:], clock.monotonic() + 5)
        assert state.version == 101
        assert extend(segments, clock) == 11
        assert read(ledger, clock) == play.transitions


def between_two(collection: Collection[Document], _: str) -> None:
    """A commit once more, between two others."""
    document = collection.find_one({"_id": ledger_id(EVENT_ID, 45)})
    assert document is not None
    collection.insert_one({**document, "_id": f"{ledger_id(EVENT_ID, 45)}x"})


def said_to_be_right(collection: Collection[Document], event_id: str) -> None:
    """A name is another, and so is the checksum."""
    changed(50, orders__0__user_id="somebody")(collection, event_id)
    with_new_checksums(collection, event_id)


def without_checksum(collection: Collection[Document], _: str) -> None:
    """It was written by an earlier version."""
    collection.update_one({"_id": ledger_id(EVENT_ID, 50)}, {"$unset": {CHECKSUM: True}})


def read_or_refused(ledger: Ledger, clock: FakeClock) -> list[Transition] | None:
    """What a reader makes of it: transitions that a fold takes, or a refusal."""
    try:
        found = read(ledger, clock)
        fold(EventState(EVENT_ID), found)
    except LedgerContradiction:
        return None
    return found


def out_of_turn(collection: Collection[Document], event_id: str) -> None:
    """A version is another, and so is the checksum."""
    changed(50, version=55)(collection, event_id)
    with_new_checksums(collection, event_id)


Broken = Callable[[Collection[Document], str], object]


class TestTheyCount:
    """As long as the ledger has just the commits that they were made of."""

    @pytest.mark.parametrize("damage", [removed(50), removed(41), between_two, said_to_be_right, without_checksum])
    @pytest.mark.usefixtures("play")
    def test_where_the_ledger_is_another_it_is_read(
        self,
        segments: Segments,
        ledger: Ledger,
        clock: FakeClock,
        collection: Collection[Document],
        damage: Broken,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Whatever is in it then, or what is wrong with it. The negative control: what would be read if they always
        counted."""
        extend(segments, clock)
        before = read_or_refused(ledger, clock)
        damage(collection, EVENT_ID)
        with monkeypatch.context() as patch:
            patch.setattr(Segments, "_counts", lambda *_: True)
            assert read_or_refused(ledger, clock) == before
        assert read_or_refused(ledger, clock) == read_or_refused(Ledger(collection, clock), clock)
        assert (read_or_refused(ledger, clock) == before) == (damage is without_checksum)
        # Those from there on are no more.
        assert segments._collection.distinct("last") == [10, 20, 30, 40]

    @pytest.mark.parametrize("version", [5, 15, 35, 95, 105])
    @pytest.mark.parametrize("are_there", [False, True])
    def test_a_commit_between_the_versions_of_another(
        self,
        segments: Segments,
        ledger: Ledger,
        clock: FakeClock,
        collection: Collection[Document],
        version: int,
        are_there: bool,
    ) -> None:
        """On a page, behind it, in a segment and behind the last one: it is seen."""
        play = Rehearsal(120, EVENT_ID)
        for number in range(119):
            play.book(f"user {number}")
        append_in_commits(ledger, EVENT_ID, play.transitions, [10] * 12, clock.monotonic() + 5)
        if are_there:
            assert extend(segments, clock) == 12
            segments.remove(EVENT_ID, clock.monotonic() + 5, after=100)
        assert read(ledger, clock) == play.transitions
        (document,) = collection.find({"first": 1})
        collection.insert_one({**document, "_id": ledger_id(EVENT_ID, version)})
        assert read_or_refused(ledger, clock) is None

    def test_a_ledger_that_was_brought_back_as_it_had_been_goes_on_from_there(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document], play: Rehearsal
    ) -> None:
        """What its segments know beyond that did not happen."""
        extend(segments, clock)
        collection.delete_many({"first": {"$gt": 55}})
        assert read(ledger, clock) == play.transitions[:55]
        other = Rehearsal(70, EVENT_ID)
        for number in range(54):
            other.book(f"user {number}")
        assert other.transitions == play.transitions[:55]
        for number in range(20):
            other.book(f"other {number}")
        for version in range(56, 76):
            state = fold(EventState(EVENT_ID), other.transitions[:version])
            assert ledger.append(state, other.transitions[version - 1 : version], clock.monotonic() + 5)
        assert read(ledger, clock) == other.transitions
        assert extend(segments, clock) == 7
        assert read(ledger, clock) == other.transitions

    @pytest.mark.parametrize(
        "change",
        [
            {"$set": {"parts.0.user_ids.3": "somebody"}},
            {"$set": {"first": 31}},
            {"$set": {"format": FORMAT + 1}, "$unset": {CHECKSUM: True}},
            {"$set": {"last": "fifty"}},
            {"$unset": {"commits": True}},
            {"$unset": {CHECKSUM: True, "parts": True}},
            {"$unset": {CHECKSUM: True}, "$set": {"parts": [{"row": "booked"}]}},
            {"$unset": {CHECKSUM: True}, "$set": {"parts": []}},
            {"$unset": {CHECKSUM: True}, "$set": {"first": 45}},
            {"$unset": {CHECKSUM: True}},
            {"$unset": {CHECKSUM: True, "event_id": True}},
        ],
    )
    def test_a_segment_that_is_damaged_is_none(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, play: Rehearsal, change: Document
    ) -> None:
        """It goes, and the next worker that looks writes another one."""
        extend(segments, clock)
        whole = exact(segments._collection)
        segments._collection.update_one({"last": 50}, change)
        assert read(ledger, clock) == play.transitions
        assert segments._collection.distinct("last") == [10, 20, 30, 40]
        extend(segments, clock)
        assert exact(segments._collection) == whole

    @pytest.mark.parametrize("changes", [{"last": 40}, {"last": 49}, {"first": 42}, {"commits": []}, {"parts": []}])
    def test_one_that_is_wrongly_said_to_be_right(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, play: Rehearsal, changes: Document
    ) -> None:
        """By a checksum of its own."""
        extend(segments, clock)
        (document,) = segments._collection.find({"last": 50})
        segments._collection.replace_one({"last": 50}, with_checksum(document | changes))
        assert read(ledger, clock) == play.transitions
        assert segments._collection.distinct("last") == [10, 20, 30, 40]

    @pytest.mark.usefixtures("play")
    def test_who_doubts_them_reads_the_commits(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """So damage is found that nobody who reads a segment sees, and from then on everybody sees it."""
        extend(segments, clock)
        changed(50, type="cancelled")(collection, EVENT_ID)
        assert len(read(ledger, clock)) == 101
        ledger.distrust(EVENT_ID, clock.monotonic() + 5)
        assert segments._collection.count_documents({}) == 0
        with pytest.raises(LedgerContradiction):
            read(ledger, clock)


class TestTheyAreWritten:
    def test_there_is_none_of_a_short_ledger(self, segments: Segments, ledger: Ledger, clock: FakeClock) -> None:
        """Nor of an event that there is not."""
        assert extend(segments, clock) == 0
        play = Rehearsal(70, EVENT_ID)
        for number in range(8):
            play.book(f"user {number}")
        append_in_commits(ledger, EVENT_ID, play.transitions, [4, 5], clock.monotonic() + 5)
        assert extend(segments, clock) == 0

    def test_a_segment_ends_with_a_commit(self, segments: Segments, ledger: Ledger, clock: FakeClock) -> None:
        """However large that is."""
        play = Rehearsal(70, EVENT_ID)
        for number in range(49):
            play.book(f"user {number}")
        append_in_commits(ledger, EVENT_ID, play.transitions, [9, 30, 9, 2], clock.monotonic() + 5)
        extend(segments, clock)
        found = segments._collection.find({}, {"first": 1, "last": 1, "_id": 0}).sort("_id", 1)
        assert list(found) == [{"first": 1, "last": 39}, {"first": 40, "last": 50}]
        assert read(ledger, clock) == play.transitions

    @pytest.mark.parametrize("damage", [removed(50), out_of_turn, between_two, changed(50, type="cancelled")])
    @pytest.mark.usefixtures("play")
    def test_who_meets_damage_writes_none_and_removes_those_that_there_are(
        self, segments: Segments, clock: FakeClock, collection: Collection[Document], damage: Broken
    ) -> None:
        """To read it is left to those who say what is wrong, and they read it all."""
        for _ in range(2):
            assert segments.extend(EVENT_ID, clock.monotonic() + 5)
        damage(collection, EVENT_ID)
        assert extend(segments, clock) == 0

    @pytest.mark.usefixtures("play")
    def test_where_they_cannot_be_removed_none_is_written_either(
        self, segments: Segments, clock: FakeClock, collection: Collection[Document], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing else comes of it."""
        assert segments.extend(EVENT_ID, clock.monotonic() + 5)
        changed(15, type="cancelled")(collection, EVENT_ID)

        def remove(*_: Any) -> None:
            raise StorageUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(segments, "remove", remove)
            assert not segments.extend(EVENT_ID, clock.monotonic() + 5)
        assert segments._collection.distinct("last") == [10]

    @pytest.mark.usefixtures("play")
    def test_there_is_none_of_a_commit_without_a_checksum(
        self, segments: Segments, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """Nobody can tell whether it is another by now. It is no damage: those before it stay."""
        without_checksum(collection, EVENT_ID)
        assert extend(segments, clock) == 4

    def test_no_more_is_read_than_is_needed(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor much at once, however much a commit holds."""
        read_at_once: list[int] = []

        def read_and_count(*args: Any) -> Any:
            page = read_page(*args)
            read_at_once.append(sum(len(commit["transitions"]) for commit in page))
            return page

        monkeypatch.setattr("ticketing.storage.segments.read_page", read_and_count)
        monkeypatch.setattr("ticketing.storage.segments.SEGMENT_SIZE", 60)
        play = Rehearsal(200, EVENT_ID)
        for number in range(149):
            play.book(f"user {number}")
        append_in_commits(ledger, EVENT_ID, play.transitions, [1] * 60 + [5] * 9 + [15] * 3, clock.monotonic() + 5)
        assert extend(segments, clock) == 5
        assert sum(read_at_once) <= 150 + 15
        assert max(read_at_once) == 15

    @pytest.mark.parametrize(
        "changes",
        [
            {"last": "sixty"},
            {"last": 10**6},
            {"first": None},
            {"commits": []},
            {"commits": 5},
            {"format": 2},
            {"_id": f"{EVENT_ID}:x"},
        ],
    )
    @pytest.mark.usefixtures("play")
    def test_a_last_one_that_does_not_count_makes_room(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, play: Rehearsal, changes: Document
    ) -> None:
        """Those behind it can be written."""
        segments.extend(EVENT_ID, clock.monotonic() + 5)
        (document,) = segments._collection.find()
        segments._collection.delete_many({})
        segments._collection.insert_one(document | changes)
        assert extend(segments, clock) == 10
        assert segments._collection.distinct("last") == [*range(10, 101, 10)]
        assert read(ledger, clock) == play.transitions

    def test_others_have_their_turn_meanwhile(
        self, segments: Segments, clock: FakeClock, play: Rehearsal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nine times as long as each page takes."""

        def read_slowly(*args: Any) -> Any:
            clock.monotonic_s += 0.05
            return read_page(*args)

        monkeypatch.setattr("ticketing.storage.segments.read_page", read_slowly)
        assert segments.extend(EVENT_ID, clock.monotonic() + 30)
        assert clock.slept_s[-4:] == pytest.approx([0.45] * 4)

    def test_two_at_once_write_the_same(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document], play: Rehearsal
    ) -> None:
        """Who comes second finds it there, and goes on."""
        rival = Segments(segments._collection, collection, clock)

        real = Segments._commits_after

        def commits_after(self: Segments, *args: Any) -> list[Document]:
            found = real(self, *args)
            if self is segments:
                assert rival.extend(EVENT_ID, clock.monotonic() + 5)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Segments, "_commits_after", commits_after)
            assert segments.extend(EVENT_ID, clock.monotonic() + 5)
        assert segments._collection.count_documents({}) == 1
        extend(segments, clock)
        assert read(ledger, clock) == play.transitions


def play_with_ada(ledger: Ledger, clock: FakeClock) -> Rehearsal:
    """40 bookings, the tenth of them by ada, who is given a pseudonym by the last transition."""
    play = Rehearsal(70, EVENT_ID)
    for number in range(40):
        play.book("ada" if number == 10 else f"user {number}")
    play.play(Pseudonymize(event_id=EVENT_ID, by="admin", user_id="ada", pseudonym=GONE))
    append_in_commits(ledger, EVENT_ID, play.transitions, [1] * 42, clock.monotonic() + 5)
    return play


class TestNamesAreErasedFromThem:
    def test_a_name_stands_in_no_segment_afterwards(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """All segments of the event go, and the next ones have the pseudonym."""
        play = play_with_ada(ledger, clock)
        extend(segments, clock)
        assert b"ada" in b"".join(exact(segments._collection))
        Names(collection, clock, segments).replace(EVENT_ID, 42, "ada", GONE, clock.monotonic() + 5)
        assert exact(segments._collection) == []
        assert extend(segments, clock) == 4
        assert b"ada" not in b"".join(exact(segments._collection))
        again = fold(EventState(EVENT_ID), read(ledger, clock))
        assert observed(again) == observed(play.state)

    @pytest.mark.parametrize("looks", [True, False])
    def test_a_segment_of_old_commits_that_comes_late_goes_again(
        self,
        segments: Segments,
        ledger: Ledger,
        clock: FakeClock,
        collection: Collection[Document],
        monkeypatch: pytest.MonkeyPatch,
        looks: bool,
    ) -> None:
        """The name is erased between the reading and the writing. The negative control: its writer does not look."""
        play_with_ada(ledger, clock)
        segments.extend(EVENT_ID, clock.monotonic() + 5)
        real = Segments._commits_after

        def commits_after(self: Segments, *args: Any) -> list[Document]:
            found = real(self, *args)
            Names(collection, clock, segments).replace(EVENT_ID, 42, "ada", GONE, clock.monotonic() + 5)
            return found

        monkeypatch.setattr(Segments, "_commits_after", commits_after)
        if not looks:
            monkeypatch.setattr(Segments, "_counts", lambda *_: True)
        assert segments.extend(EVENT_ID, clock.monotonic() + 5) is not looks
        assert (b"ada" in b"".join(exact(segments._collection))) is not looks

    def test_a_reader_removes_one_that_was_left_behind(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """By a worker that was killed before it looked, or by one of an earlier version."""
        play = play_with_ada(ledger, clock)
        extend(segments, clock)
        Names(collection, clock).replace(EVENT_ID, 42, "ada", GONE, clock.monotonic() + 5)
        again = fold(EventState(EVENT_ID), read(ledger, clock))
        assert observed(again) == observed(play.state)
        assert b"ada" not in b"".join(exact(segments._collection))


class Faulty:
    """A collection whose next operations fail."""

    def __init__(self, collection: Collection[Document], errors: list[PyMongoError]) -> None:
        self._collection = collection
        self._errors = errors

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if self._errors:
                raise self._errors.pop()
            return getattr(self._collection, name)(*args, **options)

        return call


class TestTrouble:
    @pytest.mark.usefixtures("play")
    def test_writing_and_removing_are_tried_again(self, segments: Segments, clock: FakeClock) -> None:
        """Until the deadline."""
        errors: list[PyMongoError] = []
        faulty: Any = Faulty(segments._collection, errors)
        doing = Segments(faulty, segments._ledger, clock)
        for call, left in ((doing.extend, 1), (doing.remove, 0)):
            errors += [AutoReconnect("connection closed") for _ in range(3)]
            assert call(EVENT_ID, clock.monotonic() + 5) is not False
            assert errors == []
            assert segments._collection.count_documents({}) == left
            with pytest.raises(StorageUnavailable):
                call(EVENT_ID, clock.monotonic())

    @pytest.mark.parametrize("error", [AutoReconnect("connection closed"), OperationFailure("not authorized", 13)])
    def test_where_they_cannot_be_read_the_ledger_is(
        self, segments: Segments, clock: FakeClock, play: Rehearsal, error: PyMongoError
    ) -> None:
        """At once, and they stay as they are: nobody is refused for want of what nothing rests on."""
        extend(segments, clock)
        for failing in range(1, 12):
            errors = [error] * failing
            faulty: Any = Faulty(segments._collection, errors)
            ledger = Ledger(segments._ledger, clock, segments=Segments(faulty, segments._ledger, clock))
            began_s = clock.monotonic()
            assert read(ledger, clock) == play.transitions
            assert len(errors) == failing - 1
            assert clock.monotonic() - began_s < 0.1
        assert segments._collection.count_documents({}) == 10


@pytest.mark.parametrize("seed", range(20))
def test_parts_come_back_as_they_were(seed: int) -> None:
    """Rows and others, by the documents that are kept of them."""
    chance = random.Random(seed)
    transitions = long_history(chance).transitions
    parts = rows_of([commit_document(EVENT_ID, transitions, b"n" * 16)])
    assert any(isinstance(part, Row) for part in parts)
    documents = bson.decode(bson.encode({"parts": part_documents(parts)}), CODEC_OPTIONS)["parts"]
    again = parts_of(documents)
    assert [versions_of(part) for part in again] == [versions_of(part) for part in parts]
    assert said(transitions_in(again)) == said(transitions)


def test_damage_behind_a_segment_is_met_by_who_doubts(
    ledger: Ledger, segments: Segments, clock: FakeClock, collection: Collection[Document], play: Rehearsal
) -> None:
    """A worker goes on from what its segments say, which is right; whoever meets the damage tells it, and from then on
    all workers refuse the event, as long as it is there."""
    extend(segments, clock)
    changed(50, type="cancelled")(collection, EVENT_ID)
    managers = [TicketManager(ledger, clock) for _ in range(2)]
    assert observed(managers[0].state_of(EVENT_ID)) == observed(play.state)
    managers[0].doubt(LedgerDamaged(EVENT_ID, "somebody has seen it"))
    for manager in managers:
        with pytest.raises(LedgerDamaged):
            manager.state_of(EVENT_ID)
    changed(50, type="booked")(collection, EVENT_ID)
    clock.sleep(DAMAGE_REMEMBERED_S)
    for manager in managers:
        assert observed(manager.state_of(EVENT_ID)) == observed(play.state)


def test_what_only_looks_equal_is_kept_as_it_is() -> None:
    """A quantity that is a bool is damage, in a segment as in a commit."""
    play = Rehearsal(70, EVENT_ID)
    for number in range(9):
        play.book(f"user {number}")
    commit = commit_document(EVENT_ID, play.transitions, b"n" * 16)
    commit["transitions"][5]["orders"][0]["quantity"] = True
    parts = rows_of([bson.decode(bson.encode(commit), CODEC_OPTIONS)])
    assert any(isinstance(part, Row) for part in parts)
    again = parts_of(bson.decode(bson.encode({"parts": part_documents(parts)}), CODEC_OPTIONS)["parts"])
    assert [each.orders[0]["quantity"] is True for each in transitions_in(again) if each.orders].count(True) == 1


class TestTheAudit:
    """`ledger verify` compares them with the commits."""

    @pytest.mark.parametrize("seed", range(8))
    def test_segments_that_say_what_the_ledger_says_are_no_finding(
        self, segments: Segments, ledger: Ledger, clock: FakeClock, collection: Collection[Document], seed: int
    ) -> None:
        """Whatever that is."""
        play = long_history(random.Random(seed))
        append_in_commits(ledger, EVENT_ID, play.transitions, [1] * len(play.transitions), clock.monotonic() + 5)
        append_in_commits(ledger, "opera", Rehearsal(1, "opera").transitions, [1], clock.monotonic() + 5)
        assert extend(segments, clock) >= 3
        assert [report.findings for report in audit(collection.database)] == [[], []]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("user_ids.3", "somebody"),
            ("order_ids.0", "concert.another"),
            ("quantities", {"all": 2}),
            ("callers", {"all": "staff"}),
            ("keys.2", b"another key ...."),
            ("times.9", datetime(2027, 1, 1)),
            ("ticket_types", {"all": "box"}),
            ("unit_prices", {"all": "1.00"}),
            ("currencies", {"all": "EUR"}),
            ("row", "waitlisted"),
            ("first", 42),
            ("count", 9),
            ("user_ids", []),
            ("row", "nothing"),
        ],
    )
    def test_a_segment_that_says_something_else_is_a_finding(
        self,
        segments: Segments,
        ledger: Ledger,
        clock: FakeClock,
        collection: Collection[Document],
        field: str,
        value: Any,
    ) -> None:
        """It has a checksum that says it is right, as if it had been written so."""
        play = Rehearsal(70, EVENT_ID)
        for number in range(60):
            play.book(f"user {number}", request=request(f"{number}"))
        append_in_commits(ledger, EVENT_ID, play.transitions, [1] * 61, clock.monotonic() + 5)
        extend(segments, clock)
        segments._collection.update_one({"last": 50}, {"$set": {f"parts.0.{field}": value}})
        segment_id = ledger_id(EVENT_ID, 50)
        assert audited(collection) == []  # nobody reads what does not agree with its checksum
        (document,) = segments._collection.find({"last": 50})
        segments._collection.replace_one({"last": 50}, with_checksum(document))
        assert audited(collection) == [f"segment {segment_id!r} says something else than its commits"]

    @pytest.mark.usefixtures("play")
    def test_whatever_stands_there(
        self, segments: Segments, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """It raises nothing."""
        extend(segments, clock)
        segments._collection.update_one({"last": 50}, {"$set": {"event_id": {"no": "text"}}})
        segments._collection.insert_many({"_id": each} for each in (5, "stray", {"no": "text"}, f"{EVENT_ID}:x"))
        assert audited(collection) == []

    @pytest.mark.usefixtures("play")
    def test_a_damaged_commit_is_a_finding_of_its_own(
        self, segments: Segments, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """And its segment, which is right, says something else."""
        extend(segments, clock)
        changed(50, orders__0__user_id="somebody")(collection, EVENT_ID)
        commit, segment = audited(collection)
        assert "does not agree with its checksum" in commit
        assert segment == f"segment {ledger_id(EVENT_ID, 50)!r} says something else than its commits"

    @pytest.mark.usefixtures("play")
    def test_a_segment_of_other_commits_is_no_finding(
        self, segments: Segments, clock: FakeClock, collection: Collection[Document]
    ) -> None:
        """Nobody reads it."""
        extend(segments, clock)
        changed(50, orders__0__user_id="somebody")(collection, EVENT_ID)
        with_new_checksums(collection, EVENT_ID)
        assert audited(collection) == []
        collection.delete_many({"first": {"$gt": 55}})
        assert audited(collection) == []


def audited(collection: Collection[Document]) -> list[str]:
    """The findings of `ledger verify` in the one event."""
    (report,) = audit(collection.database)
    return report.findings


def test_the_format_tells_what_a_transition_has() -> None:
    """A worker of an earlier version leaves out what it does not know. So who adds a field counts the format up."""
    fields_of_rows = [each.name for each in fields(Row)]
    assert (FORMAT, Transition._fields, sorted(OrderChange.__annotations__), fields_of_rows) == (
        1,
        (
            "version",
            "type",
            "at",
            "by",
            "event",
            "orders",
            "request",
            "refusal",
            "sales_closed",
            "refused",
        ),
        [
            "currency",
            "order_id",
            "quantity",
            "status",
            "ticket_type",
            "transferred_from",
            "unit_price",
            "user_id",
        ],
        [
            "type",
            "versions",
            "times",
            "callers",
            "keys",
            "fingerprints",
            "order_ids",
            "user_ids",
            "quantities",
            "ticket_types",
            "unit_prices",
            "currencies",
        ],
    )
