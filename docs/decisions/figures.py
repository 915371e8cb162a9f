"""The figures in the decision records: `python docs/decisions/figures.py NAME` measures them on your machine.

Uses the MongoDB that MONGODB_URI names, else a mongod of its own in a temporary folder. `--scale 0.01` does a
hundredth of the work: enough to see that the script still runs, not enough to learn anything.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import gzip
import json
import multiprocessing
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from immutables import Map  # noqa: E402
from pymongo import MongoClient  # noqa: E402
from pymongo.collection import Collection  # noqa: E402
from pymongo.write_concern import WriteConcern  # noqa: E402
from werkzeug.security import check_password_hash, generate_password_hash  # noqa: E402

from ticketing import manager as manager_module  # noqa: E402
from ticketing.accounts import Accounts  # noqa: E402
from ticketing.clock import SystemClock  # noqa: E402
from ticketing.compactor import extend_fully  # noqa: E402
from ticketing.domain.accounts import Account, Role  # noqa: E402
from ticketing.delivery.deliverer import Deliverer  # noqa: E402
from ticketing.delivery.sender import Sender  # noqa: E402
from ticketing.domain.commands import Book, Initialize  # noqa: E402
from ticketing.domain.decide import decide  # noqa: E402
from ticketing.domain.fold import fold  # noqa: E402
from ticketing.domain.model import (  # noqa: E402
    EventState,
    EventStatus,
    Order,
    OrderStatus,
    RequestKey,
    Transition,
    TransitionType,
)
from ticketing.domain.summary import summary_of  # noqa: E402
from ticketing.embedded import EmbeddedMongod, find_mongod  # noqa: E402
from ticketing.feed import ChangeFeed  # noqa: E402
from ticketing.ids import new_order_id  # noqa: E402
from ticketing.storage.archive import export_lines, import_lines  # noqa: E402
from ticketing.storage.catalog import Catalog  # noqa: E402
from ticketing.storage.client import connect  # noqa: E402
from ticketing.storage.checksums import with_checksum  # noqa: E402
from ticketing.storage.documents import commit_document  # noqa: E402
from ticketing.storage.ledger import Ledger, ledger_collection  # noqa: E402
from ticketing.storage.segments import Segments, segment_collection  # noqa: E402
from ticketing.storage.orders import Orders  # noqa: E402
from ticketing.storage.schema import create_indexes_and_views  # noqa: E402
from ticketing.storage.users import Users, durable  # noqa: E402
from ticketing.storage.webhooks import Subscription, Webhooks  # noqa: E402

AT = datetime(2027, 1, 1, tzinfo=UTC)
MAJORITY = WriteConcern("majority", j=True)
DATABASE = "ticketing_figures"


class Bench:
    """Where to measure, and how much."""

    def __init__(self, uri: str, scale: float) -> None:
        self.uri = uri
        self.scale = scale

    def times(self, count: int) -> int:
        """`count` repetitions, scaled; one at least."""
        return max(1, round(count * self.scale))

    @contextmanager
    def database(self, **options: Any) -> Iterator[Any]:
        """An empty database, by a client like the service's own, with other `options` where given."""
        client: MongoClient[dict[str, Any]] = (
            MongoClient(self.uri, tz_aware=True, **options) if options else connect(self.uri)
        )
        with client:
            client.drop_database(DATABASE)
            yield client[DATABASE]
            client.drop_database(DATABASE)


def commit(bench: Bench) -> None:
    """One durable commit of a ledger, beside the ways of writing a booking that it replaces."""
    for bookings in (1, 10, 100):
        with bench.database() as database:
            ledger = ledger_collection(database)
            report(
                f"ledger, one insert of {bookings} bookings",
                each_of(bench.times(500), insert_into(ledger, bookings)),
            )
    with bench.database() as database:
        orders, events = majority(database, "orders"), majority(database, "events")
        events.insert_one({"_id": "e", "left": 10**9})

        def count_then_insert(number: int) -> None:
            events.update_one({"_id": "e", "left": {"$gt": 0}}, {"$inc": {"left": -1}})
            orders.insert_one(
                {"_id": number, "event_id": "e", "user_id": f"u{number}", "status": "confirmed"}
            )

        report("a counter and an order, two writes, not atomic", each_of(bench.times(500), count_then_insert))
    for threads in (1, 16):
        with bench.database() as database:
            in_transactions(bench, database, threads)


