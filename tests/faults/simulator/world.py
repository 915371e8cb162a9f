"""One seed, one story: workers that crash, what they share with their host, clients that time out and repeat, a MongoDB
in trouble."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

from tests.sparse import written
from ticketing import compactor as compactor_module
from ticketing.clock import Clock
from ticketing.compactor import Compactor
from ticketing.domain import decide as decide_module
from ticketing.domain.commands import (
    Book,
    Booking,
    BookMany,
    Cancel,
    CancelEvent,
    Command,
    Initialize,
    Pseudonymize,
    Transfer,
    Update,
)
from ticketing.domain.model import Answer, EventState, Order, RequestKey
from ticketing.domain.tickets import TicketType
from ticketing.errors import Overloaded, Refusal, StorageUnavailable, TicketingError
from ticketing.manager import TicketManager, Turn, Turns
from ticketing.storage import pages as pages_module
from ticketing.storage import rows as rows_module
from ticketing.storage import segments as segments_module
from ticketing.storage import sharing as sharing_module
from ticketing.storage.ledger import Ledger
from ticketing.storage.pages import Range
from ticketing.storage.recent import INDEX_BYTES, RecentCommits
from ticketing.storage.segments import Segments

from ..history import Attempt, History
from .collection import ReplicaSet, SimulatedCollection
from .scheduler import START, Scheduler, SimulatedClock, SimulatedSignal, Task, forget_all

DEADLINE_S = 8.0
ANSWER_WAY_S = 0.1
REST_S = 600.0  # by then every story has come to an end
SMALL = (
    (pages_module, "PAGE_SIZE", 3),  # a catch-up comes in pieces, and the world changes between them
    (rows_module, "ROW_MIN", 2),  # bookings that are folded by columns
    (sharing_module, "GATHER_S", 0.02),  # events whose commands could go together mostly do
    (compactor_module, "BEHIND_MAX", 4),  # and ledgers are soon so long that there are segments of them
    (segments_module, "SEGMENT_SIZE", 6),
    (segments_module, "EVENT_SIZE", 1),
    (segments_module, "PAGE_SIZE", 4),
)
RING_BYTES = 16 * 1024  # some thirty copies of commits, and the larger ones leave none
SECOND = timedelta(seconds=1)
OF_INITIALIZE = ("name", "total_tickets", "max_tickets_per_order")  # all else that is said of an event are details
LIMITS = {"max_tickets_per_order", "max_tickets_per_user"}
LATE_TYPE = "stand"  # of tickets that an event did not have when it was opened


class NothingWasDone(Exception):
    """A failure that its client takes as final. The service has no such answer; a control has."""


@dataclass(frozen=True)
class Parts:
    """The code under test; a control replaces a part by one without its protection."""

    manager: type[TicketManager] = TicketManager
    ledger: type[Ledger] = Ledger
    collection: type[SimulatedCollection] = SimulatedCollection
    copies: type[RecentCommits] = RecentCommits
    segments: type[Segments] = Segments
    rules: Mapping[str, Any] = field(default_factory=dict)  # functions of ticketing.domain.decide, by name


class World:
    """Everything that happens under one seed."""

    def __init__(self, seed: int, parts: Parts) -> None:
        self.rng = random.Random(seed)
        random.seed(seed)  # the backoff of the code under test draws from here
        self.scheduler = Scheduler(random.Random(self.rng.random()))
        self.clock: Clock = SimulatedClock(self.scheduler)
        trouble = self.rng.choice([0.2, 0.6, 1.0])
        self.replica_set = ReplicaSet(self.scheduler, random.Random(self.rng.random()), trouble)
        # A database of its own, for nothing rests on it.
        self.segments_set = ReplicaSet(self.scheduler, random.Random(self.rng.random()), trouble)
        self.parts = parts
        self.attempts: list[Attempt] = []
        self.story: list[str] = []
        self.order_ids: list[str] = []
        self.confirmed_ids: list[str] = []  # of those, at first
        self.with_late_type: set[str] = set()  # events that somebody has tried to give it
        self.mood = str(self.rng.randint(1, 20))  # what kinds of events there are
        self.events = [f"event-{number}" for number in range(1, self.rng.choice([2, 2, 3, 4]))]
        self.hosts = [Host(self.replica_set, random.Random(self.rng.random())) for _ in range(self.rng.randint(1, 3))]
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
        self.segments_set.calm_down()
        observer = Client(self, "observer", self.rng)
        self.scheduler.spawn("observer", observer.look_through_every_worker)
        self.scheduler.run(2 * REST_S)
        return History(
            self.attempts,
            self.replica_set.majority_documents(),
            DEADLINE_S + ANSWER_WAY_S,
            dict(self.replica_set.faults + self.segments_set.faults),
            self.scheduler.steps,
            self.story,
            START,
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


class Host:
    """What the workers of a machine share, and keep when one of them crashes: notes of versions, copies of commits."""

    def __init__(self, replica_set: ReplicaSet, rng: random.Random) -> None:
        self.memory = bytearray(INDEX_BYTES + RING_BYTES)
        self.notes: dict[str, int] = {}
        self._replica_set = replica_set  # knows how much trouble there is
        self._rng = rng

    def note_of(self, event_id: str) -> int:
        """The version at which the last turn at an event ended; 0 for unknown."""
        if self._replica_set.happens("note lost", 0.05):
            self.notes.clear()
        if self._replica_set.happens("copy torn", 0.4):
            self._tear()
        return self.notes.get(event_id, 0)

    def _tear(self) -> None:
        """Change a byte of what was written last, or of the index; or take away what was written from a place on."""
        end = INDEX_BYTES + int.from_bytes(self.memory[:8], "little") % RING_BYTES
        begin = self._rng.randint(max(INDEX_BYTES, end - 600), end)
        kind = self._rng.random()
        if kind < 0.2:
            self.memory[begin:end] = bytes(end - begin)
            return
        of_index = written(self.memory[:INDEX_BYTES]) if kind < 0.4 else []
        place = self._rng.choice(of_index or [min(begin, len(self.memory) - 1)])
        self.memory[place] ^= self._rng.choice([0x01, 0x02, 0x03, 0xFF])


class NotedTurns(Turns):
    """The turns of a host's workers: each has his at once, for nothing rests on them, and finds the note."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @contextmanager
    def turn(self, event_id: str) -> Iterator[Turn]:
        turn = Turn(self._host.note_of(event_id))
        try:
            yield turn
        finally:
            self._host.notes[event_id] = turn.version


