"""Who serves which subscription: in order, at least once, whoever is killed meanwhile.

Any number of these processes may run. Each holds leases on some subscriptions, and serves each of them by a thread of
its own, the courier, so that a slow receiver delays nobody else. A courier delivers one notice at a time, those of an
event in the order of the ledger, and moves the cursor when a change has been delivered: who takes over goes on from
there, and sends again at most what was delivered last.

New commits are learned of by a change stream. It only wakes: the truth is in the ledger, and is looked up at the
start and whenever the stream was lost.

Whatever goes wrong in a thread beside the one that runs, it is logged and the thread goes on after a pause: the process
would live on without it, and nobody would notice.

When sales open by the clock nothing is committed before somebody looks at the event: the line goes on then. So that
those in it are told soon, the couriers look at the events whose sales have just opened.
"""

from __future__ import annotations

import logging
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from ..clock import Clock
from ..domain.notices import Notice, notices_of
from ..errors import StorageUnavailable, TicketingError
from ..feed import AfterTheLastChange, ChangeFeed
from ..storage.webhooks import Cursor, Delivery, Failing, Subscription, Webhooks
from .messages import body_of, message_id
from .sender import Outcome, Sender

log = logging.getLogger(__name__)

LEASE_S = 15.0
COURIERS_MAX = 200
TAKEN_AT_ONCE_MAX = 20  # so that processes which start together share what there is