def in_transactions(bench: Bench, database: Any, threads: int) -> None:
    """The counter and the order in one transaction, by the driver's own way of trying again."""
    orders, events = majority(database, "orders"), majority(database, "events")
    events.insert_one({"_id": "e", "left": 10**9})
    tries: list[int] = []

    def book(number: int) -> None:
        def both(session: Any) -> None:
            tries.append(number)
            events.update_one({"_id": "e", "left": {"$gt": 0}}, {"$inc": {"left": -1}}, session=session)
            orders.insert_one({"_id": number, "event_id": "e"}, session=session)

        with database.client.start_session() as session:
            session.with_transaction(both, write_concern=MAJORITY)

    seconds, latencies = in_threads(threads, bench.times(2000), book)
    report(f"the same two in a transaction, {threads} threads, one event", latencies, seconds)
    detail(f"{len(tries) - len(latencies)} write conflicts, each tried again")


def order_index(bench: Bench) -> None:
    """What an index on the orders' ids would cost each commit."""
    for indexed in (False, True):
        for bookings in (1, 100):
            with bench.database() as database:
                ledger = ledger_collection(database)
                ledger.insert_one({"_id": "warm"})
                if indexed:
                    ledger.create_index("transitions.orders.order_id")
                insert = insert_into(ledger, bookings)
                name = (
                    f"insert of {bookings} bookings, {'with' if indexed else 'without'} an index on order ids"
                )
                report(name, each_of(bench.times(500), insert))
                size = database.command("collStats", ledger.name)["totalIndexSize"]
                detail(f"{size / 1000:.0f} kB of indexes")


def retry(bench: Bench) -> None:
    """What the driver's retryable writes cost an insert."""
    for _ in range(2):
        for on in (True, False):
            with bench.database(retryWrites=on) as database:
                ledger = ledger_collection(database)
                report(
                    f"insert of 1 booking, retryWrites={on}",
                    each_of(bench.times(1000), insert_into(ledger, 1)),
                )


def group(bench: Bench) -> None:
    """Bookings of one event through the manager, and through a plain lock that is held during the write."""
    for threads in (1, 16, 64):
        with bench.database() as database:
            ledger = CountingLedger(database)
            manager = manager_module.TicketManager(ledger, SystemClock())
            run_bookings(bench, f"manager, {threads} threads", threads, manager.execute, ledger)
    with bench.database() as database:
        ledger = CountingLedger(database)
        manager = ToTheOldest(ledger, SystemClock())
        run_bookings(bench, "manager that hands over to the oldest, 64 threads", 64, manager.execute, ledger)
    with bench.database() as database:
        ledger = CountingLedger(database)
        run_bookings(bench, "a lock held during the write, 16 threads", 16, under_a_lock(ledger), ledger)


def race(bench: Bench) -> None:
    """Two processes on one event: how many commits lose the compare-and-set."""
    with bench.database() as database:
        manager_module.TicketManager(CountingLedger(database), SystemClock()).execute(
            Initialize(event_id="e", name="E", total_tickets=10**9)
        )
        context = multiprocessing.get_context("spawn")
        results: Any = context.Queue()
        processes = [
            context.Process(target=_race, args=(bench.uri, bench.scale, f"p{number}", results))
            for number in range(2)
        ]
        for process in processes:
            process.start()
        counted = [results.get() for _ in processes]
        for process in processes:
            process.join()
    won, lost, rate = (sum(column) for column in zip(*counted, strict=True))
    line("two processes, 16 threads each", f"{rate:,.0f} a second")
    detail(f"{won} commits, and {lost} lost the race ({lost / (won + lost):.0%})")


def _race(uri: str, scale: float, name: str, results: Any) -> None:
    with connect(uri) as client:
        ledger = CountingLedger(client[DATABASE])
        manager = manager_module.TicketManager(ledger, SystemClock())
        count = max(1, round(5_000 * scale))
        seconds, _ = in_threads(16, count, lambda number: manager.execute(booking(f"{name}-{number}")))
    results.put((ledger.commits, ledger.lost, count / seconds))