class WorkerClock(SimulatedClock):
    """The clock of a process: what is started beside a request ends with the process."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.world.scheduler)
        self._worker = worker

    def start(self, work: Callable[[], None]) -> None:
        self._worker.start("beside", work)


class Worker:
    """A process: a manager of its own, and all that runs in it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.host = world.rng.choice(world.hosts)
        # Its threads, and what others see of it when one of them is killed.
        self._running: dict[Task, Callable[[], None]] = {}
        self.manager = self._new_manager()

    def _new_manager(self) -> TicketManager:
        world, clock = self.world, WorkerClock(self)
        collection: Any = world.parts.collection(world.replica_set, world.scheduler)
        copies = world.parts.copies(self.host.memory)
        of_segments: Any = SimulatedCollection(world.segments_set, world.scheduler)
        segments = world.parts.segments(of_segments, collection, clock)
        ledger = world.parts.ledger(collection, clock, lambda: world.rng.randbytes(16), copies, segments)
        manager = world.parts.manager(
            ledger,
            clock,
            deadline_s=DEADLINE_S,
            state_orders_max=world.rng.choice([3, 1_000]),
            queue_length_max=world.rng.choice([3, 100]),
            turns=NotedTurns(self.host),
        )
        compactor = Compactor(segments, clock)
        compactor.start()
        manager.on_change = compactor.notice
        return manager

    def call(self, attempt: Attempt, work: Callable[[TicketManager], None], done: SimulatedSignal) -> None:
        """Run `work` for a request in a thread of this process, then set `done`; a crash sets it too."""
        manager = self.manager

        def run() -> None:
            work(manager)
            done.set()

        self.start(f"{attempt.kind} of {attempt.client}", run, killed=done.set)

    def start(self, name: str, work: Callable[[], None], killed: Callable[[], None] = lambda: None) -> None:
        """Run `work` in a thread of this process; when a crash ends it, `killed` is called."""

        def run() -> None:
            work()
            del self._running[task]

        task = self.world.scheduler.spawn(f"{self.name} {name}", run)
        self._running[task] = killed

    def crash(self) -> None:
        """All its threads stop where they are; a new process takes its place."""
        self.world.replica_set.faults["crash"] += 1
        self.world.tell(f"{self.name} crashes with {len(self._running)} threads in it")
        for task, killed in self._running.items():
            task.is_dead = True
            killed()
        self._running = {}
        self.manager = self._new_manager()