BACKOFF_MAX_S = 4 * 3600.0
FAILING_MAX = timedelta(days=3)
OPENED_EVERY_S = 10.0  # how often to look for events whose sales have opened meanwhile
OPENED_BEFORE = timedelta(minutes=1)  # again and again, for subscriptions that were taken over since
OPENED_AT_FIRST = timedelta(days=1)  # for what opened while nobody delivered
PAUSE_S = 1.0  # before the storage is asked again
PAGE_CHANGES = 100


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How patient a deliverer is, in seconds. The pauses between two tries double from the first on."""

    lease_s: float = LEASE_S
    backoff_first_s: float = 5.0
    failing_max: timedelta = FAILING_MAX


def pause_after(attempts: int, first_s: float, luck: float) -> float:
    """How long to wait, in seconds, after so many attempts (>= 1) that failed.

    Twice as long after each, up to `BACKOFF_MAX_S`, and then shortened by up to a half: `luck` is from 0 to 1, so that
    those who failed together do not come back together.
    """
    doublings = min(attempts - 1, 40)  # a float does not hold any number of them
    return min(BACKOFF_MAX_S, first_s * 2.0**doublings) * (1.0 - luck / 2)


class Deliverer:
    """Serves subscriptions until it is stopped. `new_sender` makes the sender of a courier.

    Its attribute `on_attempt(outcome, duration_s)` is called after each attempt to deliver, by any courier.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        feed: ChangeFeed,
        clock: Clock,
        new_sender: Callable[[], Sender],
        settings: Settings | None = None,
    ) -> None:
        self.webhooks = webhooks
        self.feed = feed
        self.clock = clock
        self.settings = settings or Settings()
        self.on_attempt: Callable[[Outcome, float], None] = lambda outcome, duration_s: None
        self._new_sender = new_sender
        self._holder = secrets.token_hex(8)
        # Signals come between any two instructions: who stops only puts a word here, for `run` to take out.
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = threading.Event()  # for the thread that watches

        # For the thread that runs: until when, and at which moment, events were looked for whose sales opened.
        self._opened_until = clock.now() - OPENED_AT_FIRST
        self._opened_looked_s = -OPENED_EVERY_S

        # Guarded by the lock: the version that each event has come to, and who serves which subscription.
        self._lock = threading.Lock()
        self._ends: dict[str, int] = {}
        self._couriers: dict[str, Courier] = {}

    def run(self) -> None:
        """Serve until `stop` is called, from another thread or a signal handler."""
        watcher = threading.Thread(target=self._watch, name="webhooks-watcher")
        watcher.start()
        try:
            pause_s = 0.0
            while not self._is_told_to_stop(pause_s):
                try:
                    self._share()
                    self._look_at_opened_sales()
                except TicketingError as error:
                    log.warning("the storage does not answer, leases are not kept", extra={"error": error.code})
                pause_s = min(PAUSE_S, self.settings.lease_s / 4)
        finally:
            self._stopping.set()
            for courier in self._couriers.values():
                courier.stop()
            for thread in (*self._couriers.values(), watcher):
                thread.join()
            try:
                self.webhooks.release(self._holder)
            except TicketingError:
                pass  # they expire

    def stop(self) -> None:
        """Deliver what is under way, then end."""
        self._stops.put(None)

    def _is_told_to_stop(self, within_s: float) -> bool:
        try:
            self._stops.get(timeout=within_s)
        except queue.Empty:
            return False
        return True

    def _share(self) -> None:
        """Keep the leases, take some that are free, and have a courier for each."""
        until_s = time.monotonic() + self.settings.lease_s
        room = COURIERS_MAX - len(self._couriers)
        leased = self.webhooks.lease(self._holder, self.settings.lease_s, min(room, TAKEN_AT_ONCE_MAX))
        secrets_of = {subscription.webhook_id: subscription.secret for subscription in leased}
        for courier in list(self._couriers.values()):
            # Another secret: it was ended, and made anew under the same id.
            if courier.secret != secrets_of.get(courier.webhook_id):
                courier.stop()  # it may still deliver: nobody is begun in its place before it has ended
            if not courier.is_alive():
                with self._lock:
                    del self._couriers[courier.webhook_id]
        for subscription in leased:
            if subscription.webhook_id in self._couriers:
                self._couriers[subscription.webhook_id].go_on(subscription, until_s)
                continue
            courier = Courier(self, subscription, self._new_sender(), until_s)
            with self._lock:
                self._couriers[subscription.webhook_id] = courier
            courier.start()

    def _look_at_opened_sales(self) -> None:
        """Let the couriers look at events whose sales have opened by the clock; to look is to let the line go on."""
        now, now_s = self.clock.now(), self.clock.monotonic()
        if now_s < self._opened_looked_s + OPENED_EVERY_S:
            return
        for event_id in self.webhooks.events_opened(self._opened_until, now):
            for courier in self._all_couriers():
                courier.notice(event_id)
        self._opened_until, self._opened_looked_s = now - OPENED_BEFORE, now_s

    # How it fares, for those who watch it.

    def served(self) -> int:
        """The subscriptions that are served here."""
        return len(self._all_couriers())

    def failing(self) -> int:
        """Those of them whose receiver fails."""
        return sum(courier.is_failing() for courier in self._all_couriers())

    def behind(self) -> int:
        """The changes that they have still to be told of, as far as is known here."""
        ends = self.ends()
        return sum(courier.behind(ends) for courier in self._all_couriers())

    def _all_couriers(self) -> list[Courier]:
        with self._lock:
            return list(self._couriers.values())

    # What happens.

    def ends(self) -> dict[str, int]:
        """The version that each event has come to, as far as is known here."""
        with self._lock:
            return dict(self._ends)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except TicketingError:
                log.warning("no change stream: new commits are looked for")
            except Exception:
                log.exception("the change stream was lost: new commits are looked for")
            try:
                self._look()
            except TicketingError:
                log.warning("the storage does not answer, new commits are not seen")
            except Exception:
                log.exception("new commits are not seen")
            self._stopping.wait(PAUSE_S)

    def _follow(self) -> None:
        """Tell of new commits, as long as there is a change stream."""
        for commit in self.webhooks.new_commits():
            if self._stopping.is_set():
                return
            if commit is not None:
                self._notice(*commit)

    def _look(self) -> None:
        """Tell of all commits that there are."""
        if self._stopping.is_set():
            return
        for event_id, version in self.webhooks.ends_of_ledgers().items():
            self._notice(event_id, version)

    def _notice(self, event_id: str, version: int) -> None:
        with self._lock:
            if version <= self._ends.get(event_id, 0):
                return  # the stream may tell what a look has found before
            self._ends[event_id] = version
        for courier in self._all_couriers():
            courier.notice(event_id)


