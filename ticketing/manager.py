"""TicketManager: the one place where state, rules and ledger meet.

Each event has a queue. While one commit of an event is in flight, the requests for it gather in its queue; then
one of their threads, the leader, takes them all, decides them one after the other and writes what they lead to
as one commit. So the cost of durability is shared by everyone who waits (group commit), and an event goes as
fast as its load needs.

What an answer rests on is current, always: either the commit that carries it succeeded, which proves that
nobody had written in between, or the ledger was read after the request came in. Reads wait in the same queue,
so the commit or the one read that answers one of them answers all.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

from .clock import Clock, Signal, tries
from .collector import objects_that_stay
from .domain.commands import Command
from .domain.decide import decide, promote_due
from .domain.fold import Folding, LedgerContradiction, fold
from .domain.model import Answer, EventState, Transition
from .domain.rows import Row
from .errors import (
    EventNotFound,
    IdempotencyKeyReused,
    LedgerDamaged,
    Overloaded,
    StorageUnavailable,
    TicketingError,
)
from .observer import Observer

log = logging.getLogger(__name__)

# While the storage is away nobody waits for it in vain: one request a second tries it, the others are told at once.
# Else all of them would wait for a whole deadline again and again, and on system threads keep others from having one.
PROBE_EVERY_S = 1.0
PROBE_DEADLINE_S = 3.0

# A storage that did not answer within less may be sound: whoever had so little time left says nothing of it.
JUDGED_AFTER_S = 1.0

# An event whose ledger is damaged is refused from memory for so long, for to see the damage takes all of the ledger,
# twice. Then the next request looks again: a ledger that was repaired is served without a restart.
DAMAGE_REMEMBERED_S = 5.0

# What it may take to tell the storage, for somebody whose request has failed already.
DISTRUST_S = 1.0

# Where several ask at once a leader waits for those who are just about to, for as long as others have something to do
# (an event loop takes at most a millisecond for it), and all of them share one commit or one look at the ledger.
GATHER_S = 0.0001

# A commit stays far below MongoDB's 16 MB a document, and a deciding leader yields now and then. It is less than a
# transition with as many promotions as one holds: what is due after that comes before the next request.
BATCH_CHANGES_MAX = 5_000

# After so many pages it is a long ledger: one at a time is folded, and the collector leaves it alone, which would look
# at its orders again and again, for a fifth of the time that they take.
SHORT_FOLD_PAGES = 3


class Ledger(Protocol):
    """What the manager asks of the storage. `deadline` is a time on the clock's `monotonic()`.

    Each method raises `StorageUnavailable` when the deadline passes.
    """

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        """Write one commit of `transitions`, which lead to `state`.

        True: it is in, for good. False: its place is taken, nothing was written.
        """

    def read(self, event_id: str, after: int, deadline: float) -> Iterator[Sequence[Transition | Row]]:
        """The transitions after version `after`, in pages. Raises `LedgerContradiction` for a broken one."""

    def distrust(self, event_id: str, deadline: float) -> None:
        """Let what follows be read from what was written first, and from nothing else that says the same."""

    def recent(self, event_id: str, after: int) -> Sequence[Transition | Row]:
        """Those that follow version `after` and are at hand, because another worker of this host has appended them.

        There may be more. Raises `LedgerContradiction`, and nothing else.
        """

    def events_with_keys(self, keys: Iterable[bytes], deadline: float) -> dict[bytes, set[str]]:
        """Which of these Idempotency-Keys were used, and in which events."""


@dataclass(slots=True)
class Turn:
    """A turn to commit. `version`: where the event was when the last turn ended, 0 for unknown; then where it is."""

    version: int = 0


class Turns:
    """Whose turn it is to commit to an event. Here everybody's at once; see turns.py."""

    def turn(self, event_id: str) -> AbstractContextManager[Turn]:
        """Wait for the turn of this process, not for long."""
        return nullcontext(Turn())


ALONE = Turns()