class Client:
    """Books, cancels, hands on, looks, changes events; repeats what went unanswered with the same Idempotency-Key."""

    def __init__(self, world: World, name: str, rng: random.Random) -> None:
        self.world = world
        self.name = name
        self.rng = rng
        self.versions: dict[str, int] = {}  # of the events, as this client last heard of them

    def run(self) -> None:
        if self.rng.random() < 0.1:
            self._book(self.rng.choice(self.world.events))  # perhaps too early
        for event_id in self.world.events:
            self._repeat("initialize", event_id, self._opening(event_id), tries=30)
        for _ in range(self.rng.randint(3, 9)):
            self._do_something()
            self.world.scheduler.sleep(self.rng.choice([0.0, 0.0, 0.001, 0.3]))
        self.world.clients_left -= 1

    def look_through_every_worker(self) -> None:
        """The last look: read each event through each worker."""
        for worker in self.world.workers:
            for event_id in self.world.events:
                self._attempt("read", event_id, {}, None, worker, limit_s=60.0)

    def _opening(self, event_id: str) -> dict[str, Any]:
        """What all clients say of an event: plain, or with a price, or of two types; some open a little later.

        Few allow fewer tickets an order or a user than clients ask for, or end while these are at work; in more of
        them transfers do.
        """
        chance = random.Random(event_id + self.world.mood)
        totals = [("seat", chance.randint(1, 5)), ("box", chance.randint(1, 3))][: chance.choice([0, 0, 1, 2, 2])]
        opening: dict[str, Any] = {"name": "Event", "sales_open_at": chance.choice([None, None, START + SECOND / 2])}
        opening |= _limits(chance) if chance.random() < 0.3 else {}
        opening |= _times(chance, START) if chance.random() < 0.3 else {}
        if not totals:
            return {**opening, "total_tickets": chance.randint(1, 6)}
        types = [{"code": code, "total_tickets": total, "price": "5.00"} for code, total in totals]
        return {**opening, "ticket_types": types}

    def _do_something(self) -> None:
        event_id = self.rng.choice(self.world.events)
        what = self.rng.random()
        for until, do in (
            (0.42, self._book),
            (0.54, self._cancel_by_id),
            (0.66, self._cancel_of_user),
            (0.77, self._transfer),
            (0.81, self._book_many),
            (0.93, self._update),
            (0.94, self._erase),
            (0.945, lambda event_id: self._repeat("end", event_id, {})),
            (1.0, self._look),
        ):
            if what < until:
                do(event_id)
                return

    def _look(self, event_id: str) -> Attempt:
        return self._attempt("read", event_id, {}, None, self._worker(), limit_s=60.0)

    def _book(self, event_id: str) -> None:
        self._repeat("book", event_id, {"user_id": self._user(), **self._tickets(event_id)})

    def _book_many(self, event_id: str) -> None:
        bookings = [(self._user(), *self._tickets(event_id).values()) for _ in range(self.rng.randint(2, 4))]
        self._repeat("bulk", event_id, {"orders": bookings, "all_or_none": self.rng.random() < 0.5})

    def _cancel_by_id(self, event_id: str) -> None:
        if self.world.order_ids:
            order_id = self.rng.choice(self.world.order_ids)
            self._repeat("cancel", order_id.partition(".")[0], {"order_id": order_id, "quantity": self._part()})

    def _cancel_of_user(self, event_id: str) -> None:
        self._repeat("cancel", event_id, {"user_id": self._user(), "quantity": self._part()})

    def _transfer(self, event_id: str) -> None:
        """Mostly of an order that was confirmed, and often to somebody who has none."""
        if self.world.order_ids:
            order_id = self.rng.choice([*self.world.confirmed_ids[-4:], self.world.order_ids[-1]])
            asked = {"order_id": order_id, "to_user_id": self._user(among=16), "quantity": self._part()}
            self._repeat("transfer", order_id.partition(".")[0], asked)

    def _update(self, event_id: str) -> None:
        """Other tickets, limits or times; a quarter of it meant for a version."""
        tickets = [*2 * [self._other_tickets], self._only_what_is_sold]
        what = self.rng.choice([*tickets, self._other_sales, *2 * [self._other_bounds]])
        asked = what(event_id)
        version = self.versions.get(event_id) if self.rng.random() < 0.25 else None
        self._repeat("update", event_id, {**asked, "version": version})
        if LIMITS & asked.keys():
            self._transfer(event_id)  # what was booked before may be more than may be handed on now

    def _other_tickets(self, event_id: str) -> dict[str, Any]:
        """More or fewer tickets, another price, a new type of them."""
        code = self.rng.choice(self._codes(event_id))
        total = {"total_tickets": self.rng.randint(1, 5)}
        what = self.rng.random()
        if what < 0.3:
            self.world.with_late_type.add(event_id)
            return {"ticket_types": [{"code": LATE_TYPE, **total, "price": "5.00"}]}
        if what < 0.65:
            return total if code is None else {"ticket_types": [{"code": code, **total}]}
        return {"ticket_types": [{"code": code or "general", "price": self.rng.choice(["7.50", "10.00"])}]}

    def _only_what_is_sold(self, event_id: str) -> dict[str, Any]:
        """No more tickets of a type than a look shows as booked: of one whose line holds the others, if any does."""
        look = self._look(event_id)
        stocks = look.seen["stocks"] if look.outcome == "read" else {}
        unsold = [code for code, (total, booked) in stocks.items() if total > booked > 0]
        if not unsold:
            return self._other_tickets(event_id)
        code = self.rng.choice([code for code in unsold if look.seen["lines"][code]] or unsold)
        return {"ticket_types": [{"code": code, "total_tickets": stocks[code][1]}]}

    def _other_sales(self, event_id: str) -> dict[str, Any]:
        """Sales that close and open."""
        now = self.world.clock.now()
        changes: list[dict[str, Any]] = [
            {"sales_close_at": now + SECOND * self.rng.choice([0, 0.2, 1])},
            {"sales_close_at": None},
            {"sales_close_at": None, "sales_open_at": None},
            *3 * [{"sales_close_at": None, "sales_open_at": now + SECOND * self.rng.choice([0, 0.2, 1])}],
        ]
        return self.rng.choice(changes)

    def _other_bounds(self, event_id: str) -> dict[str, Any]:
        """Other limits of orders, or another time of the event itself: now and then one that cannot be."""
        now, what = self.world.clock.now(), self.rng.random()
        if what < 0.1:
            return {"starts_at": now + SECOND, "ends_at": now}
        return _limits(self.rng) if what < 0.7 else _times(self.rng, now)

    def _erase(self, event_id: str) -> None:
        user, pseudonym = self._user(), f"erased:{self.rng.randbytes(4).hex()}"
        erased = self._repeat("erase", event_id, {"user_id": user, "pseudonym": pseudonym})
        if erased.outcome == "updated":
            assert erased.version is not None
            for _ in self.world.replica_set.replace_name(event_id, erased.version, user, pseudonym):
                self.world.scheduler.sleep(0.0005)
            self.world.segments_set.remove(Range.of(event_id, 0).query)

    def _user(self, among: int = 8) -> str:
        return f"user-{self.rng.randint(1, among)}"

    def _worker(self) -> Worker:
        return self.rng.choice(self.world.workers)

    def _part(self) -> int | None:
        return self.rng.choice([None, None, 1, 2])

    def _codes(self, event_id: str) -> list[str | None]:
        """As bookings name them: None is the only type, also for who has not heard that there is another by now."""
        codes = [each["code"] for each in self._opening(event_id).get("ticket_types", ())]
        if event_id not in self.world.with_late_type:
            return codes or [None]
        return [*(codes or [None, "general"]), LATE_TYPE]

    def _tickets(self, event_id: str) -> dict[str, Any]:
        quantity = self.rng.choice([1, 1, 1, 2, 3])
        return {"quantity": quantity, "ticket_type": self.rng.choice(self._codes(event_id))}

    def _repeat(self, kind: str, event_id: str, asked: dict[str, Any], tries: int = 6) -> Attempt:
        """One request until it is answered. Without a key it is sent only once."""
        key = self.rng.randbytes(16) if kind == "initialize" or self.rng.random() < 0.75 else None
        for _ in range(tries if key else 1):
            attempt = self._attempt(
                kind, event_id, asked, key, self._worker(), self.rng.choice([0.5, 4.0, 60.0])
            )
            if attempt.returned is not None and attempt.outcome != "unavailable":
                # Some ask again although they know.
                if key is None or self.rng.random() < 0.8:
                    break
            self.world.scheduler.sleep(self.rng.choice([0.0, 0.1, 1.0]))
        return attempt

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
        worker.call(attempt, work, answered)
        answered.wait(limit_s)
        if results:
            results[0]()
            attempt.returned, attempt.returned_s = world.now(), world.scheduler.time_s
            self.versions[event_id] = max(self.versions.get(event_id, 0), attempt.version or 0)
            if attempt.outcome in ("confirmed", "waiting", "bulk"):
                world.order_ids.extend(attempt.new_order_ids)
                world.confirmed_ids.extend(attempt.new_order_ids if attempt.outcome == "confirmed" else ())
        else:
            attempt.gave_up_s = world.scheduler.time_s
        world.tell(
            f"{self.name} <- {'replayed ' * attempt.replayed}{attempt.outcome} {attempt.order_id or ''} "
            f"version {attempt.version} position {attempt.position} promoted {attempt.promoted} told {attempt.told}"
        )
        return attempt

    def _command(self, attempt: Attempt) -> Command | None:
        asked = attempt.asked
        request = attempt.key and RequestKey(attempt.key, repr(asked).encode())
        common: dict[str, Any] = {"event_id": attempt.event_id, "request": request or None}
        new = {"book": 1, "transfer": 1, "bulk": len(asked.get("orders", ()))}.get(attempt.kind, 0)
        attempt.new_order_ids = [f"{attempt.event_id}.{self.rng.randbytes(11).hex()}" for _ in range(new)]
        match attempt.kind:
            case "initialize":
                return _initialize(common, asked)
            case "book":
                return Book(**common, **asked, order_id=attempt.new_order_ids[0])
            case "bulk":
                pairs = zip(attempt.new_order_ids, asked["orders"], strict=True)
                bookings = tuple(Booking(order_id, *booking) for order_id, booking in pairs)
                return BookMany(**common, bookings=bookings, all_or_none=asked["all_or_none"])
            case "cancel":
                return Cancel(**common, **asked)
            case "transfer":
                return Transfer(**common, **asked, new_order_id=attempt.new_order_ids[0])
            case "update":
                fields = {name: value for name, value in asked.items() if name != "version"}
                if "ticket_types" in fields:
                    fields["ticket_types"] = [_priced(each) for each in fields["ticket_types"]]
                return Update(**common, fields=fields, version=asked["version"])
            case "end":
                return CancelEvent(**common)
            case "erase":
                return Pseudonymize(**common, **asked)
            case _:
                return None