class Courier(threading.Thread):
    """Serves one subscription, one notice after the other."""

    def __init__(
        self, deliverer: Deliverer, subscription: Subscription, sender: Sender, until_s: float
    ) -> None:
        super().__init__(name=f"courier-{subscription.webhook_id}")
        self.webhook_id = subscription.webhook_id
        self.secret = subscription.secret
        self._webhooks = deliverer.webhooks
        self._feed = deliverer.feed
        self._clock = deliverer.clock
        self._settings = deliverer.settings
        self._ends = deliverer.ends
        self._on_attempt = deliverer.on_attempt
        self._sender = sender
        self._is_stopped = False
        self._woken = threading.Event()

        # Guarded by the lock: what others tell this thread.
        self._lock = threading.Lock()
        self._subscription = subscription
        self._until_s = until_s
        self._is_set_back = True  # the cursors are to be read anew
        self._noticed: dict[str, None] = {}  # events with news, those that have waited longest first

        # This thread's own.
        self._cursors: dict[str, Cursor] = {}
        self._delivered: tuple[str, int, int] | None = None  # event, version and number of the last notice

    # For others.

    def notice(self, event_id: str) -> None:
        """Something happened to this event."""
        if self._subscription.event_id in (None, event_id):
            with self._lock:
                self._noticed[event_id] = None
            self._woken.set()

    def go_on(self, subscription: Subscription, until_s: float) -> None:
        """The lease goes on until `until_s` (`time.monotonic()`). After a replay the subscription is a new one."""
        with self._lock:
            self._until_s = until_s
            if subscription.replays != self._subscription.replays:
                self._subscription = subscription
                self._is_set_back = True
        self._woken.set()

    def stop(self) -> None:
        """End when what is under way is delivered."""
        self._is_stopped = True
        self._woken.set()

    def is_failing(self) -> bool:
        """Whether its receiver did not take the last notice."""
        return self._subscription.failing is not None

    def behind(self, ends: dict[str, int]) -> int:
        """The changes up to `ends` that have still to be told; 0 until it knows how far it has come."""
        if self._is_set_back:
            return 0
        about, cursors = self._subscription.event_id, self._cursors
        return sum(
            max(0, version - cursors.get(event_id, Cursor()).version)
            for event_id, version in ends.items()
            if about in (None, event_id)
        )

    # The thread.

    def run(self) -> None:
        """Serve until told to stop, or until the subscription is disabled."""
        try:
            while not self._is_stopped:
                self._woken.clear()
                try:
                    self._serve()
                except TicketingError as error:
                    facts = {"webhook_id": self.webhook_id, "error": error.code}
                    log.warning("webhook not served for now", extra=facts)
                    self._woken.wait(PAUSE_S)
                except Exception:
                    log.exception("webhook not served for now", extra={"webhook_id": self.webhook_id})
                    self._woken.wait(PAUSE_S)
                else:
                    self._woken.wait(self._pause_s())
        finally:
            self._sender.close()

    def _pause_s(self) -> float:
        """How long there is nothing to do, unless somebody wakes this thread."""
        failing = self._subscription.failing
        if failing is None:
            return PAUSE_S
        left_s = (failing.next_attempt_at - self._clock.now()).total_seconds()
        return max(0.0, min(PAUSE_S, left_s))

    def _may_send(self) -> bool:
        failing = self._subscription.failing
        return (
            not self._is_stopped
            and time.monotonic() < self._until_s
            and self._subscription.is_active
            and (failing is None or failing.next_attempt_at <= self._clock.now())
        )

    def _serve(self) -> None:
        """A page of each event that has news, as long as the receiver takes them."""
        while self._may_send():
            if self._is_set_back:
                self._read_cursors()
            with self._lock:
                event_id = next(iter(self._noticed), None)
                if event_id is None:
                    return
                del self._noticed[event_id]
            is_done = False
            try:
                is_done = self._serve_event(event_id)
            finally:
                if not is_done:
                    with self._lock:
                        self._noticed[event_id] = None

    def _read_cursors(self) -> None:
        self._is_set_back, self._delivered = False, None
        try:
            self._cursors = self._webhooks.cursors(self.webhook_id)
        except Exception:
            self._is_set_back = True
            raise
        for event_id, version in self._ends().items():
            if version > self._cursor(event_id).version:
                self.notice(event_id)

    def _cursor(self, event_id: str) -> Cursor:
        return self._cursors.get(event_id, Cursor())

    def _serve_event(self, event_id: str) -> bool:
        """Deliver a page of an event's changes. False: there may be more."""
        try:
            page = self._feed.page(event_id, self._cursor(event_id).version, PAGE_CHANGES)
        except AfterTheLastChange:
            log.error("a ledger is shorter than it was", extra={"webhook_id": self.webhook_id, "event_id": event_id})
            return True
        if not page.changes and page.next_version < self._ends().get(event_id, 0):
            raise StorageUnavailable  # a new primary, say, that does not know yet what its majority has
        for change in page.changes:
            wanted = [notice for notice in notices_of(change) if self._wants(notice)]
            for notice in wanted:
                if not self._deliver(event_id, notice):
                    return False
            if wanted and not self._advance(event_id, change.version):
                return False
        if page.next_version > self._cursor(event_id).version:
            self._advance(event_id, page.next_version)
        return len(page.changes) < PAGE_CHANGES

    def _wants(self, notice: Notice) -> bool:
        types = self._subscription.types
        return types is None or notice.type in types

    def _advance(self, event_id: str, version: int) -> bool:
        """All up to `version` is delivered. False: the subscription was set back meanwhile."""
        before = self._cursor(event_id)
        cursor = self._webhooks.advance(self.webhook_id, event_id, before, version)
        self._cursors[event_id] = cursor
        return cursor.replays == before.replays

    def _deliver(self, event_id: str, notice: Notice) -> bool:
        """One attempt, unless it was delivered already. False: not now."""
        place = (event_id, notice.change.version, notice.number)
        if self._delivered is not None and self._delivered[:2] == place[:2] and self._delivered >= place:
            return True
        if self._is_set_back or not self._may_send():
            return False
        subscription, began_s, at = self._subscription, time.monotonic(), self._clock.now()
        attempt = subscription.failing.attempts + 1 if subscription.failing else 1
        message = message_id(self.webhook_id, event_id, notice)
        outcome = self._sender.send(subscription.url, subscription.secret, message, at, body_of(event_id, notice))
        duration_s = time.monotonic() - began_s
        self._on_attempt(outcome, duration_s)
        delivery = Delivery(
            message_id=message,
            type=notice.type.value,
            event_id=event_id,
            version=notice.change.version,
            at=at,
            attempt=attempt,
            duration_ms=round(duration_s * 1000),
            http_status=outcome.http_status,
            error=outcome.error,
        )
        if outcome.error is None:
            self._delivered = place
        self._note(subscription, outcome, attempt)
        self._webhooks.log(self.webhook_id, delivery)
        return outcome.error is None

    def _note(self, subscription: Subscription, outcome: Outcome, attempts: int) -> None:
        """What the outcome means for the subscription: it fares well, is tried later, or is disabled."""
        if outcome.error is None:
            if subscription.failing is not None:
                self._set_failing(None)
            return
        now = self._clock.now()
        since = subscription.failing.since if subscription.failing else now
        reason = "the receiver is gone (410)" if outcome.is_gone else None
        if now - since >= self._settings.failing_max:
            reason = f"the receiver has failed since {since.isoformat(timespec='seconds')}: {outcome.error}"
        if reason is not None:
            log.warning("webhook disabled", extra={"webhook_id": self.webhook_id, "reason": reason})
            self._webhooks.disable(self.webhook_id, reason)
            self._is_stopped = True
            return
        pause_s = pause_after(attempts, self._settings.backoff_first_s, random.random())
        next_attempt_at = now + timedelta(seconds=pause_s)
        self._set_failing(
            Failing(since=since, attempts=attempts, error=outcome.error or "", next_attempt_at=next_attempt_at)
        )

    def _set_failing(self, failing: Failing | None) -> None:
        with self._lock:
            self._subscription = replace(self._subscription, failing=failing)
        self._webhooks.set_failing(self.webhook_id, failing)
