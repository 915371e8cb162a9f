"""Answers and requests that get lost: a commit is written once, and what is said about it is true.

The collection is real, and the test double in front of it loses what goes through. Time is the fake clock's.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from tests.domain.rehearsal import Rehearsal, request
from ticketing.clock import PAUSE_MAX_S, SystemClock
from ticketing.errors import StorageUnavailable
from ticketing.storage.client import connect
from ticketing.storage.ledger import Ledger, ledger_collection
from ticketing.storage.recent import INDEX_BYTES, RecentCommits
from ticketing.storage.retries import ATTEMPT_S

from .fakes import PASS, FakeClock, FaultyCollection, lost_answer, lost_request, overtaken
from .ledger_suite import DEADLINE_S, read

Document = dict[str, Any]

ERRORS: list[PyMongoError] = [
    AutoReconnect("connection closed"),
    NetworkTimeout("timed out"),
    NotPrimaryError("not primary"),
    ServerSelectionTimeoutError("no primary"),
    WriteConcernError("shutting down", 91),
    WTimeoutError("waiting for replication timed out", 64),
    OperationFailure("interrupted", 11602),
]
GONE = AutoReconnect("connection closed")


@pytest.fixture
def faulty(mongod: str, database: Database[Document]) -> Iterator[FaultyCollection]:
    """The ledger's collection on the real mongod, with a network that can be told to fail."""
    with connect(mongod) as client:
        yield FaultyCollection(ledger_collection(client[database.name]))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def copies() -> RecentCommits:
    """Of the commits of this host, which is that of `ledger`."""
    return RecentCommits(bytearray(INDEX_BYTES + 64 * 1024))


@pytest.fixture
def ledger(faulty: FaultyCollection, clock: FakeClock, copies: RecentCommits) -> Ledger:
    collection: Any = faulty
    return Ledger(collection, clock, recent_commits=copies)


@pytest.fixture
def rival(faulty: FaultyCollection, clock: FakeClock) -> Ledger:
    """A worker of another host, whose network is fine."""
    return Ledger(faulty.collection, clock)


PLAY = Rehearsal(3)
EVENT_ID = PLAY.event_id


def append(ledger: Ledger, clock: FakeClock) -> bool:
    """Write the one transition of an event that was opened."""
    return ledger.append(PLAY.state, PLAY.transitions, clock.monotonic() + DEADLINE_S)


def stored(faulty: FaultyCollection) -> int:
    """How many commits there are."""
    return faulty.collection.count_documents({})


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("fault", [lost_answer, lost_request])
def test_a_commit_is_in_once_whatever_got_lost(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection, fault: Any, error: PyMongoError
) -> None:
    """Whether the insert arrived or not, the repeat finds out, and says that it is in."""
    faulty.inserts = [fault(error)]
    assert append(ledger, clock) is True
    assert stored(faulty) == 1
    assert [part.version for part in read(ledger, EVENT_ID, 0, clock.monotonic() + 1)] == [1]