def _limits(rng: random.Random) -> dict[str, Any]:
    """How many tickets an order or a user may have: often fewer than clients ask for."""
    limits: list[dict[str, Any]] = [
        {"max_tickets_per_order": rng.choice([1, 1, 2, 10])},
        {"max_tickets_per_user": rng.choice([None, 1, 2])},
    ]
    return rng.choice(limits)


def _times(rng: random.Random, now: datetime) -> dict[str, Any]:
    """When the event is, or until when tickets change hands."""
    times: list[dict[str, Any]] = [
        {"starts_at": now + SECOND * rng.choice([0.5, 5, 30]), "ends_at": now + SECOND * rng.choice([40, 3600])},
        {"starts_at": now + SECOND * rng.choice([0.5, 5, 3600])},
        *2 * [{"transfer_close_at": now + SECOND * rng.choice([0, 0.5, 5])}],
        {"transfer_close_at": None},
    ]
    return rng.choice(times)


def _priced(said: dict[str, Any]) -> dict[str, Any]:
    """A ticket type, or a change of one, with its price as the domain has it."""
    return {**said, "price": Decimal(said["price"]), "currency": "EUR"} if "price" in said else said


def _initialize(common: dict[str, Any], asked: dict[str, Any]) -> Initialize:
    types = tuple(TicketType(name=each["code"], **_priced(each)) for each in asked.get("ticket_types", ()))
    fields = {name: value for name, value in asked.items() if name not in ("ticket_types", *OF_INITIALIZE)}
    own = {name: asked[name] for name in OF_INITIALIZE if name in asked}
    return Initialize(**common, **own, ticket_types=types, details=fields)


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
        outcome, replayed, details = f"refused:{refusal.code}", refusal.replayed, refusal.details
        return lambda: _note(attempt, outcome=outcome, replayed=replayed, told=details)
    except (StorageUnavailable, Overloaded):
        return lambda: _note(attempt, outcome="unavailable")
    except NothingWasDone:
        return lambda: _note(attempt, outcome="failed")
    except TicketingError as error:  # nothing here damages a ledger
        outcome = f"error:{error.code}"
        return lambda: _note(attempt, outcome=outcome)
    except Exception as error:
        outcome = f"error:{error!r}"
        return lambda: _note(attempt, outcome=outcome)