def state(bench: Bench) -> None:
    """What the values of a state cost to make and to change, and a long fold."""
    frozen = dataclasses.make_dataclass("Frozen", Order._fields, frozen=True, slots=True)
    order = Order("o", "e", "u", 1, OrderStatus.WAITING, 1, AT, AT, 1)
    lazy = frozen(*order)
    per_call("make a named tuple of 9 fields", bench, lambda: Order(*order))
    per_call("make a frozen dataclass of 9 fields", bench, lambda: frozen(*order))
    per_call("change a named tuple (_replace)", bench, lambda: order._replace(status=OrderStatus.CONFIRMED))
    per_call(
        "change a frozen dataclass (replace)",
        bench,
        lambda: dataclasses.replace(lazy, status=OrderStatus.CONFIRMED),
    )
    plain = {number: order for number in range(bench.times(100_000))}
    shared = Map(plain)
    per_call("set one of 100,000 in an immutables.Map", bench, lambda: shared.set(500, order))
    per_call("the same by copying a dict", bench, lambda: {**plain, 500: order}, calls=100)
    waiting = waiting_state(bench.times(100_000))
    last = waiting.orders[len(waiting.orders)]
    first = waiting.orders[2]
    per_call("the position of the last of 100,000 who wait", bench, lambda: waiting.waiting_position(last))
    per_call(
        "one who waits leaves (decide and fold)",
        bench,
        lambda: decide(waiting, cancelling(first), AT),
        calls=5_000,
    )
    per_call(
        "one more joins the line (decide and fold)",
        bench,
        lambda: decide(waiting, booking("new"), AT),
        calls=5_000,
    )
    transitions = ledger_of(bench.times(200_000))
    usual = gc.get_threshold()
    for collecting, thresholds in (("as usual", usual), ("as in gunicorn_conf", (100_000, 50, 1_000))):
        gc.set_threshold(*thresholds)
        began = time.perf_counter()
        fold(EventState("e"), transitions)
        took = f"{time.perf_counter() - began:.2f} s"
        line(f"fold {len(transitions):,} transitions, collecting garbage {collecting}", took)
    gc.set_threshold(*usual)


def cold(bench: Bench) -> None:
    """Over HTTP: new workers meet events with a long ledger, one each, and what it takes of their memory."""
    with bench.database() as database:
        manager_module.TicketManager(CountingLedger(database), SystemClock()).execute(
            Initialize(event_id="other", name="Other", total_tickets=1)
        )
        kinds = [(200_000, 10, False), (200_000, 1, False), (200_000, 10, True), (1_000_000, 10, False)]
        lengths = [(bench.times(count), commit, keys) for count, commit, keys in kinds]
        for number, (count, commit, keys) in enumerate(lengths):
            insert_long_ledger(database, f"e{number}", count, commit, keys)
        for number, (count, commit, keys) in enumerate(lengths):
            name = f"{count:,} transitions, {commit} a commit{', each with a key' if keys else ''}"
            cold_touch(bench, f"e{number}", count, name)
            with_segments(database, f"e{number}")
            cold_touch(bench, f"e{number}", count, f"{name}, in segments")


def with_segments(database: Any, event_id: str) -> None:
    """Write the segments of an event, as a worker does that has met it, but all at once."""
    segments = Segments(segment_collection(database), ledger_collection(database), SystemClock(), share=1)
    began = time.process_time()
    extend_fully(segments, event_id, SystemClock())
    detail(f"then its segments are written, in {time.process_time() - began:.2f} s of a processor")


def cold_touch(bench: Bench, event_id: str, count: int, name: str) -> None:
    """A new worker meets an event with so many transitions."""
    with one_worker(bench.uri) as (url, pid):
        get_status(url, "other")
        before_mb, before_s = resident_mb(pid), processor_s(pid)
        seconds, tries, longest_s = first_touch(url, event_id)
        grown_mb = resident_mb(pid) - before_mb
        line(name, f"{seconds:.2f} s until the first answer, {tries} requests")
        detail(f"{processor_s(pid) - before_s:.2f} s of the worker's processor")
        detail(f"{grown_mb:.0f} MB more than {before_mb:.0f}, {grown_mb * 1e6 / count:.0f} bytes a booking")
        detail(f"another event's status meanwhile: {longest_s * 1e3:.0f} ms at most")


