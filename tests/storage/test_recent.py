"""Copies of commits in shared memory: what is given is always what was left, however much of it is lost."""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sparse import written
from ticketing.storage import recent as module
from ticketing.storage.recent import COMMITS_MIN, INDEX_BYTES, STEPS_MAX, RecentCommits, share, shared_commits

FORK = multiprocessing.get_context("fork")
LONG_S = 20.0

RING_BYTES = 16 * 1024
SMALL_RING_BYTES = 2 * 1024  # some twenty copies of small commits


def memory(ring_bytes: int = RING_BYTES) -> bytearray:
    """For copies, empty."""
    return bytearray(INDEX_BYTES + ring_bytes)


def commit(event_id: str, first: int, last: int, filling: int = 0) -> bytes:
    """The bytes of a commit: what it is, and as many more as told."""
    return f"{event_id} {first} {last} ".encode() + b"." * filling


def leave_all(recent: RecentCommits, event_id: str, ends: Iterable[tuple[int, int]]) -> dict[int, bytes]:
    """Leave the commits of an event from version to version; by their first version."""
    left = {}
    for first, last in ends:
        left[first] = commit(event_id, first, last)
        recent.leave(event_id, first, last, left[first])
    return left


def with_one_slot() -> tuple[str, str]:
    """Two events that share a slot of the index."""
    seen: dict[int, str] = {}
    for number in itertools.count():
        event_id = f"event-{number}"
        slot = module._slot_of(RecentCommits()._name_of(event_id))
        if slot in seen:
            return seen[slot], event_id
        seen[slot] = event_id
    raise AssertionError


ONE_SLOT = with_one_slot()


# What is given.


def test_without_memory_there_are_none() -> None:
    """Nothing is kept, and nothing breaks."""
    recent = RecentCommits()
    recent.leave("concert", 1, 1, b"commit")
    recent.forget()
    assert recent.after("concert", 0) == []


def test_what_was_never_left_is_not_there() -> None:
    """In memory that nobody has written to, and of an event that nobody has."""
    recent = RecentCommits(memory())
    assert recent.after("concert", 0) == []
    recent.leave("concert", 1, 1, b"commit")
    assert recent.after("opera", 0) == []


def test_all_that_follow_a_version_are_given() -> None:
    """From any end of a commit on, up to the last one, in order, whoever else has left copies between them."""
    recent = RecentCommits(memory())
    left: dict[int, bytes] = {}
    for first, last in ((4, 4), (5, 7), (8, 8), (9, 20)):
        left |= leave_all(recent, "concert", [(first, last)])
        leave_all(recent, "opera", [(first, last)])
    assert recent.after("concert", 3) == [left[4], left[5], left[8], left[9]]
    assert recent.after("concert", 4) == [left[5], left[8], left[9]]
    assert recent.after("concert", 7) == [left[8], left[9]]
    assert recent.after("concert", 8) == [left[9]]


def test_who_has_them_all_is_given_none() -> None:
    """Nor who knows more than anybody has left."""
    recent = RecentCommits(memory())
    leave_all(recent, "concert", [(1, 1), (2, 3)])
    assert recent.after("concert", 3) == []
    assert recent.after("concert", 9) == []


def test_nobody_begins_within_a_commit() -> None:
    """A version that no commit ends with, or that is before the first copy."""
    recent = RecentCommits(memory())
    leave_all(recent, "concert", [(3, 4), (5, 7)])
    assert recent.after("concert", 5) == []
    assert recent.after("concert", 3) == []
    assert recent.after("concert", 1) == []


def test_where_one_is_missing_none_are_given() -> None:
    """Another host has written it, say. From behind the gap on they are there."""
    recent = RecentCommits(memory())
    left = leave_all(recent, "concert", [(1, 1), (2, 2), (4, 5), (6, 6)])
    assert recent.after("concert", 1) == []
    assert recent.after("concert", 2) == []
    assert recent.after("concert", 3) == [left[4], left[6]]


