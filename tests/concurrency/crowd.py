"""Test support: processes of threads that book, cancel and read one event, and write down what they saw.

Each process has its own client and manager, as a worker has. All begin at a barrier.
"""

from __future__ import annotations

import multiprocessing
import random
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from pymongo.collection import Collection

from ticketing.clock import SystemClock
from ticketing.domain.commands import Book, Cancel, Command
from ticketing.domain.model import Answer, EventState, Transition
from ticketing.errors import TicketingError
from ticketing.ids import new_order_id
from ticketing.manager import TicketManager
from ticketing.storage.client import connect
from ticketing.storage.documents import commit_document
from ticketing.storage.ledger import Ledger, ledger_collection

START_DEADLINE_S = 60.0
END_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """How many do what. Each thread books `bookings` times, and cancels and reads in between by chance.

    Every user belongs to one thread, but for "everybody": with `shared_user` all threads try to book for it.
    """

    processes: int
    threads: int
    bookings: int
    cancel_chance: float = 0.0
    read_chance: float = 0.0
    shared_user: bool = False
    compare_and_set: bool = True


@dataclass(frozen=True)
class Seen:
    """One request and what came of it. Times are of the machine's monotonic clock, one for all processes."""

    who: tuple[int, int]  # process, thread
    began_s: float
    ended_s: float
    command: Command | None  # None: a read
    answer: Answer | None = None
    error: str | None = None
    counts: tuple[int, int, int] | None = None  # of a read: version, booked, waiting


class LedgerWithoutCompareAndSet(Ledger):
    """The protection taken out: whoever writes succeeds, whatever was written since it looked."""

    def __init__(self, collection: Collection[dict[str, Any]], clock: SystemClock) -> None:
        super().__init__(collection, clock)
        self._unprotected = collection

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        document = commit_document(state.event_id, transitions, secrets.token_bytes(16))
        self._unprotected.insert_one({**document, "_id": f"{document['_id']}-{secrets.token_hex(8)}"})
        return True


def send_crowd(plan: Plan, uri: str, database: str, event_id: str) -> list[Seen]:
    """Let the crowd in, and return all that all of them saw."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(plan.processes)
    pipes = [context.Pipe(duplex=False) for _ in range(plan.processes)]
    processes = [
        context.Process(
            target=_work, args=(plan, number, uri, database, event_id, barrier, mine), daemon=True
        )
        for number, (_, mine) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        return [seen for theirs, _ in pipes for seen in _received(theirs)]
    finally:
        for process in processes:
            process.join(START_DEADLINE_S)
        for pipe in pipes:
            for end in pipe:
                end.close()


def _received(theirs: Connection) -> list[Seen]:
    assert theirs.poll(END_DEADLINE_S), "a process of the crowd said nothing"
    result = theirs.recv()
    assert isinstance(result, list), f"a process of the crowd failed:\n{result}"
    return result


def _work(
    plan: Plan, process: int, uri: str, database: str, event_id: str, barrier: Any, results: Connection
) -> None:
    """One process of the crowd."""
    try:
        clock = SystemClock()
        with connect(uri) as client, ThreadPoolExecutor(plan.threads) as pool:
            kind = Ledger if plan.compare_and_set else LedgerWithoutCompareAndSet
            manager = TicketManager(kind(ledger_collection(client[database]), clock), clock)
            manager.state_of(event_id)  # connected, and the event known
            started = threading.Barrier(plan.threads)
            barrier.wait(START_DEADLINE_S)
            visitors = [
                pool.submit(Visitor(plan, manager, event_id, (process, thread), started).visit)
                for thread in range(plan.threads)
            ]
            results.send([seen for visitor in visitors for seen in visitor.result()])
    except Exception:
        results.send(traceback.format_exc())


class Visitor:
    """One thread of the crowd."""

    def __init__(
        self,
        plan: Plan,
        manager: TicketManager,
        event_id: str,
        who: tuple[int, int],
        started: threading.Barrier,
    ) -> None:
        self._plan = plan
        self._manager = manager
        self._event_id = event_id
        self._who = who
        self._started = started
        self._chance = random.Random(f"{who}")
        self._order_ids: list[str] = []
        self._seen: list[Seen] = []

    def visit(self) -> list[Seen]:
        """Do one's share, and return what came of it."""
        self._started.wait(START_DEADLINE_S)
        for number in range(self._plan.bookings):
            process, thread = self._who
            is_shared = self._plan.shared_user and number == 0
            self._book("everybody" if is_shared else f"{process}-{thread}-{number}")
            if self._order_ids and self._chance.random() < self._plan.cancel_chance:
                self._cancel(self._chance.choice(self._order_ids))
            if self._chance.random() < self._plan.read_chance:
                self._watch(None, lambda: self._manager.state_of(self._event_id))
        return self._seen

    def _book(self, user_id: str) -> None:
        command = Book(event_id=self._event_id, order_id=new_order_id(self._event_id), user_id=user_id)
        answer = self._watch(command, lambda: self._manager.execute(command))
        if isinstance(answer, Answer):
            self._order_ids.append(command.order_id)

    def _cancel(self, order_id: str) -> None:
        command = Cancel(event_id=self._event_id, order_id=order_id)
        self._watch(command, lambda: self._manager.execute(command))

    def _watch(self, command: Command | None, act: Callable[[], Answer | EventState]) -> object:
        result: Answer | EventState | None = None
        error = None
        began_s = time.monotonic()
        try:
            result = act()
        except TicketingError as refused:
            error = refused.code
        ended_s = time.monotonic()
        answer = result if isinstance(result, Answer) else None
        counts = (
            (result.version, result.booked_tickets, result.waiting_list_count)
            if isinstance(result, EventState)
            else None
        )
        self._seen.append(Seen(self._who, began_s, ended_s, command, answer, error, counts))
        return result
