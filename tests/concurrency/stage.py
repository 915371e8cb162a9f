"""Test support: a ledger in memory that can be made to block and to fail, and a clock that knows who waits.

With them a test decides what happens in which order, and nothing depends on how fast a thread is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from ticketing.clock import Signal, SystemClock
from ticketing.domain.commands import Book, Cancel, Initialize
from ticketing.domain.model import EventState, RequestKey, Transition
from ticketing.errors import StorageUnavailable
from ticketing.ids import new_order_id
from ticketing.manager import TicketManager

PATIENCE_S = 20.0
"""How long a test waits for what must happen at once. Reached only when the test fails."""


class Gate:
    """A place where a thread stops until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.is_open = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.is_open.wait(PATIENCE_S), "the gate was never opened"

    def wait_until_reached(self) -> None:
        assert self.reached.wait(PATIENCE_S), "nobody came to the gate"


class MemoryLedger:
    """Commits in lists. `appends` holds what the next appends meet: a gate, an error, or None for nothing."""

    def __init__(self) -> None:
        self.commits: dict[str, list[list[Transition]]] = {}
        self.appends: list[Gate | BaseException | None] = []
        self.attempts = 0  # to append
        self.reads: list[tuple[str, int]] = []
        self.key_lookups = 0
        self.hidden_reads = 0  # how many reads to come do not see the last commit yet
        self._lock = threading.Lock()

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        with self._lock:
            self.attempts += 1
            trouble = self.appends.pop(0) if self.appends else None
        if isinstance(trouble, Gate):
            trouble.pass_through()
        if isinstance(trouble, BaseException):
            raise trouble
        with self._lock:
            commits = self.commits.setdefault(state.event_id, [])
            if any(commit[0].version == transitions[0].version for commit in commits):
                return False
            commits.append(list(transitions))
            return True

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[list[Transition]]:
        with self._lock:
            self.reads.append((event_id, after))
            commits = self.commits.get(event_id, [])
            if self.hidden_reads:
                self.hidden_reads -= 1
                commits = commits[:-1]
            page = [part for commit in commits for part in commit if part.version > after]
        yield page

    def distrust(self, event_id: str, deadline: float) -> None:
        """There is nothing else that says the same."""

    def recent(self, event_id: str, after: int) -> list[Transition]:
        """Nobody leaves copies here."""
        return []

    def events_with_keys(self, keys: Iterable[bytes], deadline: float) -> dict[bytes, set[str]]:
        wanted, found = set(keys), dict[bytes, set[str]]()
        with self._lock:
            self.key_lookups += 1
            for event_id, commits in self.commits.items():
                for part in (part for commit in commits for part in commit):
                    if part.request is not None and part.request.key in wanted:
                        found.setdefault(part.request.key, set()).add(event_id)
        return found

    def sizes(self, event_id: str) -> list[int]:
        """How many transitions each commit holds."""
        return [len(commit) for commit in self.commits[event_id]]


class LostAnswer(StorageUnavailable):
    """To be put into `LossyLedger.appends`: the commit happens, and the deadline passes before its answer."""


class LossyLedger(MemoryLedger):
    """A ledger whose answers get lost."""

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        is_lost = bool(self.appends) and isinstance(self.appends[0], LostAnswer)
        if is_lost:
            self.appends[0] = None
        is_in = super().append(state, transitions, deadline)
        if is_lost:
            raise StorageUnavailable
        return is_in


class CopyingLedger(LossyLedger):
    """A ledger of workers of one host, who leave each other copies of what they append."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[str, list[list[Transition]]] = {}
        self.copies_to_lose = 0  # of the next that could be left
        self.looks: list[tuple[str, int]] = []  # for copies

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        is_in = super().append(state, transitions, deadline)
        if is_in and self.copies_to_lose:
            self.copies_to_lose -= 1
        elif is_in:
            self.copies.setdefault(state.event_id, []).append(list(transitions))
        return is_in

    def distrust(self, event_id: str, deadline: float) -> None:
        """There is nothing else that says the same."""

    def recent(self, event_id: str, after: int) -> list[Transition]:
        """All that follow the version up to the last copy, or none."""
        self.looks.append((event_id, after))
        found: list[Transition] = []
        for copy in reversed(self.copies.get(event_id, [])):
            if found and copy[-1].version != found[0].version - 1:
                break
            found = copy + found
            if copy[0].version == after + 1:
                return found
        return []


class WatchedClock(SystemClock):
    """Tells the test when a thread begins to wait for its turn, and lets it end everybody's patience."""

    def __init__(self) -> None:
        self._waiting = threading.Semaphore(0)
        self._changed = threading.Condition()
        self.is_patience_over = False
        self.giving_up: Gate | None = None  # where those stop whose patience is over

    def signal(self) -> Signal:
        return _WatchedSignal(self, self._waiting, self._changed)

    def wait_until_waiting(self, threads: int) -> None:
        """Until so many threads more have begun to wait."""
        for _ in range(threads):
            assert self._waiting.acquire(timeout=PATIENCE_S), "nobody waits"

    def end_patience(self) -> None:
        """The deadline of all who wait passes now."""
        with self._changed:
            self.is_patience_over = True
            self._changed.notify_all()


class _WatchedSignal:
    """A signal of a `WatchedClock`."""

    def __init__(
        self, clock: WatchedClock, waiting: threading.Semaphore, changed: threading.Condition
    ) -> None:
        self._clock = clock
        self._waiting = waiting
        self._changed = changed
        self._is_set = False

    def wait(self, seconds: float) -> bool:
        self._waiting.release()
        with self._changed:
            self._changed.wait_for(lambda: self._is_set or self._clock.is_patience_over, PATIENCE_S)
            was_set, self._is_set = self._is_set, False
        if not was_set and self._clock.giving_up is not None:
            self._clock.giving_up.pass_through()
        return was_set

    def set(self) -> None:
        with self._changed:
            self._is_set = True
            self._changed.notify_all()


def opening(event_id: str = "concert", total_tickets: int = 100) -> Initialize:
    """The command that opens an event."""
    return Initialize(event_id=event_id, name="Concert", total_tickets=total_tickets)


def booking(user_id: str, event_id: str = "concert", request: RequestKey | None = None) -> Book:
    """A booking of one ticket, under a new order id."""
    return Book(event_id=event_id, order_id=new_order_id(event_id), user_id=user_id, request=request)


def cancellation(user_id: str, event_id: str = "concert") -> Cancel:
    """The cancellation of a user's order."""
    return Cancel(event_id=event_id, user_id=user_id)


def assert_nothing_is_left_behind(manager: TicketManager) -> None:
    """Nobody waits, nobody leads, and the books on memory are right."""
    with manager._lock:
        queues = list(manager._queues.values())
        assert [queue.event_id for queue in queues if queue.requests or queue.has_leader] == []
        assert [queue.event_id for queue in queues if queue.state.event is None] == []
        assert manager._waiting == 0
        assert manager._orders_kept == sum(queue.state.weight for queue in queues)
