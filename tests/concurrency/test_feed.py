"""The change feed: every change once, in order, and who waits is woken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.service.running import eventually
from ticketing.clock import SystemClock
from ticketing.domain.changes import Change, fold_and_tell
from ticketing.domain.commands import Cancel, Pseudonymize
from ticketing.domain.fold import Folding
from ticketing.domain.model import EventState, OrderStatus, RequestKey, Transition, TransitionType
from ticketing.domain.rows import Row
from ticketing.errors import EventNotFound, LedgerDamaged, Overloaded, StorageUnavailable
from ticketing import feed as feed_module
from ticketing.feed import AfterTheLastChange, ChangeFeed, Page
from ticketing.manager import TicketManager
from ticketing.storage.documents import commit_document
from ticketing.storage.rows import rows_of

from .stage import MemoryLedger, booking, cancellation, opening

EVENT = "concert"


class Worker:
    """A manager and a feed over a ledger that others may use too."""

    def __init__(self, ledger: MemoryLedger, waiters_max: int = 10) -> None:
        clock = SystemClock()
        self.manager = TicketManager(ledger, clock)
        self.feed = ChangeFeed(ledger, self.manager, clock, waiters_max=waiters_max)
        self.manager.on_change = self.feed.notice

    def book(self, *users: str) -> None:
        """Book a ticket for each."""
        for user in users:
            self.manager.execute(booking(user))

    def page(self, after: int, limit: int = 500, wait_s: float = 0.0) -> Page:
        """A page of the event's changes."""
        return self.feed.page(EVENT, after, limit, wait_s)


@pytest.fixture
def ledger() -> MemoryLedger:
    """The one ledger of all workers of a test."""
    return MemoryLedger()