def test_commits_that_overlap_are_no_chain() -> None:
    """Two of them cannot both be in the ledger; whatever is wrong, nobody goes on from it."""
    recent = RecentCommits(memory())
    left = leave_all(recent, "concert", [(1, 1), (2, 5), (4, 6)])
    assert recent.after("concert", 1) == []
    assert recent.after("concert", 3) == [left[4]]


def test_events_that_share_a_slot_lose_each_others() -> None:
    """Of each what came after the other's last, and never one of the other."""
    recent = RecentCommits(memory())
    one, other = ONE_SLOT
    leave_all(recent, one, [(1, 1), (2, 2)])
    of_other = leave_all(recent, other, [(1, 1), (2, 2), (3, 3)])
    assert recent.after(one, 0) == []
    assert recent.after(one, 1) == []
    assert recent.after(other, 0) == list(of_other.values())
    of_one = leave_all(recent, one, [(3, 3), (4, 4)])
    assert recent.after(one, 2) == list(of_one.values())
    assert recent.after(one, 1) == []
    assert recent.after(other, 2) == []


def test_another_database_has_other_ledgers() -> None:
    """A worker whose settings name another one than its neighbour's sees none of its copies."""
    shared = memory()
    left = leave_all(RecentCommits(shared, database="mongodb://here/one"), "concert", [(1, 1)])
    assert RecentCommits(shared, database="mongodb://here/other").after("concert", 0) == []
    assert RecentCommits(shared, database="mongodb://here/one").after("concert", 0) == [left[1]]


def test_a_long_way_is_not_gone() -> None:
    """Whoever is so far behind reads the ledger, which takes one command for all of them."""
    recent = RecentCommits(memory())
    left = leave_all(recent, "concert", [(version, version) for version in range(1, STEPS_MAX + 2)])
    assert recent.after("concert", 1) == list(left.values())[1:]
    assert recent.after("concert", 0) == []


# The ring.


def test_the_oldest_are_overwritten() -> None:
    """After many laps the last ones are there, and a chain that has lost its beginning is none."""
    recent = RecentCommits(memory(SMALL_RING_BYTES))
    left = leave_all(recent, "concert", [(version, version) for version in range(1, 500)])
    got = {version: recent.after("concert", version) for version in range(0, 500)}
    kept = [version for version, commits in got.items() if commits]
    assert kept == list(range(kept[0], 499))
    assert 10 < len(kept) < 30
    assert all(got[version] == [left[each] for each in range(version + 1, 500)] for version in kept)


def test_an_event_that_rests_is_overwritten_by_others() -> None:
    """Its place in the index leads to what is not its own."""
    recent = RecentCommits(memory(SMALL_RING_BYTES))
    leave_all(recent, "resting", [(1, 1)])
    leave_all(recent, "concert", [(version, version) for version in range(1, 100)])
    assert recent.after("resting", 0) == []


def test_a_large_commit_leaves_no_copy() -> None:
    """It would take the room of many. The next one is there, and whoever has not seen the large one reads it."""
    recent = RecentCommits(memory())
    bytes_max = RING_BYTES // COMMITS_MIN
    recent.leave("concert", 1, 1, b"." * bytes_max)
    assert recent.after("concert", 0) == [b"." * bytes_max]
    recent.leave("concert", 2, 99, b"." * (bytes_max + 1))
    assert recent.after("concert", 1) == []
    recent.leave("concert", 100, 100, b"small")
    assert recent.after("concert", 99) == [b"small"]
    assert recent.after("concert", 1) == []