def disk(bench: Bench) -> None:
    """What MongoDB keeps of a booking, as the service writes it: compressed, with all indexes, on each member."""
    kinds = [(100_000, 10, False), (100_000, 10, True), (20_000, 1, False), (20_000, 1, True)]
    for bookings, size, keys in kinds:
        with bench.database() as database:
            create_indexes_and_views(database)
            book_in_commits(database, bench.times(bookings), size, keys)
            database.client.admin.command("fsync")  # what is still in memory has no size on disk
            told = database.command("collStats", "ledger")
            count = bench.times(bookings)
            line(
                f"{count:,} bookings, {size} a commit{', each with a key' if keys else ''}",
                f"{(told['storageSize'] + told['totalIndexSize']) / count:.0f} bytes a booking",
            )
            detail(f"{told['storageSize'] / count:.0f} of them documents (uncompressed {told['size'] / count:.0f})")
            detail(", ".join(f"{name} {taken / count:.0f}" for name, taken in told["indexSizes"].items()))
            with_segments(database, "e")
            database.client.admin.command("fsync")
            told = database.command("collStats", "segments")
            detail(f"{(told['storageSize'] + told['totalIndexSize']) / count:.0f} more in segments")


def book_in_commits(database: Any, count: int, size: int, keys: bool) -> None:
    """Book one ticket each for `count` users, in commits of so many, by the rules and the ledger of the service."""
    ledger, clock = Ledger(ledger_collection(database), SystemClock()), SystemClock()
    state = decide(EventState("e"), Initialize(event_id="e", name="E", total_tickets=10**9), clock.now()).state
    batch: list[Transition] = []
    for number in range(count):
        command = dataclasses.replace(
            booking(f"user-{number}"), request=RequestKey(os.urandom(16), os.urandom(16)) if keys else None
        )
        decision = decide(state, command, clock.now())
        assert decision.transition is not None
        state = decision.state
        batch.append(decision.transition)
        if len(batch) == size or number == count - 1:
            assert ledger.append(state, batch, clock.monotonic() + 60.0)
            batch = []