@pytest.fixture
def worker(ledger: MemoryLedger) -> Worker:
    """A worker, and an event of two tickets."""
    worker = Worker(ledger)
    worker.manager.execute(opening(total_tickets=2))
    return worker


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for those who wait."""
    with ThreadPoolExecutor(20) as threads:
        yield threads


def all_changes(ledger: MemoryLedger) -> list[Change]:
    """What is to be told, from the first transition on."""
    transitions = [part for commit in ledger.commits[EVENT] for part in commit]
    told = fold_and_tell(Folding(EventState(EVENT)), transitions)
    return [change for change in told if change.type is not TransitionType.REMEMBERED]


def followed(worker: Worker, limit: int, after: int = 0) -> list[Change]:
    """All changes, a page after the other."""
    changes = []
    while (page := worker.page(after, limit)).changes:
        assert len(page.changes) <= limit
        changes += page.changes
        after = page.next_version
    return changes


def wait_for_listeners(worker: Worker, count: int) -> None:
    """Until so many wait in vain."""
    feed = worker.feed
    eventually(lambda: EVENT in feed._followed and len(feed._followed[EVENT].signals) >= count)


class LedgerOfRows(MemoryLedger):
    """Gives bookings that stand in a row as such, as the one in MongoDB does."""

    def read(  # type: ignore[override]  # wider, as the manager's protocol is
        self, event_id: str, after: int, deadline: float
    ) -> Iterator[Sequence[Transition | Row]]:
        for page in super().read(event_id, after, deadline):
            yield rows_of([commit_document(event_id, page, b"")] if page else [])


class TestPages:
    @pytest.mark.parametrize("limit", [1, 2, 3, 500])
    def test_every_change_once_and_in_order(self, worker: Worker, ledger: MemoryLedger, limit: int) -> None:
        """Whatever the size of pages and commits; from the beginning, by a worker that knows nothing."""
        worker.book(*"abcdefg")
        worker.manager.execute(cancellation("a"))
        assert followed(worker, limit) == followed(Worker(ledger), limit) == all_changes(ledger)

    def test_a_page_may_begin_anywhere(self, worker: Worker, ledger: MemoryLedger) -> None:
        """In the middle of a commit too, and on a worker that has not told of it."""
        worker.book(*"abc")
        transitions = [part for commit in ledger.commits[EVENT] for part in commit]
        ledger.commits[EVENT] = [transitions[:1], transitions[1:]]
        for after in range(5):
            assert followed(Worker(ledger), 2, after) == all_changes(ledger)[after:]

    @pytest.mark.parametrize("limit", [1, 3, 500])
    def test_a_page_may_begin_in_a_row(self, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes before it is folded, and nothing of the row is told twice or left out."""
        monkeypatch.setattr("ticketing.storage.rows.ROW_MIN", 2)
        ledger = LedgerOfRows()
        worker = Worker(ledger)
        worker.manager.execute(opening(total_tickets=6))
        worker.book(*"abcdefghij")
        (page,) = ledger.read(EVENT, 0, 0.0)
        assert [len(part) for part in page if isinstance(part, Row)] == [6, 4]
        for after in range(12):
            assert followed(Worker(ledger), limit, after) == all_changes(ledger)[after:]

    def test_what_is_only_remembered_is_passed(self, worker: Worker) -> None:
        """It is not shown, and the next page begins behind it."""
        worker.manager.execute(booking("a", request=RequestKey(b"1" * 16, b"f" * 16)))
        with pytest.raises(Exception, match="active order"):
            worker.manager.execute(booking("a", request=RequestKey(b"2" * 16, b"f" * 16)))
        page = worker.page(0)
        assert ([change.version for change in page.changes], page.next_version) == ([1, 2], 3)
        assert worker.page(2) == Page([], 3)

    def test_a_follower_folds_nothing_twice(self, worker: Worker, ledger: MemoryLedger) -> None:
        """Each page reads on in the ledger from where the last one ended; one that is at the end reads none."""
        after = 0
        for user in "abcdef":
            worker.book(user)
            after = worker.page(after).next_version
        ledger.reads.clear()
        worker.book("g")
        assert worker.page(after) == Page([*all_changes(ledger)[-1:]], after + 1)
        assert ledger.reads == [(EVENT, after + 1), (EVENT, after)]  # the manager's look, the feed's page
        worker.page(after)
        worker.page(after - 3)
        assert [read for read in ledger.reads[2:] if read[1] <= after] == []

    def test_two_followers_at_different_places(
        self, worker: Worker, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Short windows: one reads from the beginning while the other is at the end. Memory stays bounded."""
        monkeypatch.setattr(feed_module, "WINDOW_CHANGES_MAX", 2)
        monkeypatch.setattr(feed_module, "WINDOWS_MAX", 2)
        ends, behind = 1, 0
        for user in "abcdefgh":
            worker.book(user)
            [change] = worker.page(ends, 1).changes
            assert change == all_changes(ledger)[ends]
            ends += 1
            if user in "ceg":
                assert worker.page(behind, 1).changes == all_changes(ledger)[behind : behind + 1]
                behind += 1
        assert len(worker.feed._windows) <= 2

    def test_the_states_of_windows_have_a_budget(self, ledger: MemoryLedger, worker: Worker) -> None:
        """Many events are followed; the states of those that were followed last are kept."""
        worker.feed._state_orders_max = 5
        for event_id in ("one", "two", "three"):
            worker.manager.execute(opening(event_id))
            for user in "ab":
                worker.manager.execute(booking(user, event_id))
            worker.feed.page(event_id, 0, 10)
        assert [window.state.event_id for window in worker.feed._windows] == ["three"]

    def test_a_version_that_is_not_there(self, worker: Worker) -> None:
        """Nobody can have been told to go on from it."""
        with pytest.raises(AfterTheLastChange):
            worker.page(2)
        with pytest.raises(EventNotFound):
            worker.feed.page("nowhere", 0, 10)

    def test_trouble(self, worker: Worker, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        """A storage that goes away in the middle, or a damaged ledger, is an error; what was read is kept."""
        worker.book(*"abc")
        commits = ledger.commits[EVENT]
        real = ledger.read

        def fails_after_a_page(event_id: str, after: int, deadline: float) -> Iterator[list]:
            yield commits[0]
            raise StorageUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(worker.manager, "state_of", lambda event_id, state=worker.manager.state_of(EVENT), **_: state)
            patch.setattr(ledger, "read", fails_after_a_page)
            with pytest.raises(StorageUnavailable):
                worker.page(2)
            assert worker.feed._windows[-1].state.version == 1
            patch.setattr(ledger, "read", lambda event_id, after, deadline: real(event_id, after + 1, deadline))
            with pytest.raises(LedgerDamaged):
                worker.page(2)
        assert not worker.feed._followed


GONE = "erased:1"


def replace_name(ledger: MemoryLedger, name: str) -> None:
    """What an erasure does to the commits of the event."""

    def scrubbed(part: Transition) -> Transition:
        orders = tuple(each | {"user_id": GONE} if each.get("user_id") == name else each for each in part.orders)
        return part._replace(by=GONE if part.by == name else part.by, orders=orders)

    ledger.commits[EVENT] = [[scrubbed(part) for part in commit] for commit in ledger.commits[EVENT]]


def booked(worker: Worker, user: str) -> str:
    """The id of a new order."""
    answer = worker.manager.execute(booking(user))
    assert answer.order is not None
    return answer.order.order_id


def pseudonymize(worker: Worker, name: str) -> None:
    """The first step of an erasure in an event."""
    worker.manager.execute(Pseudonymize(event_id=EVENT, by="admin", user_id=name, pseudonym=GONE))


class TestErasedNames:
    """Are told by no feed once the erasure is done, whatever it has in memory."""

    @pytest.mark.parametrize("limit", [1, 3, 500])
    @pytest.mark.parametrize("read_before", ["the erasure", "the name was replaced", "both"])
    def test_they_are_not_told(self, worker: Worker, ledger: MemoryLedger, read_before: str, limit: int) -> None:
        """Neither of orders nor of who made a change: by a worker that read before the erasure, or in its midst."""
        other = Worker(ledger)
        worker.book("ada", "ben", "cleo")
        worker.manager.execute(Cancel(event_id=EVENT, by="ada", user_id="ada"))
        worker.book("ada")
        worker.manager.execute(Cancel(event_id=EVENT, by="ada", user_id="ben"))
        for name in ("dan", "eve"):
            worker.book(name)
        if read_before != "the name was replaced":
            assert "'ada'" in repr(followed(other, limit))
        pseudonymize(worker, "ada")
        if read_before != "the erasure":
            followed(other, limit)
        replace_name(ledger, "ada")
        told = followed(other, limit)
        assert "'ada'" not in repr(told)
        assert [change._replace(orders=()) for change in told] == [
            change._replace(orders=()) for change in all_changes(ledger)
        ]
        assert [[changed.order.user_id for changed in change.orders] for change in told] == [
            [changed.order.user_id for changed in change.orders] for change in all_changes(ledger)
        ]

    def test_nor_that_of_somebody_without_orders(self, worker: Worker, ledger: MemoryLedger) -> None:
        """Staff: the erasure leaves no transition, and only the commits change."""
        worker.book("ada")
        worker.manager.execute(Cancel(event_id=EVENT, by="sue", user_id="ada"))
        assert [change.by for change in worker.page(0).changes] == [None, None, "sue"]
        pseudonymize(worker, "sue")
        replace_name(ledger, "sue")
        assert [change.by for change in worker.page(0).changes] == [None, None, GONE]

    def test_who_follows_a_state_with_the_name(self, worker: Worker, ledger: MemoryLedger) -> None:
        """A window that ends before the erasure, from which it goes on."""
        worker.book("ada", "ben")
        assert len(worker.page(1).changes) == 2
        other = Worker(ledger)
        other.manager.execute(Cancel(event_id=EVENT, user_id="ada"))
        pseudonymize(other, "ada")
        replace_name(ledger, "ada")
        assert "'ada'" not in repr(worker.page(3, 1).changes + worker.page(1).changes)

    def test_the_name_of_who_has_it_next_is_told(self, worker: Worker) -> None:
        """His orders are his."""
        worker.book("ada")
        pseudonymize(worker, "ada")
        worker.book("ada")
        for _ in range(2):
            named = [[changed.order.user_id for changed in change.orders] for change in worker.page(0).changes]
            assert named == [[], [GONE], [GONE], ["ada"]]

    def test_who_comes_later_reads_who_made_the_changes_once_more(self, worker: Worker, ledger: MemoryLedger) -> None:
        """And folds nothing; where a page tells nobody's name it reads nothing."""
        worker.book("ada")
        worker.manager.execute(Cancel(event_id=EVENT, by="sue", user_id="ada"))
        worker.page(1)
        ledger.reads.clear()
        assert [change.by for change in worker.page(1).changes] == [None, "sue"]
        assert ledger.reads == [(EVENT, 3), (EVENT, 0)]  # the manager's look, then from the end of a commit
        ledger.reads.clear()
        worker.page(1, 1)
        assert ledger.reads == [(EVENT, 3)]

    def test_who_had_asked_when_it_was_read_does_not(
        self, worker: Worker, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Many who wait for the same change read it once."""
        worker.manager.execute(Cancel(event_id=EVENT, by="sue", order_id=booked(worker, "ada")))
        real: Callable[..., EventState] = worker.manager.state_of

        def state_of(*args: Any, **options: Any) -> EventState:
            monkeypatch.setattr(worker.manager, "state_of", real)
            assert [change.by for change in worker.page(1).changes] == [None, "sue"]
            ledger.reads.clear()
            return real(*args, **options)

        monkeypatch.setattr(worker.manager, "state_of", state_of)
        assert [change.by for change in worker.page(1).changes] == [None, "sue"]
        assert ledger.reads == [(EVENT, 3)]

    def test_what_is_not_there_any_more_is_damage(self, worker: Worker, ledger: MemoryLedger) -> None:
        """Nobody can say then who made the change."""
        worker.book("ada")
        worker.manager.execute(Cancel(event_id=EVENT, by="sue", user_id="ada"))
        worker.page(0)
        del ledger.commits[EVENT][2]
        with pytest.raises(LedgerDamaged):
            worker.page(0)


class TestDamage:
    """Whoever meets it lets everybody read what was written first."""

    @pytest.mark.parametrize("is_away", [False, True])
    def test_it_is_told_to_the_storage(
        self, worker: Worker, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, is_away: bool
    ) -> None:
        """For a second at most; also where that fails it is damage that the follower hears of."""
        distrusted: list[tuple[str, float]] = []

        def distrust(event_id: str, deadline: float) -> None:
            distrusted.append((event_id, deadline - time.monotonic()))
            if is_away:
                raise StorageUnavailable

        worker.book("ada", "ben")
        monkeypatch.setattr(ledger, "distrust", distrust)
        ledger.commits[EVENT][1] = [ledger.commits[EVENT][1][0]._replace(type=TransitionType.CANCELLED)]
        ledger.commits[EVENT][1][0].orders[0]["status"] = OrderStatus.CANCELLED
        with pytest.raises(LedgerDamaged):
            worker.page(0)
        ((event_id, left_s),) = distrusted
        assert event_id == EVENT and left_s == pytest.approx(1.0, abs=0.5)


class TestWaiting:
    def test_a_commit_of_the_worker_wakes_all_who_wait(self, worker: Worker, pool: ThreadPoolExecutor) -> None:
        """At once, with one reading of the ledger for all of them."""
        waiting = [pool.submit(worker.page, 1, 500, 60.0) for _ in range(5)]
        wait_for_listeners(worker, 5)
        worker.book("a")
        for each in waiting:
            page = each.result(20)
            assert ([change.version for change in page.changes], page.next_version) == ([2], 2)

    def test_without_the_signal_nobody_is_woken_at_once(
        self, worker: Worker, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control of the test above: with no look either, the wait takes all its time."""
        monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 1000.0)
        worker.manager.on_change = lambda event_id, version: None
        waiting = pool.submit(worker.page, 1, 500, 0.5)
        wait_for_listeners(worker, 1)
        worker.book("a")
        page = waiting.result(20)
        assert (page.changes, page.next_version) == ([], 1)
        assert page.waited_s >= 0.5

    def test_one_looks_for_all(
        self, worker: Worker, ledger: MemoryLedger, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For what other workers write there is one look a period, however many wait; and it wakes all."""
        monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 0.2)
        looks: list[str] = []
        waiting = [pool.submit(worker.page, 1, 500, 60.0) for _ in range(10)]
        wait_for_listeners(worker, 10)
        count_looks(worker, looks)
        eventually(lambda: len(looks) > 3)
        with worker.feed._lock:
            began = len(looks)
        other = Worker(ledger)
        other.book("a")
        assert [each.result(20).next_version for each in waiting] == [2] * 10
        assert began + 1 + 10 <= len(looks) <= began + 5 + 10  # each asks once more for its page

    def test_the_time_ends(self, worker: Worker) -> None:
        """An empty page, from which one may go on."""
        page = worker.page(1, wait_s=0.05)
        assert (page.changes, page.next_version) == ([], 1)
        assert page.waited_s >= 0.05

    def test_the_wait_comes_on_top_of_the_deadline(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each look has what is left of the time of the request, without the wait; the last ones have a moment at
        least."""
        given: list[float] = []
        real: Callable[..., EventState] = worker.manager.state_of

        def state_of(event_id: str, *, within_s: float) -> EventState:
            given.append(within_s)
            if len(given) == 2:  # by the one who waits
                worker.book("a")
            return real(event_id)

        monkeypatch.setattr(worker.manager, "state_of", state_of)
        monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 0.01)
        assert worker.feed.page(EVENT, 1, 10, 5.0, deadline=time.monotonic() + 0.5).next_version == 2
        assert given[0] == pytest.approx(0.5, abs=0.2)
        assert given[1:] == [pytest.approx(feed_module.LOOK_S_MIN + 5.0, abs=0.5)] * 2

    def test_who_has_changes_to_read_does_not_wait(self, worker: Worker) -> None:
        """The wait is for an empty page only."""
        called: list[bool] = []
        page = worker.feed.page(EVENT, 0, 10, 60.0, lambda: called.append(True))
        assert (len(page.changes), page.waited_s, called) == (1, 0.0, [])

    def test_what_is_only_remembered_wakes_nobody(self, worker: Worker, pool: ThreadPoolExecutor) -> None:
        """The wait goes on behind it."""
        worker.book("a")
        waiting = pool.submit(worker.page, 2, 500, 60.0)
        wait_for_listeners(worker, 1)
        with pytest.raises(Exception, match="active order"):
            worker.manager.execute(booking("a", request=RequestKey(b"2" * 16, b"f" * 16)))
        worker.book("b")
        page = waiting.result(20)
        assert ([change.version for change in page.changes], page.next_version) == ([4], 4)

    def test_one_too_many_is_refused(self, ledger: MemoryLedger, worker: Worker, pool: ThreadPoolExecutor) -> None:
        """`Overloaded` at once; one who left makes room; who does not wait is served all the same."""
        small = Worker(ledger, waiters_max=2)
        waiting = [pool.submit(small.page, 1, 500, 60.0) for _ in range(2)]
        wait_for_listeners(small, 2)
        eventually(lambda: small.feed._waiters._value == 0)
        with pytest.raises(Overloaded):
            small.page(1, wait_s=1.0)
        assert small.page(1) == Page([], 1)
        small.book("a")
        assert [each.result(20).next_version for each in waiting] == [2, 2]
        assert small.page(2, wait_s=0.01).next_version == 2

    def test_the_end_of_the_worker_answers_all(self, worker: Worker, pool: ThreadPoolExecutor) -> None:
        """Who waits then, and who comes later: an empty page at once."""
        waiting = [pool.submit(worker.page, 1, 500, 60.0) for _ in range(3)]
        wait_for_listeners(worker, 3)
        worker.feed.stop()
        assert [each.result(20).changes for each in waiting] == [[]] * 3
        assert worker.page(1, wait_s=60.0).changes == []

    def test_nothing_is_missed_under_load(self, worker: Worker, ledger: MemoryLedger, pool: ThreadPoolExecutor) -> None:
        """Two workers book while three follow: each of them sees all changes, once and in order."""
        other, users = Worker(ledger), 60

        def follow(through: Worker) -> list[Change]:
            changes: list[Change] = []
            while len(changes) < 1 + 2 * users:
                changes += through.page(changes[-1].version if changes else 0, 7, 20.0).changes
            return changes

        followers: list[Future] = [pool.submit(follow, through) for through in (worker, worker, other)]
        bookers = [
            pool.submit(through.book, *(f"{name}{number}" for number in range(users)))
            for through, name in ((worker, "a"), (other, "b"))
        ]
        for each in bookers:
            each.result(60)
        for follower in followers:
            assert follower.result(60) == all_changes(ledger)


def count_looks(worker: Worker, looks: list[str]) -> None:
    """Note each question for the state."""
    real: Callable[[str], EventState] = worker.manager.state_of

    def state_of(event_id: str, **options: Any) -> EventState:
        looks.append(threading.current_thread().name)
        return real(event_id, **options)

    worker.manager.state_of = state_of  # type: ignore[method-assign]