def _note(attempt: Attempt, **values: Any) -> None:
    for name, value in values.items():
        setattr(attempt, name, value)


def _note_answer(attempt: Attempt, answer: Answer) -> None:
    attempt.replayed = answer.replayed
    attempt.promoted = [order.order_id for order in answer.promoted]
    if answer.event is not None:
        attempt.outcome = "initialized" if attempt.kind == "initialize" else "updated"
        attempt.version, attempt.seen = answer.event.version, _figures(answer.event)
    elif answer.bulk:
        attempt.outcome, attempt.told = "bulk", {"results": [_result(each) for each in answer.bulk]}
        attempt.version = next((each.order.version for each in answer.bulk if each.order is not None), None)
    else:
        assert answer.order is not None
        attempt.outcome = answer.order.status.value
        attempt.order_id, attempt.version = answer.order.order_id, answer.order.version
        attempt.position = answer.waiting_position
        attempt.told = {"order": _order(answer.order)}
        if answer.sender is not None:
            attempt.told["sender"] = _order(answer.sender)


def _result(answer: Answer) -> dict[str, Any]:
    if answer.order is None:
        assert answer.refusal is not None
        return {"refused": answer.refusal.code, **answer.refusal.details}
    return {"order": _order(answer.order), "position": answer.waiting_position}


