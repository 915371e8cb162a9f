"""ChangeFeed: what happened to an event after a version, in order, for those who follow it.

Each change shows its orders as they are after it, so it is told while the ledger is folded. What was told last is
kept, in windows: consecutive changes of an event and the state after them. A follower who goes on from where its
last page ended finds its place in a window, or at its end, and nothing is folded twice.

Names in a window may have been erased since. Those of orders are told as the event has them now. Who made a change is
read from its commit once more, unless that was read after the request came in.

Who waits for news waits for a signal. A commit of this worker sends it at once; for commits of other workers one
of those who wait looks once a second, for all who wait for the event.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from .clock import Clock, Signal
from .domain.changes import Change, ChangedOrder, fold_and_tell
from .domain.fold import Folding, LedgerContradiction, is_count
from .domain.model import EventState, TransitionType
from .domain.rows import transitions_in
from .errors import LedgerDamaged, Overloaded, StorageUnavailable
from .manager import Ledger

LOOK_EVERY_S = 1.0
LOOK_S_MIN = 1.0

# A window takes in a page of the ledger at a time, some 500 changes, and drops what is older than these.
WINDOW_CHANGES_MAX = 5_000
WINDOWS_MAX = 32


class States(Protocol):
    """What the feed asks of the TicketManager."""

    def state_of(self, event_id: str, *, within_s: float | None = None) -> EventState:
        """The event with all that was answered before this call, by any worker. It may take so many seconds."""

    def distrust(self, event_id: str) -> None:
        """Somebody has met damage: let all who read the ledger from now on meet it. Raises nothing."""


class AfterTheLastChange(Exception):
    """The event has not come to the version that somebody wants to go on from."""


class Page(NamedTuple):
    """Some changes in order, the version to go on from, and for how long the page waited for them."""

    changes: list[Change]
    next_version: int
    waited_s: float = 0.0


class ChangeFeed:
    """Changes of all events. Thread-safe.

    `waiters_max` is how many may wait for news at once; `deadline_s` how long a page may take, in seconds, without
    the wait; `state_orders_max` how many orders the states of the windows may hold, all together.
    """

    def __init__(
        self,
        ledger: Ledger,
        manager: States,
        clock: Clock,
        *,
        deadline_s: float = 6.0,
        state_orders_max: int = 1_000_000,
        waiters_max: int = 500,
    ) -> None:
        self._ledger = ledger
        self._manager = manager
        self._clock = clock
        self._deadline_s = deadline_s
        self._state_orders_max = state_orders_max
        self._waiters = threading.BoundedSemaphore(waiters_max)

        # The mutable state, all of it guarded by this one lock, which is not held during I/O.
        self._lock = threading.Lock()
        self._followed: dict[str, _FollowedEvent] = {}  # those that a request asks about just now
        self._windows: list[_Window] = []  # the one that grew last comes last
        self._is_stopped = False

    def page(
        self,
        event_id: str,
        after: int,
        limit: int,
        wait_s: float = 0.0,
        before_wait: Callable[[], None] = lambda: None,
        deadline: float = math.inf,
    ) -> Page:
        """The first `limit` changes after version `after`, with all that was answered before this call.

        If there are none, it waits for them, `wait_s` seconds at most; `before_wait` is called once before that.
        `deadline` is a time on the clock's `monotonic()`, without the wait, which comes on top of it.
        Raises `AfterTheLastChange`, `Overloaded` when too many wait, and what `TicketManager.state_of` raises.
        """
        # It listens before it looks, so that no commit falls between a look and the wait.
        with self._listen(event_id) as listener:
            page = self._page(listener.event, after, limit, deadline)
            if page.changes or not wait_s:
                return page
            if not self._waiters.acquire(blocking=False):
                raise Overloaded
            try:
                before_wait()
                began_s = self._clock.monotonic()
                # The last look has some time too, however long the first one took.
                until_s, deadline = began_s + wait_s, max(deadline, began_s + LOOK_S_MIN) + wait_s
                while not page.changes and self._wait(listener, page.next_version, until_s, deadline):
                    page = self._page(listener.event, page.next_version, limit, deadline)
                return page._replace(waited_s=self._clock.monotonic() - began_s)
            finally:
                self._waiters.release()

    def notice(self, event_id: str, version: int) -> None:
        """The event has come to this version: wake those who wait for that."""
        with self._lock:
            followed = self._followed.get(event_id)
            if followed is not None and version > followed.version:
                followed.version = version
                followed.wake()

    def stop(self) -> None:
        """Wake all who wait, for good: the worker ends."""
        with self._lock:
            self._is_stopped = True
            for followed in self._followed.values():
                followed.wake()

    # Who follows which event, and waits for its next change.

    @contextmanager
    def _listen(self, event_id: str) -> Iterator[_Listener]:
        signal = self._clock.signal()
        with self._lock:
            followed = self._followed.setdefault(event_id, _FollowedEvent(event_id))
            followed.signals.add(signal)
        try:
            yield _Listener(followed, signal)
        finally:
            with self._lock:
                followed.signals.remove(signal)
                if not followed.signals:
                    del self._followed[event_id]

    def _wait(self, listener: _Listener, after: int, until_s: float, deadline: float) -> bool:
        """Until the event has a version after `after`. False: the time is over, or the worker ends."""
        followed, signal = listener
        while followed.version <= after:
            left_s = until_s - self._clock.monotonic()
            if left_s <= 0 or self._is_stopped:
                return False
            if not signal.wait(min(left_s, LOOK_EVERY_S)) and self._is_turn_to_look(followed):
                self._look(followed, deadline)
        return True

    def _is_turn_to_look(self, followed: _FollowedEvent) -> bool:
        """Whether nobody has looked for a second. Who is told so looks, for all who wait."""
        now_s = self._clock.monotonic()
        with self._lock:
            is_turn = now_s >= followed.looked_s + LOOK_EVERY_S
            if is_turn:
                followed.looked_s = now_s
            return is_turn

    def _look(self, followed: _FollowedEvent, deadline: float) -> EventState:
        state = self._manager.state_of(followed.event_id, within_s=deadline - self._clock.monotonic())
        followed.looked_s = self._clock.monotonic()
        self.notice(followed.event_id, state.version)
        return state

    # Pages, and the windows that they are cut from.

    def _page(self, followed: _FollowedEvent, after: int, limit: int, deadline: float) -> Page:
        began_s = self._clock.monotonic()
        deadline = min(deadline, began_s + self._deadline_s)
        state = self._look(followed, deadline)
        if after > state.version:
            raise AfterTheLastChange
        if after == state.version:
            self._keep(_Window(state))  # so that the next changes need not be folded from the first one on
            return Page([], after)
        # One reads for all who follow the event; the others find what it has told.
        if not followed.reading.acquire(timeout=max(0.0, deadline - self._clock.monotonic())):
            raise StorageUnavailable
        try:
            told, after = self._cut(followed.event_id, after, limit, state, deadline)
            return Page(self._with_names_of_now(told, state, began_s, deadline), after)
        except LedgerContradiction as contradiction:
            self._manager.distrust(followed.event_id)
            raise LedgerDamaged(followed.event_id, str(contradiction)) from contradiction
        finally:
            followed.reading.release()

    def _cut(
        self, event_id: str, after: int, limit: int, state: EventState, deadline: float
    ) -> tuple[list[_Told], int]:
        """The first changes after a version, and the version to go on from."""
        window = self._window(event_id, after)
        shown: list[_Told] = []
        while True:
            for told in window.after(after):
                after = told.change.version
                if told.change.type is not TransitionType.REMEMBERED:
                    shown.append(told)
                if len(shown) == limit:
                    return shown, after
            if window.state.version >= state.version:
                if window.state.version == state.version:
                    window.state = state  # the same, but it shares its memory with the manager's
                return shown, after
            window = self._extended(window, after, deadline)

    def _with_names_of_now(
        self, told: Sequence[_Told], state: EventState, since_s: float, deadline: float
    ) -> list[Change]:
        """The changes without any name that was erased before `since_s`, when the event had come to `state` at least.

        An erasure is done when it has given the orders to a pseudonym, which the state shows, and replaced the name in
        the commits, which nothing but the commits shows: what was read of them before tells nothing.
        """
        in_doubt = [each for each in told if each.change.by is not None and each.read_s <= since_s]
        callers = self._callers(state.event_id, in_doubt, deadline) if in_doubt else {}
        return [
            each.change._replace(
                by=callers.get(each.change.version, each.change.by),
                orders=tuple([_with_name_of_now(changed, state) for changed in each.change.orders]),
            )
            for each in told
        ]

    def _callers(self, event_id: str, told: Sequence[_Told], deadline: float) -> dict[int, str | None]:
        """Who made these changes, by their versions, as the ledger says now. Raises `LedgerContradiction`."""
        wanted = {each.change.version for each in told}
        callers: dict[int, str | None] = {}
        for page in self._ledger.read(event_id, told[0].behind, deadline):
            for transition in transitions_in(page):
                if is_count(transition.version) and transition.version in wanted:
                    callers[transition.version] = transition.by
            if len(callers) == len(wanted):
                return callers
        missing = min(wanted - callers.keys())
        raise LedgerContradiction(f"event {event_id!r}: version {missing} was there and is missing")

    def _window(self, event_id: str, after: int) -> _Window:
        """The window with the change after this version, or the one that ends the least before it, or an empty one."""
        with self._lock:
            windows = [each for each in self._windows if each.state.event_id == event_id]
        holding = [each for each in windows if each.first <= after <= each.state.version]
        before = [each for each in windows if each.state.version < after]
        if holding:
            return holding[-1]
        return max(before, key=lambda each: each.state.version, default=_Window(EventState(event_id)))

    def _extended(self, window: _Window, after: int, deadline: float) -> _Window:
        """A window that goes on where this one ends, with changes after version `after`. Keeps it."""
        state = window.state
        changes = window.changes[-WINDOW_CHANGES_MAX:] if state.version == after else []
        folding, began_s = Folding(state), self._clock.monotonic()
        try:
            for page in self._ledger.read(state.event_id, state.version, deadline):
                behind = folding.version
                changes += [_Told(change, behind, began_s) for change in fold_and_tell(folding, page, after)]
                if folding.version > after:
                    break
        except StorageUnavailable:
            self._keep(_Window(folding.state(), changes))  # the next request goes on from here
            raise
        longer = _Window(folding.state(), changes)
        self._keep(longer)
        return longer

    def _keep(self, window: _Window) -> None:
        """Keep a window, in place of those whose changes it holds too."""
        with self._lock:
            if any(each.covers(window) for each in self._windows):
                return
            self._windows = [each for each in self._windows if not window.covers(each)] + [window]
            weight = sum(each.state.weight for each in self._windows)
            while len(self._windows) > 1 and (
                len(self._windows) > WINDOWS_MAX or weight > self._state_orders_max
            ):
                weight -= self._windows.pop(0).state.weight


class _FollowedEvent:
    """An event that requests ask about just now: who listens for its next change, and what is known of it."""

    def __init__(self, event_id: str) -> None:
        self.event_id = event_id
        self.version = 0
        self.looked_s = 0.0
        self.signals: set[Signal] = set()
        self.reading = threading.Lock()

    def wake(self) -> None:
        for signal in self.signals:
            signal.set()


class _Listener(NamedTuple):
    """One request that follows an event, and the signal that wakes it."""

    event: _FollowedEvent
    signal: Signal


class _Told(NamedTuple):
    """A change as it was told, the end of a commit before it, and a time before the ledger was read for it."""

    change: Change
    behind: int
    read_s: float


class _Window:
    """Consecutive changes of an event up to the end of a commit, and the state after them."""

    def __init__(self, state: EventState, changes: list[_Told] | None = None) -> None:
        self.state = state
        self.changes = changes or []

    @property
    def first(self) -> int:
        """The version before the first change."""
        return self.state.version - len(self.changes)

    def after(self, version: int) -> list[_Told]:
        return self.changes[max(0, version - self.first) :]

    def covers(self, other: _Window) -> bool:
        return (
            self.state.event_id == other.state.event_id
            and self.first <= other.first
            and other.state.version <= self.state.version
        )


def _with_name_of_now(changed: ChangedOrder, state: EventState) -> ChangedOrder:
    """Nothing but an erasure gives an order another name. One that the state has not yet keeps its own."""
    order, now = changed.order, state.order(changed.order.order_id)
    if now is None or now.user_id == order.user_id:
        return changed
    return changed._replace(order=order._replace(user_id=now.user_id))