def follow(bench: Bench) -> None:
    """The change feed of an event with a long ledger: from its beginning, from a place in it, and at its end.

    In seconds of this process's computing, under the garbage collection of a worker.
    """
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 1_000)
    with bench.database() as database:
        count, clock = bench.times(200_000), SystemClock()
        insert_long_ledger(database, "event", count, 10, keys=False)
        ledger = Ledger(ledger_collection(database), clock)

        def new_worker() -> tuple[manager_module.TicketManager, ChangeFeed]:
            manager = manager_module.TicketManager(ledger, clock, deadline_s=60.0)
            manager.state_of("event")
            return manager, ChangeFeed(ledger, manager, clock, deadline_s=60.0)

        manager, feed = new_worker()
        latencies, after = [], 0
        while after < count:
            began = time.process_time()
            after = feed.page("event", after, 500).next_version
            latencies.append(time.process_time() - began)
        report(f"{count:,} changes from the first on, a page of 500", latencies)
        _, feed = new_worker()
        for name in ("from the middle on, by a worker that knows no place near", "the next page of 50"):
            began = time.process_time()
            feed.page("event", count // 2 + (50 if name.startswith("the next") else 0), 50)
            line(name, f"{(time.process_time() - began) * 1e3:.1f} ms")
        manager, feed = new_worker()
        version, latencies = feed.page("event", manager.state_of("event").version, 50).next_version, []
        for number in range(bench.times(500)):
            manager.execute(Book(event_id="event", order_id=new_order_id("event"), user_id=f"new {number}"))
            began = time.process_time()
            version = feed.page("event", version, 50).next_version
            latencies.append(time.process_time() - began)
        report("at the end, a page after each booking", latencies)
    gc.set_threshold(*usual)


def lists(bench: Bench) -> None:
    """Pages of the catalog with ten thousand events, and look-ups of orders in an event with a long ledger."""
    with bench.database() as database:
        clock, events, count = SystemClock(), bench.times(10_000), bench.times(200_000)
        create_indexes_and_views(database)
        insert_events(database, events)
        insert_long_ledger(database, "long", count, 10, keys=False)
        catalog, orders = Catalog(ledger_collection(database), clock), Orders(ledger_collection(database), clock)
        for name, query in {
            "the first page": {},
            "a text that one in fifty has": {"text": "hall 17"},
            "a text that none has": {"text": "nowhere"},
            "on sale": {"status": EventStatus.ON_SALE},
            "sold out, as none of the first 500 is": {"status": EventStatus.SOLD_OUT},
            "ended, as none is": {"status": EventStatus.ENDED},
        }.items():
            latencies = each_of(20, lambda _, query=query: catalog.page(50, AT, time.monotonic() + 60, **query))
            report(f"{events:,} events, pages of 50: {name}", latencies)
        (order,) = database["ledger"].find_one({"_id": {"$gt": "long:", "$lt": "long;"}})["transitions"][-1]["orders"]
        for until in (10, count):
            place = ("long", order["order_id"], until)
            latencies = each_of(10, lambda _, place=place: orders.transitions_of(*place, time.monotonic() + 60))
            report(f"history of an order, in {until:,} transitions", latencies)
        for user_id, amount in (("u100", 1), ("u1", events + 1)):
            latencies = each_of(20, lambda _, user_id=user_id: orders.ids_of(user_id, "", 51, time.monotonic() + 60))
            report(f"a page of the orders of a user who has {amount:,}", latencies)


def insert_events(database: Any, count: int) -> None:
    """Write so many events of 21 transitions, in 7 commits each."""
    ledger = ledger_collection(database).with_options(write_concern=WriteConcern(1))
    documents = []
    for number in range(count):
        state, transitions = EventState(f"event-{number:05d}"), ledger_of(20, total_tickets=30)
        details = {"starts_at": AT + timedelta(hours=number * 7919 % 9000), "venue": f"Hall {number % 50}"}
        details["description"] = "A description of some length. " * 15
        opening = transitions[0]
        transitions[0] = opening._replace(event={**(opening.event or {}), **details})
        for first in range(0, 21, 3):
            commit = transitions[first : first + 3]
            state = fold(state, commit)
            document = commit_document(state.event_id, commit, random.randbytes(16), summary_of(state))
            documents.append(with_checksum(document))
        if len(documents) > 5_000 or number == count - 1:
            ledger.insert_many(documents)
            documents = []


def deliver(bench: Bench) -> None:
    """Webhooks: notices a second to one receiver on loopback that takes all at once."""
    count, taken = bench.times(2_000), threading.Semaphore(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            taken.release()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with bench.database() as database, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        clock = SystemClock()
        ledger = Ledger(ledger_collection(database), clock)
        manager = manager_module.TicketManager(ledger, clock)
        insert_long_ledger(database, "event", count, 10, keys=False)
        webhooks = Webhooks(database, timeout_s=10.0)
        webhooks.add(
            Subscription(
                webhook_id="wh",
                url=f"http://127.0.0.1:{server.server_port}/",
                event_id=None,
                types=None,
                secret="whsec_c2VjcmV0",
                created_by="admin",
                created_at=clock.now(),
            )
        )
        webhooks.replay("wh", "event", 0)
        deliverer = Deliverer(
            webhooks, ChangeFeed(ledger, manager, clock), clock, lambda: Sender(allow_private=True)
        )
        running = threading.Thread(target=deliverer.run)
        running.start()
        taken.acquire()
        began = time.perf_counter()
        for _ in range(count - 2):
            taken.acquire()
        line(f"{count:,} notices", f"{(count - 2) / (time.perf_counter() - began):,.0f} a second")
        deliverer.stop()
        running.join()
        server.shutdown()


def insert_long_ledger(database: Any, event_id: str, count: int, commit: int, keys: bool) -> None:
    """Write the ledger of `count` bookings in commits of so many, each with an Idempotency-Key or without."""
    ledger = ledger_collection(database).with_options(write_concern=WriteConcern(1))
    transitions = (
        part._replace(
            at=AT + timedelta(milliseconds=part.version // commit),
            orders=tuple({**order, "order_id": new_order_id(event_id)} for order in part.orders),
            request=RequestKey(random.randbytes(16), random.randbytes(16)) if keys else None,
        )
        for part in ledger_of(count)
    )
    while batch := list(islice(transitions, 1_000 * commit)):
        ledger.insert_many(
            with_checksum(commit_document(event_id, batch[first : first + commit], random.randbytes(16)))
            for first in range(0, len(batch), commit)
        )


@contextmanager
def one_worker(uri: str) -> Iterator[tuple[str, int]]:
    """The service with one worker on the database of the figures: its address, and the worker's process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"MONGODB_URI": uri, "MONGODB_DATABASE": DATABASE, "PORT": str(port), "WEB_CONCURRENCY": "1"}
    more = {"PYTHONPATH": str(ROOT), "RATELIMIT_ENABLED": "false", "STATE_ORDERS_MAX": "10000000", "LOG_LEVEL": "error"}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "ticketing"],
            cwd=folder,
            env={**os.environ, **settings, **more},
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while not is_up(url):
                assert process.poll() is None, "the service has ended"
                time.sleep(0.1)
            gunicorn_pid = json.loads(Path(folder, "var", "service.json").read_text())["gunicorn_pid"]
            children = Path(f"/proc/{gunicorn_pid}/task/{gunicorn_pid}/children").read_text()
            yield url, int(children.split()[0])
        finally:
            process.terminate()
            process.wait()


def is_up(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=10):
            return True
    except OSError:
        return False


def get_status(url: str, event_id: str) -> bool:
    """Ask for the status of an event; return whether it came."""
    try:
        with urllib.request.urlopen(f"{url}/status/{event_id}", timeout=30):
            return True
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 503:
                raise
            return False


def first_touch(url: str, event_id: str) -> tuple[float, int, float]:
    """The seconds until an event is served, the requests until then, and the longest of another event's."""
    is_served = threading.Event()
    latencies = [0.0]

    def watch() -> None:
        while not is_served.wait(0.05):
            began = time.perf_counter()
            assert get_status(url, "other")
            latencies.append(time.perf_counter() - began)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        began, tries = time.perf_counter(), 1
        try:
            while not get_status(url, event_id):
                tries += 1
            return time.perf_counter() - began, tries, max(latencies)
        finally:
            is_served.set()
            watching.result()


def resident_mb(pid: int) -> float:
    """The memory that a process has in use, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def processor_s(pid: int) -> float:
    """The seconds that a process has computed."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def password(bench: Bench) -> None:
    """What one check of a password costs."""
    hashed = generate_password_hash("correct horse battery staple")
    report(
        f"check one password ({hashed.split('$')[0]})",
        each_of(bench.times(20), lambda _: check_password_hash(hashed, "wrong")),
    )


def accounts(bench: Bench) -> None:
    """What a look costs whether a name has an account, and the indexes of names each commit."""
    clock = SystemClock()
    with bench.database() as database:
        users = Users(durable(database, "users"), clock)
        for number in range(bench.times(1_000)):
            users.add(Account(f"user {number}", Role.CUSTOMER, "hash", "stamp"), clock.monotonic() + 6)
        names = [f"anybody {number}" for number in range(bench.times(5_000))]

        def alone(user_id: str) -> Any:
            return users.find([user_id], clock.monotonic() + 6)

        for threads in (1, 64):
            for how, find in (("each for itself", alone), ("shared", Accounts(users, clock).recent)):
                begun_s = time.perf_counter()
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(find, names))
                rate = len(names) / (time.perf_counter() - begun_s)
                line(f"looks at new names by {threads} threads, {how}", f"{rate:,.0f} a second")
    for indexed in (False, True):
        for bookings in (1, 100):
            with bench.database() as database:
                if indexed:
                    create_indexes_and_views(database)
                insert = insert_into(ledger_collection(database), bookings)
                name = f"one insert of {bookings} bookings, {'all' if indexed else 'no'} indexes"
                report(name, each_of(bench.times(500), insert))


def mongod(bench: Bench) -> None:
    """The embedded mongod: how large, how soon ready, how soon gone."""
    binary = find_mongod()
    line(f"size of {binary.name}", f"{binary.stat().st_size / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first start of an empty folder", "start of a folder that was stopped cleanly"):
            server = EmbeddedMongod(folder)
            began = time.perf_counter()
            server.start()
            started = time.perf_counter()
            server.stop()
            line(f"{name}, to the first write", f"{started - began:.2f} s")
            detail(f"stopped in {time.perf_counter() - started:.2f} s")


def archive(bench: Bench) -> None:
    """A ledger out as lines of JSON, and in again. 200,000 bookings, ten a commit."""
    bookings, size = bench.times(200_000), 10
    transitions = ledger_of(bookings)
    with bench.database() as database:
        ledger = ledger_collection(database)
        for first in range(0, len(transitions), 1_000 * size):
            parts = transitions[first : first + 1_000 * size]
            ledger.insert_many(
                with_checksum(commit_document("e", parts[n : n + size], os.urandom(16)))
                for n in range(0, len(parts), size)
            )
        begun_s = time.perf_counter()
        lines = [text.encode() for _, text in export_lines(ledger)]
        line(f"export of {bookings} bookings", f"{time.perf_counter() - begun_s:.1f} s")
        detail(f"{sum(map(len, lines)) / 1e6:.0f} MB, {len(gzip.compress(b''.join(lines))) / 1e6:.0f} MB with gzip")
        ledger.delete_many({})
        begun_s = time.perf_counter()
        imported = import_lines(ledger, lines)
        line(f"import of {imported.written} commits", f"{time.perf_counter() - begun_s:.1f} s")


class CountingLedger:
    """The ledger, counting what it wrote."""

    def __init__(self, database: Any) -> None:
        self._ledger = Ledger(ledger_collection(database), SystemClock())
        self.read, self.events_with_keys = self._ledger.read, self._ledger.events_with_keys
        self.commits = self.lost = 0

    def append(self, state: EventState, transitions: Sequence[Transition], deadline: float) -> bool:
        """One at a time an event, so the counters need no lock."""
        is_in = self._ledger.append(state, transitions, deadline)
        self.commits += is_in
        self.lost += not is_in
        return is_in


class ToTheOldest(manager_module.TicketManager):
    """Hands the lead to who waits longest."""

    def _hand_over(self, queue: Any) -> None:
        queue.requests.reverse()
        super()._hand_over(queue)
        queue.requests.reverse()


def under_a_lock(ledger: CountingLedger) -> Callable[[Any], None]:
    """The obvious way: one lock an event, held while one booking is decided and written."""
    lock = threading.Lock()
    now = EventState("e")

    def execute(command: Any) -> None:
        nonlocal now
        with lock:
            decision = decide(now, command, AT)
            assert decision.transition is not None
            assert ledger.append(decision.state, [decision.transition], time.monotonic() + 8)
            now = decision.state

    return execute


def run_bookings(
    bench: Bench, name: str, threads: int, execute: Callable[[Any], Any], ledger: CountingLedger
) -> None:
    """Book `threads` at a time until enough is booked, and report how it went."""
    execute(Initialize(event_id="e", name="E", total_tickets=10**9))
    count = bench.times(500 * min(threads, 40))
    seconds, latencies = in_threads(threads, count, lambda number: execute(booking(f"u{number}")))
    report(name, latencies, seconds)
    detail(f"{ledger.commits} commits, {count / ledger.commits:.1f} bookings each")


def booking(user_id: str) -> Book:
    """A booking of one ticket."""
    return Book(event_id="e", order_id=new_order_id("e"), user_id=user_id)


def cancelling(order: Order) -> Any:
    """The cancellation of an order."""
    from ticketing.domain.commands import Cancel

    return Cancel(event_id="e", order_id=order.order_id)


def waiting_state(count: int) -> EventState:
    """An event of one ticket with `count` who wait."""
    return fold(EventState("e"), ledger_of(count + 1, total_tickets=1))


def ledger_of(count: int, total_tickets: int = 10**9) -> list[Transition]:
    """An initialized event and `count` bookings."""
    event = {"name": "E", "total_tickets": total_tickets, "max_tickets_per_order": 10}
    transitions = [Transition(1, TransitionType.INITIALIZED, AT, event=event)]
    for number in range(1, count + 1):
        confirmed = number <= total_tickets
        order: Any = {
            "order_id": f"e.{number:022d}",
            "user_id": f"u{number}",
            "quantity": 1,
            "status": OrderStatus.CONFIRMED if confirmed else OrderStatus.WAITING,
        }
        kind = TransitionType.BOOKED if confirmed else TransitionType.WAITLISTED
        transitions.append(Transition(number + 1, kind, AT, orders=(order,)))
    return transitions


def insert_into(ledger: Collection[dict[str, Any]], bookings: int) -> Callable[[int], None]:
    """Insert commits of `bookings` bookings each."""

    def insert(number: int) -> None:
        first = 1 + number * bookings
        transitions = [
            Transition(
                first + place,
                TransitionType.BOOKED,
                AT,
                orders=(
                    {
                        "order_id": new_order_id("e"),
                        "user_id": f"u{place}",
                        "quantity": 1,
                        "status": OrderStatus.CONFIRMED,
                    },
                ),
            )
            for place in range(bookings)
        ]
        ledger.insert_one(with_checksum(commit_document("e", transitions, random.randbytes(16))))

    return insert


def majority(database: Any, name: str) -> Any:
    """A collection whose writes are as durable as the ledger's."""
    database.create_collection(name)
    return database.get_collection(name, write_concern=MAJORITY)


def each_of(count: int, work: Callable[[int], None]) -> list[float]:
    """The seconds that each of `count` calls took; the first ones, which warm up, are left out."""
    latencies = []
    for number in range(count + 10):
        began = time.perf_counter()
        work(number)
        latencies.append(time.perf_counter() - began)
    return latencies[10:]


def in_threads(threads: int, count: int, work: Callable[[int], Any]) -> tuple[float, list[float]]:
    """The seconds that `count` calls by so many threads took in all, and each."""
    numbers = iter(range(count))
    latencies: list[float] = []
    start = threading.Barrier(threads + 1)

    def run() -> None:
        start.wait()
        for number in numbers:  # a range's iterator may be shared between threads
            began = time.perf_counter()
            work(number)
            latencies.append(time.perf_counter() - began)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in running:
        thread.join()
    return time.perf_counter() - began, latencies


def per_call(name: str, bench: Bench, call: Callable[[], Any], calls: int = 100_000) -> None:
    """Report the time of one call, the best of three rounds."""
    count = bench.times(calls)
    line(name, f"{min(timeit.repeat(call, number=count, repeat=3)) / count * 1e6:.2f} us")


def report(name: str, latencies: list[float], seconds: float | None = None) -> None:
    """One line: median, 99th percentile and, of several threads, the rate."""
    ordered = sorted(latencies)
    median_ms, p99_ms = statistics.median(ordered) * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3
    rate = f", {len(ordered) / seconds:,.0f} a second" if seconds else ""
    line(name, f"{median_ms:.2f} ms median, {p99_ms:.2f} ms p99{rate}")


def line(name: str, figure: str) -> None:
    """One figure."""
    print(f"{name:58}  {figure}", flush=True)


def detail(text: str) -> None:
    """What belongs to the figure above."""
    line("", text)


FIGURES = {
    "commit": commit,
    "order-index": order_index,
    "retry": retry,
    "group": group,
    "race": race,
    "state": state,
    "cold": cold,
    "disk": disk,
    "follow": follow,
    "lists": lists,
    "deliver": deliver,
    "password": password,
    "accounts": accounts,
    "mongod": mongod,
    "archive": archive,
}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", choices=FIGURES, help=", ".join(FIGURES))
    parser.add_argument("--scale", type=float, default=1.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedMongod(folder)
        uri = os.environ.get("MONGODB_URI") or server.start()
        try:
            for name in asked.names:
                print(f"{name}: {(FIGURES[name].__doc__ or '').strip()}")
                FIGURES[name](Bench(uri, asked.scale))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