class Model:
    """The same with lists, without memory: all that was left, as it was. Nothing is forgotten here."""

    def __init__(self) -> None:
        self.left: dict[str, list[tuple[int, int, bytes]]] = {}

    def leave(self, event_id: str, first: int, last: int, content: bytes) -> None:
        """Leave a commit."""
        self.left.setdefault(event_id, []).append((first, last, content))

    def after(self, event_id: str, version: int) -> tuple[list[bytes], bool]:
        """All that follow a version until one is missing, and whether none is."""
        found: list[bytes] = []
        for first, last, content in self.left.get(event_id, ()):
            if first == version + 1:
                found.append(content)
                version = last
            elif first > version:
                return found, False
        return found, True


EVENTS = (*ONE_SLOT, "concert")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("leave"), st.sampled_from(EVENTS), st.integers(1, 5), st.integers(0, 140)),
        st.tuples(st.just("miss"), st.sampled_from(EVENTS), st.integers(1, 5), st.just(0)),
        st.tuples(st.just("forget"), st.just(""), st.just(0), st.just(0)),
    ),
    max_size=60,
)
TEARS = st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6)


def play(steps: list[tuple[str, str, int, int]], tears: list[tuple[int, float, int]]) -> list[str]:
    """Leave copies and lose some, on a small ring; tear bytes after some of the steps. What was given wrongly."""
    shared = memory(SMALL_RING_BYTES)
    recent, model, versions, wrong = RecentCommits(shared), Model(), dict.fromkeys(EVENTS, 0), []
    for number, (what, event_id, count, filling) in enumerate(steps):
        if what == "forget":
            recent.forget()
            assert written(shared) == []
        else:
            first, versions[event_id] = versions[event_id] + 1, versions[event_id] + count
        if what == "leave":
            content = commit(event_id, first, versions[event_id], filling)
            recent.leave(event_id, first, versions[event_id], content)
            if len(content) <= SMALL_RING_BYTES // COMMITS_MIN:
                model.leave(event_id, first, versions[event_id], content)
                assert recent.after(event_id, first - 1) == [content], "the last one is always there"
        for at, part, mask in tears:
            if at == number:
                shared[place_of(shared, part)] ^= mask
        for each, version in versions.items():
            for known in range(version + 1):
                got, (true, is_whole) = recent.after(each, known), model.after(each, known)
                # A torn index may lead to an older copy: then it is less, from the same version on.
                is_right = got == true[: len(got)] if tears else not got or (got == true and is_whole)
                if not is_right:
                    wrong.append(f"after {known} of {each}: {got!r}")
    return wrong


def place_of(shared: bytearray, part: float) -> int:
    """One of the bytes that have been written to, or near them: mostly it would be one that nobody looks at."""
    used = written(shared) or [0]
    return used[int(part * len(used))]


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_it_gives_what_follows_or_nothing(steps: list[tuple[str, str, int, int]]) -> None:
    """Whoever leaves what, on a ring that is lapped: all that follows a version up to the last copy, or none."""
    assert play(steps, []) == []


@settings(max_examples=150, deadline=None)
@given(STEPS, TEARS)
def test_torn_bytes_never_give_what_was_not_left(
    steps: list[tuple[str, str, int, int]], tears: list[tuple[int, float, int]]
) -> None:
    """Whatever bytes are torn meanwhile: what is given follows the version, and is what was left."""
    assert play(steps, tears) == []


# Torn copies.


def torn_in_each_byte() -> Iterator[tuple[int, list[list[bytes]], list[list[bytes]]]]:
    """A chain with another event's copies in it, one byte torn at a time: the byte, what is left to be given after some
    versions, and what is given."""
    shared = memory()
    recent = RecentCommits(shared)
    leave_all(recent, "concert", [(1, 1), (2, 4)])
    leave_all(recent, "opera", [(1, 1)])
    leave_all(recent, "concert", [(5, 5)])

    def after_each() -> list[list[bytes]]:
        return [recent.after("concert", version) for version in range(7)]

    true = after_each()
    assert [len(each) for each in true] == [3, 2, 0, 0, 1, 0, 0]
    used = written(shared)
    for place in sorted({near for each in used for near in (each, each + 1)}):
        for mask in (0x01, 0x80, 0xFF):
            shared[place] ^= mask
            yield place, true, after_each()
            shared[place] ^= mask
    assert after_each() == true