def _order(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "quantity": order.quantity,
        "status": order.status.value,
        "ticket_type": order.ticket_type,
        "unit_price": str(order.unit_price),
        "currency": order.currency,
    }


def _figures(state: EventState) -> dict[str, Any]:
    assert state.event is not None
    return {
        "total": state.total_tickets,
        "booked": state.booked_tickets,
        "available": state.available_tickets,
        "held": state.held_tickets,
        "stocks": {kind.code: (kind.total_tickets, booked) for kind, booked, _ in state.stocks},
        "prices": {each.code: (str(each.price), each.currency) for each in state.event.ticket_types},
    }


def _note_state(attempt: Attempt, state: EventState) -> None:
    attempt.outcome, attempt.version = "read", state.version
    lines: dict[str, dict[int | None, str]] = {stock.ticket_type.code: {} for stock in state.stocks}
    for order in state.waiting_orders():
        lines[order.ticket_type][state.waiting_position(order)] = order.order_id
    attempt.seen = {
        **_figures(state),
        "lines": {code: [line.get(place) for place in range(1, len(line) + 1)] for code, line in lines.items()},
        "statuses": {order.order_id: order.status.value for order in state.orders_by_arrival()},
    }


def run(seed: int, parts: Parts | None = None) -> History:
    """Play the story of one seed."""
    parts = parts or Parts()
    with ExitStack() as replaced:
        for module, name, value in SMALL:
            replaced.enter_context(patch.object(module, name, value))
        for name, rule in parts.rules.items():
            replaced.enter_context(patch.object(decide_module, name, rule))
        replaced.callback(forget_all)
        return World(seed, parts).run()
