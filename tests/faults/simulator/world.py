"""One seed, one story: workers that crash, clients that time out and repeat, a MongoDB in trouble."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ticketing.clock import Clock
from ticketing.domain.commands import Book, Cancel, Command, Initialize
from ticketing.domain.model import Answer, EventState, RequestKey
from ticketing.errors import Refusal, Unavailable
from ticketing.manager import TicketManager
from ticketing.storage import ledger as ledger_module
from ticketing.storage.ledger import Ledger

from ..history import Attempt, History
from .collection import ReplicaSet, SimulatedCollection
from .scheduler import Scheduler, SimulatedClock, SimulatedSignal, Task, forget_all

DEADLINE_S = 8.0
ANSWER_WAY_S = 0.1
REST_S = 600.0  # by then every story has come to an end
PAGE_SIZE = 3  # a catch-up comes in pieces, and the world changes between them
MANAGER_LOGGERS = ("ticketing.manager", "ticketing.storage.ledger")


class NothingWasDone(Exception):
    """A failure that its client takes as final. The service has no such answer; a control has."""


@dataclass(frozen=True)
class Parts:
    """The code under test; a control replaces a part by one without its protection."""

    manager: type[TicketManager] = TicketManager
    ledger: type[Ledger] = Ledger
    collection: type[SimulatedCollection] = SimulatedCollection


class World:
    """Everything that happens under one seed."""

    def __init__(self, seed: int, parts: Parts) -> None:
        self.rng = random.Random(seed)
        random.seed(seed)  # the backoff of the code under test draws from here
        self.scheduler = Scheduler(random.Random(self.rng.random()))
        self.clock: Clock = SimulatedClock(self.scheduler)
        trouble = self.rng.choice([0.2, 0.6, 1.0])
        self.replica_set = ReplicaSet(self.scheduler, random.Random(self.rng.random()), trouble)
        self.parts = parts
        self.attempts: list[Attempt] = []
        self.story: list[str] = []
        self.order_ids: list[str] = []
        self.events = [f"event-{number}" for number in range(1, self.rng.choice([2, 2, 3]))]
        self.workers = [Worker(self, f"worker-{number}") for number in range(self.rng.randint(1, 3))]
        self.clients_left = 0
        self._sequence = 0

    def run(self) -> History:
        for number in range(self.rng.randint(3, 7)):
            client = Client(self, f"client-{number}", random.Random(self.rng.random()))
            self.clients_left += 1
            self.scheduler.spawn(client.name, client.run, after_s=self.rng.uniform(0, 0.05))
        self.scheduler.spawn("nemesis", self._nemesis)
        self.scheduler.run(REST_S)
        # All is quiet, the last zombie has landed: everybody must see the same now.
        self.replica_set.calm_down()
        observer = Client(self, "observer", self.rng)
        self.scheduler.spawn("observer", observer.look_through_every_worker)
        self.scheduler.run(2 * REST_S)
        return History(
            self.attempts,
            self.replica_set.majority_documents(),
            DEADLINE_S + ANSWER_WAY_S,
            dict(self.replica_set.faults),
            self.scheduler.steps,
            self.story,
        )

    def now(self) -> int:
        """The next place in the order of all that clients send and get."""
        self._sequence += 1
        return self._sequence

    def tell(self, line: str) -> None:
        self.story.append(f"{self.scheduler.time_s:9.4f} {line}")

    def _nemesis(self) -> None:
        """Trouble that comes over everybody, at random times while clients are at work."""
        while self.clients_left:
            self.scheduler.sleep(self.rng.expovariate(1 / 1.5))
            what = self.rng.random() / (self.replica_set._trouble or 1)
            if what < 0.25:
                duration_s = self.rng.choice([0.01, 0.5, 3.0, 12.0])
                self.tell(f"failover, no primary for {duration_s} s")
                self.replica_set.fail_over(duration_s)
                self.scheduler.sleep(duration_s)
            elif what < 0.45:
                duration_s = self.rng.choice([0.1, 1.0, 5.0])
                self.tell(f"stall of {duration_s} s")
                self.replica_set.stall(duration_s)
            elif what < 0.8:
                worker = self.rng.choice(self.workers)
                worker.crash()


class Worker:
    """A process: a manager of its own, and the requests that run in it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.manager = self._new_manager()
        self._running: dict[Task, SimulatedSignal] = {}

    def _new_manager(self) -> TicketManager:
        world = self.world
        collection: Any = world.parts.collection(world.replica_set, world.scheduler)
        ledger = world.parts.ledger(collection, world.clock, lambda: world.rng.randbytes(16))
        return world.parts.manager(
            ledger,
            world.clock,
            deadline_s=DEADLINE_S,
            state_orders_max=world.rng.choice([3, 1_000]),
            queue_length_max=world.rng.choice([3, 100]),
        )

    def call(self, name: str, work: Callable[[TicketManager], None], done: SimulatedSignal) -> None:
        """Run `work` in a thread of this process, then set `done`; a crash sets it too."""
        manager = self.manager

        def run() -> None:
            work(manager)
            del self._running[task]
            done.set()

        task = self.world.scheduler.spawn(f"{self.name} {name}", run)
        self._running[task] = done

    def crash(self) -> None:
        """All its threads stop where they are; a new process takes its place."""
        self.world.replica_set.faults["crash"] += 1
        self.world.tell(f"{self.name} crashes with {len(self._running)} requests in it")
        for task, done in self._running.items():
            task.is_dead = True
            done.set()
        self._running = {}
        self.manager = self._new_manager()