def test_a_torn_byte_gives_fewer_or_none() -> None:
    """Each byte that was written, in turn: of the index, of what leads from copy to copy, of the copies."""
    noticed = 0
    for place, true, got in torn_in_each_byte():
        for right, each in zip(true, got, strict=True):
            assert each == right[: len(each)], place
        noticed += got != true
    assert noticed > 300


def test_without_digests_torn_copies_would_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(module, "_digest", lambda head, commit: b"the same for all")
    wrong = [
        place
        for place, true, got in torn_in_each_byte()
        for right, each in zip(true, got, strict=True)
        if each != right[: len(each)]
    ]
    assert wrong


def test_what_is_torn_keeps_nobody_from_leaving_more() -> None:
    """Each byte that was written, and all bits of the number that places count on from."""
    pristine = memory()
    leave_all(RecentCommits(pristine), "concert", [(1, 1), (2, 4)])
    used = written(pristine)
    for places in ([*range(8)], *([each] for each in used)):
        shared = bytearray(pristine)
        for place in places:
            shared[place] = 0xFF
        recent = RecentCommits(shared)
        left = leave_all(recent, "concert", [(5, 5), (6, 6)])
        assert recent.after("concert", 4) == list(left.values()), places


def test_half_a_copy_is_none() -> None:
    """Its writer was killed when so many bytes of it were there: those before it are given, or none."""
    shared = memory()
    recent = RecentCommits(shared)
    before = leave_all(recent, "concert", [(1, 1)])
    without = bytes(shared)
    leave_all(recent, "concert", [(2, 2)])
    changed = [place for place, byte in enumerate(shared) if byte != without[place]]
    in_ring = [place for place in changed if place >= INDEX_BYTES]
    assert len(in_ring) > 40
    for place in in_ring:
        # The index leads to it already, which no writer does: it is written when the copy is there.
        for index in (without[:INDEX_BYTES], bytes(shared[:INDEX_BYTES])):
            half = bytearray(index + shared[INDEX_BYTES:place] + without[place:])
            assert RecentCommits(half).after("concert", 0) in ([], [before[1]])
            assert RecentCommits(half).after("concert", 1) == []


# Several processes.


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecentCommits]:
    """Copies that a process forked from this one shares."""
    monkeypatch.setattr(module, "_shared", None)
    assert shared_commits()._memory is None, "a process alone shares nothing"
    share()
    assert module._shared is not None
    memory_of_all, file = module._shared
    yield shared_commits()
    file.close()
    memory_of_all.close()


def forked(work: Callable[[], object]) -> Any:
    """Another process that does that and ends."""

    def run() -> None:
        work()
        os._exit(0)  # nothing of pytest's in this process

    process = FORK.Process(target=run, daemon=True)
    process.start()
    return process


def test_processes_see_each_others(shared: RecentCommits) -> None:
    """What one that was forked has left is there for who forked it, and the other way round."""
    shared.leave("concert", 1, 1, b"one")
    process = forked(lambda: shared.leave("concert", 2, 2, b"two" if shared.after("concert", 0) else b"nothing"))
    process.join(LONG_S)
    assert shared.after("concert", 0) == [b"one", b"two"]


def test_what_is_shared_anew_is_empty(shared: RecentCommits) -> None:
    """As at a reload: those who come see nothing of those who were there, and leave nothing for them."""
    shared.leave("concert", 1, 1, b"one")
    before = module._shared
    share()
    assert module._shared is not None and module._shared is not before
    new = shared_commits()
    assert new.after("concert", 0) == []
    new.leave("concert", 1, 1, b"another")
    assert shared.after("concert", 0) == [b"one"]
    _, file = module._shared
    file.close()


