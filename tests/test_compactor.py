"""The compactor: when it writes segments, and of what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.storage.fakes import FakeClock
from ticketing.compactor import BEGIN_WITHIN_S, BEHIND_MAX, Compactor
from ticketing.errors import StorageUnavailable


class LaterClock(FakeClock):
    """Work beside the caller's own is carried out when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.works: list[Callable[[], None]] = []

    def start(self, work: Callable[[], None]) -> None:
        self.works.append(work)

    def carry_out(self) -> None:
        """All that was begun so far."""
        works, self.works = self.works, []
        for work in works:
            work()


class FakeSegments:
    """`left` says how many more segments there are to be written, or what happens instead."""

    def __init__(self, left: int | Exception) -> None:
        self.left = left
        self.asked: list[str] = []
        self.between: Callable[[], object] = lambda: None

    def extend(self, event_id: str, deadline: float) -> bool:
        self.asked.append(event_id)
        self.between()
        if isinstance(self.left, Exception):
            raise self.left
        self.left -= 1
        return self.left >= 0


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


def started(segments: FakeSegments, clock: LaterClock) -> Compactor:
    """One that works."""
    compactor = Compactor(segments, clock)
    compactor.start()
    return compactor


def test_it_writes_until_there_is_not_enough_for_one(clock: LaterClock) -> None:
    """Beside everything else, and not at once: other workers notice at the same time."""
    segments = FakeSegments(left=3)
    started(segments, clock).notice("concert", BEHIND_MAX)
    assert segments.asked == []
    clock.carry_out()
    assert segments.asked == ["concert"] * 4
    assert len(clock.slept_s) == 1
    assert 0 <= clock.slept_s[0] <= BEGIN_WITHIN_S


def test_it_looks_again_when_much_has_come(clock: LaterClock) -> None:
    """Short ledgers are read fast enough as they are."""
    segments = FakeSegments(left=0)
    compactor = started(segments, clock)
    for version in range(0, 3 * BEHIND_MAX, 100):
        compactor.notice("concert", version)
        clock.carry_out()
    assert segments.asked == ["concert"] * 2
    compactor.notice("opera", BEHIND_MAX - 1)
    assert clock.works == []


def test_it_works_on_one_event_at_a_time(clock: LaterClock) -> None:
    """Who comes meanwhile is worked on when it changes again."""
    segments = FakeSegments(left=0)
    compactor = started(segments, clock)
    for event_id in ("concert", "opera", "concert"):
        compactor.notice(event_id, BEHIND_MAX)
    clock.carry_out()
    assert segments.asked == ["concert"]
    compactor.notice("opera", BEHIND_MAX + 1)
    clock.carry_out()
    assert segments.asked == ["concert", "opera"]


def test_it_does_nothing_before_it_is_started(clock: LaterClock) -> None:
    """A command that is about to end, as `flask users erase`, would leave half a work behind."""
    segments = FakeSegments(left=1)
    compactor = Compactor(segments, clock)
    compactor.notice("concert", BEHIND_MAX)
    assert clock.works == []
    compactor.start()
    compactor.notice("concert", BEHIND_MAX)
    assert len(clock.works) == 1


def test_it_ends_after_the_segment_under_way(clock: LaterClock) -> None:
    """A worker that stops does not wait for more."""
    segments = FakeSegments(left=100)
    compactor = started(segments, clock)
    segments.between = compactor.stop
    compactor.notice("concert", BEHIND_MAX)
    clock.carry_out()
    assert segments.asked == ["concert"]
    compactor.notice("concert", 9 * BEHIND_MAX)
    assert clock.works == []


def test_where_no_thread_can_be_started(clock: LaterClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error of whoever has booked; later it is tried again."""

    def cannot(work: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    segments = FakeSegments(left=0)
    compactor = started(segments, clock)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "start", cannot)
        compactor.notice("concert", BEHIND_MAX)
    compactor.notice("concert", 2 * BEHIND_MAX)
    clock.carry_out()
    assert segments.asked == ["concert"]


@pytest.mark.parametrize("error", [StorageUnavailable(), RuntimeError("a defect")])
def test_an_error_ends_nothing_but_this_work(
    clock: LaterClock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """It is logged, and tried again when as much has come once more."""
    segments = FakeSegments(left=error)
    compactor = started(segments, clock)
    for version in (BEHIND_MAX, BEHIND_MAX + 1, 2 * BEHIND_MAX):
        compactor.notice("concert", version)
        clock.carry_out()
    assert segments.asked == ["concert"] * 2
    assert [record.event_id for record in caplog.records] == ["concert"] * 2  # type: ignore[attr-defined]