class Client:
    """Books, cancels and looks; repeats what went unanswered with the same Idempotency-Key."""

    def __init__(self, world: World, name: str, rng: random.Random) -> None:
        self.world = world
        self.name = name
        self.rng = rng

    def run(self) -> None:
        for event_id in self.world.events:
            total = random.Random(event_id + str(len(self.world.workers))).randint(1, 6)
            self._repeat("initialize", event_id, {"name": "Event", "total_tickets": total}, tries=30)
        for _ in range(self.rng.randint(3, 9)):
            self._do_something()
            self.world.scheduler.sleep(self.rng.choice([0.0, 0.0, 0.001, 0.3]))
        self.world.clients_left -= 1

    def look_through_every_worker(self) -> None:
        """The last look: read each event through each worker."""
        for worker in self.world.workers:
            for event_id in self.world.events:
                self._attempt("read", event_id, {}, None, worker, limit_s=60.0)

    def _do_something(self) -> None:
        event_id = self.rng.choice(self.world.events)
        what = self.rng.random()
        user = f"user-{self.rng.randint(1, 8)}"
        if what < 0.5:
            self._repeat("book", event_id, {"user_id": user, "quantity": self.rng.choice([1, 1, 1, 2, 3])})
        elif what < 0.65 and self.world.order_ids:
            order_id = self.rng.choice(self.world.order_ids)
            self._repeat("cancel", order_id.partition(".")[0], {"order_id": order_id})
        elif what < 0.8:
            self._repeat("cancel", event_id, {"user_id": user})
        else:
            self._attempt("read", event_id, {}, None, self.rng.choice(self.world.workers), limit_s=60.0)

    def _repeat(self, kind: str, event_id: str, asked: dict[str, Any], tries: int = 6) -> None:
        """One request until it is answered. Without a key it is sent only once."""
        key = self.rng.randbytes(16) if kind == "initialize" or self.rng.random() < 0.75 else None
        for _ in range(tries if key else 1):
            attempt = self._attempt(
                kind, event_id, asked, key, self.rng.choice(self.world.workers), self.rng.choice([0.5, 4.0, 60.0])
            )
            if attempt.returned is not None and attempt.outcome != "unavailable":
                # Some ask again although they know.
                if key is None or self.rng.random() < 0.8:
                    return
            self.world.scheduler.sleep(self.rng.choice([0.0, 0.1, 1.0]))

    def _attempt(
        self,
        kind: str,
        event_id: str,
        asked: dict[str, Any],
        key: bytes | None,
        worker: Worker,
        limit_s: float,
    ) -> Attempt:
        world = self.world
        attempt = Attempt(self.name, kind, event_id, asked, key, world.now(), world.scheduler.time_s)
        world.attempts.append(attempt)
        command = self._command(attempt)
        answered = SimulatedSignal(world.scheduler)
        results: list[Callable[[], None]] = []

        def work(manager: TicketManager) -> None:
            results.append(_carried_out(manager, attempt, command))

        world.tell(f"{self.name} -> {worker.name}: {kind} {event_id} {asked} key {key and key.hex()[:6]}")
        worker.call(f"{kind} of {self.name}", work, answered)
        answered.wait(limit_s)
        if results:
            results[0]()
            attempt.returned, attempt.returned_s = world.now(), world.scheduler.time_s
            if attempt.order_id is not None and attempt.kind == "book":
                world.order_ids.append(attempt.order_id)
        world.tell(
            f"{self.name} <- {attempt.outcome} {attempt.order_id or ''} version {attempt.version} "
            f"position {attempt.position} promoted {attempt.promoted}{' replayed' if attempt.replayed else ''}"
        )
        return attempt

    def _command(self, attempt: Attempt) -> Command | None:
        request = attempt.key and RequestKey(attempt.key, repr(attempt.asked).encode())
        common: dict[str, Any] = {"event_id": attempt.event_id, "request": request or None}
        if attempt.kind == "initialize":
            return Initialize(**common, **attempt.asked)
        if attempt.kind == "book":
            attempt.new_order_id = f"{attempt.event_id}.{self.rng.randbytes(11).hex()}"
            return Book(**common, **attempt.asked, order_id=attempt.new_order_id)
        if attempt.kind == "cancel":
            return Cancel(**common, **attempt.asked)
        return None