def test_a_commit_is_in_once_after_many_faults(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """Lost, lost, arrived unanswered, lost: in, once."""
    faulty.inserts = [lost_request(GONE), lost_request(GONE), lost_answer(GONE), lost_request(GONE)]
    assert append(ledger, clock) is True
    assert stored(faulty) == 1


def test_a_rival_that_was_faster_is_seen(
    ledger: Ledger, rival: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """The request got lost, somebody else took the place: nothing of ours was written."""
    faulty.inserts = [overtaken(GONE, lambda: append(rival, clock))]
    assert append(ledger, clock) is False
    assert stored(faulty) == 1


def test_a_taken_place_costs_nothing_to_find_out(
    ledger: Ledger, rival: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """The first try meets a duplicate: it cannot be ours, so nobody needs to look whose it is."""
    append(rival, clock)
    assert append(ledger, clock) is False
    assert faulty.calls == ["insert_one"]
    assert clock.slept_s == []


@pytest.mark.parametrize("unseen", [1, 4])
def test_a_duplicate_that_a_majority_does_not_show_yet_is_asked_for_again(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection, unseen: int
) -> None:
    """It is ours, but a majority read finds nothing at first: wait, do not guess, do not spin."""
    faulty.inserts = [lost_answer(GONE)]
    faulty.find_ones = [None] * unseen
    assert append(ledger, clock) is True
    assert stored(faulty) == 1
    assert len(clock.slept_s) >= unseen
    assert all(pause_s > 0 for pause_s in clock.slept_s)


def test_a_rivals_duplicate_that_a_majority_does_not_show_yet_is_asked_for_again(
    ledger: Ledger, rival: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """The same with somebody else's commit."""
    faulty.inserts = [overtaken(GONE, lambda: append(rival, clock))]
    faulty.find_ones = [None, None, PASS]
    assert append(ledger, clock) is False


def test_an_unseen_duplicate_that_a_failover_takes_back_is_written_again(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """The old primary had it, no majority did, and the new primary does not: the repeat puts it in."""

    def duplicate_of_what_will_vanish(insert: Any, document: Document) -> Any:
        raise DuplicateKeyError("E11000 duplicate key")

    faulty.inserts = [lost_request(GONE), duplicate_of_what_will_vanish, None]
    assert append(ledger, clock) is True
    assert stored(faulty) == 1


def test_looking_whose_duplicate_it_is_may_fail_too(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """The look-up is repeated as well."""
    faulty.inserts = [lost_answer(GONE)]
    faulty.find_ones = [GONE, GONE]
    assert append(ledger, clock) is True


def test_a_holder_without_a_nonce_is_somebody_else(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """A damaged document holds the place: ours is not in, and reading it will say the rest."""
    faulty.collection.insert_one({"_id": f"{EVENT_ID}:000000000001"})
    faulty.inserts = [lost_request(GONE)]
    assert append(ledger, clock) is False


@pytest.mark.parametrize("fault", [lost_answer, lost_request])
def test_what_stays_unknown_until_the_deadline_is_said_to_be_unknown(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection, fault: Any
) -> None:
    """Neither "it is in" nor "it is not": the storage is unavailable, exactly at the deadline."""
    faulty.inserts = [fault(GONE)] + [lost_request(GONE)] * 1_000
    began_s = clock.monotonic()
    with pytest.raises(StorageUnavailable):
        append(ledger, clock)
    assert clock.monotonic() - began_s == pytest.approx(DEADLINE_S)


@pytest.mark.parametrize("fault", [lost_answer, lost_request])
def test_a_copy_is_left_of_what_is_in_and_of_nothing_else(
    ledger: Ledger, rival: Ledger, clock: FakeClock, faulty: FaultyCollection, copies: RecentCommits, fault: Any
) -> None:
    """None while nobody knows whether the commit is in, though it may be; none when a rival has its place; one when it
    was found to be in, with what is in."""
    faulty.inserts = [fault(GONE)] + [lost_request(GONE)] * 1_000
    with pytest.raises(StorageUnavailable):
        append(ledger, clock)
    assert copies.after(EVENT_ID, 0) == []

    faulty.collection.delete_many({})
    faulty.inserts = [overtaken(GONE, lambda: append(rival, clock))]
    assert append(ledger, clock) is False
    assert copies.after(EVENT_ID, 0) == []

    faulty.collection.delete_many({})
    faulty.inserts = [fault(GONE)]
    assert append(ledger, clock) is True
    raw = faulty.collection.with_options(codec_options=CodecOptions(RawBSONDocument))
    assert copies.after(EVENT_ID, 0) == [document.raw for document in raw.find()]


def test_a_copy_that_was_left_too_early_would_be_seen(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection, copies: RecentCommits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: left before the insert, it would tell of a commit that never was."""
    insert = ledger._insert

    def leave_and_insert(commit: RawBSONDocument, deadline: float) -> bool:
        ledger._leave_copy(EVENT_ID, PLAY.transitions, bytes(commit.raw))
        return insert(commit, deadline)

    monkeypatch.setattr(ledger, "_insert", leave_and_insert)
    faulty.inserts = [lost_request(GONE)] * 1_000
    with pytest.raises(StorageUnavailable):
        append(ledger, clock)
    assert stored(faulty) == 0
    assert len(copies.after(EVENT_ID, 0)) == 1


def test_repeats_are_spread_out(ledger: Ledger, clock: FakeClock, faulty: FaultyCollection) -> None:
    """A storage in trouble gets a few tries a second, not a flood: the pauses grow up to the longest one."""
    faulty.inserts = [lost_request(GONE)] * 1_000
    with pytest.raises(StorageUnavailable):
        append(ledger, clock)
    assert len(faulty.calls) < 20 + DEADLINE_S / (0.5 * PAUSE_MAX_S)
    assert clock.slept_s[0] < 0.01
    assert max(clock.slept_s) <= PAUSE_MAX_S
    assert min(clock.slept_s[8:-1]) >= 0.5 * PAUSE_MAX_S


def test_a_duplicate_that_nobody_can_see_is_unknown(
    ledger: Ledger, clock: FakeClock, faulty: FaultyCollection
) -> None:
    """Until the deadline, and without spinning."""
    faulty.inserts = [lost_answer(GONE)]
    faulty.find_ones = [None] * 10_000
    with pytest.raises(StorageUnavailable):
        append(ledger, clock)
    assert len(faulty.calls) < 200


def test_reads_are_repeated(ledger: Ledger, clock: FakeClock, faulty: FaultyCollection) -> None:
    """A read has no effect: it may simply be asked for again."""
    append(ledger, clock)
    for error in ERRORS:
        faulty.finds = [error, error]
        assert len(read(ledger, EVENT_ID, 0, clock.monotonic() + 1)) == 1
        faulty.finds = [error]
        assert ledger.events_with_keys([request("key").key], clock.monotonic() + 1) == {}


def test_reads_end_at_the_deadline(ledger: Ledger, clock: FakeClock, faulty: FaultyCollection) -> None:
    """Both kinds."""
    for act in (
        lambda deadline: read(ledger, EVENT_ID, 0, deadline),
        lambda deadline: ledger.events_with_keys([b"key"], deadline),
    ):
        faulty.finds = [GONE] * 1_000
        began_s = clock.monotonic()
        with pytest.raises(StorageUnavailable):
            act(began_s + DEADLINE_S)
        assert clock.monotonic() - began_s == pytest.approx(DEADLINE_S)


def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    """It takes the connection and is silent. The driver's own patience is longer than the deadline."""
    deadline_s = 0.3
    assert deadline_s < ATTEMPT_S
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/?directConnection=true"
        with connect(uri) as client:
            ledger = Ledger(ledger_collection(client["ticketing"]), SystemClock())
            for act in (
                lambda deadline: ledger.append(PLAY.state, PLAY.transitions, deadline),
                lambda deadline: read(ledger, EVENT_ID, 0, deadline),
            ):
                began_s = time.monotonic()
                with pytest.raises(StorageUnavailable):
                    act(began_s + deadline_s)
                assert time.monotonic() - began_s < 10 * deadline_s


def test_commits_of_one_ledger_have_nonces_of_their_own(faulty: FaultyCollection, clock: FakeClock) -> None:
    """16 random bytes each: a duplicate can be told from one's own commit."""
    play = Rehearsal(9)
    for user_id in ("ada", "bob", "cyd"):
        play.book(user_id)
    ledger = Ledger(faulty.collection, clock)
    for transition in play.transitions:
        assert ledger.append(play.state, [transition], clock.monotonic() + 1)
    nonces = [document["nonce"] for document in faulty.collection.find()]
    assert len(set(nonces)) == 4
    assert {len(nonce) for nonce in nonces} == {16}
