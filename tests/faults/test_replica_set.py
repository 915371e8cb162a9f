"""A replica set of three under load loses members in every way; no answer that was given is ever untrue."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from pymongo.results import InsertOneResult
from pymongo.write_concern import WriteConcern

from tests.service.running import Service, eventually
from ticketing.storage.documents import ledger_id
from ticketing.storage.ledger import ledger_collection
from ticketing.storage.webhooks import Webhooks

from .conftest import Start, broken_promises, kill_workers, new_load, new_watch, reload_workers, unanswered
from .leaks import Watch
from .load import Load
from .replica_set import Member, ReplicaSet, frozen

# What is tried runs in processes of its own: to count what this one runs tells little, and doubles its work.
pytestmark = pytest.mark.no_cover

TICKETS = 150
FROZEN_S = 15.0
BACK_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def running_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """Three members and a primary, for all tests of this file."""
    with ReplicaSet(tmp_path_factory.mktemp("replica-set")) as running:
        yield running


@pytest.fixture
def replica_set(running_set: ReplicaSet) -> ReplicaSet:
    """The replica set with all its members well, whatever the test before did to them."""
    eventually(lambda: len(_healthy(running_set)) == 3)
    return running_set


@pytest.fixture
def service(replica_set: ReplicaSet, start_service: Start) -> Service:
    """A service on the replica set."""
    return start_service(MONGODB_URI=replica_set.uri)


@pytest.fixture
def load(service: Service, request: pytest.FixtureRequest) -> Load:
    """Clients of the service, and an event of their own."""
    clients = new_load(service, request.node.name)
    clients.initialize(TICKETS)
    return clients


@pytest.fixture
def watch(replica_set: ReplicaSet, service: Service, load: Load) -> Watch:
    """What the service holds before it has any trouble."""
    return new_watch(service, *(f"mongodb://{member.address}" for member in replica_set.members))


def test_a_killed_primary_three_times_in_a_row(replica_set: ReplicaSet, load: Load, watch: Watch) -> None:
    """SIGKILL of the primary; another takes over within 10 s, the old one comes back."""
    with load.running():
        for _ in range(3):
            load.wait_for_answers(150)
            primary = replica_set.primary()
            primary.kill()
            _back_in_time(load)
            primary.start()
            eventually(lambda: len(_healthy(replica_set)) == 3)
    _check(load, watch, replica_set)


def test_a_primary_that_steps_down(replica_set: ReplicaSet, load: Load, watch: Watch) -> None:
    """replSetStepDown under load."""
    with load.running():
        load.wait_for_answers(150)
        replica_set.step_down()
        _back_in_time(load)
    _check(load, watch, replica_set)


def test_a_frozen_primary_acknowledges_nothing_when_it_thaws(
    replica_set: ReplicaSet, load: Load, watch: Watch
) -> None:
    """SIGSTOP for 15 s and SIGCONT: the others go on, and what the old primary still holds does not count."""
    late = {"_id": ledger_id("late", 1), "last": 1}
    with load.running():
        load.wait_for_answers(150)
        old = replica_set.primary()
        with _insert_on_its_way_to(old, late) as insert:
            frozen_until_s = time.monotonic() + FROZEN_S
            replica_set.primary(other_than=old)
            # One of them at least was asked after that. No haste is promised here: a secondary that was reading from
            # the frozen member learns of new commits by heartbeat only, every 2 s, until it looks for another source.
            load.wait_for_answers(load.connections + 1)
            eventually(lambda: time.monotonic() > frozen_until_s)
        with pytest.raises(PyMongoError):
            insert.result()
        load.wait_for_answers(150)
    assert _found(replica_set, late) is None
    _check(load, watch, replica_set)


def test_a_primary_that_thaws_in_time_acknowledges(replica_set: ReplicaSet) -> None:
    """The control: before there is another one the same insert is acknowledged, and stays."""
    in_time = {"_id": ledger_id("in-time", 1), "last": 1}
    with _insert_on_its_way_to(replica_set.primary(), in_time) as insert:
        pass
    assert insert.result().acknowledged
    assert _found(replica_set, in_time) == in_time


def test_without_a_majority_nothing_is_answered_falsely(
    replica_set: ReplicaSet, load: Load, watch: Watch
) -> None:
    """Both secondaries frozen: 503 in time, nobody is told of a success, and everything settles when they are back."""
    with load.running():
        load.wait_for_answers(150)
        with frozen(*replica_set.secondaries()):
            began_s = time.monotonic()
            eventually(lambda: _changes_told(load, began_s)["unavailable"] >= load.connections)
            ended_s = time.monotonic()
        load.wait_for_answers(150)
    assert set(_changes_told(load, began_s, ended_s)) == {"unavailable"}
    _check(load, watch, replica_set)


def test_a_ledger_that_waits_for_no_majority_is_noticed(replica_set: ReplicaSet, start_service: Start) -> None:
    """The control: the same, but a commit counts as soon as the primary has it."""
    load = new_load(start_service("tests.faults.careless", MONGODB_URI=replica_set.uri), "careless")
    load.initialize(TICKETS)
    with load.running():
        load.wait_for_answers(150)
        with frozen(*replica_set.secondaries()):
            began_s = time.monotonic()
            eventually(lambda: _changes_told(load, began_s).keys() & {"confirmed", "waiting", "cancelled", "bulk"})


def test_workers_that_are_killed_and_replaced(
    replica_set: ReplicaSet, service: Service, load: Load, watch: Watch
) -> None:
    """SIGKILL of a random worker each second loses nothing here either, and SIGHUP cuts nobody off."""
    with load.running():
        load.wait_for_answers(150)
        kill_workers(service, load)
        killed = len(load.attempts)
        reload_workers(service)
        load.wait_for_answers(150)
    _check(load, watch, replica_set, unanswered_until=killed)
    assert unanswered(load) == {"cut off"}, "no request met a kill, or somebody was turned away"


def _changes_told(load: Load, since_s: float, until_s: float = math.inf) -> Counter[str]:
    """The outcomes of changes that were asked for and answered in this time. A repeat may tell of one before it."""
    return Counter(
        each.outcome
        for each in list(load.attempts)
        if each.kind != "read" and each.invoked_s > since_s and (each.returned_s or math.inf) < until_s
        if not each.replayed
    )


@contextmanager
def _insert_on_its_way_to(member: Member, commit: dict[str, Any]) -> Iterator[Future[InsertOneResult]]:
    """A member is frozen for the block; an insert with the concerns of the ledger waits for it, as long as it takes."""
    is_sent = threading.Event()
    patient: dict[str, Any] = {"directConnection": True, "retryWrites": False, "connectTimeoutMS": 1_000_000}
    beginning = Beginning(is_sent.set, "insert")
    with (
        MongoClient[dict[str, Any]](member.address, event_listeners=[beginning], **patient) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        client.admin.command("ping")  # it has a connection
        with frozen(member):
            insert = pool.submit(ledger_collection(client.frozen).insert_one, commit)
            eventually(is_sent.is_set)
            yield insert
            assert not insert.done(), "it did not wait"


def _found(replica_set: ReplicaSet, commit: dict[str, Any]) -> dict[str, Any] | None:
    """What a majority has in the place of a commit."""
    with MongoClient[dict[str, Any]](replica_set.uri) as client:
        return ledger_collection(client.frozen).find_one({"_id": commit["_id"]})


def _back_in_time(load: Load) -> None:
    """The service answers again within ten seconds from now."""
    began_s, enough = time.monotonic(), load.answered + 100
    eventually(lambda: load.answered >= enough)
    took_s = time.monotonic() - began_s
    print(f"served again after {took_s:.1f} s")
    assert took_s < BACK_WITHIN_S


def _healthy(replica_set: ReplicaSet) -> list[str]:
    try:
        with replica_set.primary().client() as client:
            members = client.admin.command("replSetGetStatus")["members"]
    except PyMongoError:  # the primary has just changed
        return []
    return [member["name"] for member in members if member["stateStr"] in ("PRIMARY", "SECONDARY")]


def _check(load: Load, watch: Watch, replica_set: ReplicaSet, unanswered_until: int = 0) -> None:
    """All is as promised, and each request was answered but for some of the first, where workers were killed."""
    assert broken_promises(load, replica_set.uri) == []
    assert all(attempt.returned is not None for attempt in load.attempts[unanswered_until:]), unanswered(load)
    assert watch.leaks() == []


def test_a_commit_that_no_majority_has_when_a_stream_begins(replica_set: ReplicaSet) -> None:
    """Whoever follows the ledgers is told of it: it is in the look at their ends, or in the stream."""
    frozen = replica_set.secondaries()

    def thaw() -> None:
        for member in frozen:
            member.thaw()

    thawing = threading.Timer(1.0, thaw)
    beginning = Beginning(thawing.start)
    with MongoClient[dict[str, Any]](replica_set.uri, retryWrites=False, event_listeners=[beginning]) as client:
        ledger = ledger_collection(client.streams)
        ledger.insert_one({"_id": ledger_id("hot", 1), "last": 1})
        for member in frozen:
            member.freeze()
        try:
            ledger.with_options(write_concern=WriteConcern(1)).insert_one({"_id": ledger_id("hot", 2), "last": 2})
            commits = Webhooks(client.streams, timeout_s=20.0).new_commits()
            assert ("hot", 2) in islice(commits, 20)
            commits.close()
        finally:
            thaw()


class Beginning(CommandListener):
    """Calls `on_command` when a client begins a command: a change stream, where none is named."""

    def __init__(self, on_command: Callable[[], None], name: str = "aggregate") -> None:
        self.on_command = on_command
        self.name = name

    def started(self, event: CommandStartedEvent) -> None:
        """Call, where it is that command."""
        if event.command_name == self.name:
            self.on_command()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing more."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing more."""