class TicketManager:
    """Books, cancels and reads events. Thread-safe.

    `deadline_s` is how long a request may take, in seconds; `state_orders_max` how many orders are kept in memory,
    over all events; `queue_length_max` how many requests may wait for one event.

    Its attribute `on_change(event_id, version)` is called when an event has come to a version, after the answers; by
    any thread, and it must not wait for anything. Its `observer` is told what happens, so that it can be counted.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        deadline_s: float = 6.0,
        state_orders_max: int = 1_000_000,
        queue_length_max: int = 800,
        turns: Turns | None = None,
    ) -> None:
        self._ledger = ledger
        self._turns = turns or ALONE
        self._clock = clock
        self._deadline_s = deadline_s
        self._state_orders_max = state_orders_max
        self._queue_length_max = queue_length_max
        self._long_fold = threading.Lock()
        self.on_change: Callable[[str, int], None] = lambda event_id, version: None
        self.observer = Observer()

        # The mutable state, all of it guarded by this one lock. It is held to look and to swap, never during I/O.
        self._lock = threading.Lock()
        self._queues: OrderedDict[str, _EventQueue] = OrderedDict()  # the least recently used event first
        self._orders_kept = 0
        self._waiting = 0  # requests in all queues
        self._probe_at_s: float | None = None  # while the storage is away: when the next request may try it
        self._damage: dict[str, tuple[str, float]] = {}  # by event id: the finding, and until when it is remembered

    def execute(self, command: Command, *, within_s: float | None = None) -> Answer:
        """Carry out a command: durable when this returns.

        `within_s` is what is left of the time of a request that has used some of it before.

        Raises a `Refusal` when the rules say no, and `StorageUnavailable` when nobody can know yet whether it
        took effect: repeat it with the same Idempotency-Key. Raises `Overloaded` and `LedgerDamaged` when nothing
        was tried.
        """
        try:
            answer = self._submit(self._request(command.event_id, command, within_s=within_s)).answer
            assert answer is not None
            if answer.refusal is not None:
                raise answer.refusal.anew(replayed=answer.replayed)
        except TicketingError as error:
            self.observer.executed(command, error)
            raise
        self.observer.executed(command, answer)
        return answer

    def state_of(self, event_id: str, *, within_s: float | None = None) -> EventState:
        """The event with all that was answered before this call, by any worker. `within_s` is that of `execute`.

        Raises `EventNotFound`, `StorageUnavailable`, `Overloaded`, `LedgerDamaged`.
        """
        state = self._submit(self._request(event_id, within_s=within_s)).state
        if state is None or state.event is None:
            raise EventNotFound(event_id)
        return state

    def doubt(self, damage: LedgerDamaged) -> None:
        """Somebody has met damage in a ledger of which a state may be in memory: before anything else rests on that, it
        is read anew. Where the damage is in it the event is refused then."""
        log.critical("ledger doubted", extra={"event_id": damage.event_id, "finding": damage.finding})
        with self._lock:
            queue = self._queues.get(damage.event_id)
            if queue is not None:
                queue.is_doubted = True
        self.distrust(damage.event_id)

    def distrust(self, event_id: str) -> None:
        """Somebody has met damage: whoever reads the ledger from now on reads what was written first, and meets it too.

        What is in memory stays.
        """
        with suppress(StorageUnavailable):
            self._ledger.distrust(event_id, self._clock.monotonic() + DISTRUST_S)

    def _request(
        self, event_id: str, command: Command | None = None, *, within_s: float | None = None
    ) -> _Request:
        limit_s = self._deadline_s if within_s is None else min(within_s, self._deadline_s)
        deadline = self._clock.monotonic() + limit_s
        return _Request(event_id, command, deadline, self._clock.signal())

    # The queue: who waits, who leads.

    def _submit(self, request: _Request) -> _Request:
        """Answer `request`, by this thread if it is made the leader, else by the one that is."""
        queue, leads = self._join(request)
        if not leads:
            if not request.signal.wait(request.deadline - self._clock.monotonic()):
                self._give_up(queue, request)
            leads = request.leads
        if leads:
            self._lead(queue, request.deadline)
        if request.error is not None:
            raise request.error
        return request

    def _join(self, request: _Request) -> tuple[_EventQueue, bool]:
        with self._lock:
            self._refuse_damaged(request.event_id)
            self._admit(request)
            queue = self._queues.get(request.event_id)
            if queue is None:
                queue = self._queues[request.event_id] = _EventQueue(request.event_id)
                self._orders_kept += queue.state.weight
            else:
                self._queues.move_to_end(request.event_id)
            if len(queue.requests) >= self._queue_length_max:
                raise Overloaded
            queue.requests.append(request)
            self._waiting += 1
            leads = not queue.has_leader
            queue.has_leader = True
        return queue, leads

    def _admit(self, request: _Request) -> None:
        """Raise `StorageUnavailable` at once while the storage is away, but for one request now and then."""
        if self._probe_at_s is None:
            return
        now_s = self._clock.monotonic()
        if now_s < self._probe_at_s:
            raise StorageUnavailable
        self._probe_at_s = now_s + PROBE_EVERY_S
        request.deadline = min(request.deadline, now_s + PROBE_DEADLINE_S)

    def _refuse_damaged(self, event_id: str) -> None:
        """Raise `LedgerDamaged` at once while the damage of this event is remembered."""
        if event_id not in self._damage:
            return
        finding, until_s = self._damage[event_id]
        if self._clock.monotonic() < until_s:
            raise LedgerDamaged(event_id, finding)
        del self._damage[event_id]

    def _remember_damage(self, queue: _EventQueue, batch: list[_Request], finding: str) -> None:
        """From now on the event is refused; who came meanwhile joins the batch, and need not look again."""
        log.critical("ledger damaged, event not served", extra={"event_id": queue.event_id, "finding": finding})
        with self._lock:
            self._damage[queue.event_id] = (finding, self._clock.monotonic() + DAMAGE_REMEMBERED_S)
            batch += self._emptied(queue)

    def _note_storage(self, is_away: bool | None) -> None:
        """After a success all are let in again. After a failure the next request tries at once, then one a second.

        None: nothing is known.
        """
        if is_away:
            self._probe_at_s = max(self._clock.monotonic(), self._probe_at_s or 0.0)
        elif is_away is False:
            self._probe_at_s = None

    def _give_up(self, queue: _EventQueue, request: _Request) -> None:
        """The deadline passed while `request` waited. It may be in a commit by now: nobody here knows."""
        with self._lock:
            if request in queue.requests:
                queue.requests.remove(request)
                self._waiting -= 1
                if request.leads:
                    request.leads = False
                    self._hand_over(queue)
        if not request.is_answered:
            request.error = StorageUnavailable()

    def _lead(self, queue: _EventQueue, deadline: float) -> None:
        """Answer all who wait now, then hand the lead to one who came meanwhile.

        Each leader serves one batch, its own request in it, so no thread works for others for long.
        """
        batch: list[_Request] = []
        failure: Exception = StorageUnavailable()
        is_away: bool | None = False
        had_s, version = deadline - self._clock.monotonic(), queue.state.version
        try:
            if queue.is_doubted:
                self._begin_anew(queue, deadline)
            if queue.is_crowded:
                self._clock.sleep(GATHER_S)
            with self._turn(queue) as turn:
                batch += self._take(queue)
                if queue.state.version < turn.version:
                    self._follow(queue, turn.version)
                self._settle(queue, batch, deadline)
                turn.version = queue.state.version
        except StorageUnavailable:
            if queue.state.version == version:  # else the ledger was only too long to be read in time
                is_away = True if had_s >= JUDGED_AFTER_S else None
            log.warning("storage unavailable", extra={"event_id": queue.event_id, "requests": len(batch)})
        except LedgerDamaged as damage:
            failure = damage
            self._remember_damage(queue, batch, damage.finding)
        except Exception as error:
            failure = error
        finally:  # even where the worker is being killed: nobody is left waiting
            batch = batch or self._take(queue)
            for request in batch:
                if not request.is_answered:
                    request.error = failure
            with self._lock:
                self._note_storage(is_away)
                self._hand_over(queue)
                self._forget_least_recently_used()
            for request in batch:
                request.signal.set()
        self.observer.served(len(batch), self._orders_kept, self._waiting)
        if queue.state.version != version:
            self.on_change(queue.event_id, queue.state.version)
            self.observer.changed(queue.state)

    def _follow(self, queue: _EventQueue, version: int) -> None:
        """Go on to a version that others have left, with what is at hand of it.

        Where that is not enough the ledger is read before anything is decided, which would be in vain.
        """
        if queue.is_settled:
            try:
                self._keep(queue, fold(queue.state, self._ledger.recent(queue.event_id, queue.state.version)))
            except LedgerContradiction as contradiction:
                log.error("what was at hand contradicts itself", extra={"finding": str(contradiction)})
            queue.is_settled = queue.state.version >= version

    def _turn(self, queue: _EventQueue) -> AbstractContextManager[Turn]:
        """The turn of this process, where something may have to be written."""
        with self._lock:
            writes = any(request.command for request in queue.requests)
        return self._turns.turn(queue.event_id) if writes else ALONE.turn(queue.event_id)

    def _take(self, queue: _EventQueue) -> list[_Request]:
        with self._lock:
            batch = self._emptied(queue)
            queue.is_crowded = len(batch) > 1
        return batch

    def _emptied(self, queue: _EventQueue) -> list[_Request]:
        """All who wait in it, and do no more."""
        batch, queue.requests = queue.requests, []
        self._waiting -= len(batch)
        return batch

    def _hand_over(self, queue: _EventQueue) -> None:
        if queue.requests:
            # Whoever has the most time left for a storage in trouble. It answers all who wait.
            successor = max(queue.requests, key=attrgetter("deadline"))
            successor.leads = True
            successor.signal.set()
        else:
            queue.has_leader = False
            if queue.state.event is None:
                self._forget(queue)

    # A batch: decide, write, answer.

    def _settle(self, queue: _EventQueue, batch: Sequence[_Request], deadline: float) -> None:
        """Answer each request of the batch from a state that is current.

        Raises `StorageUnavailable`; then the requests not yet answered may or may not have taken effect.
        """
        self._find_keys_of_other_events(queue, batch, deadline)
        is_current = False  # read or proven after the batch was taken
        losses = 0  # of the race for the next place in the ledger
        left = list(batch)
        while left:
            if not queue.is_settled:
                self._catch_up(queue, deadline)
                is_current = True
            batch_decided = _decide_in_turn(queue.state, left, self._clock)
            if batch_decided.transitions:
                is_current = True
                began_s = self._clock.monotonic()
                if not self._append(queue, batch_decided, deadline):
                    losses += 1
                    if losses > 1:
                        self._get_out_of_step(began_s, deadline)
                    self._catch_up(queue, deadline, at_least=batch_decided.transitions[0].version)
                    continue
                self._keep(queue, batch_decided.state)
            elif not is_current:
                is_current = True
                if self._catch_up(queue, deadline):
                    continue
            batch_decided.answer()
            left = left[len(batch_decided.answers) :]

    def _append(self, queue: _EventQueue, batch: _DecidedBatch, deadline: float) -> bool:
        queue.is_settled = False
        began_s = self._clock.monotonic()
        is_in = self._ledger.append(batch.state, batch.transitions, deadline)
        queue.is_settled = True
        self.observer.appended(len(batch.transitions), self._clock.monotonic() - began_s, is_in)
        return is_in

    def _get_out_of_step(self, began_s: float, deadline: float) -> None:
        """Pause for a random part of the time since `began_s`, when the race that was lost began.

        Reading and writing again may take just as long as each commit of the winner: in step with it, every race
        would be lost as the last one was, until the deadline.
        """
        now_s = self._clock.monotonic()
        self._clock.sleep(max(0.0, min(deadline - now_s, random.random() * (now_s - began_s))))

    def _catch_up(self, queue: _EventQueue, deadline: float, at_least: int = 0) -> bool:
        """Read and fold what is new. Returns whether anything was.

        `at_least` is a version that is known to be taken: a majority may see it a little later.
        """
        self.observer.caught_up()
        before = queue.state.version
        for _ in tries(self._clock, deadline):
            try:
                self._fold_new(queue, deadline)
            except LedgerContradiction as contradiction:
                self._fold_anew(queue, deadline, contradiction)
            if queue.state.version >= at_least:
                queue.is_settled, queue.is_read_anew = True, False
                return queue.state.version != before
        raise StorageUnavailable

    def _fold_new(self, queue: _EventQueue, deadline: float) -> None:
        folding = Folding(queue.state)
        try:
            with ExitStack() as long_fold:
                for number, page in enumerate(self._ledger.read(queue.event_id, queue.state.version, deadline)):
                    if number == SHORT_FOLD_PAGES:
                        long_fold.enter_context(self._turn_to_fold_long(deadline))
                        long_fold.enter_context(objects_that_stay())
                    folding.add(page)
        except StorageUnavailable:
            self._keep(queue, folding.state())  # the next request goes on from here
            raise
        self._keep(queue, folding.state())

    @contextmanager
    def _turn_to_fold_long(self, deadline: float) -> Iterator[None]:
        """One long fold after the other: all at once take as long, and their orders come on top of the budget."""
        for _ in tries(self._clock, deadline):
            if self._long_fold.acquire(blocking=False):
                break
        else:
            raise StorageUnavailable
        try:
            yield
        finally:
            self._long_fold.release()

    def _fold_anew(self, queue: _EventQueue, deadline: float, contradiction: LedgerContradiction) -> None:
        """Once more from the first transition, in several requests if it is long. What contradicts itself even then is
        damaged."""
        if not queue.is_read_anew:
            log.error("ledger contradiction, reading it anew", extra={"finding": str(contradiction)})
            self._begin_anew(queue, deadline)
            try:
                self._fold_new(queue, deadline)
                return
            except LedgerContradiction as again:
                contradiction = again
        self._keep(queue, EventState(queue.event_id))
        raise LedgerDamaged(queue.event_id, str(contradiction)) from contradiction

    def _begin_anew(self, queue: _EventQueue, deadline: float) -> None:
        """Forget what is known of an event: it is read from its first transition on."""
        self._ledger.distrust(queue.event_id, deadline)
        queue.is_doubted, queue.is_read_anew = False, True
        queue.is_settled = False  # an empty state must not be decided on: an `initialize` would fill a hole
        self._keep(queue, EventState(queue.event_id))

    def _find_keys_of_other_events(
        self, queue: _EventQueue, batch: Sequence[_Request], deadline: float
    ) -> None:
        """A key that another event has was used for another request, for the body names the event."""
        keys = {request.key for request in batch if request.key and request.key not in queue.state.keys}
        if not keys:
            return
        found = self._ledger.events_with_keys(keys, deadline)
        for request in batch:
            event_ids = found.get(request.key) if request.key else None
            request.key_is_reused = bool(event_ids) and queue.event_id not in (event_ids or ())

    # Memory.

    def _keep(self, queue: _EventQueue, state: EventState) -> None:
        with self._lock:
            self._orders_kept += state.weight - queue.state.weight
            queue.state = state

    def _forget(self, queue: _EventQueue) -> None:
        del self._queues[queue.event_id]
        self._orders_kept -= queue.state.weight

    def _forget_least_recently_used(self) -> None:
        """Drop idle events until the rest fits the budget; the next touch folds them again."""
        if self._orders_kept <= self._state_orders_max:
            return
        for queue in list(self._queues.values())[:-1]:
            if not queue.has_leader:
                self._forget(queue)
                if self._orders_kept <= self._state_orders_max:
                    return


class _Request:
    """One waiting thread: what it asks, and in the end its answer, its state or its error."""

    __slots__ = (
        "answer",
        "command",
        "deadline",
        "error",
        "event_id",
        "key_is_reused",
        "leads",
        "signal",
        "state",
    )

    def __init__(self, event_id: str, command: Command | None, deadline: float, signal: Signal) -> None:
        self.event_id = event_id
        self.command = command  # None reads
        self.deadline = deadline
        self.leads = False
        self.key_is_reused = False
        self.answer: Answer | None = None
        self.state: EventState | None = None
        self.error: Exception | None = None
        self.signal = signal  # set when it is this thread's turn to lead, and when its request is answered

    @property
    def key(self) -> bytes | None:
        """The digest of its Idempotency-Key, if it came with one."""
        return self.command.request.key if self.command and self.command.request else None

    @property
    def is_answered(self) -> bool:
        return self.state is not None or self.error is not None


class _EventQueue:
    """One event in this process: its state, who waits for it, and whether one of them leads."""

    __slots__ = (
        "event_id",
        "has_leader",
        "is_crowded",
        "is_doubted",
        "is_read_anew",
        "is_settled",
        "requests",
        "state",
    )

    def __init__(self, event_id: str) -> None:
        self.event_id = event_id
        self.state = EventState(event_id)
        self.requests: list[_Request] = []
        self.has_leader = False
        self.is_crowded = False  # the last batch held several requests
        # False while a commit of ours may be in the ledger unseen, and at first: the next leader reads before
        # it decides.
        self.is_settled = False
        # Somebody has met damage: the next leader reads the ledger from its beginning.
        self.is_doubted = False
        # While that is done, in one request or in several: a contradiction is the verdict then.
        self.is_read_anew = False


@dataclass(slots=True)
class _DecidedBatch:
    """Requests decided one after the other, and what is to be written before they may be answered."""

    state: EventState
    transitions: list[Transition] = field(default_factory=list)
    answers: list[tuple[_Request, Answer | None]] = field(default_factory=list)

    def add(self, transition: Transition) -> None:
        """One that nobody asked for."""
        self.state = fold(self.state, (transition,))
        self.transitions.append(transition)

    def answer(self) -> None:
        for request, answer in self.answers:
            request.answer = answer
            request.state = self.state


def _decide_in_turn(state: EventState, requests: Sequence[_Request], clock: Clock) -> _DecidedBatch:
    """Decide each request on the state after the one before it, as many as one commit holds."""
    batch = _DecidedBatch(state)
    at = clock.now()
    changes = 0
    due = promote_due(state, at)
    if due is not None:
        batch.add(due)
        changes += len(due.orders)
        if promote_due(batch.state, at) is not None:
            return batch  # more than one transition holds: nothing else happens before the line is served
    for request in requests:
        answer = None
        if request.key_is_reused:
            answer = Answer(refusal=IdempotencyKeyReused())
        elif request.command is not None:
            decision = decide(batch.state, request.command, at)
            batch.state, answer = decision.state, decision.answer
            if decision.transition is not None:
                batch.transitions.append(decision.transition)
                changes += _size(decision.transition)
        batch.answers.append((request, answer))
        if changes >= BATCH_CHANGES_MAX:
            break
    return batch


def _size(transition: Transition) -> int:
    """How much room it takes in a commit, counted in orders of some 150 bytes. An event's details take up to 20 KB."""
    refused = len(transition.refused)
    if transition.refusal is not None:
        refused += len(transition.refusal.details.get("refused", ()))
    return 1 + len(transition.orders) + refused + (150 if transition.event else 0)