class Writer:
    """Another process, which has begun to write and does not go on."""

    def __init__(self, recent: RecentCommits) -> None:
        self._is_writing = FORK.Event()
        self._recent = recent
        self.process = forked(self._work)
        assert self._is_writing.wait(LONG_S)

    def _work(self) -> None:
        with self._recent._writing() as may_write:
            assert may_write
            self._is_writing.set()
            signal.pause()

    def kill(self) -> None:
        """In the middle of it."""
        self.process.kill()
        self.process.join(LONG_S)
        assert self.process.exitcode == -signal.SIGKILL


def test_who_finds_another_at_work_leaves_none(shared: RecentCommits) -> None:
    """And does not wait for it; those that are there can be read."""
    shared.leave("concert", 1, 1, b"one")
    writer = Writer(shared)
    try:
        shared.leave("concert", 2, 2, b"two")
        assert shared.after("concert", 0) == [b"one"]
        assert shared.after("concert", 1) == []
    finally:
        writer.kill()


def test_who_is_killed_keeps_nobody_from_writing(shared: RecentCommits) -> None:
    """The kernel takes the lock back."""
    Writer(shared).kill()
    shared.leave("concert", 1, 1, b"one")
    assert shared.after("concert", 0) == [b"one"]


def test_who_has_written_lets_others(shared: RecentCommits) -> None:
    """The lock is given back with each copy, and with each that could not be made."""
    with pytest.raises(TypeError):
        shared.leave("concert", 1, 1, "no bytes")  # type: ignore[arg-type]
    shared.leave("concert", 1, 1, b"one")
    process = forked(lambda: shared.leave("concert", 2, 2, b"two"))
    process.join(LONG_S)
    assert shared.after("concert", 0) == [b"one", b"two"]


def test_readers_beside_writers_see_nothing_torn() -> None:
    """Two processes leave copies on a small ring as fast as they can, another reads: each is as it was left."""
    event_ids, is_enough = (ONE_SLOT[0], "concert"), FORK.Event()
    with mmap.mmap(-1, INDEX_BYTES + SMALL_RING_BYTES) as shared, tempfile.TemporaryFile(buffering=0) as file:
        recent = RecentCommits(shared, file.fileno())

        def write(event_id: str) -> None:
            for version in itertools.count(1):
                recent.leave(event_id, version, version, commit(event_id, version, version, version % 50))
                if is_enough.is_set():
                    return

        writers = [forked(partial(write, event_id)) for event_id in event_ids]
        read, end_s = Counter[str](), time.monotonic() + LONG_S
        while min(read[event_id] for event_id in event_ids) < 1_000:
            assert time.monotonic() < end_s
            for event_id in event_ids:
                for version in versions_left(recent, event_id):
                    for number, each in enumerate(recent.after(event_id, version), start=version + 1):
                        assert each == commit(event_id, number, number, number % 50)
                        read[event_id] += 1
        is_enough.set()
        for writer in writers:
            writer.join(LONG_S)
        assert [writer.exitcode for writer in writers] == [0, 0]


def versions_left(recent: RecentCommits, event_id: str) -> Iterator[int]:
    """Some that are followed by copies, where the last one can be read: its writer may be just there."""
    shared: Any = recent._memory
    _, place = module._SLOT.unpack_from(shared, module._slot_of(recent._name_of(event_id)))
    copy = recent._read(shared, place)
    if copy is not None:
        yield from range(max(0, copy.first - 4), copy.first)


# Names that are erased.


def test_nothing_stays_of_what_is_forgotten() -> None:
    """Not a byte, in the ring or in the index; and copies are left as before."""
    shared = memory(SMALL_RING_BYTES)
    recent = RecentCommits(shared)
    for version in range(1, 100):
        recent.leave("concert", version, version, b"ada-of-the-test")
    assert b"ada-of-the-test" in shared
    recent.forget()
    assert not any(shared)
    assert recent.after("concert", 98) == []
    recent.leave("concert", 100, 100, b"hundred")
    assert recent.after("concert", 99) == [b"hundred"]
