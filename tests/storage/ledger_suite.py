"""What every ledger does. Inherited by a class for each database, which brings the fixture `collection`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

import bson
import pytest
from pymongo.collection import Collection

from tests.domain.rehearsal import Rehearsal, observed, request
from ticketing.clock import TURN_S
from ticketing.domain.commands import Pseudonymize
from ticketing.domain.fold import LedgerContradiction, fold
from ticketing.domain.model import EventState, Transition, TransitionType
from ticketing.domain.rows import Row, transitions_in
from ticketing.errors import StorageUnavailable
from ticketing.storage import pages as pages_module
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger
from ticketing.storage.recent import INDEX_BYTES, RecentCommits
from ticketing.storage.rows import ROW_MIN

from .fakes import FakeClock

DEADLINE_S = 5.0


def history(event_id: str = "concert") -> Rehearsal:
    """Some of everything: orders confirmed, waiting, promoted and cancelled, keys, a refusal that is kept."""
    play = Rehearsal(event_id=event_id)
    play.initialize(3, name="Concert — “Ünïcode” 🎫", request=request(f"open {event_id}"))
    for user_id in ("ada", "bob", "cyd", "dan", "eve"):
        play.book(user_id, request=request(f"{user_id} {event_id}"))
    play.cancel("ada", request=request(f"cancel {event_id}"))
    play.book("bob", request=request(f"bob 2 {event_id}"))
    play.cancel("eve")
    return play


class LedgerSuite:
    """Append, read, compare-and-set."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def ledger(self, collection: Collection[dict[str, Any]], clock: FakeClock) -> Ledger:
        return Ledger(collection, clock)

    @pytest.fixture
    def deadline(self, clock: FakeClock) -> float:
        return clock.monotonic() + DEADLINE_S

    def test_a_ledger_that_was_never_written_is_empty(self, ledger: Ledger, deadline: float) -> None:
        """Reading it is no error."""
        assert read(ledger, "concert", 0, deadline) == []

    def test_what_was_appended_is_read(self, ledger: Ledger, deadline: float) -> None:
        """All of it, in order, times with their zone; it folds to the state that was decided."""
        play = history()
        append_in_commits(ledger, play.event_id, play.transitions, [1, 3, 1, 2, 2], deadline)
        transitions = read(ledger, play.event_id, 0, deadline)
        assert [part.at for part in transitions] == [part.at for part in play.transitions]
        assert observed(fold(EventState(play.event_id), transitions)) == observed(play.state)

    def test_reading_begins_after_a_version(self, ledger: Ledger, deadline: float) -> None:
        """Only what is new to the reader, nothing when there is nothing new."""
        play = history()
        append_in_commits(ledger, play.event_id, play.transitions, [1, 3, 5], deadline)
        assert [part.version for part in read(ledger, play.event_id, 4, deadline)] == [5, 6, 7, 8, 9]
        assert read(ledger, play.event_id, 9, deadline) == []

    @pytest.mark.parametrize(("commits", "pages"), [(10, [3, 3, 3, 1]), (9, [3, 3, 3, 0]), (2, [2])])
    def test_a_long_ledger_is_read_in_pages(
        self,
        ledger: Ledger,
        deadline: float,
        monkeypatch: pytest.MonkeyPatch,
        commits: int,
        pages: list[int],
    ) -> None:
        """None is left out and none comes twice, also when the last page is full."""
        monkeypatch.setattr(pages_module, "PAGE_SIZE", 3)
        play = Rehearsal(100)
        for number in range(commits - 1):
            play.book(f"user {number}")
        append_in_commits(ledger, play.event_id, play.transitions, [1] * commits, deadline)
        read_pages = list(ledger.read(play.event_id, 0, deadline))
        assert [len(page) for page in read_pages] == pages
        assert [part.version for page in read_pages for part in transitions_in(page)] == list(range(1, commits + 1))

    def test_a_long_read_gives_others_their_turn(
        self, ledger: Ledger, clock: FakeClock, deadline: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between two pages it lets go, even when nothing has to be waited for."""
        monkeypatch.setattr(pages_module, "PAGE_SIZE", 3)
        play = Rehearsal(100)
        for number in range(6):
            play.book(f"user {number}")
        append_in_commits(ledger, play.event_id, play.transitions, [1] * 7, deadline)
        slept_before = [clock.slept_s.copy() for _ in ledger.read(play.event_id, 0, deadline)]
        assert slept_before == [[TURN_S], [TURN_S, TURN_S], [TURN_S, TURN_S]]
        assert TURN_S > 0

    def test_reading_is_in_order_of_versions_not_of_insertion(
        self, ledger: Ledger, deadline: float, collection: Collection[dict[str, Any]]
    ) -> None:
        """A database that was restored has its documents in any order."""
        play = history()
        documents = [commit_document(play.event_id, [part], b"n" * 16) for part in play.transitions]
        collection.insert_many(reversed(documents))
        transitions = read(ledger, play.event_id, 0, deadline)
        assert [part.version for part in transitions] == list(range(1, len(documents) + 1))

    @pytest.mark.parametrize("event_id", ["a", "A", "a-", "a_", "a-b", "aa", "a0", "0"])
    def test_events_do_not_mix(self, ledger: Ledger, deadline: float, event_id: str) -> None:
        """However alike their ids are."""
        plays = [history(name) for name in ("a", "A", "a-", "a_", "a-b", "aa", "a0", "0")]
        for play in plays:
            append_in_commits(ledger, play.event_id, play.transitions, [9], deadline)
        (mine,) = (play for play in plays if play.event_id == event_id)
        transitions = read(ledger, event_id, 0, deadline)
        assert observed(fold(EventState(event_id), transitions)) == observed(mine.state)

    def test_a_place_is_taken_once(
        self, ledger: Ledger, deadline: float, collection: Collection[dict[str, Any]]
    ) -> None:
        """The compare-and-set: the second commit is told so, and nothing of it was written."""
        first, second = Rehearsal(3), Rehearsal(5)
        second.book("ada")
        assert ledger.append(first.state, first.transitions, deadline) is True
        assert ledger.append(second.state, second.transitions, deadline) is False
        assert collection.count_documents({}) == 1
        transitions = read(ledger, first.event_id, 0, deadline)
        assert observed(fold(EventState(first.event_id), transitions)) == observed(first.state)

    def test_the_same_transitions_again_are_another_commit(self, ledger: Ledger, deadline: float) -> None:
        """Two workers may decide alike. Only one of them has written, and the other must know."""
        play = Rehearsal(3)
        assert ledger.append(play.state, play.transitions, deadline) is True
        assert ledger.append(play.state, play.transitions, deadline) is False

    def test_each_commit_sums_up_the_event_after_it(
        self, ledger: Ledger, deadline: float, collection: Collection[dict[str, Any]]
    ) -> None:
        """What the state at that version says; what was only remembered is no update."""
        play = history()
        append_in_commits(ledger, play.event_id, play.transitions, [1, 3, 3, 1, 1], deadline)
        found = [document["after"] for document in collection.find(sort=[("_id", 1)])]
        states = [fold(EventState(play.event_id), play.transitions[:last]) for last in (1, 4, 7, 8, 9)]
        assert [(after["booked"], after["available"], after["waiting"]) for after in found] == [
            (state.booked_tickets, state.available_tickets, state.waiting_list_count) for state in states
        ]
        updated_at = [after["updated_at"].replace(tzinfo=UTC) for after in found]
        assert updated_at == [state.updated_at for state in states]
        assert updated_at[2] == updated_at[3], "the eighth was only remembered"

    def test_keys_are_found_in_the_ledgers_of_all_events(self, ledger: Ledger, deadline: float) -> None:
        """Those that were asked for and no others, though a commit holds several."""
        plays = [history("one"), history("two")]
        for play in plays:
            append_in_commits(ledger, play.event_id, play.transitions, [9], deadline)
        shared = Rehearsal(event_id="three")
        shared.initialize(1, request=request("ada one"))
        append_in_commits(ledger, "three", shared.transitions, [1], deadline)
        keys = [request(key).key for key in ("ada one", "cancel two", "bob 2 two", "unknown")]
        assert ledger.events_with_keys(keys, deadline) == {
            keys[0]: {"one", "three"},
            keys[1]: {"two"},
            keys[2]: {"two"},
        }

    def test_no_keys_are_found_for_no_keys(self, ledger: Ledger, deadline: float) -> None:
        """Nor in a ledger without any."""
        play = Rehearsal(1)
        append_in_commits(ledger, play.event_id, play.transitions, [1], deadline)
        assert ledger.events_with_keys([], deadline) == {}
        assert ledger.events_with_keys([request("ada").key], deadline) == {}

    @pytest.mark.parametrize(
        "damaged",
        [
            {"request": {"key": request("ada").key}},
            [{"request": {"key": request("ada").key}}, {"request": None}],
            [{"request": [{"key": request("ada").key}]}],
        ],
    )
    def test_a_key_in_a_damaged_commit_of_another_event_is_found(
        self, ledger: Ledger, deadline: float, collection: Collection[dict[str, Any]], damaged: Any
    ) -> None:
        """Whatever form it is of: who asks for one event has to do with the ledgers of all."""
        collection.insert_one({"_id": "opera:000000000002", "transitions": damaged})
        key = request("ada").key
        assert ledger.events_with_keys([key], deadline) == {key: {"opera"}}

    @pytest.mark.parametrize(
        "damage", [{"transitions": None}, {"transitions": []}, {"transitions": [{"version": 1}]}, {}]
    )
    def test_a_document_that_is_no_commit_is_a_contradiction(
        self, ledger: Ledger, deadline: float, collection: Collection[dict[str, Any]], damage: dict[str, Any]
    ) -> None:
        """The message says after which commit it stands."""
        collection.insert_one({"_id": "concert:000000000001", **damage})
        with pytest.raises(LedgerContradiction, match="no commit after concert:"):
            read(ledger, "concert", 0, deadline)

    # Copies.

    @pytest.fixture
    def host(self, collection: Collection[dict[str, Any]], clock: FakeClock) -> Host:
        return Host(collection, clock)

    def test_what_a_neighbour_has_appended_is_at_hand(self, host: Host, ledger: Ledger, deadline: float) -> None:
        """The same as is read, after the end of any commit; for who shares no memory, nothing."""
        play = history()
        append_in_commits(host.worker(), play.event_id, play.transitions, [1, 3, 1, 2, 2], deadline)
        neighbour = host.worker()
        for version in (0, 1, 4, 5, 7, 9):
            at_hand = list(transitions_in(neighbour.recent(play.event_id, version)))
            assert compared(at_hand) == compared(read(ledger, play.event_id, version, deadline))
            before = fold(EventState(play.event_id), play.transitions[:version])
            assert observed(fold(before, at_hand)) == observed(play.state)
        assert neighbour.recent(play.event_id, 2) == []
        assert neighbour.recent("opera", 0) == []
        assert ledger.recent(play.event_id, 1) == []

    def test_bookings_that_are_at_hand_are_rows(self, host: Host, ledger: Ledger, deadline: float) -> None:
        """As they are read: by columns, where there are many of them."""
        play = Rehearsal(1_000)
        for number in range(2 * ROW_MIN):
            play.book(f"user {number}", request=request(f"key {number}"))
        append_in_commits(host.worker(), play.event_id, play.transitions, [1, ROW_MIN, ROW_MIN], deadline)
        (row,) = host.worker().recent(play.event_id, 1)
        assert isinstance(row, Row)
        assert [row] == [part for page in ledger.read(play.event_id, 1, deadline) for part in page]
        state = fold(EventState(play.event_id), play.transitions[:1])
        assert observed(fold(state, [row])) == observed(play.state)

    def test_a_commit_whose_place_was_taken_leaves_no_copy(
        self, host: Host, ledger: Ledger, deadline: float
    ) -> None:
        """It has not happened. Nor does the one that has, which another host wrote."""
        play, other = Rehearsal(3), Rehearsal(3)
        append_in_commits(host.worker(), play.event_id, play.transitions, [1], deadline)
        other.book("elsewhere")
        append = other.transitions[1:]
        assert ledger.append(other.state, append, deadline) is True
        play.book("in-vain")
        assert host.worker().append(play.state, play.transitions[1:], deadline) is False
        assert host.worker().recent(play.event_id, 1) == []
        assert not host.holds("in-vain")

    def test_an_erased_name_is_in_no_copy(self, host: Host, deadline: float) -> None:
        """Whoever appends the erasure wipes all of them out: of this event and of others, and of this commit itself."""
        play, other = Rehearsal(9), Rehearsal(9, "opera")
        for each in (play, other):
            each.book("ada-of-the-test")
            append_in_commits(host.worker(), each.event_id, each.transitions, [1, 1], deadline)
        assert host.holds("ada-of-the-test")
        known = len(play.transitions)
        play.cancel("ada-of-the-test")
        play.book("ada-of-the-test")
        erase(play, "ada-of-the-test")
        assert host.worker().append(play.state, play.transitions[known:], deadline)
        assert not any(host.memory)
        play.book("ben")
        assert host.worker().append(play.state, play.transitions[-1:], deadline)
        assert host.worker().recent(play.event_id, len(play.transitions) - 1) == play.transitions[-1:]

    def test_whoever_reads_of_an_erasure_wipes_the_copies_out(
        self, host: Host, ledger: Ledger, deadline: float
    ) -> None:
        """Who wrote it may be of another host, or have died before he could."""
        play = Rehearsal(9)
        play.book("ada-of-the-test")
        append_in_commits(host.worker(), play.event_id, play.transitions, [1, 1], deadline)
        erase(play, "ada-of-the-test")
        assert ledger.append(play.state, play.transitions[-1:], deadline)
        neighbour = host.worker()
        read(neighbour, play.event_id, 3, deadline)
        assert host.holds("ada-of-the-test")
        read(neighbour, play.event_id, 2, deadline)
        assert not any(host.memory)

    @pytest.mark.parametrize("content", [b"", b"no BSON", bson.encode({}), bson.encode({"transitions": [{}]})])
    def test_a_copy_that_is_no_commit_is_a_contradiction(self, host: Host, content: bytes) -> None:
        """As it would be in the ledger, and no other error."""
        RecentCommits(host.memory).leave("concert", 8, 8, content)
        with pytest.raises(LedgerContradiction, match="no commit after concert:000000000007"):
            host.worker().recent("concert", 7)

    def test_nothing_is_tried_after_the_deadline(
        self, ledger: Ledger, clock: FakeClock, collection: Collection[dict[str, Any]]
    ) -> None:
        """Neither written nor read."""
        play = Rehearsal(1)
        with pytest.raises(StorageUnavailable):
            ledger.append(play.state, play.transitions, clock.monotonic())
        with pytest.raises(StorageUnavailable):
            read(ledger, play.event_id, 0, clock.monotonic())
        with pytest.raises(StorageUnavailable):
            ledger.events_with_keys([b"key"], clock.monotonic())
        assert collection.count_documents({}) == 0


class Host:
    """Workers that leave each other copies of their commits, and the memory that they share."""

    def __init__(self, collection: Collection[dict[str, Any]], clock: FakeClock) -> None:
        self.memory = bytearray(INDEX_BYTES + 1024 * 1024)
        self._collection = collection
        self._clock = clock

    def worker(self) -> Ledger:
        """A ledger with a process of its own."""
        return Ledger(self._collection, self._clock, recent_commits=RecentCommits(self.memory))

    def holds(self, name: str) -> bool:
        """Whether a name stands anywhere in what they share."""
        return name.encode() in self.memory


def erase(play: Rehearsal, user_id: str) -> None:
    """Give a user's orders to a pseudonym."""
    play.play(Pseudonymize(event_id=play.event_id, user_id=user_id, pseudonym="erased:1"))
    assert play.transitions[-1].type is TransitionType.PSEUDONYMIZED


def compared(transitions: Sequence[Transition]) -> list[Any]:
    """What can be compared: refusals are errors, each equal to itself alone."""
    return [
        (part._replace(refusal=None), part.refusal and (part.refusal.code, part.refusal.details))
        for part in transitions
    ]


def append_in_commits(
    ledger: Ledger, event_id: str, transitions: Sequence[Transition], sizes: list[int], deadline: float
) -> None:
    """Write transitions as commits of these sizes."""
    assert sum(sizes) == len(transitions)
    state, left = EventState(event_id), list(transitions)
    for size in sizes:
        commit, left = left[:size], left[size:]
        state = fold(state, commit)
        assert ledger.append(state, commit, deadline)


def read(ledger: Ledger, event_id: str, after: int, deadline: float) -> list[Transition]:
    """All pages in one list."""
    return [transition for page in ledger.read(event_id, after, deadline) for transition in transitions_in(page)]