def _carried_out(
    manager: TicketManager, attempt: Attempt, command: Command | None
) -> Callable[[], None]:
    """Carry out the command; return what writes its result into the attempt, once it reaches the client."""
    try:
        if command is None:
            state = manager.state_of(attempt.event_id)
            return lambda: _note_state(attempt, state)
        answer = manager.execute(command)
        return lambda: _note_answer(attempt, answer)
    except Refusal as refusal:
        outcome, replayed, order_id = f"refused:{refusal.code}", refusal.replayed, refusal.details.get("order_id")
        return lambda: _note(attempt, outcome=outcome, replayed=replayed, order_id=order_id)
    except Unavailable:
        return lambda: _note(attempt, outcome="unavailable")
    except NothingWasDone:
        return lambda: _note(attempt, outcome="failed")
    except Exception as error:
        outcome = f"error:{error!r}"
        return lambda: _note(attempt, outcome=outcome)


def _note(attempt: Attempt, **values: Any) -> None:
    for name, value in values.items():
        setattr(attempt, name, value)


def _note_answer(attempt: Attempt, answer: Answer) -> None:
    attempt.replayed = answer.replayed
    if answer.event is not None:
        attempt.outcome, attempt.version = "initialized", answer.event.version
        return
    assert answer.order is not None
    attempt.outcome = answer.order.status.value
    attempt.order_id, attempt.version = answer.order.order_id, answer.order.version
    attempt.position = answer.waiting_position
    attempt.promoted = [order.order_id for order in answer.promoted]


def _note_state(attempt: Attempt, state: EventState) -> None:
    attempt.outcome, attempt.version = "read", state.version
    attempt.seen = {
        "total": state.total_tickets,
        "booked": state.booked_tickets,
        "available": state.available_tickets,
        "held": state.held_tickets,
        "waiting": [order.order_id for order in state.waiting_orders()],
        "positions": [state.waiting_position(order) for order in state.waiting_orders()],
        "statuses": {order.order_id: order.status.value for order in state.orders_by_arrival()},
    }


def run(seed: int, parts: Parts | None = None) -> History:
    """Play the story of one seed."""
    page_size = ledger_module.PAGE_SIZE
    ledger_module.PAGE_SIZE = PAGE_SIZE
    try:
        return World(seed, parts or Parts()).run()
    finally:
        ledger_module.PAGE_SIZE = page_size
        forget_all()
